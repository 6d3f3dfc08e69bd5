"""What is said when something does not work, and photos too large for a request."""

import io
import json
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.page import servers
from tests.page.pictures import jpeg, noisy
from tests.page.visiting import Visit, Visitor

TOKEN = "page-token-0123456789"


@pytest.fixture(scope="module")
def strict() -> Iterator[str]:
    """A server that takes little and wants a token."""
    with servers.serve(BEARER_TOKEN=TOKEN, MAX_SOURCE_PIXELS="1000000") as address:
        yield address


def refused(seen: Visit, sentence: str, advice: str) -> None:
    expect(seen.page.locator("#problem")).to_be_visible()
    expect(seen.page.locator("#sentence")).to_contain_text(sentence)
    expect(seen.page.locator("#advice")).to_contain_text(advice)
    expect(seen.page.locator("#working")).to_be_hidden()
    expect(seen.page.locator("#result")).to_be_hidden()


def admitted(seen: Visit) -> None:
    seen.page.locator("#token").fill(TOKEN)
    seen.enter("#token")


# --- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "kind"), [("notes.txt", "text/plain"), ("form.json", "application/json")])
def test_no_image_at_all(visit: Visitor, server: str, name: str, kind: str) -> None:
    seen = visit(server, refusals=1)
    seen.choose({"name": name, "mimeType": kind, "buffer": b'{"s3": {"bucket": "a", "key": "b"}}'})
    refused(seen, "(415)", "Choose a JPEG, PNG, WebP, BMP, GIF or TIFF photo.")
    expect(seen.page.locator("#again")).to_be_hidden()


def test_a_damaged_photo(visit: Visitor, server: str, scene: bytes) -> None:
    seen = visit(server, refusals=1)
    seen.choose({"name": "cut.png", "mimeType": "image/png", "buffer": b"\x89PNG\r\n\x1a\n" + scene[:100]})
    refused(seen, "(422)", "damaged")


def test_after_a_refusal_the_next_photo_is_parsed(visit: Visitor, server: str, scene_file: Path) -> None:
    seen = visit(server, refusals=1)
    seen.choose({"name": "notes.txt", "mimeType": "text/plain", "buffer": b"notes"})
    refused(seen, "(415)", "Choose")
    seen.picture("refusal")
    seen.choose(scene_file)
    seen.done()
    expect(seen.page.locator("#problem")).to_be_hidden()


def test_no_image_after_a_photo_leaves_no_picture(visit: Visitor, server: str, scene_file: Path) -> None:
    seen = visit(server, refusals=1)
    seen.choose(scene_file)
    seen.done()
    seen.choose({"name": "notes.txt", "mimeType": "text/plain", "buffer": b"notes"})
    refused(seen, "(415)", "Choose")
    expect(seen.page.locator("#desk")).to_be_hidden()
    assert seen.page.locator("#photo").get_attribute("src") is None
    seen.choose(scene_file)
    seen.done()
    expect(seen.page.locator("#photo")).to_have_js_property("naturalWidth", 1280)


@pytest.mark.parametrize(
    ("code", "advice"), [("answer_too_large", "another download"), ("too_little_memory", "more memory")]
)
def test_what_cannot_help_is_not_offered(visit: Visitor, server: str, scene_file: Path, code: str, advice: str) -> None:
    seen = visit(server, refusals=1)
    seen.page.route("**/parse?*", lambda route: route.fulfill(status=413, json={"code": code, "detail": "Too large"}))
    seen.choose(scene_file)
    refused(seen, "Too large (413)", advice)
    expect(seen.page.locator("#again")).to_be_hidden()


def test_too_many_pixels(visit: Visitor, strict: str) -> None:
    # `/info` without the token, then the photo.
    seen = visit(strict, refusals=2)
    admitted(seen)
    seen.choose({"name": "large.jpg", "mimeType": "image/jpeg", "buffer": jpeg(Image.new("RGB", (2000, 1000)))})
    refused(seen, "(413)", "fewer pixels")
    assert re.search(r"\d{6,}", seen.page.locator("#sentence").inner_text()), (
        "the server's own sentence has the figures"
    )


