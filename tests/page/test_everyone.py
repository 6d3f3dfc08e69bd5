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
    # Colours on their way are nobody's; what moves for ever has none.
    ends = "document.getAnimations().filter((one) => one.effect.getComputedTiming().iterations !== Infinity)"
    seen.page.evaluate(f"Promise.all({ends}.map((one) => one.finished.catch(() => null))).then(() => null)")
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
    seen.picture(f"everyone-{'phone' if how is PHONE else 'desktop'}-{scheme}-{locale}")
    for details in seen.page.locator("details:visible").all():
        details.evaluate("(one) => { one.open = true; }")
    accessible(seen)
    seen.page.locator("#legend .target").first.click()
    accessible(seen)
    assert seen.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize(("scheme", "other"), [("light", "dark"), ("dark", "light")])
def test_the_colours_are_the_systems_until_somebody_switches(
    visit: Visitor, server: str, scheme: str, other: str
) -> None:
    seen = visit(server, color_scheme=scheme)
    paper = "getComputedStyle(document.body).backgroundColor"
    html = seen.page.locator("html")
    expect(html).to_have_attribute("data-theme", scheme)
    before = seen.page.evaluate(paper)
    seen.page.locator("#theme").click()
    expect(html).to_have_attribute("data-theme", other)
    assert seen.page.evaluate(paper) != before
    expect(seen.page.locator("#theme")).to_have_accessible_name(f"{scheme.capitalize()} colours")
    accessible(seen)
    # Who has chosen is not overruled.
    seen.page.emulate_media(color_scheme=scheme)
    expect(html).to_have_attribute("data-theme", other)


def test_who_wants_no_motion_has_none(visit: Visitor, server: str, scene_file: Path) -> None:
    seen = visit(server, reduced_motion="reduce")
    seen.page.route("**/parse?*", lambda _: None)
    seen.choose(scene_file)
    expect(seen.page.locator("#view")).to_have_class("busy")
    moving = "document.getAnimations().length"
    assert seen.page.evaluate(moving) == 0
    seen.page.emulate_media(reduced_motion="no-preference")
    seen.page.wait_for_function(f"{moving} > 0")


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


@pytest.mark.parametrize(("locale", "name", "raw"), [("en-GB", "Left arm", "Left-arm"), ("zh-CN", "外套", "Coat")])
def test_classes_have_the_languages_names(
    visit: Visitor, server: str, scene_file: Path, locale: str, name: str, raw: str
) -> None:
    seen = visit(server, locale=locale)
    seen.choose(scene_file)
    seen.done()
    page = seen.page
    button = page.locator("#legend").get_by_role("button", name=name)
    button.click()
    expect(page.locator("#pointed")).to_contain_text(name)
    assert page.locator("#persons ul span", has_text=name).count() > 0
    assert name in page.locator("#stage").get_attribute("aria-label")
    assert raw not in page.locator("body").text_content().replace(page.locator("script").text_content(), "")
    assert raw in page.evaluate("state.reportBlob.text()"), "the report is the API's"
    # A class that no language knows keeps the model's name.
    page.evaluate(
        "(raw) => { state.about.classes.find(({name}) => name === raw).name = 'Other-cloth'; render(); }", raw
    )
    expect(page.locator("#legend")).to_contain_text("Other-cloth")


def test_fingers_are_told_what_fingers_can_do(visit: Visitor, server: str, scene_file: Path) -> None:
    for how, drop, hint in ((PHONE, "Choose photos of people", "Tap "), (DESKTOP, "Drop photos anywhere", "Point at ")):
        seen = visit(server, how)
        expect(seen.page.locator("#drop")).to_contain_text(drop)
        seen.choose(scene_file)
        seen.done()
        seen.page.mouse.move(0, 0)
        expect(seen.page.locator("#pointed")).to_contain_text(hint)


# What has the focus: a name of it.
FOCUSED = "document.activeElement.id || document.activeElement.dataset.output"


def test_the_focus_stays_through_a_download(parsed: Visit) -> None:
    page = parsed.page
    page.locator("[data-output=mask]").focus()
    waiting = parsed.hold("**/parse?output=mask")
    page.keyboard.press("Enter")
    expect(page.locator("#working")).to_be_visible()
    expect(page.locator("[data-output=mask]")).to_have_attribute("aria-disabled", "true")
    # One at a time.
    page.keyboard.press("Enter")
    assert page.evaluate(FOCUSED) == "mask"
    with page.expect_download():
        waiting[0].continue_()
    expect(page.locator("#status")).to_contain_text("Saved ")
    assert page.evaluate(FOCUSED) == "mask"
    assert len(waiting) == 1


def test_the_focus_of_what_vanishes_goes_to_what_is_said(visit: Visitor, server: str, scene_file: Path) -> None:
    seen = visit(server, refusals=1)
    page = seen.page
    page.route("**/parse?*", lambda _: None)
    seen.choose(scene_file)
    seen.enter("#cancel")
    expect(page.locator("#status")).to_have_text("Cancelled.")
    assert page.evaluate(FOCUSED) == "status"
    page.unroute("**/parse?*")
    page.route("**/parse?*", lambda route: route.fulfill(status=503, json={"code": "busy", "detail": "Busy"}), times=1)
    seen.choose(scene_file)
    seen.enter("#again")
    seen.done()
    assert page.evaluate(FOCUSED) == "status"
    # Neither is it lost where the answer makes way for another photo.
    page.locator("[data-output=mask]").focus()
    page.evaluate("give(state.photo)")
    assert page.evaluate(FOCUSED) == "status"
    seen.done()


def test_both_languages_say_the_same_things(visit: Visitor, server: str) -> None:
    seen = visit(server)
    # Of classes a language has the names that differ from the model's.
    blanks = """(language) => JSON.stringify({...WORDS[language], names: null}, (_, value) =>
        typeof value === "string" ? (value.match(/\\{\\w+\\}/g) || []).sort().join() : value)"""
    keys = {language: json.loads(seen.page.evaluate(blanks, language)) for language in ("en", "zh")}
    # A count of one needs no number.
    assert keys["en"] == keys["zh"]
