"""Ways of giving a photo, and what is then shown of it."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Page, expect
from pycocotools.mask import decode

from tests.page.figures import FIGURES
from tests.page.pictures import canvas, indices, jpeg, largest_part, maps, place_of, png_of, reduced
from tests.page.visiting import DESKTOP, PHONE, Visit, Visitor

# --- giving ---------------------------------------------------------------------------------------------------------


def test_a_photo_is_chosen(parsed: Visit, scene: bytes) -> None:
    page = parsed.page
    expect(page.locator("#status")).to_contain_text("Done: ")
    report = json.loads(parsed.api("output=json", scene))
    expect(page.locator("#persons > li")).to_have_count(len(report["persons"]))
    shown = page.locator("#legend .target").evaluate_all("(all) => all.map((one) => one.what.part)")
    assert shown == [one["id"] for one in report["classes"] if one["name"] not in ("Background", "Human")]
    plan = page.locator("#plan").inner_text()
    assert plan.startswith("Parsed at 626×352 of 1280×720, peak ")
    parsed.picture("desktop")


def test_a_photo_is_dropped_anywhere(visit: Visitor, server: str, scene_file: Path) -> None:
    seen = visit(server)
    # What the operating system sends, below the page's own events.
    browser = seen.page.context.new_cdp_session(seen.page)
    data = {"items": [], "files": [str(scene_file)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        browser.send("Input.dispatchDragEvent", {"type": kind, "x": 200, "y": 700, "data": data})
    seen.done()
    expect(seen.page.locator("body")).not_to_have_class("over")


def test_a_drop_is_welcomed_wherever_the_page_is_scrolled(parsed: Visit, scene_file: Path) -> None:
    page = parsed.page
    page.locator("footer").scroll_into_view_if_needed()
    browser = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(scene_file)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver"):
        browser.send("Input.dispatchDragEvent", {"type": kind, "x": 200, "y": 500, "data": data})
    expect(page.locator("body")).to_have_class("over")
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    right, bottom = (side - 2 for side in picture.size)
    assert {picture.getpixel(corner) for corner in ((2, 2), (right, bottom))} == {(79, 70, 229)}, "the accent"


def test_a_photo_is_pasted(visit: Visitor, server: str, scene: bytes) -> None:
    seen = visit(server, permissions=["clipboard-read", "clipboard-write"])
    png = io.BytesIO()
    Image.open(io.BytesIO(scene)).save(png, "PNG")
    seen.page.evaluate(
        """async (base64) => {
            const png = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
            await navigator.clipboard.write([new ClipboardItem({"image/png": new Blob([png], {type: "image/png"})})]);
        }""",
        base64.b64encode(png.getvalue()).decode(),
    )
    seen.page.keyboard.press("Control+V")
    seen.done()
    # It is in no folder of the user's.
    expect(seen.page.locator("#sent")).to_be_visible()


def test_a_photo_is_taken(visit: Visitor, server: str) -> None:
    seen = visit(server)
    seen.page.locator("#take").click()
    expect(seen.page.locator("#video")).not_to_have_js_property("videoWidth", 0)
    seen.page.locator("#shoot").click()
    seen.done()
    expect(seen.page.locator("#camera")).to_be_hidden()
    tracks = seen.page.locator("#video").evaluate("(one) => one.srcObject.getTracks().map((track) => track.readyState)")
    assert tracks == ["ended"]
    assert seen.page.evaluate("state.photo.name") == "camera.jpg"


def test_a_phone_takes_it_with_its_own_camera(visit: Visitor, server: str, scene_file: Path) -> None:
    seen = visit(server, PHONE)
    with seen.page.expect_file_chooser() as chooser:
        seen.page.locator("#take").tap()
    assert chooser.value.element.get_attribute("capture") == "environment"
    chooser.value.set_files(scene_file)
    seen.done()
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= PHONE["viewport"]["width"]
    seen.picture("phone")


def test_the_sample_is_fetched_only_when_asked_for(visit: Visitor, server: str, scene: bytes) -> None:
    seen = visit(server)
    fetched: list[str] = []
    seen.page.on("request", lambda request: fetched.append(request.url))
    seen.page.reload()
    expect(seen.page.locator("#model")).to_contain_text("Model ")
    assert not any("sample" in url for url in fetched)
    seen.page.locator("#sample").click()
    seen.done()
    assert seen.page.evaluate("state.photo.size") == len(scene)


def test_the_sample_is_not_awaited_in_silence_and_can_be_cancelled(visit: Visitor, server: str) -> None:
    seen = visit(server)
    seen.page.route("**/sample.jpg", lambda _: None)
    seen.page.locator("#sample").click()
    expect(seen.page.locator("#status")).to_have_text("Reading sample.jpg …")
    seen.page.locator("#cancel").click()
    expect(seen.page.locator("#status")).to_have_text("Cancelled.")
    expect(seen.page.locator("#working")).to_be_hidden()


def test_a_photo_chosen_meanwhile_is_not_replaced_by_the_sample(
    visit: Visitor, server: str, scene: bytes, scene_file: Path
) -> None:
    seen = visit(server)
    waiting = seen.hold("**/sample.jpg")
    seen.page.locator("#sample").click()
    expect(seen.page.locator("#status")).to_have_text("Reading sample.jpg …")
    seen.choose(scene_file)
    seen.done()
    waiting[0].fulfill(body=scene, content_type="image/jpeg")
    # Longer than an answer that is there takes.
    seen.page.wait_for_timeout(500)
    seen.done()
    assert seen.page.evaluate("state.photo.name") == scene_file.name


@pytest.mark.parametrize("name", ["sample.jpg", "sample-portrait.jpg", "sample-photographer.jpg"])
def test_each_sample_is_a_photo_of_people(visit: Visitor, server: str, name: str) -> None:
    seen = visit(server)
    thumbnail = seen.page.locator(f"[data-sample='{name}']")
    assert thumbnail.locator("img").evaluate("(one) => one.decode().then(() => one.naturalWidth)") > 100
    thumbnail.click()
    seen.done()
    assert seen.page.evaluate("state.photo.name") == name
    assert seen.page.locator("#persons > li .target").count() > 0


# --- what is shown --------------------------------------------------------------------------------------------------


def test_parts_and_persons_are_where_the_api_says(parsed: Visit, scene: bytes) -> None:
    shown = maps(parsed.page)
    report = json.loads(parsed.api("output=json&rle=true", scene))
    for name, output in (("classes", "mask"), ("persons", "instances")):
        expected = reduced(indices(parsed.api(f"output={output}", scene)), shown[name].shape)
        # What several persons hold goes to the one who is surest of it there, which a report does not say.
        masks = [reduced(decode(one["rle"]), expected.shape) for one in report["persons"]]
        clear = np.sum(masks, axis=0) <= 1 if name == "persons" else np.ones(expected.shape, bool)
        assert np.array_equal(shown[name][clear], expected[clear]), name
        assert np.array_equal(shown[name] > 0, expected > 0), name
    colours = {one["id"]: one["color"] for one in report["classes"]}
    drawn = canvas(parsed.page, "parts")
    for label in np.unique(shown["classes"]):
        here = drawn[shown["classes"] == label]
        assert (here[:, 3] == (0 if label == 0 else 255)).all()
        assert label == 0 or (here[:, :3] == colours[label]).all()


def test_persons_are_coloured_where_asked(parsed: Visit) -> None:
    parsed.page.get_by_label("person", exact=True).check()
    drawn, persons = canvas(parsed.page, "parts"), maps(parsed.page)["persons"]
    assert ((drawn[..., 3] == 255) == (persons > 0)).all()
    for person in np.unique(persons[persons > 0]):
        assert len(np.unique(drawn[persons == person], axis=0)) == 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photo_lies_under_its_mask(visit: Visitor, server: str, scene: bytes, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = jpeg(Image.open(io.BytesIO(scene)), exif=exif)
    seen = visit(server)
    seen.choose({"name": "turned.jpg", "mimeType": "image/jpeg", "buffer": turned})
    seen.done()
    wide = orientation < 5
    size = seen.page.locator("#photo").evaluate("(one) => [one.naturalWidth, one.naturalHeight]")
    assert size == ([1280, 720] if wide else [720, 1280])
    shown = maps(seen.page)["classes"]
    assert (shown.shape[1] > shown.shape[0]) == wide
    assert np.array_equal(shown, reduced(indices(seen.api("output=mask", turned)), shown.shape))


def test_what_the_browser_cannot_read_is_shown_as_the_server_reads_it(
    visit: Visitor, server: str, scene: bytes
) -> None:
    tiff = io.BytesIO()
    Image.open(io.BytesIO(scene)).resize((640, 360)).save(tiff, "TIFF")
    seen = visit(server)
    seen.choose({"name": "photo.tif", "mimeType": "image/tiff", "buffer": tiff.getvalue()})
    seen.done()
    expect(seen.page.locator("#photo")).to_have_js_property("naturalWidth", 640)


def test_what_the_server_cannot_read_is_converted(visit: Visitor, server: str, scene: bytes) -> None:
    icon = io.BytesIO()
    Image.open(io.BytesIO(scene)).resize((256, 144)).save(icon, "ICO", sizes=[(256, 144)])
    seen = visit(server)
    seen.choose({"name": "photo.ico", "mimeType": "image/x-icon", "buffer": icon.getvalue()})
    seen.done()
    expect(seen.page.locator("#warnings")).to_contain_text("photo.ico was converted to JPEG in your browser, 256×144")
    assert maps(seen.page)["classes"].shape == (144, 256)


def test_an_avif_is_sent_as_it_is(visit: Visitor, server: str, scene: bytes) -> None:
    avif = io.BytesIO()
    Image.open(io.BytesIO(scene)).resize((640, 360)).save(avif, "AVIF")
    seen = visit(server)
    seen.choose({"name": "photo.avif", "mimeType": "image/avif", "buffer": avif.getvalue()})
    seen.done()
    expect(seen.page.locator("#warnings")).not_to_contain_text("converted")
    assert maps(seen.page)["classes"].shape == (360, 640)


def test_divider_and_opacity_show_the_photo_below(parsed: Visit) -> None:
    page = parsed.page
    page.mouse.move(0, 0)
    # The line and its knob would be among the pixels.
    page.locator("#divider").evaluate("(one) => { one.style.opacity = 0; }")

    def stage() -> NDArray[np.int16]:
        """Without its edges, which are rounded, and are not smoothed alike each time."""
        shot = np.array(Image.open(io.BytesIO(page.locator("#stage").screenshot())).convert("RGB"), np.int16)
        return shot[4:-4, 4:-4]

    # Numbers and a highlight are of the "after" too.
    page.locator("#legend .target").first.click()
    page.mouse.move(0, 0)
    expect(page.locator("#marks")).to_be_visible()
    coloured = stage()
    page.evaluate("divide(100)")
    plain = stage()
    page.evaluate("divide(50)")
    half = stage()
    middle = coloured.shape[1] // 2
    # A few pixels of rounding.
    left, right = slice(None, middle - 4), slice(middle + 4, None)
    assert np.abs(coloured - plain).max() > 50
    assert np.abs(half - plain)[:, left].max() <= 16
    # Edges of the persons' numbers are drawn anew, some levels off.
    assert (np.abs(half - coloured)[:, right].max(-1) > 16).mean() < 0.001
    page.evaluate("divide(0)")
    page.locator("#opacity").fill("0")
    page.keyboard.press("Escape")
    page.evaluate("document.getElementById('badges').replaceChildren()")
    assert np.abs(stage() - plain).max() <= 16, "nothing but the photo is left of the divider"


# --- highlighting ---------------------------------------------------------------------------------------------------


def lit(page: Page) -> list[dict[str, Any]]:
    """What is highlighted in the lists."""
    return page.evaluate("Array.from(document.querySelectorAll('.target.lit'), (one) => one.what)")


def highlighted(page: Page) -> NDArray[np.bool_]:
    """Where the photo is not shaded: what is highlighted is clear, or white along its edge."""
    marks = canvas(page, "marks")
    return (marks[..., 3] == 0) | ((marks[..., :3] == 255).all(-1) & (marks[..., 3] == 255))


def test_the_photo_points_at_the_lists(parsed: Visit) -> None:
    page = parsed.page
    found = maps(page)
    part = largest_part(np.where(found["persons"] > 0, found["classes"], 0))
    here = (found["classes"] == part) & (found["persons"] > 0)
    x, y = place_of(here)
    person = int(found["persons"][int(y * here.shape[0]), int(x * here.shape[1])])
    box = page.locator("#stage").bounding_box()
    page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
    for what in ({"part": part, "person": None}, {"part": None, "person": person}, {"part": part, "person": person}):
        assert what in lit(page)
    assert np.array_equal(highlighted(page), (found["classes"] == part) & (found["persons"] == person))
    expect(page.locator("#pointed")).to_contain_text(f"Person {person} · ")
    page.mouse.move(0, 0)
    assert lit(page) == []
    expect(page.locator("#marks")).to_be_hidden()


def test_where_persons_are_coloured_they_are_pointed_at(parsed: Visit) -> None:
    page = parsed.page
    page.get_by_label("person", exact=True).check()
    persons = maps(page)["persons"]
    person = largest_part(persons)
    x, y = place_of(persons == person)
    stage = page.locator("#stage")
    box = stage.bounding_box()
    place = {"x": x * box["width"], "y": y * box["height"]}
    stage.hover(position=place)
    assert np.array_equal(highlighted(page), persons == person)
    stage.click(position=place)
    assert page.evaluate("state.pinned") == {"part": None, "person": person}


def test_the_lists_point_at_the_photo(parsed: Visit) -> None:
    page = parsed.page
    found = maps(page)
    for button in page.locator(".target:visible").all():
        what = button.evaluate("(one) => one.what")
        chosen = np.ones_like(found["classes"], bool)
        if what["part"] is not None:
            chosen &= found["classes"] == what["part"]
        if what["person"] is not None:
            chosen &= found["persons"] == what["person"]
        button.hover()
        assert what in lit(page)
        assert np.array_equal(highlighted(page), chosen), what
        page.mouse.move(0, 0)


# A name of what has the focus.
FOCUSED = "(({id, dataset, what}) => (what ? 'target' : id || dataset.output))(document.activeElement)"


def test_the_keyboard_reaches_everything(parsed: Visit) -> None:
    page = parsed.page
    page.locator("#language").focus()
    seen: list[str] = []
    for _ in range(80):
        page.keyboard.press("Tab")
        name = page.evaluate(FOCUSED)
        if name == "target" and "target" not in seen:
            assert page.evaluate("document.activeElement.what") in lit(page)
            expect(page.locator("#marks")).to_be_visible()
            page.keyboard.press("Enter")
            assert page.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true"
            page.keyboard.press("Escape")
            assert page.locator(".target[aria-pressed=true]").count() == 0
        if not name:
            continue
        seen.append(name)
    order = ["choose", "take", "sample", "divider", "opacity", "target", "mask", "overlay", "cutout", "json"]
    assert [name for name in dict.fromkeys(seen) if name in order] == order


def test_a_tap_keeps_and_lets_go(visit: Visitor, server: str, scene_file: Path) -> None:
    seen = visit(server, PHONE)
    seen.choose(scene_file)
    seen.done()
    page = seen.page
    x, y = place_of(maps(page)["classes"] == largest_part(maps(page)["classes"]))
    stage = page.locator("#stage")
    box = stage.bounding_box()
    for visible in (True, False):
        stage.tap(position={"x": x * box["width"], "y": y * box["height"]})
        expect(page.locator("#marks")).to_be_visible(visible=visible)
    legend = page.locator("#legend .target").first
    legend.tap()
    expect(legend).to_have_attribute("aria-pressed", "true")


def test_a_phone_keeps_the_photo_in_sight(visit: Visitor, server: str, scene_file: Path) -> None:
    seen = visit(server, PHONE)
    seen.choose(scene_file)
    seen.done()
    page = seen.page
    last = page.locator("#persons > li > .target").last
    last.tap()
    expect(page.locator("#stage")).to_be_in_viewport(ratio=0.99)
    stage = page.locator("#stage").bounding_box()
    assert last.bounding_box()["y"] >= stage["y"] + stage["height"]
    # Nor does the photo lie over what the keyboard comes to.
    page.locator("[data-output=mask]").focus()
    for _ in range(30):
        page.keyboard.press("Shift+Tab")
        focused = page.evaluate("document.activeElement.getBoundingClientRect().top")
        if page.evaluate("document.activeElement.matches('#legend .target')"):
            stage = page.locator("#stage").bounding_box()
            assert focused >= stage["y"] + stage["height"] - 1
    assert not page.evaluate("document.activeElement.matches('#result *')"), "every list was passed"
    seen.picture("phone-lists")


def test_a_phones_slider_fills_the_row(visit: Visitor, server: str, scene_file: Path) -> None:
    seen = visit(server, PHONE)
    seen.choose(scene_file)
    seen.done()
    assert seen.page.locator("#opacity").bounding_box()["width"] > PHONE["viewport"]["width"] / 2
    assert seen.page.locator(".badge").first.evaluate("(one) => getComputedStyle(one).fontSize") == "12px"


# --- what is said, and where ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_what_is_said_is_seen_from_everywhere(
    visit: Visitor, server: str, scene_file: Path, how: dict[str, Any]
) -> None:
    seen = visit(server, how, refusals=1)
    page = seen.page
    seen.choose(scene_file)
    seen.done()
    page.locator("#plan").scroll_into_view_if_needed()
    with page.expect_download():
        page.locator("[data-output=mask]").click()
    expect(page.locator("#status")).to_contain_text("Saved ")
    expect(page.locator("#status")).to_be_in_viewport(ratio=1)
    page.route("**/parse?*", lambda route: route.fulfill(status=503, json={"code": "busy", "detail": "Busy"}), times=1)
    page.locator("[data-output=overlay]").click()
    expect(page.locator("#problem")).to_be_in_viewport(ratio=1)
    page.route("**/parse?*", lambda _: None)
    page.locator("#again").click()
    for name in ("#progress", "#cancel"):
        expect(page.locator(name)).to_be_in_viewport(ratio=1)
    # At the very top too.
    page.evaluate("scrollTo(0, 0)")
    expect(page.locator("#cancel")).to_be_in_viewport(ratio=1)


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (1440, 900)])
@pytest.mark.parametrize("size", [(540, 720), (720, 720), (1280, 720)], ids=["portrait", "square", "landscape"])
def test_a_photo_leaves_room_for_its_controls(
    visit: Visitor, server: str, scene: bytes, width: int, height: int, size: tuple[int, int]
) -> None:
    seen = visit(server, {"viewport": {"width": width, "height": height}})
    photo = jpeg(Image.open(io.BytesIO(scene)).crop((1280 - size[0], 0, 1280, size[1])))
    seen.choose({"name": "photo.jpg", "mimeType": "image/jpeg", "buffer": photo})
    seen.done()
    news = seen.page.locator("#news").bounding_box()
    for name in ("#stage", "#pointed", "#controls"):
        box = seen.page.locator(name).bounding_box()
        assert box["y"] + box["height"] <= news["y"], name
    assert seen.page.locator("#stage").bounding_box()["height"] >= 288
    assert seen.page.locator("#give").bounding_box()["height"] < 70


# --- sizes ----------------------------------------------------------------------------------------------------------


def test_the_page_is_light(visit: Visitor, server: str) -> None:
    seen = visit(server)
    expect(seen.page.locator("#model")).to_contain_text("Model ")
    browser = seen.page.context.new_cdp_session(seen.page)
    browser.send("Network.enable")
    weights: list[int] = []
    browser.on("Network.loadingFinished", lambda event: weights.append(event["encodedDataLength"]))
    seen.page.reload()
    expect(seen.page.locator("#model")).to_contain_text("Model ")
    expect(seen.page.locator("#working")).to_be_hidden()
    FIGURES.append(f"page weight: {sum(weights)} bytes on their way, headers included")
    # Pictures in the page itself are no answers.
    assert len([weight for weight in weights if weight]) == 2
    assert sum(weights) <= 100_000


# Milliseconds from the server's answer until the mask is on the screen, as the page itself notes them.
FIRST_MASK_MS = """() => new Promise((resolve) => new PerformanceObserver((list) =>
    list.getEntriesByName("m2fp-first-mask").forEach((entry) => resolve(entry.duration))
).observe({type: "measure", buffered: true}))"""


def test_a_large_photo_is_shown_at_the_screens_size(visit: Visitor, server: str, scene: bytes) -> None:
    large = jpeg(Image.open(io.BytesIO(scene)).resize((4608, 2592), Image.Resampling.BICUBIC), quality=90)
    seen = visit(server)
    seen.choose({"name": "12 megapixels.jpg", "mimeType": "image/jpeg", "buffer": large})
    seen.done()
    shown = maps(seen.page)["classes"]
    assert shown.shape == (900, 1600)
    assert np.array_equal(shown, reduced(indices(seen.api("output=mask", large)), shown.shape))
    took = seen.page.evaluate(FIRST_MASK_MS)
    FIGURES.append(f"first mask on screen {took:.0f} ms after the answer ({len(large)} bytes, 4608×2592)")


def test_a_photo_without_people_says_so(visit: Visitor, server: str) -> None:
    seen = visit(server)
    seen.choose({"name": "grey.png", "mimeType": "image/png", "buffer": png_of(Image.new("RGB", (64, 48), "grey"))})
    seen.done()
    expect(seen.page.locator("#status")).to_contain_text("Done: ")
    report = json.loads(seen.api("output=json", png_of(Image.new("RGB", (64, 48), "grey"))))
    if not report["persons"]:
        expect(seen.page.locator("#persons")).to_contain_text("No persons were found.")


def test_where_nobody_is_there_is_nothing_to_point_at(
    visit: Visitor, server: str, scene: bytes, scene_file: Path
) -> None:
    seen = visit(server)
    report = json.loads(seen.api("output=json", scene)) | {"persons": [], "classes": []}
    seen.page.route("**/parse?output=json*", lambda route: route.fulfill(json=report))
    seen.choose(scene_file)
    seen.done()
    expect(seen.page.locator("#status")).to_contain_text("no person was found")
    expect(seen.page.locator("#controls")).to_be_hidden()
    expect(seen.page.locator("#pointed")).to_be_empty()
