"""Say whether binaries run on Lambda's `provided.al2023`: `al2023.py [--arch ARCH] FILE…`.

The exit code is 1, with one line a fault, if not.

Amazon Linux 2023 has glibc 2.34 and GCC 11's libstdc++ and libgcc, in its minimal image too (its package manager is
C++). ONNX Runtime's wheel asks for no more than GCC 6's symbols, so no libstdc++ is packaged: one from a newer build
machine would itself need a newer glibc.
"""

import argparse
import re
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

# The newest version of each symbol family that Amazon Linux 2023 provides.
PROVIDED = {"GLIBC": (2, 34), "GLIBCXX": (3, 4, 29), "CXXABI": (1, 3, 13), "GCC": (11, 0)}

# `e_machine` of an ELF header, and what Lambda calls it.
MACHINES = {62: "x86_64", 183: "arm64"}


def architecture(binary: Path) -> str:
    """`x86_64` or `arm64`, from the ELF header."""
    header = _read_elf(binary)[:20]
    return MACHINES.get(int.from_bytes(header[18:20], "little"), "another architecture")


def needed_versions(binary: Path) -> dict[str, tuple[int, ...]]:
    """The newest version of each symbol family that `binary` asks for."""
    newest: dict[str, tuple[int, ...]] = {}
    for name in version_names(binary):
        if match := re.fullmatch(r"(GLIBC|GLIBCXX|CXXABI|GCC)_([0-9.]+)", name):
            version = tuple(int(part) for part in match[2].split("."))
            newest[match[1]] = max(newest.get(match[1], version), version)
    return newest


def version_names(binary: Path) -> list[str]:
    """Every symbol version that `binary` asks of its libraries, `GLIBC_2.34` for example.

    They are in the section of type SHT_GNU_verneed: a chain of libraries (Elf64_Verneed), each with a chain of versions
    (Elf64_Vernaux), whose names are in the section of strings that it links to ("Linux Standard Base Core
    Specification", "Symbol Versioning").
    """
    data = _read_elf(binary)
    try:
        return list(_version_names(data))
    except (struct.error, IndexError, ValueError) as error:
        raise SystemExit(f"{binary} is damaged: its symbol versions cannot be read ({error})") from None


def _read_elf(binary: Path) -> bytes:
    data = binary.read_bytes()
    # Both of Lambda's architectures are of 64 bits (2) and little-endian (1).
    if data[:6] != b"\x7fELF\x02\x01":
        raise SystemExit(f"{binary} is not a Linux binary of 64 bits")
    return data


# Elf64_Shdr: name, type, flags, address, offset, size, link, info, alignment, size of an entry.
SECTION = struct.Struct("<IIQQQQIIQQ")
SHT_GNU_VERNEED = 0x6FFFFFFE
# Elf64_Verneed: version, number of versions, library, then the offsets of its first version and of the next library.
LIBRARY = struct.Struct("<HHIII")
# Elf64_Vernaux: hash, flags, number, name, then the offset of the next version.
VERSION = struct.Struct("<IHHII")


def _version_names(data: bytes) -> Iterator[str]:
    (first,) = struct.unpack_from("<Q", data, 40)
    size, count = struct.unpack_from("<HH", data, 58)
    sections = [SECTION.unpack_from(data, first + index * size) for index in range(count)]
    for _, kind, _, _, offset, _, link, libraries, _, _ in sections:
        if kind != SHT_GNU_VERNEED:
            continue
        strings = sections[link][4]
        at = offset
        for _ in range(libraries):
            _, versions, _, aux, following = LIBRARY.unpack_from(data, at)
            one = at + aux
            for _ in range(versions):
                _, _, _, name, step = VERSION.unpack_from(data, one)
                yield data[strings + name : data.index(0, strings + name)].decode("ascii")
                one += step
            at += following


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
