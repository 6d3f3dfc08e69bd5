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


# --- before and after -----------------------------------------------------------------------------------------------


def share(page: Page) -> float:
    """How much of the photo is as it was; the same of every layer, and what the slider says."""
    clips = page.evaluate(
        "['edit', 'parts', 'marks', 'badges'].map((id) => document.getElementById(id).style.clipPath)"
    )
    assert len(set(clips)) == 1
    cut = float(clips[0].removesuffix("%)").split()[-1]) / 100
    assert int(page.locator("#divider").get_attribute("aria-valuenow")) == round(100 * cut)
    return cut


def line(page: Page) -> float:
    """Where the divider stands in the window, from the left."""
    box = page.locator("#divider").bounding_box()
    return box["x"] + box["width"] / 2


def knob(page: Page) -> tuple[float, float]:
    """The middle of what one takes hold of."""
    box = page.locator("#divider").bounding_box()
    off = page.evaluate("parseFloat(document.getElementById('divider').style.getPropertyValue('--knob'))")
    return line(page) + off, box["y"] + box["height"] / 2


def test_a_mouse_drags_the_divider(still: Page) -> None:
    stage = still.locator("#stage").bounding_box()
    assert line(still) == pytest.approx(stage["x"], abs=1)
    x, y = knob(still)
    # Whole inside the photo, although the line is at its edge.
    assert x >= still.locator("#view").bounding_box()["x"] + 22
    still.locator("#legend .target").first.hover()
    still.mouse.move(x, y)
    still.mouse.down()
    still.mouse.move(stage["x"] + 0.3 * stage["width"], y - 40, steps=5)
    # Outside the photo's height it is still held.
    still.mouse.move(stage["x"] + 0.6 * stage["width"], stage["y"] + stage["height"] + 30, steps=5)
    assert share(still) == pytest.approx(0.6, abs=0.005)
    assert line(still) == pytest.approx(stage["x"] + 0.6 * stage["width"], abs=1.5)
    assert still.evaluate("state.pointed") is None, "nothing is dimmed by the way"
    still.mouse.up()
    still.mouse.move(stage["x"] + 0.2 * stage["width"], y)
    assert share(still) == pytest.approx(0.6, abs=0.005)
    # It was no click on the photo, and beside it the photo is still pointed at.
    assert still.evaluate("state.pinned") is None
    found = maps(still)
    part = largest_part(found["classes"])
    x, y = place_of(found["classes"] == part)
    still.mouse.move(stage["x"] + x * stage["width"], stage["y"] + y * stage["height"])
    assert still.evaluate("state.pointed.part") == part
    # Not beyond the photo's edge.
    still.mouse.move(*knob(still))
    still.mouse.down()
    still.mouse.move(stage["x"] + 2 * stage["width"], y)
    still.mouse.up()
    assert share(still) == 1


def test_keys_move_the_divider(still: Page) -> None:
    divider = still.get_by_role("slider", name="Before / after")
    divider.focus()
    for pressed, expected in (
        ("ArrowRight", 0.02),
        ("ArrowUp", 0.04),
        ("PageUp", 0.24),
        ("ArrowLeft", 0.22),
        ("PageDown", 0.02),
        ("PageDown", 0),
        ("End", 1),
        ("ArrowRight", 1),
        ("ArrowDown", 0.98),
        ("Home", 0),
    ):
        still.keyboard.press(pressed)
        assert share(still) == pytest.approx(expected), pressed
        assert still.evaluate("document.activeElement.id") == "divider"
    # Neither the page nor the photo went anywhere by them.
    assert still.evaluate("[scrollY, document.getElementById('view').scrollLeft]") == [0, 0]
    assert sight(still) == {"zoom": 1, "x": 0, "y": 0}


def test_a_finger_drags_the_divider_and_not_the_page(visit: Visitor, server: str, scene_file: Path) -> None:
    seen = visit(server, PHONE, reduced_motion="reduce")
    seen.choose(scene_file)
    seen.done()
    page = seen.page
    browser = page.context.new_cdp_session(page)
    x, y = knob(page)
    stage = page.locator("#stage").bounding_box()
    scrolled = page.evaluate("scrollY")

    def touch(kind: str, *at: float) -> None:
        points = [{"x": at[0], "y": at[1], "id": 0}] if at else []
        browser.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", x, y)
    # More down than across, as fingers do.
    for step in (20, 60, 100, 140):
        touch("touchMove", x + step, y + 1.5 * step)
    touch("touchEnd")
    assert share(page) == pytest.approx((x + 140 - stage["x"]) / stage["width"], abs=0.01)
    assert page.evaluate("scrollY") == scrolled
    assert page.evaluate("state.pinned") is None
    seen.picture("phone-before-after")


def test_the_divider_stays_in_sight_of_who_looks_near(still: Page) -> None:
    still.evaluate("divide(50)")
    assert line(still) == pytest.approx(middle(still)[0], abs=1.5)
    x, y = middle(still)
    still.mouse.move(x + 200, y - 60)
    still.mouse.wheel(0, -600)
    until(still, "sight.zoom > 3")
    view = still.locator("#view").bounding_box()
    # The place that is cut lies outside to the left, so the line waits at that edge.
    assert under(still, view["x"], y)[0] > 0.5
    assert line(still) == pytest.approx(view["x"], abs=1)
    still.mouse.move(*knob(still))
    still.mouse.down()
    still.mouse.move(x, y, steps=3)
    still.mouse.up()
    assert share(still) == pytest.approx(under(still, x, y)[0], abs=0.003)
    assert line(still) == pytest.approx(x, abs=1)
    # What is seen whole again, or in another window, is cut at the same place.
    cut = share(still)
    still.locator("#zoom-reset").click()
    still.set_viewport_size({"width": 700, "height": 800})
    stage = still.locator("#stage").bounding_box()
    until(still, f"Math.abs(document.getElementById('stage').getBoundingClientRect().width - {stage['width']}) < 1")
    assert line(still) == pytest.approx(stage["x"] + cut * stage["width"], abs=1.5)


def test_nothing_is_compared_before_there_is_an_answer(visit: Visitor, server: str, scene_file: Path) -> None:
    seen = visit(server)
    seen.page.route("**/parse?*", lambda _: None)
    seen.choose(scene_file)
    expect(seen.page.locator("#stage")).to_be_visible()
    expect(seen.page.locator("#divider")).to_be_hidden()


def test_another_photo_is_seen_whole(parsed: Visit) -> None:
    parsed.page.locator("#zoom-in").click()
    parsed.page.locator("[data-sample='sample-portrait.jpg']").click()
    expect(parsed.page.locator("#strip button")).to_have_count(2)
    assert sight(parsed.page)["zoom"] == 1
    parsed.done()
