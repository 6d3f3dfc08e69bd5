"""Real limits on real processes, where this machine lets us make them."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

import cgroup
from cgroup import Group

LIMIT_MB = 64


@pytest.fixture
def group() -> Iterator[Group]:
    with cgroup.group(LIMIT_MB) as made:
        if made is None:
            pytest.skip("this machine lets us make no memory cgroup")
        yield made


def holds(group: Group, megabytes: int) -> int:
    """How a process ends that holds so much."""
    held = f"held = bytearray({megabytes} * 2**20)\nheld[::4096] = bytes([1]) * len(held[::4096])"
    return subprocess.run(group.enter([sys.executable, "-c", held]), check=False).returncode


def test_who_stays_below_lives(group: Group) -> None:
    assert holds(group, LIMIT_MB // 2) == 0
    assert group.kills() == 0
    peak = group.peak_mb()
    assert peak is None or LIMIT_MB // 2 <= peak <= LIMIT_MB


def test_who_exceeds_it_is_killed_and_seen(group: Group) -> None:
    assert holds(group, LIMIT_MB * 2) == -9
    assert group.kills() == 1


def test_groups_are_removed(group: Group) -> None:
    with cgroup.group(LIMIT_MB, cpus=0.5) as other:
        assert other is not None
        assert other.memory.exists() and other.memory != group.memory
    assert not other.memory.exists()
    assert other.cpu is None or not other.cpu.exists()
