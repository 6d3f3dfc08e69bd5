"""Programs of this repository as a processor without AVX-512 runs them, which is what Lambda's x86_64 shows.

Copies them and ONNX Runtime into a folder, with a breakpoint in the place of each CPUID instruction. A small library
(`hide_avx512.c`), loaded before all others, answers there what the processor says, less AVX-512, AVX-VNNI and AMX. So
every kernel is chosen as on a processor with AVX2 alone. How fast that one would be is another matter: frequency,
caches and memory stay this machine's.
"""

import argparse
import platform
import re
import stat
import struct
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIBRARY = ROOT / ".runtime/libonnxruntime.so"
CPUID = b"\x0f\xa2"
BREAKPOINT = b"\xcc\x90"  # int3, and a nop to go on at
LOADED = 1  # PT_LOAD
WRAPPER = """#!/bin/sh
here=$(dirname "$(readlink -f "$0")")/inside
export LD_PRELOAD="$here/hide_avx512.so" ORT_DYLIB_PATH="$here/libonnxruntime.so"
exec "$here/{program}" "$@"
"""


def hide(programs: list[Path], out: Path, library: Path = LIBRARY) -> list[Path]:
    """What to run in the place of the programs, in a new folder; `library` is ONNX Runtime."""
    if platform.machine() not in ("x86_64", "AMD64"):
        raise SystemExit(f"there is no AVX-512 to hide on {platform.machine()}")
    inside = out / "inside"
    inside.mkdir(parents=True, exist_ok=True)
    source = Path(__file__).with_suffix(".c")
    shim = inside / source.with_suffix(".so").name
    subprocess.run(["cc", "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", shim, source], check=True)
    _write(inside / "libonnxruntime.so", _patched(library))
    wrappers = []
    for program in programs:
        _write(inside / program.name, _patched(program))
        wrapper = out / program.name
        _write(wrapper, WRAPPER.format(program=program.name).encode())
        wrappers.append(wrapper)
    return wrappers


def _patched(elf: Path) -> bytes:
    """The file with breakpoints for its CPUID instructions."""
    listing = subprocess.run(["objdump", "-d", "--no-show-raw-insn", elf], check=True, capture_output=True, text=True)
    code = bytearray(elf.read_bytes())
    segments = _segments(code)
    for found in re.finditer(r"^ *([0-9a-f]+):\s+cpuid\b", listing.stdout, re.MULTILINE):
        address = int(found[1], 16)
        (place,) = (offset + address - start for start, offset, size in segments if 0 <= address - start < size)
        if code[place : place + 2] != CPUID:
            raise SystemExit(f"{elf}: no CPUID at {address:#x}")
        code[place : place + 2] = BREAKPOINT
    return bytes(code)


def _segments(elf: bytes) -> list[tuple[int, int, int]]:
    """Address, offset in the file and size there of what is loaded (64-bit ELF, little endian)."""
    (table,) = struct.unpack_from("<Q", elf, 32)
    entry, count = struct.unpack_from("<HH", elf, 54)
    segments = []
    for number in range(count):
        kind, _, offset, address, _, size = struct.unpack_from("<IIQQQQ", elf, table + number * entry)
        if kind == LOADED:
            segments.append((address, offset, size))
    return segments


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(path.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("programs", nargs="+", type=Path, help="what is built: m2fp, bootstrap, …")
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    options = parser.parse_args()
    for wrapper in hide(options.programs, options.out):
        print(wrapper)


if __name__ == "__main__":
    main()
