"""Class names of the data sets, in the order of their ids.

Sources: CIHP (Gong et al., ECCV 2018), MHP v2 (Zhao et al., arXiv 1804.03287), PASCAL-Person-Part
(Chen et al., CVPR 2014, and the order of M2FP's folders), LIP (Gong et al., CVPR 2017), ATR (Liang
et al., TPAMI 2015).
"""

CIHP = (
    *("Background", "Hat", "Hair", "Gloves", "Sunglasses", "UpperClothes", "Dress", "Coat"),
    *("Socks", "Pants", "Torso-skin", "Scarf", "Skirt", "Face", "Left-arm", "Right-arm"),
    *("Left-leg", "Right-leg", "Left-shoe", "Right-shoe"),
)
MHP_V2 = (
    *("Background", "Cap/Hat", "Helmet", "Face", "Hair", "Left-arm", "Right-arm", "Left-hand"),
    *("Right-hand", "Protector", "Bikini/bra", "Jacket/Windbreaker/Hoodie", "T-shirt"),
    *("Polo-shirt", "Sweater", "Singlet", "Torso-skin", "Pants", "Shorts/Swim-shorts", "Skirt"),
    *("Stockings", "Socks", "Left-boot", "Right-boot", "Left-shoe", "Right-shoe"),
    *("Left-highheel", "Right-highheel", "Left-sandal", "Right-sandal", "Left-leg", "Right-leg"),
    *("Left-foot", "Right-foot", "Coat", "Dress", "Robe", "Jumpsuit", "Other-full-body-clothes"),
    *("Headwear", "Backpack", "Ball", "Bats", "Belt", "Bottle", "Carrybag", "Cases", "Sunglasses"),
    *("Eyewear", "Gloves", "Scarf", "Umbrella", "Wallet/Purse", "Watch", "Wristband", "Tie"),
    *("Other-accessories", "Other-upper-body-clothes", "Other-lower-body-clothes"),
)
PASCAL_M2FP = ("Background", "Lower-arm", "Head", "Upper-leg", "Torso", "Lower-leg", "Upper-arm")
"""In folders as M2FP has them."""
PASCAL = ("Background", "Head", "Torso", "Upper-arm", "Lower-arm", "Upper-leg", "Lower-leg")
"""In the label maps that DeepLab and most others use."""
LIP = (
    *("Background", "Hat", "Hair", "Glove", "Sunglasses", "UpperClothes", "Dress", "Coat"),
    *("Socks", "Pants", "Jumpsuits", "Scarf", "Skirt", "Face", "Left-arm", "Right-arm"),
    *("Left-leg", "Right-leg", "Left-shoe", "Right-shoe"),
)
ATR = (
    *("Background", "Hat", "Hair", "Sunglasses", "Upper-clothes", "Skirt", "Pants", "Dress"),
    *("Belt", "Left-shoe", "Right-shoe", "Face", "Left-leg", "Right-leg", "Left-arm"),
    *("Right-arm", "Bag", "Scarf"),
)


def plain(name: str) -> str:
    """A name as it is compared: letters and digits, small, in the singular."""
    kept = "".join(character for character in name.lower() if character.isalnum())
    return kept.removesuffix("s")