def test_a_token_is_asked_for_and_not_kept(visit: Visitor, strict: str, scene: bytes) -> None:
    seen = visit(strict, refusals=4)
    refused(seen, "(401)", "Enter the token above")
    expect(seen.page.locator("#token")).to_be_visible()
    seen.page.locator("#token").fill("wrong")
    seen.enter("#token")
    small = jpeg(Image.open(io.BytesIO(scene)).resize((640, 360)))
    seen.choose({"name": "small.jpg", "mimeType": "image/jpeg", "buffer": small})
    refused(seen, "(401)", "Enter the token above")
    # The photo that waited is parsed at once.
    admitted(seen)
    seen.done()
    assert TOKEN not in seen.page.locator("#curl").text_content()
    assert "$M2FP_TOKEN" in seen.page.locator("#curl").text_content()
    seen.page.reload()
    refused(seen, "(401)", "Enter the token above")
    assert seen.page.locator("#token").input_value() == ""


def test_a_photo_waits_through_a_wrong_token(visit: Visitor, strict: str, scene: bytes) -> None:
    # `/info` at the start, for the photo, and for the wrong token.
    seen = visit(strict, refusals=3)
    small = jpeg(Image.open(io.BytesIO(scene)).resize((640, 360)))
    seen.choose({"name": "small.jpg", "mimeType": "image/jpeg", "buffer": small})
    refused(seen, "(401)", "Enter the token above")
    with seen.page.expect_response("**/info"):
        seen.page.locator("#token").fill("wrong")
        seen.enter("#token")
    refused(seen, "(401)", "Enter the token above")
    admitted(seen)
    seen.done()


# What every plan leaves free, and what figures in whole MB may be off by.
MARGIN_MB = 16
ROUNDING_MB = 2


@contextmanager
def unread(address: str, query: str, photo: bytes) -> Iterator[None]:
    """An answer that is made and not taken: it holds its memory."""
    host, port = urlsplit(address).netloc.split(":")
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect((host, int(port)))
        head = f"POST /parse?{query} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {len(photo)}\r\n\r\n"
        client.sendall(head.encode() + photo)
        assert client.recv(12) == b"HTTP/1.1 200"
        yield


def test_a_busy_server_is_tried_again(visit: Visitor, server: str, scene: bytes) -> None:
    photo = noisy(scene, (4000, 2250))
    asker = visit(server)
    needed = {
        query: json.loads(asker.api(query, photo, path="plan"))["plan"]["predicted_peak_mb"]
        for query in ("output=cutout", "output=json&rle=true")
    }
    most = max(needed.values())
    held = len(asker.api("output=cutout", photo)) >> 20
    assert most + ROUNDING_MB - held < needed["output=json&rle=true"], "the answer holds too little for this test"
    with servers.serve("--memory", str(most + ROUNDING_MB + MARGIN_MB), MAX_WAIT_MS="1") as address:
        seen = visit(address, refusals=1)
        with unread(address, "output=cutout", photo):
            seen.choose({"name": "photo.jpg", "mimeType": "image/jpeg", "buffer": photo})
            refused(seen, "(503)", "Try again in ")
        seen.page.locator("#again").click()
        seen.done()


def test_a_server_that_is_gone(visit: Visitor, scene_file: Path) -> None:
    with servers.serve() as address:
        seen = visit(address)
        expect(seen.page.locator("#model")).to_contain_text("Model ")
    seen.choose(scene_file)
    refused(seen, "cannot be reached", "online")
    expect(seen.page.locator("#again")).to_be_visible()
    assert all("ERR_CONNECTION_REFUSED" in fault for fault in seen.faults)
    seen.faults.clear()


def test_a_photo_can_be_cancelled(visit: Visitor, server: str, scene_file: Path) -> None:
    seen = visit(server)
    # An answer that never comes: only the page's own end of it is tested.
    seen.page.route("**/parse?*", lambda _: None)
    seen.choose(scene_file)
    expect(seen.page.locator("#working")).to_be_visible()
    seen.page.locator("#cancel").click()
    expect(seen.page.locator("#status")).to_have_text("Cancelled.")
    expect(seen.page.locator("#working")).to_be_hidden()
    expect(seen.page.locator("#problem")).to_be_hidden()


