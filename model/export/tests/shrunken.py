"""A network of the same make with a thousandth of the work."""

from m2fp_export.architecture import Architecture

SIZES = Architecture(
    classes=8,
    blocks=(3, 4, 6, 3),
    stem_channels=16,
    bottleneck_channels=8,
    res2_channels=32,
    width=64,
    mask_width=32,
    encoder_layers=2,
    encoder_hidden=128,
    decoder_layers=4,
    decoder_hidden=128,
    queries=10,
)
