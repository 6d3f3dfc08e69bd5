"""A page that was opened: what a test does there, and what it looks at."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from playwright.sync_api import Page, Route, expect

from tests.page import servers

PICTURES = servers.TARGET / "page"
DESKTOP = {"viewport": {"width": 1280, "height": 900}}
PHONE = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 3,
    "is_mobile": True,
    "has_touch": True,
}
# A machine may be busy; nothing here is timed.
PATIENCE_MS = 60_000

expect.set_options(timeout=PATIENCE_MS)


def until(page: Page, condition: str) -> None:
    """Waits for something of the page's own. (`wait_for_function` would need eval, which the policy forbids.)"""
    page.evaluate(
        f"""() => new Promise((resolve, reject) => {{
            const end = performance.now() + {PATIENCE_MS};
            const look = () => {{
                if ({condition}) resolve();
                else if (performance.now() > end) reject(new Error({json.dumps(condition)}));
                else setTimeout(look, 20);
            }};
            look();
        }})"""
    )


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

    def enter(self, selector: str) -> None:
        """Presses Enter on an element once it can be seen: the key would go elsewhere while it takes no focus."""
        expect(self.page.locator(selector)).to_be_visible()
        self.page.locator(selector).press("Enter")

    def done(self) -> None:
        """Waits until the photo is parsed, and shown."""
        expect(self.page.locator("#result")).to_be_visible()
        expect(self.page.locator("#working")).to_be_hidden()
        expect(self.page.locator("#photo")).to_have_js_property("complete", True)

    def until(self, condition: str) -> None:
        until(self.page, condition)

    def hold(self, requests: str) -> list[Route]:
        """Such requests from now on: they wait until they are answered."""
        held: list[Route] = []

        def hold(route: Route) -> None:
            held.append(route)

        self.page.route(requests, hold)
        return held

    def picture(self, name: str) -> None:
        PICTURES.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=PICTURES / f"{name}.png")

    def api(self, query: str, photo: bytes, path: str = "parse") -> bytes:
        request = Request(f"{self.address.rstrip('/')}/{path}?{query}", photo)
        with urlopen(request) as response:
            return response.read()


Visitor = Callable[..., Visit]
