"""The stage: how near one looks at the photo, by whatever hand."""

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.page.pictures import largest_part, maps, place_of
from tests.page.visiting import PHONE, Visit, Visitor, until


def sight(page: Page) -> dict[str, float]:
    return page.evaluate("sight")


def middle(page: Page) -> tuple[float, float]:
    box = page.locator("#view").bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def under(page: Page, x: float, y: float) -> list[float]:
    """The place of the photo under a place of the window, as shares of its width and height."""
    return page.evaluate(
        """([x, y]) => {
            const box = document.getElementById("layers").getBoundingClientRect();
            return [(x - box.left) / box.width, (y - box.top) / box.height];
        }""",
        [x, y],
    )


@pytest.fixture
def still(visit: Visitor, server: str, scene_file: Path) -> Page:
    """The scene, parsed, for one who wants no motion: a zoom is there at once."""
    seen = visit(server, reduced_motion="reduce")
    seen.choose(scene_file)
    seen.done()
    return seen.page


def test_the_wheel_zooms_where_it_points(still: Page) -> None:
    x, y = middle(still)
    x, y = x - 150, y - 60
    before = under(still, x, y)
    still.mouse.move(x, y)
    still.mouse.wheel(0, -300)
    until(still, "sight.zoom > 1.5")
    assert under(still, x, y) == pytest.approx(before, abs=0.003)
    assert still.evaluate("scrollY") == 0
    # And out again, not beyond the whole photo.
    still.mouse.wheel(0, 2000)
    until(still, "sight.zoom === 1")
    assert sight(still) == {"zoom": 1, "x": 0, "y": 0}


def test_the_whole_photo_lets_the_page_scroll(still: Page) -> None:
    still.set_viewport_size({"width": 1280, "height": 500})
    still.mouse.move(*middle(still))
    still.mouse.wheel(0, 100)
    until(still, "scrollY > 0")
    assert sight(still)["zoom"] == 1


def test_a_drag_moves_what_is_zoomed_and_pins_nothing(still: Page) -> None:
    still.locator("#zoom-in").click()
    still.locator("#zoom-in").click()
    assert sight(still)["zoom"] == pytest.approx(2.25)
    x, y = middle(still)
    before = under(still, x, y)
    still.mouse.move(x, y)
    still.mouse.down()
    still.mouse.move(x + 60, y + 30, steps=4)
    still.mouse.up()
    assert under(still, x + 60, y + 30) == pytest.approx(before, abs=0.003)
    assert still.evaluate("state.pinned") is None
    # No further than to the photo's edge.
    still.mouse.down()
    still.mouse.move(x + 3000, y + 3000, steps=4)
    still.mouse.up()
    view, layers = (still.locator(one).bounding_box() for one in ("#view", "#layers"))
    assert (layers["x"], layers["y"]) == pytest.approx((view["x"], view["y"]), abs=1)
    still.locator("#zoom-reset").click()
    assert sight(still) == {"zoom": 1, "x": 0, "y": 0}


def test_what_is_zoomed_is_pointed_at_where_it_is_seen(still: Page) -> None:
    found = maps(still)
    part = largest_part(found["classes"])
    x, y = place_of(found["classes"] == part)
    box = still.locator("#stage").bounding_box()
    still.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
    still.mouse.wheel(0, -400)
    until(still, "sight.zoom > 2")
    # The same place is under the pointer; a click there is that part's.
    still.mouse.down()
    still.mouse.up()
    assert still.evaluate("state.pinned.part") == part
    # Numbers keep their size.
    badge = still.locator(".badge").first
    assert badge.evaluate("(one) => one.getBoundingClientRect().height / one.offsetHeight") == pytest.approx(
        1, abs=0.02
    )


def test_a_double_click_zooms_and_leaves_what_is_pinned(still: Page) -> None:
    x, y = middle(still)
    before = under(still, x, y)
    for zoom in (2.5, 1):
        still.mouse.dblclick(x, y)
        until(still, f"sight.zoom === {zoom}")
        assert under(still, x, y) == pytest.approx(before, abs=0.003)
        assert still.evaluate("state.pinned") is None


def test_keys_zoom_and_move(still: Page) -> None:
    still.locator("#stage").focus()
    still.keyboard.press("+")
    assert sight(still)["zoom"] == 1.5
    still.keyboard.press("ArrowRight")
    assert sight(still)["x"] < 0
    expect(still.locator("#zoom-reset")).to_have_text("1.5×")
    still.keyboard.press("-")
    assert sight(still)["zoom"] == 1
    still.keyboard.press("+")
    still.keyboard.press("0")
    assert sight(still) == {"zoom": 1, "x": 0, "y": 0}
    # What is typed is typed.
    still.locator("#more").evaluate("(one) => { one.open = true; }")
    still.locator("#option-max_side").press("0")
    still.locator("#option-max_side").press("-")
    assert sight(still)["zoom"] == 1


def test_two_fingers_zoom_and_one_moves(visit: Visitor, server: str, scene_file: Path) -> None:
    seen = visit(server, PHONE, reduced_motion="reduce")
    seen.choose(scene_file)
    seen.done()
    page = seen.page
    browser = page.context.new_cdp_session(page)
    x, y = middle(page)

    def touch(kind: str, *fingers: tuple[float, float]) -> None:
        points: list[dict[str, Any]] = [{"x": at, "y": down, "id": one} for one, (at, down) in enumerate(fingers)]
        browser.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    before = under(page, x, y)
    touch("touchStart", (x - 30, y))
    touch("touchStart", (x - 30, y), (x + 30, y))
    for spread in (40, 50, 60, 70, 80, 90):
        touch("touchMove", (x - spread, y), (x + spread, y))
    touch("touchEnd")
    until(page, "sight.zoom > 2.5")
    assert sight(page)["zoom"] == pytest.approx(3, abs=0.2)
    assert under(page, x, y) == pytest.approx(before, abs=0.02)
    assert page.evaluate("state.pinned") is None
    left = sight(page)["x"]
    touch("touchStart", (x, y))
    for step in (10, 20, 30, 40):
        touch("touchMove", (x + step, y))
    touch("touchEnd")
    assert sight(page)["x"] == pytest.approx(left + 40, abs=3)
    assert page.evaluate("state.pinned") is None


def test_another_photo_is_seen_whole(parsed: Visit) -> None:
    parsed.page.locator("#zoom-in").click()
    parsed.page.locator("[data-sample='sample-portrait.jpg']").click()
    expect(parsed.page.locator("#strip button")).to_have_count(2)
    assert sight(parsed.page)["zoom"] == 1
    parsed.done()
