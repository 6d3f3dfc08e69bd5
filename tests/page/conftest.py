"""The browser, and what every test of the page holds it to: no error in the console, no other host, nothing kept."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, sync_playwright

from tests.page import servers
from tests.page.figures import FIGURES
from tests.page.visiting import DESKTOP, PATIENCE_MS, Visit, Visitor


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
    """The sample: four people."""
    return (servers.ROOT / "src/http/page/sample.jpg").read_bytes()


@pytest.fixture(scope="session")
def scene_file(scene: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photos") / "it's a scene.jpg"
    path.write_bytes(scene)
    return path


@pytest.fixture
def parsed(visit: Visitor, server: str, scene_file: Path) -> Visit:
    """The scene, given and parsed."""
    seen = visit(server)
    seen.choose(scene_file)
    seen.done()
    return seen