# --- too large for a request ----------------------------------------------------------------------------------------


def test_a_photo_too_large_to_send_is_reduced_and_that_is_said(visit: Visitor, scene: bytes) -> None:
    most = 200_000
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = noisy(scene, (4000, 3000), exif=exif)
    with servers.serve(MAX_BODY_BYTES=str(most)) as address:
        seen = visit(address)
        seen.choose({"name": "large.jpg", "mimeType": "image/jpeg", "buffer": photo})
        seen.done()
        note = seen.page.locator("#warnings").inner_text()
        said = re.search(
            r"takes 200 kB in a request: it was reduced in your browser from 3000×4000 to (\d+)×(\d+) \((\d+) kB\)",
            note,
        )
        assert said, note
        width, height, kilobytes = map(int, said.groups())
        assert width / height == pytest.approx(0.75, abs=0.01)
        assert most / 4 < kilobytes * 1000 <= most
        with seen.page.expect_download() as download:
            seen.page.locator("#sent").click()
        with Image.open(download.value.path()) as sent:
            assert sent.size == (width, height)
            assert sent.getexif().get(0x0112, 1) == 1
        assert "large.reduced.jpg" in seen.page.locator("#curl").text_content()
        shown = seen.page.evaluate("[state.report.image.width, state.report.image.height]")
        assert shown == [width, height]


def test_a_photo_too_large_to_send_goes_through_the_bucket_where_there_is_one(
    visit: Visitor, scene: bytes, tmp_path: Path
) -> None:
    photo = noisy(scene, (1920, 1080))
    settings = {"MAX_BODY_BYTES": "200000", "UPLOAD_BUCKET": "uploads"}
    with servers.storage(uploads="UploadBucket") as storage, servers.serve(S3_ENDPOINT=storage, **settings) as address:
        seen = visit(address, permissions=["clipboard-read", "clipboard-write"])
        seen.storage.add(urlsplit(storage).netloc)
        sent: list[tuple[str, str, int]] = []
        seen.page.on(
            "request", lambda one: sent.append((one.method, urlsplit(one.url).path, len(one.post_data_buffer or b"")))
        )
        seen.choose({"name": "large.jpg", "mimeType": "image/jpeg", "buffer": photo})
        seen.done()
        assert seen.page.evaluate("[state.report.image.width, state.report.image.height]") == [1920, 1080]
        methods = [(method, path.split("/")[1]) for method, path, _ in sent]
        assert methods[-3:] == [("POST", "uploads"), ("PUT", "uploads"), ("POST", "parse")]
        assert max(size for method, _, size in sent if method == "POST") < 1000, "the photo went to the bucket alone"
        expect(seen.page.locator("#sent")).to_be_hidden()
        expect(seen.page.locator("footer")).to_contain_text("through its S3 bucket")
        with seen.page.expect_download() as download:
            seen.page.locator("[data-output=mask]").click()
        mask = Path(download.value.path()).read_bytes()
        # The same steps in a shell give the same mask, where there is jq.
        (tmp_path / "large.jpg").write_bytes(photo)
        if shutil.which("jq"):
            command = seen.page.locator("#curl").text_content()
            subprocess.run(["bash", "-euc", command], cwd=tmp_path, check=True, capture_output=True)
            assert (tmp_path / "large.jpg.mask.png").read_bytes() == mask
    with Image.open(io.BytesIO(mask)) as image:
        assert image.size == (1920, 1080)


def test_what_cannot_be_reduced_is_refused_here(visit: Visitor) -> None:
    with servers.serve(MAX_BODY_BYTES="1000") as address:
        seen = visit(address)
        seen.choose({"name": "photo.tif", "mimeType": "image/tiff", "buffer": b"II*\0" + bytes(2000)})
        refused(seen, "too large to be sent as it is", "smaller JPEG")
