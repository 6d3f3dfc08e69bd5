"""The template of the function as a container image, made of template.yaml: `image_template.py OUT`.

Lambda takes a zip or an image, and SAM decides which before a parameter has a value: so there are two templates. The
second has one parameter more, ImageUri, and is otherwise the first.
"""

import sys
from pathlib import Path

TEMPLATE = Path(__file__).parents[1] / "template.yaml"

# What a package in a zip is described by, in the order of the template.
ZIP_LINES = "    CodeUri: .\n    Runtime: provided.al2023\n    Handler: bootstrap\n"
ZIP_BUILD = "    Metadata:\n      BuildMethod: makefile\n    Properties:\n"
IMAGE = "    Properties:\n      PackageType: Image\n      ImageUri: !Ref ImageUri\n"
PARAMETERS = "\nParameters:\n"
PARAMETER = """\
  ImageUri:
    Type: String
    AllowedPattern: ^[0-9]{12}\\.dkr\\.ecr\\.[a-z0-9-]+\\.amazonaws\\.com(\\.cn)?/.+$
    ConstraintDescription: must be an image of an ECR repository in the function's region
    Description: The image that `make image` built, pushed to ECR.
"""
GROUP = "        Parameters: [Architecture,"


def image_template(text: str) -> str:
    """`text`, a template of zips, for an image."""
    changes = [
        (ZIP_LINES, "", 1),
        (ZIP_BUILD, IMAGE, 2),
        (PARAMETERS, PARAMETERS + PARAMETER, 1),
        (GROUP, GROUP.replace("[", "[ImageUri, "), 1),
    ]
    for old, new, times in changes:
        if text.count(old) != times:
            raise ValueError(f"template.yaml has {text.count(old)} times, not {times} times:\n{old}")
        text = text.replace(old, new)
    return text


def main() -> int:
    (out,) = sys.argv[1:]
    Path(out).write_text(image_template(TEMPLATE.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
