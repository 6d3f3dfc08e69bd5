"""Other backgrounds and other colours, made in the browser, and what is saved of them."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Page, expect
from pycocotools.mask import decode

from tests.page.pictures import canvas, largest_part, maps, png_of
from tests.page.test_everyone import accessible
from tests.page.visiting import PHONE, Visit, Visitor, until


def choose_tool(page: Page, name: str) -> None:
    page.locator(f"[name=tool][value={name}]").check()


def choose_background(page: Page, kind: str) -> None:
    choose_tool(page, "background")
    page.locator(f"[name=background][value={kind}]").check()


def drawn(page: Page) -> NDArray[np.int16]:
    """RGBA of the edited photo, once it is drawn."""
    until(page, "!composing && !document.getElementById('edit').hidden")
    return canvas(page, "edit").astype(np.int16)


def inner(region: NDArray[np.bool_], by: int) -> NDArray[np.bool_]:
    """The region without what is near its edge."""
    for _ in range(by):
        region = np.pad(region, 1)
        region = (
            region[1:-1, 1:-1] & region[:-2, 1:-1] & region[2:, 1:-1] & region[1:-1, :-2] & region[1:-1, 2:]
        )  # fmt: skip
    return region


@pytest.fixture
def people(parsed: Visit) -> NDArray[np.bool_]:
    found = maps(parsed.page)
    return (found["classes"] > 0) | (found["persons"] > 0)


@pytest.fixture
def photo(scene: bytes) -> NDArray[np.int16]:
    return np.array(Image.open(io.BytesIO(scene)).convert("RGB"), np.int16)


# Pixels at the edge of a mask that are blended.
EDGE = 12


def test_people_stand_before_nothing(parsed: Visit, people: NDArray[np.bool_], photo: NDArray[np.int16]) -> None:
    choose_background(parsed.page, "clear")
    picture = drawn(parsed.page)
    assert (picture[inner(~people, EDGE)][:, 3] == 0).all()
    inside = inner(people, EDGE)
    assert (picture[inside][:, 3] == 255).all()
    assert np.abs(picture[inside][:, :3] - photo[inside]).mean() < 2
    # Edges are soft.
    assert len(np.unique(picture[..., 3])) > 50
    expect(parsed.page.locator("#parts")).to_be_hidden()
    parsed.picture("cut-out")


def test_people_stand_before_a_colour(parsed: Visit, people: NDArray[np.bool_]) -> None:
    choose_background(parsed.page, "colour")
    parsed.page.locator("#background-colour").fill("#3366cc")
    picture = drawn(parsed.page)
    assert (picture[inner(~people, EDGE)] == [0x33, 0x66, 0xCC, 255]).all()
    parsed.page.locator("#background-swatches").get_by_role("button", name="Green").click()
    picture = drawn(parsed.page)
    assert (picture[inner(~people, EDGE)] == [0x30, 0xA4, 0x6C, 255]).all()


def test_the_background_is_blurred_without_the_people(
    visit: Visitor, server: str, scene: bytes, photo: NDArray[np.int16]
) -> None:
    seen = visit(server)
    # Stripes behind, which a blur takes away.
    seen.choose({"name": "photo.jpg", "mimeType": "image/jpeg", "buffer": scene})
    seen.done()
    choose_background(seen.page, "blur")
    found = maps(seen.page)
    people = (found["classes"] > 0) | (found["persons"] > 0)
    seen.page.locator("#blur").fill("100")
    seen.until("!composing")
    picture = drawn(seen.page)
    behind = inner(~people, EDGE)
    assert (picture[..., 3] == 255).all()
    steps = np.abs(np.diff(picture[..., :3], axis=1)).max(-1)[behind[:, 1:] & behind[:, :-1]]
    assert steps.max() <= 6, "no step is left in what is blurred"
    inside = inner(people, EDGE)
    assert np.abs(picture[inside][:, :3] - photo[inside]).mean() < 2
    # Just beside an orange suit the wall stays a wall's colour.
    beside = inner(~people, EDGE) & ~inner(~people, EDGE + 12)
    upper = np.broadcast_to(np.arange(people.shape[0])[:, None] < 350, people.shape)
    red, blue = picture[beside & upper][:, 0], picture[beside & upper][:, 2]
    assert (red - blue).max() < 40


def test_people_stand_before_a_picture(parsed: Visit, people: NDArray[np.bool_]) -> None:
    page = parsed.page
    behind = Image.new("RGB", (300, 300), (10, 200, 30))
    with page.expect_file_chooser() as chooser:
        choose_background(page, "picture")
    chooser.value.set_files({"name": "behind.png", "mimeType": "image/png", "buffer": png_of(behind)})
    until(page, "state.background.picture && !composing")
    picture = drawn(page)
    assert (picture[inner(~people, EDGE)] == [10, 200, 30, 255]).all()
    with page.expect_file_chooser() as chooser:
        page.locator("#choose-picture").click()
    chooser.value.set_files({"name": "notes.txt", "mimeType": "text/plain", "buffer": b"notes"})
    expect(page.locator("#sentence")).to_contain_text("cannot read that file")


def test_one_person_is_kept(parsed: Visit) -> None:
    choose_background(parsed.page, "clear")
    persons = maps(parsed.page)["persons"]
    person = largest_part(persons)
    parsed.page.locator("#persons > li > .target").nth(person - 1).click()
    expect(parsed.page.locator("#kept")).to_contain_text(f"Person {person}")
    parsed.until("!composing")
    picture = drawn(parsed.page)
    assert (picture[inner(persons != person, EDGE)][:, 3] == 0).all()
    assert (picture[inner(persons == person, EDGE)][:, 3] == 255).all()


def lightness(rgb: NDArray[np.int16]) -> NDArray[np.float64]:
    return rgb @ np.array([0.299, 0.587, 0.114])


def test_a_part_has_another_colour_and_keeps_its_folds(parsed: Visit, photo: NDArray[np.int16]) -> None:
    page = parsed.page
    choose_tool(page, "recolour")
    found = maps(page)
    # The largest is chosen from the beginning.
    part = page.evaluate("state.pinned.part")
    assert part == largest_part(
        np.where(found["classes"] == page.evaluate("state.about.person_id"), 0, found["classes"])
    )
    page.locator("#recolour-swatches").get_by_role("button", name="Blue").click()
    picture = drawn(page)
    region = inner(found["classes"] == part, EDGE)
    before, after = photo[region], picture[region][:, :3]
    assert (after[:, 2] > after[:, 0]).mean() > 0.95, "it is blue"
    assert np.corrcoef(lightness(before), lightness(after))[0, 1] > 0.9, "light and shade are the photo's"
    away = inner(found["classes"] != part, EDGE)
    assert np.abs(picture[away][:, :3] - photo[away]).mean() < 2
    parsed.picture("recoloured")
    page.locator("#recolour-undo").click()
    expect(page.locator("#edit")).to_be_hidden()


def test_a_persons_part_is_chosen_on_the_photo_or_by_its_name(parsed: Visit) -> None:
    page = parsed.page
    choose_tool(page, "recolour")
    page.locator("#recolour").select_option("/2")
    assert page.evaluate("state.pinned") == {"part": None, "person": 2}
    page.locator("#legend .target").first.click()
    what = page.evaluate("state.pinned")
    assert page.locator("#recolour").input_value() == f"{what['part']}/"


def test_what_is_edited_is_saved_as_large_as_the_photo(
    visit: Visitor, server: str, scene: bytes, photo: NDArray[np.int16]
) -> None:
    large = Image.open(io.BytesIO(scene)).resize((2400, 1350))
    seen = visit(server)
    seen.choose({"name": "large.png", "mimeType": "image/png", "buffer": png_of(large)})
    seen.done()
    choose_background(seen.page, "clear")
    with seen.page.expect_download() as download:
        seen.page.locator("#save-edit").click()
    assert download.value.suggested_filename == "large.png.edited.png"
    saved = np.array(Image.open(download.value.path()))
    assert saved.shape == (1350, 2400, 4)
    report = json.loads(seen.api("output=json&rle=true", png_of(large)))
    anybody = np.any([decode(one["rle"]) for one in report["persons"]], axis=0)
    assert (saved[..., 3] > 127)[inner(anybody, 20)].all()
    wrong = np.abs(saved[..., :3].astype(np.int16) - np.array(large, np.int16))[inner(anybody, 20)]
    assert wrong.max() <= 1


@pytest.mark.parametrize("kind", ["person", "part"])
def test_the_mask_of_one_thing_is_the_reports(parsed: Visit, scene: bytes, kind: str) -> None:
    report = json.loads(parsed.api("output=json&rle=true", scene))
    page = parsed.page
    if kind == "person":
        page.locator("#persons > li > .target").nth(1).click()
        expected = decode(report["persons"][1]["rle"])
    else:
        page.locator("#legend .target").nth(1).click()
        part = page.evaluate("state.pinned.part")
        expected = decode(next(one["rle"] for one in report["classes"] if one["id"] == part))
    with page.expect_download() as download:
        page.locator("#focus-mask").click()
    saved = np.array(Image.open(download.value.path()).convert("L"))
    assert np.array_equal(saved, expected * 255)


def test_before_and_after_is_for_edits_too(parsed: Visit) -> None:
    choose_background(parsed.page, "clear")
    drawn(parsed.page)
    parsed.page.evaluate("divide(50)")
    clipped = parsed.page.locator("#edit").evaluate("(one) => one.style.clipPath")
    assert "50%" in clipped


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("tool", ["background", "recolour"])
def test_the_tools_are_for_everyone(visit: Visitor, server: str, scene_file: Path, tool: str, scheme: str) -> None:
    seen = visit(server, PHONE, color_scheme=scheme)
    seen.choose(scene_file)
    seen.done()
    if tool == "background":
        for kind in ("clear", "blur", "colour"):
            choose_background(seen.page, kind)
            drawn(seen.page)
            accessible(seen)
    else:
        choose_tool(seen.page, tool)
        seen.page.locator("#recolour-swatches button").first.click()
        drawn(seen.page)
        accessible(seen)
    assert seen.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    seen.picture(f"phone-{tool}-{scheme}")


def test_the_browser_stays_awake(visit: Visitor, server: str, scene: bytes) -> None:
    """An edit of a large photo is cut into pieces, between which the browser paints."""
    large = Image.open(io.BytesIO(scene)).resize((3200, 1800))
    seen = visit(server)
    buffer = io.BytesIO()
    large.save(buffer, "JPEG")
    seen.choose({"name": "large.jpg", "mimeType": "image/jpeg", "buffer": buffer.getvalue()})
    seen.done()
    page = seen.page
    page.evaluate(
        """() => {
            window.turns = 0;
            const turn = () => { turns++; setTimeout(turn); };
            turn();
        }"""
    )
    before = page.evaluate("turns")
    choose_background(page, "clear")
    drawn(page)
    assert page.evaluate("turns") - before >= 3


def test_what_was_recoloured_is_not_all_that_is_kept(parsed: Visit) -> None:
    page = parsed.page
    choose_tool(page, "recolour")
    assert page.evaluate("state.pinned.part") > 0
    choose_background(page, "clear")
    assert page.evaluate("state.pinned") is None
    expect(page.locator("#kept")).to_contain_text("everybody")
    # What is kept is kept while another tool is used.
    page.locator("#persons > li > .target").first.click()
    choose_tool(page, "recolour")
    page.locator("#recolour").select_option(index=1)
    choose_tool(page, "background")
    assert page.evaluate("state.pinned") == {"part": None, "person": 1}
