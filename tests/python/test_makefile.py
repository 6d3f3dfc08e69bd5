"""What the Makefile decides before it builds: for which architecture, and with which compiler."""

import os
import subprocess
from pathlib import Path

import pytest

import al2023

ROOT = Path(__file__).parents[2]
ARCH = al2023.architecture(ROOT / ".runtime/libonnxruntime.so")
OTHER = "arm64" if ARCH == "x86_64" else "x86_64"


def make(folder: Path, *arguments: str, path: str = "") -> subprocess.CompletedProcess[str]:
    """Runs the project's Makefile in `folder`, free of what another make may have passed on."""
    environment = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "ARCH")}
    environment["PATH"] = f"{path}{os.pathsep}{environment['PATH']}" if path else environment["PATH"]
    command = ["make", "--no-print-directory", f"--directory={folder}", f"--makefile={ROOT / 'Makefile'}", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_a_build_for_another_architecture_than_the_stacks_stops(tmp_path: Path) -> None:
    (tmp_path / ".aws-sam").mkdir()
    (tmp_path / ".aws-sam/build.toml").write_text(f'[function_build_definitions.x]\narchitecture = "{ARCH}"\n')
    assert make(tmp_path, "architectures-agree", f"ARCH={ARCH}").returncode == 0
    run = make(tmp_path, "architectures-agree", f"ARCH={OTHER}")
    assert run.returncode != 0
    assert run.stderr.startswith(f"The stack's Architecture is {ARCH} and ARCH is {OTHER}: ARCH={ARCH} sam build")


def test_a_folder_without_a_stack_is_built(tmp_path: Path) -> None:
    """SAM writes nothing down where it builds a copy of the source, or a single function."""
    assert make(tmp_path, "architectures-agree", f"ARCH={OTHER}").returncode == 0


def builder(arch: str, path: str = "") -> str:
    """What `make lambda ARCH=…` compiles with."""
    run = make(ROOT, "--eval=shown: ; @echo $(BUILDER)", "shown", f"ARCH={arch}", path=path)
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


@pytest.mark.parametrize(
    ("glibc", "expected"), [("2.34", "cargo"), ("2.37", "cargo"), ("2.38", "zig"), ("2.41", "zig")]
)
def test_a_machine_newer_than_lambda_compiles_with_zig_from_the_start(
    tmp_path: Path, glibc: str, expected: str
) -> None:
    ldd = tmp_path / "ldd"
    ldd.write_text(f"#!/bin/sh\necho 'ldd (GNU libc) {glibc}'\n")
    ldd.chmod(0o755)
    assert builder(ARCH, str(tmp_path)) == expected


def test_another_architecture_is_built_with_zig() -> None:
    assert builder(OTHER) == "zig"


@pytest.mark.parametrize("target", ["lambda", "test", "demo"])
def test_another_system_is_told_what_to_do_in_one_line(tmp_path: Path, target: str) -> None:
    uname = tmp_path / "uname"
    uname.write_text('#!/bin/sh\n[ "$1" = -s ] && echo Darwin || echo arm64\n')
    uname.chmod(0o755)
    run = make(ROOT, "--dry-run", target, path=str(tmp_path))
    assert run.returncode != 0
    assert not run.stdout
    (line,) = run.stderr.splitlines()
    assert "runs on Linux" in line
    assert ".devcontainer" in line
    assert "`make shell`" in line
    # What is said to do is not refused itself.
    assert make(ROOT, "--dry-run", "shell", path=str(tmp_path)).returncode == 0
