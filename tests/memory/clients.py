"""Many clients at once, where there is room for two; clients that send large bodies slowly, or such as are no photo."""

import json
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.memory import client, photos, program
from tests.memory.client import Answer
from tests.memory.program import Program, Server

CLIENTS = 16
# Short, so that whoever finds no room is told so.
MAX_WAIT_MS = "300"
BURST_PHOTOS = ("1080p JPEG", "4K JPEG", "24 MP JPEG")
ROOM_FOR = 2
# Bodies of 16 clients are together larger than this.
SLOW_SIZE_MB = 256
SLOW_PHOTO = "24 MP slow JPEG"
SLOW_SECONDS = 8.0
LONGEST_PAUSE_SECONDS = 5.0
# The least that Lambda has.
HOSTILE_SIZE_MB = 128
HOSTILE_BYTES = 19_000_000
MAX_TRIES = 2000


@dataclass(frozen=True)
class Sent:
    """A body, what it says it is, and the status of its answer where there is room."""

    body: bytes
    media_type: str = "application/octet-stream"
    status: int = 200


def run(subject: Program, folder: Path) -> tuple[str, list[str]]:
    """The page's text, and what was wrong."""
    faults: list[str] = []
    bursts = [Sent(photos.photo(name, folder).read_bytes()) for name in BURST_PHOTOS]
    size_mb = _size_for(subject, [photos.photo(name, folder) for name in BURST_PHOTOS])
    rows = [
        "| clients | memory | requests | answers | peak of the process | of the cgroup | kills | seconds |",
        "|---|---|---|---|---|---|---|---|",
        _row(f"{CLIENTS}, each {len(bursts)} photos at once", subject, size_mb, bursts, 0, faults),
    ]
    slow = _large(folder).read_bytes()
    megabytes = len(slow) / 2**20
    told = f"{CLIENTS}, each {megabytes:.0f} MB over {SLOW_SECONDS:.0f} s, {CLIENTS * megabytes:.0f} MB together"
    rows.append(_row(told, subject, SLOW_SIZE_MB, [Sent(slow)], SLOW_SECONDS, faults))
    hostile = list(_hostile())
    told = f"{CLIENTS}, each {len(hostile)} bodies of {HOSTILE_BYTES / 1e6:.0f} MB that are no photo"
    rows.append(_row(told, subject, HOSTILE_SIZE_MB, hostile, 0, faults))
    return "\n".join(rows), faults


def _hostile() -> Iterator[Sent]:
    """Long where a parser would copy: names, texts with escapes, the head of a form's field."""
    plain, escaped = b"k" * HOSTILE_BYTES, b"\\/" * (HOSTILE_BYTES // 2)
    for body, status in [
        (b'{"%b": 1}' % plain, 400),
        (b'{"%b": 1}' % escaped, 400),
        (b'{"s3": {"bucket": "%b", "key": "k"}}' % escaped, 400),
        (b'{"image": "AAAA", "options": {"%b": 1}}' % plain, 400),
        (b'{"image": "%b"}' % escaped, 415),
    ]:
        yield Sent(body, "application/json", status)
    head = b'--B\r\nContent-Disposition: form-data; name="%b"\r\n\r\n\r\n--B--\r\n' % plain
    yield Sent(head, "multipart/form-data; boundary=B", 400)


def _large(folder: Path) -> Path:
    """A body near the greatest that is taken."""
    path = folder / SLOW_PHOTO.replace(" ", "-")
    if not path.exists():
        photos.image(photos.MP24).save(path, "JPEG", quality=98, subsampling=0)
    return path


def _size_for(subject: Program, paths: list[Path]) -> int:
    """The memory that has room for two of the hungriest of these photos, and not for three."""
    environment = subject.environment(4096)
    planned = subprocess.run(
        [subject.m2fp, "plan", "--json", *paths], env=environment, capture_output=True, text=True, check=True
    )
    peak = max(json.loads(line)["plan"]["predicted_peak_mb"] for line in planned.stdout.splitlines())
    told = subprocess.run([subject.m2fp, "info"], env=environment, capture_output=True, text=True, check=True)
    limit, free = map(int, re.search(r"(\d+) MB limit, (\d+) MB for one", told.stdout).groups())
    request = peak - (limit - free - program.margin_mb(subject, paths[0]))
    return limit - free + ROOM_FOR * request


def _row(what: str, subject: Program, size_mb: int, bodies: list[Sent], over: float, faults: list[str]) -> str:
    print(f"  {what}, {size_mb} MB", file=sys.stderr)
    with program.serve(subject, size_mb, {"MAX_WAIT_MS": MAX_WAIT_MS}) as server:
        start = time.perf_counter()
        counts, peaks = _all(server, bodies, over, faults)
        seconds = time.perf_counter() - start
        kills, group_peak = server.group.kills(), server.group.peak_mb()
    if kills:
        faults.append(f"{what}: {kills} kills")
    wanted = Counter(sent.status for sent in bodies for _ in range(CLIENTS))
    given = Counter({status: count for status, count in counts.items() if status != 503})
    if given != wanted:
        faults.append(f"{what}: answers by status {dict(given)} instead of {dict(wanted)}, beside 503")
    answers = ", ".join(f"{count} × {status or 'broken'}" for status, count in sorted(counts.items()))
    group = "–" if group_peak is None else f"{group_peak:.0f} MB"
    peak = f"{max(peaks):.0f} MB" if peaks else "–"
    return f"| {what} | {size_mb} MB | {wanted.total()} | {answers} | {peak} | {group} | {kills} | {seconds:.0f} |"


def _all(server: Server, bodies: list[Sent], over: float, faults: list[str]) -> tuple[Counter[int], list[int]]:
    counts: Counter[int] = Counter()
    peaks: list[int] = []

    def send(sent: Sent) -> None:
        for _ in range(MAX_TRIES):
            answer = client.post(server.address, "/parse?output=json", sent.body, over, sent.media_type)
            counts[answer.status] += 1
            if answer.status == 200:
                peaks.append(json.loads(answer.body)["memory"]["peak_rss_mb"])
            if answer.status != 503:
                return
            time.sleep(_pause(answer, faults))

    def all_of_one_client(number: int) -> None:
        for index in range(len(bodies)):
            send(bodies[(number + index) % len(bodies)])

    _together(all_of_one_client)
    return counts, peaks


def _pause(answer: Answer, faults: list[str]) -> float:
    if answer.retry_after is None or not answer.retry_after.isdigit():
        faults.append(f"a 503 with Retry-After {answer.retry_after}")
        return 1.0
    return min(float(answer.retry_after), LONGEST_PAUSE_SECONDS)


def _together(work: Callable[[int], None]) -> None:
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(work, range(CLIENTS)))
