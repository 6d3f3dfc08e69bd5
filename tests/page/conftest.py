"""The browser, and what every test of the page holds it to: no error in the console, no other host, nothing kept."""

import io
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.page import servers
from tests.page.figures import FIGURES

PICTURES = servers.TARGET / "page"
DESKTOP = {"viewport": {"width": 1280, "height": 900}}
PHONE = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 3,
    "is_mobile": True,
    "has_touch": True,
}
# A machine may be busy; nothing here is timed.
PATIENCE_MS = 20_000

expect.set_options(timeout=PATIENCE_MS)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for line in FIGURES:
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    names = ("chromium", "chromium-browser", "google-chrome")
    program = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    assert program, "Chromium is missing: install it (Debian, Ubuntu: chromium) or name one in CHROMIUM"
    fakes = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    # A container's root has no sandbox.
    alone = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=[*fakes, *alone])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    with servers.serve() as address:
        yield address


@dataclass
class Visit:
    """A page that was opened, and what went on there."""

    page: Page
    address: str
    faults: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)
    # Of buckets that the function sends its clients to.
    storage: set[str] = field(default_factory=set)
    # Refusals that a test means to see; the browser writes each failed request into its console.
    refusals: int = 0

    def watch(self) -> None:
        self.page.on("console", lambda message: message.type == "error" and self.fault(message.text))
        self.page.on("pageerror", lambda error: self.faults.append(f"{error.name}: {error.message}"))
        self.page.on("request", lambda request: self.hosts.add(urlsplit(request.url).netloc))

    def fault(self, text: str) -> None:
        if text.startswith("Failed to load resource: the server responded with a status of"):
            self.refusals += 1
        else:
            self.faults.append(text)

    def choose(self, photo: Path | dict[str, Any]) -> None:
        with self.page.expect_file_chooser() as chooser:
            self.page.locator("#choose").click()
        chooser.value.set_files(photo)

    def done(self) -> None:
        """Waits until the photo is parsed, and shown."""
        expect(self.page.locator("#result")).to_be_visible()
        expect(self.page.locator("#working")).to_be_hidden()
        expect(self.page.locator("#photo")).to_have_js_property("complete", True)

    def picture(self, name: str) -> None:
        PICTURES.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=PICTURES / f"{name}.png", full_page=True)

    def api(self, query: str, photo: bytes, path: str = "parse") -> bytes:
        request = Request(f"{self.address.rstrip('/')}/{path}?{query}", photo)
        with urlopen(request) as response:
            return response.read()


Visitor = Callable[..., Visit]


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visitor]:
    """Opens the page at an address. Afterwards nothing was wrong there but the refusals that the test expects."""
    visits: list[tuple[BrowserContext, Visit, int]] = []

    def to(address: str, how: dict[str, Any] = DESKTOP, *, refusals: int = 0, **more: object) -> Visit:
        context = browser.new_context(**how, **{"locale": "en-GB", **more})
        context.set_default_timeout(PATIENCE_MS)
        visit = Visit(context.new_page(), address)
        visit.watch()
        visits.append((context, visit, refusals))
        visit.page.goto(address)
        return visit

    yield to
    for context, visit, refusals in visits:
        kept = visit.page.evaluate(
            "async () => ({local: localStorage.length, session: sessionStorage.length, cookie: document.cookie, "
            "databases: (await indexedDB.databases()).length, caches: (await caches.keys()).length})"
        )
        cookies = context.cookies()
        context.close()
        assert visit.faults == []
        assert visit.refusals == refusals
        # Pictures of the page's own (blob:, data:) have no host.
        assert visit.hosts <= {urlsplit(visit.address).netloc, "", *visit.storage}
        assert kept == {"local": 0, "session": 0, "cookie": "", "databases": 0, "caches": 0}
        assert cookies == []


@pytest.fixture(scope="session")
def scene() -> bytes:
    """The sample: five people."""
    return (servers.ROOT / "src/http/page/sample.jpg").read_bytes()


@pytest.fixture(scope="session")
def scene_file(scene: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photos") / "it's a scene.jpg"
    path.write_bytes(scene)
    return path


def jpeg(image: Image.Image, **how: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **how)
    return buffer.getvalue()


def noisy(scene: bytes, size: tuple[int, int], *, quality: int = 95, **how: object) -> bytes:
    """The scene in another size, with the noise that makes files large."""
    people = np.array(Image.open(io.BytesIO(scene)).resize(size), np.int16)
    people += np.random.default_rng(7).integers(-32, 32, people.shape, np.int16)
    return jpeg(Image.fromarray(np.clip(people, 0, 255).astype(np.uint8)), quality=quality, **how)
