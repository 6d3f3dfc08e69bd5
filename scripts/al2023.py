"""Say whether binaries run on Lambda's `provided.al2023`: `al2023.py [--arch ARCH] FILE…`.

The exit code is 1, with one line a fault, if not.

Amazon Linux 2023 has glibc 2.34 and GCC 11's libstdc++ and libgcc, in its minimal image too (its package manager is
C++). ONNX Runtime's wheel asks for no more than GCC 6's symbols, so no libstdc++ is packaged: one from a newer build
machine would itself need a newer glibc.
"""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

# The newest version of each symbol family that Amazon Linux 2023 provides.
PROVIDED = {"GLIBC": (2, 34), "GLIBCXX": (3, 4, 29), "CXXABI": (1, 3, 13), "GCC": (11, 0)}

# `e_machine` of an ELF header, and what Lambda calls it.
MACHINES = {62: "x86_64", 183: "arm64"}


def architecture(binary: Path) -> str:
    """`x86_64` or `arm64`, from the ELF header."""
    header = binary.read_bytes()[:20]
    if header[:4] != b"\x7fELF":
        raise SystemExit(f"{binary} is not a Linux binary")
    return MACHINES.get(int.from_bytes(header[18:20], "little"), "another architecture")


def needed_versions(binary: Path) -> dict[str, tuple[int, ...]]:
    """The newest version of each symbol family that `binary` asks for."""
    environment = os.environ | {"LC_ALL": "C"}
    command = ["readelf", "--version-info", "--wide", binary]
    text = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    newest: dict[str, tuple[int, ...]] = {}
    for family, number in re.findall(r"Name: (GLIBC|GLIBCXX|CXXABI|GCC)_([0-9.]+)", text):
        version = tuple(int(part) for part in number.split("."))
        newest[family] = max(newest.get(family, version), version)
    return newest


def faults(binary: Path) -> list[str]:
    """What `binary` asks for and Amazon Linux 2023 lacks, one sentence each."""

    def name(version: tuple[int, ...]) -> str:
        return ".".join(map(str, version))

    return [
        f"{binary} needs {family} {name(version)}; Lambda's Amazon Linux 2023 has {name(PROVIDED[family])}"
        for family, version in needed_versions(binary).items()
        if version > PROVIDED[family]
    ]


def wrong_architecture(binary: Path, wanted: str | None) -> list[str]:
    """One sentence where `binary` is not for the architecture that is wanted."""
    found = architecture(binary)
    return [f"{binary} is for {found}, and {wanted} is wanted"] if wanted not in (None, found) else []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binaries", nargs="+", type=Path)
    parser.add_argument("--arch", choices=MACHINES.values(), help="what they must be for")
    arguments = parser.parse_args()
    found = [fault for one in arguments.binaries for fault in wrong_architecture(one, arguments.arch) or faults(one)]
    print(*found, sep="\n", end="\n" if found else "", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
