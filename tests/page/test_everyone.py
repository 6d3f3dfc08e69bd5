"""Languages and accessibility."""

import json
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.page.visiting import DESKTOP, PHONE, Visit, Visitor


def accessible(seen: Visit) -> None:
    """Axe finds nothing, be it as small as it may."""
    found = Axe().run(seen.page).response["violations"]
    assert [(one["impact"], one["id"], [node["html"] for node in one["nodes"]]) for one in found] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("how", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
def test_everyone_can_use_it(
    visit: Visitor, server: str, scene_file: Path, locale: str, how: dict[str, Any], scheme: str
) -> None:
    seen = visit(server, how, locale=locale, color_scheme=scheme, refusals=1)
    accessible(seen)
    seen.choose({"name": "notes.txt", "mimeType": "text/plain", "buffer": b"notes"})
    expect(seen.page.locator("#problem")).to_be_visible()
    accessible(seen)
    seen.choose(scene_file)
    seen.done()
    for details in seen.page.locator("details:visible").all():
        details.evaluate("(one) => { one.open = true; }")
    accessible(seen)
    seen.page.locator("#legend .target").first.click()
    accessible(seen)
    assert seen.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_what_goes_on_is_announced(visit: Visitor, server: str, scene_file: Path) -> None:
    seen = visit(server)
    seen.page.evaluate(
        """() => {
            window.heard = [];
            const status = document.getElementById("status");
            new MutationObserver(() => heard.push(status.textContent)).observe(status, {childList: true});
        }"""
    )
    seen.choose(scene_file)
    seen.done()
    heard = seen.page.evaluate("heard")
    assert [text.split(" ")[0] for text in heard] == ["Reading", "Uploading", "Parsing", "Done:"]
    assert seen.page.locator("#status").get_attribute("role") == "status"
    assert seen.page.locator("#problem").get_attribute("role") == "alert"
    assert "Photo with its parts coloured: " in seen.page.locator("#stage").get_attribute("aria-label")


@pytest.mark.parametrize(
    ("locale", "lang"), [("en-GB", "en"), ("de-DE", "en"), ("zh-CN", "zh-Hans"), ("zh-TW", "zh-Hans")]
)
def test_the_language_is_the_browsers(visit: Visitor, server: str, locale: str, lang: str) -> None:
    seen = visit(server, locale=locale)
    expect(seen.page.locator("html")).to_have_attribute("lang", lang)
    expect(seen.page).to_have_title("人体解析" if lang == "zh-Hans" else "Human parsing")


def test_the_language_can_be_switched_at_any_time(visit: Visitor, server: str, scene_file: Path) -> None:
    seen = visit(server, refusals=1)
    seen.choose({"name": "notes.txt", "mimeType": "text/plain", "buffer": b"notes"})
    expect(seen.page.locator("#advice")).to_contain_text("Choose a JPEG")
    seen.page.locator("#language").click()
    expect(seen.page.locator("#advice")).to_contain_text("请选择")
    expect(seen.page.locator("#sentence")).to_contain_text("(415)")
    seen.choose(scene_file)
    seen.done()
    expect(seen.page.locator("#status")).to_contain_text("完成：")
    expect(seen.page.locator("#plan")).to_contain_text("原图 1280×720")
    seen.picture("chinese")
    before = seen.page.locator(".target").count()
    seen.page.locator("#language").click()
    expect(seen.page.locator("#status")).to_contain_text("Done: ")
    expect(seen.page.locator("#plan")).to_contain_text("of 1280×720")
    assert seen.page.locator(".target").count() == before


def test_both_languages_say_the_same_things(visit: Visitor, server: str) -> None:
    seen = visit(server)
    blanks = """(language) => JSON.stringify(WORDS[language], (_, value) =>
        typeof value === "string" ? (value.match(/\\{\\w+\\}/g) || []).sort().join() : value)"""
    keys = {language: json.loads(seen.page.evaluate(blanks, language)) for language in ("en", "zh")}
    # A count of one needs no number.
    assert keys["en"] == keys["zh"]
