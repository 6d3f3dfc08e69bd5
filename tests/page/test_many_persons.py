"""As many persons as there may be, some over others. The answer is made here: no model is asked to find them."""

import json
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from numpy.typing import NDArray
from playwright.sync_api import expect
from pycocotools import mask as coco

from tests.page.pictures import canvas, maps
from tests.page.visiting import Visit, Visitor

PERSONS = 24
WIDTH, HEIGHT = 1280, 720
# Boxes of parts are not shown.
NOWHERE = [0, 0, 1, 1]


def rle(region: NDArray[np.bool_]) -> dict[str, Any]:
    encoded = coco.encode(np.asfortranarray(region.astype(np.uint8)))
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


def box(index: int) -> tuple[slice, slice]:
    """Rows and columns of a person; each stands a little before the one after it."""
    left = 10 + index * 50
    return slice(100 + index, 700), slice(left, left + 70)


@pytest.fixture
def crowd(visit: Visitor, server: str, scene: bytes) -> Visit:
    seen = visit(server)
    report = json.loads(seen.api("output=json", scene))
    about = json.loads(seen.page.request.get(f"{server}info").text())
    head, body = (one for one in about["classes"] if one["name"] in ("Hair", "Coat"))
    people = [np.zeros((HEIGHT, WIDTH), bool) for _ in range(PERSONS)]
    for index, mask in enumerate(people):
        mask[box(index)] = True
    anybody = np.any(people, axis=0)
    upper = anybody & (np.arange(HEIGHT)[:, None] < 300)
    labels = [(head, upper), (body, anybody & ~upper), (about["classes"][0], ~anybody)]
    report["classes"] = [
        {
            **one,
            "pixels": int(mask.sum()),
            "fraction": mask.mean(),
            "score": 0.9,
            "bbox": [0, 0, 1, 1],
            "rle": rle(mask),
        }
        for one, mask in labels
    ]
    report["persons"] = [
        {
            "id": index + 1,
            "score": 0.99 - index / 100,
            "bbox": [box(index)[1].start, box(index)[0].start, 70, 700 - box(index)[0].start],
            "pixels": int(mask.sum()),
            "rle": rle(mask),
            "parts": [{"class_id": one["id"], "pixels": 1, "bbox": NOWHERE} for one in (head, body)],
        }
        for index, mask in enumerate(people)
    ]
    seen.page.route("**/parse?output=json*", lambda route: route.fulfill(json=report))
    seen.choose({"name": "crowd.jpg", "mimeType": "image/jpeg", "buffer": scene})
    seen.done()
    return seen


def owners() -> NDArray[np.uint8]:
    """Whose each pixel is: the better of two has it."""
    found = np.zeros((HEIGHT, WIDTH), np.uint8)
    for index in reversed(range(PERSONS)):
        found[box(index)] = index + 1
    return found


def test_the_better_person_has_what_both_hold(crowd: Visit) -> None:
    assert np.array_equal(maps(crowd.page)["persons"], owners())


def test_each_is_listed_numbered_and_found(crowd: Visit) -> None:
    page = crowd.page
    expect(page.locator("#persons > li")).to_have_count(PERSONS)
    assert page.locator(".badge").all_inner_texts() == [str(number) for number in range(1, PERSONS + 1)]
    # Their parts are folded up, and one step away.
    expect(page.locator("#persons ul").first).to_be_hidden()
    page.locator("#persons summary").nth(4).click()
    button = page.locator("#persons > li").nth(4).locator("ul .target").first
    button.hover()
    marks = canvas(page, "marks")
    clear = (marks[..., 3] == 0) | ((marks[..., :3] == 255).all(-1) & (marks[..., 3] == 255))
    assert np.array_equal(clear, (owners() == 5) & (np.arange(HEIGHT)[:, None] < 300))
    assert Axe().run(page).response["violations"] == []
    crowd.picture("crowd")


def test_who_is_pointed_at_is_scrolled_to_in_the_list(crowd: Visit) -> None:
    page = crowd.page
    row = page.locator("#persons > li").nth(PERSONS - 1).locator(".target").first
    expect(row).not_to_be_in_viewport()
    page.evaluate("scrollTo(0, 40)")
    rows, columns = box(PERSONS - 1)
    stage = page.locator("#stage").bounding_box()
    x, y = (columns.stop - 10) / WIDTH, (rows.start + rows.stop) / 2 / HEIGHT
    page.mouse.move(stage["x"] + x * stage["width"], stage["y"] + y * stage["height"])
    expect(row).to_be_in_viewport(ratio=1)
    expect(row).to_have_class("target lit")
    assert page.evaluate("scrollY") == 40, "the page stays where it is"


def test_numbers_stand_above_their_persons_and_inside_the_photo(crowd: Visit) -> None:
    stage = crowd.page.locator("#stage").bounding_box()
    for index, badge in enumerate(crowd.page.locator(".badge").all()):
        it = badge.bounding_box()
        rows, columns = box(index)
        assert stage["x"] <= it["x"] and it["x"] + it["width"] <= stage["x"] + stage["width"]
        assert stage["y"] <= it["y"]
        head = stage["y"] + rows.start / HEIGHT * stage["height"]
        assert it["y"] + it["height"] / 2 < head < it["y"] + it["height"]
        middle = stage["x"] + (columns.start + columns.stop) / 2 / WIDTH * stage["width"]
        assert it["x"] + it["width"] / 2 == pytest.approx(middle, abs=1)
    # One who stands at the corner, as high as the photo.
    crowd.page.evaluate("state.report.persons[0].bbox = [0, 0, 4, 4]; render()")
    corner = crowd.page.locator(".badge").first.bounding_box()
    assert corner["x"] >= stage["x"] and corner["y"] >= stage["y"]


def test_each_has_a_colour_of_its_own(crowd: Visit) -> None:
    crowd.page.get_by_label("person", exact=True).check()
    drawn = canvas(crowd.page, "parts")
    colours = {tuple(drawn[owners() == number][0]) for number in range(1, PERSONS + 1)}
    assert len(colours) == PERSONS
