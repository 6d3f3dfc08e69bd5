"""Memory cgroups for commands: a real limit, what was held under it, and whether the kernel killed for it."""

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

MB = 2**20
ROOT = Path("/sys/fs/cgroup")

# Microseconds over which a share of the processors is counted.
CPU_PERIOD = 100_000

_numbers = count()


@dataclass(frozen=True)
class Version:
    """Where a version of cgroups keeps what we need. Empty: where it is, relative to ROOT."""

    memory: str
    cpu: tuple[str, ...]
    limit: str
    # What memory and swap together may take is the limit again, or swap may take nothing.
    swap: str
    swap_is_sum: bool
    peak: str
    events: str
    quota: str


V2 = Version("", ("",), "memory.max", "memory.swap.max", False, "memory.peak", "memory.events", "cpu.max")
V1 = Version(
    "memory",
    ("cpu", "cpu,cpuacct"),
    "memory.limit_in_bytes",
    "memory.memsw.limit_in_bytes",
    True,
    "memory.max_usage_in_bytes",
    "memory.oom_control",
    "cpu.cfs_quota_us",
)


@dataclass(frozen=True)
class Group:
    """A cgroup under a memory limit."""

    version: Version
    memory: Path
    # None: its processes may use every processor.
    cpu: Path | None

    def enter(self, command: list[str]) -> list[str]:
        """The command that enters the group and becomes `command`: nothing of the caller's is counted."""
        folders = {self.memory, *([self.cpu] if self.cpu else [])}
        moves = [f'echo $$ > "{folder}/cgroup.procs"' for folder in sorted(folders)]
        return ["/bin/sh", "-c", " && ".join([*moves, 'exec "$@"']), "sh", *command]

    def peak_mb(self) -> float | None:
        """The most it held, cached files included; None where the kernel does not say."""
        try:
            return int((self.memory / self.version.peak).read_text()) / MB
        except OSError:
            return None

    def kills(self) -> int:
        """How often the kernel killed in it for memory."""
        found = re.search(r"^oom_kill (\d+)$", (self.memory / self.version.events).read_text(), re.MULTILINE)
        return int(found[1]) if found else 0


@contextmanager
def group(limit_mb: int, cpus: float | None = None) -> Iterator[Group | None]:
    """A group with this limit and share of the processors, or None where this machine lets us make none."""
    name = f"m2fp-{os.getpid()}-{next(_numbers)}"
    for version in (V2, V1):
        memory = _make(ROOT / version.memory / name, {version.limit: str(limit_mb * MB)})
        if memory is None:
            continue
        _write(memory / version.swap, str(limit_mb * MB) if version.swap_is_sum else "0")
        cpu = None if cpus is None else _share(version, name, cpus)
        try:
            yield Group(version, memory, cpu)
        finally:
            for folder in {memory, *([cpu] if cpu else [])}:
                _remove(folder)
        return
    yield None


def _share(version: Version, name: str, cpus: float) -> Path | None:
    quota = round(cpus * CPU_PERIOD)
    text = f"{quota} {CPU_PERIOD}" if version is V2 else str(quota)
    for controller in version.cpu:
        folder = _make(ROOT / controller / name, {version.quota: text})
        if folder is not None:
            return folder
    return None


def _make(folder: Path, values: dict[str, str]) -> Path | None:
    """The group with these values, or None. What was there before is left there."""
    is_new = not folder.exists()
    try:
        folder.mkdir(exist_ok=True)
    except OSError:
        return None
    # The kernel's own files, or this is no cgroup of that version.
    if all(_write(folder / file, value) for file, value in values.items()):
        return folder
    if is_new:
        _remove(folder)
    return None


def _write(file: Path, value: str) -> bool:
    try:
        with file.open("r+") as opened:
            opened.write(value)
    except OSError:
        return False
    return True


def _remove(folder: Path) -> None:
    """A group can be removed a moment after its last process has ended."""
    for _ in range(50):
        try:
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.1)
        else:
            return
    folder.rmdir()


def drop_from_cache(path: Path) -> None:
    """A file's pages: a group is charged for what it reads only if nobody has it in memory."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
