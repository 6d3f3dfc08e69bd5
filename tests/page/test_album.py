"""Several photos: a line before the server, a strip of them, and all of it as a zip."""

import base64
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.page.pictures import indices, jpeg
from tests.page.test_everyone import accessible
from tests.page.visiting import DESKTOP, PHONE, Visit, Visitor


def files(scene: bytes, count: int) -> list[dict[str, object]]:
    """Photos of different sizes."""
    people = Image.open(io.BytesIO(scene))
    return [
        {"name": f"photo {one}.jpg", "mimeType": "image/jpeg", "buffer": jpeg(people.resize((640 - 64 * one, 360)))}
        for one in range(count)
    ]


def stages(seen: Visit) -> list[str]:
    return seen.page.evaluate("state.album.map(({stage}) => stage)")


def all_done(seen: Visit, count: int) -> None:
    seen.until(f"state.album.filter(({{stage}}) => stage === 'done').length === {count}")
    expect(seen.page.locator("#working")).to_be_hidden()


@pytest.mark.parametrize("how", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_several_are_parsed_one_at_a_time(visit: Visitor, server: str, scene: bytes, how: dict[str, object]) -> None:
    seen = visit(server, how)
    running = 0
    most = 0

    def begun(request: object) -> None:
        nonlocal running, most
        if "/parse" in request.url:
            running += 1
            most = max(most, running)

    def ended(request: object) -> None:
        nonlocal running
        running -= "/parse" in request.url

    seen.page.on("request", begun)
    seen.page.on("requestfinished", ended)
    seen.choose(files(scene, 3))
    all_done(seen, 3)
    assert most == 1
    strip = seen.page.locator("#strip button")
    expect(strip).to_have_count(3)
    expect(strip.first).to_have_attribute("aria-current", "true")
    expect(strip.nth(2)).to_have_attribute("aria-label", "photo 2.jpg: done")
    # Each keeps its result.
    strip.nth(2).click()
    seen.done()
    assert seen.page.evaluate("[state.report.image.width, state.map.width]") == [512, 512]
    strip.first.click()
    seen.done()
    assert seen.page.evaluate("[state.report.image.width, state.map.width]") == [640, 640]
    assert seen.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    accessible(seen)
    seen.picture(f"album-{'phone' if how is PHONE else 'desktop'}")


def test_one_that_fails_stops_no_other(visit: Visitor, server: str, scene: bytes) -> None:
    seen = visit(server, refusals=1)
    bad = {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"notes"}
    good = files(scene, 2)
    seen.choose([good[0], bad, good[1]])
    all_done(seen, 2)
    assert stages(seen) == ["done", "failed", "done"]
    expect(seen.page.locator("#problem")).to_be_hidden()
    seen.page.locator("#strip button").nth(1).click()
    expect(seen.page.locator("#sentence")).to_contain_text("(415)")
    expect(seen.page.locator("#result")).to_be_hidden()
    seen.page.locator("#strip button").nth(2).click()
    seen.done()
    expect(seen.page.locator("#problem")).to_be_hidden()


def test_what_is_shown_comes_first(visit: Visitor, server: str, scene: bytes) -> None:
    seen = visit(server)
    seen.page.evaluate(
        """() => {
            window.order = [];
            new MutationObserver((changes) => {
                for (const {target} of changes) if (target.dataset.stage === "done") order.push(target.title);
            }).observe(document.getElementById("strip"), {subtree: true, attributeFilter: ["data-stage"]});
        }"""
    )
    seen.hold("**/parse?*")
    seen.choose(files(scene, 3))
    seen.until("state.said?.[0] === 'uploading'")
    assert stages(seen) == ["running", "waiting", "waiting"]
    seen.page.locator("#strip button").nth(2).click()
    # What was held goes on.
    seen.page.unroute("**/parse?*")
    all_done(seen, 3)
    order = list(dict.fromkeys(seen.page.evaluate("order")))
    assert order == ["photo 0.jpg", "photo 2.jpg", "photo 1.jpg"]


def test_cancelling_ends_the_line_and_a_click_takes_one_up_again(visit: Visitor, server: str, scene: bytes) -> None:
    seen = visit(server)
    seen.page.route("**/parse?*", lambda _: None, times=1)
    seen.choose(files(scene, 3))
    expect(seen.page.locator("#status")).to_contain_text("photo 0.jpg")
    seen.page.locator("#cancel").click()
    expect(seen.page.locator("#working")).to_be_hidden()
    assert stages(seen) == ["cancelled"] * 3
    seen.page.locator("#strip button").nth(1).click()
    seen.done()
    assert stages(seen) == ["cancelled", "done", "cancelled"]


def test_photos_given_meanwhile_wait_their_turn(visit: Visitor, server: str, scene: bytes, scene_file: Path) -> None:
    seen = visit(server)
    seen.hold("**/parse?*")
    seen.choose(scene_file)
    seen.until("state.said?.[0] === 'uploading'")
    seen.page.locator("#sample").click()
    expect(seen.page.locator("#strip button")).to_have_count(2)
    assert seen.page.evaluate("state.photo.name") == "sample.jpg"
    seen.page.unroute("**/parse?*")
    all_done(seen, 2)
    seen.done()


def test_all_of_it_is_a_zip(visit: Visitor, server: str, scene: bytes) -> None:
    seen = visit(server)
    given = files(scene, 2)
    # The same name twice, and one that means folders.
    given += [{**given[0], "buffer": given[1]["buffer"]}, {**given[1], "name": "../../ünïcode/人.jpg"}]
    seen.page.evaluate(
        """async (files) => {
            const photo = ({name, base64}) => new File([Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))], name);
            give(files.map(photo));
        }""",
        [{"name": one["name"], "base64": _base64(one["buffer"])} for one in given],
    )
    all_done(seen, 4)
    with seen.page.expect_download() as download:
        seen.page.locator("#zip").click()
    expect(seen.page.locator("#status")).to_have_text("Saved m2fp.zip.")
    with zipfile.ZipFile(download.value.path()) as packed:
        assert packed.testzip() is None
        names = packed.namelist()
        assert len(names) == len(set(names)) == 12
        assert not any("/" in name or "\\" in name or name.startswith(".") for name in names)
        assert any("ünïcode_人" in name for name in names)
        assert packed.read("photo 0.jpg.mask.png") == seen.api("output=mask", given[0]["buffer"])
        assert packed.read("photo 0 (2).jpg.mask.png") == seen.api("output=mask", given[2]["buffer"])
        report = json.loads(packed.read("photo 1.jpg.json"))
        assert (report["image"]["width"], report["image"]["height"]) == (576, 360)
        cutout = np.array(Image.open(io.BytesIO(packed.read("photo 1.jpg.cutout.png"))))
        assert cutout.shape == (360, 576, 4)
        anybody = indices(packed.read("photo 1.jpg.mask.png")) > 0
        assert (cutout[..., 3] > 127)[anybody].mean() > 0.9
        assert (cutout[..., 3] > 127)[~anybody].mean() < 0.05
        assert packed.getinfo("photo 1.jpg.json").compress_type == zipfile.ZIP_STORED


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def test_options_are_the_apis(visit: Visitor, server: str, scene: bytes, scene_file: Path) -> None:
    seen = visit(server)
    seen.choose(scene_file)
    seen.done()
    page = seen.page
    page.get_by_text("More options").click()
    page.locator("#option-max_side").fill("320")
    page.locator("#option-score").fill("0.9")
    with page.expect_request("**/parse?output=json*") as asked:
        page.locator("#rerun").click()
    assert asked.value.url.endswith("parse?output=json&rle=true&score=0.9&max_side=320")
    seen.done()
    assert page.evaluate("Math.max(state.report.plan.working_width, state.report.plan.working_height)") <= 320
    report = json.loads(seen.api("output=json&score=0.9&max_side=320", scene))
    expect(page.locator("#persons > li > .target")).to_have_count(len(report["persons"]))
    # Downloads are of the same parse.
    with page.expect_download() as download:
        page.locator("[data-output=mask]").click()
    assert Path(download.value.path()).read_bytes() == seen.api("output=mask&score=0.9&max_side=320", scene)
    # What the API would refuse is not sent.
    page.locator("#option-score").fill("7")
    page.locator("#rerun").click()
    assert page.evaluate("state.item.stage") == "done"
    page.locator("#option-score").fill("")
    page.locator("#option-mode").check()
    assert "parse?output=mask&mode=tiled&max_side=320" in page.locator("#curl").text_content()


def test_minor_parts_are_listed_and_not_counted(visit: Visitor, server: str, scene: bytes, scene_file: Path) -> None:
    seen = visit(server)
    report = json.loads(seen.api("output=json&rle=true", scene))
    minor = report["persons"][0]["parts"][0]["class_id"]
    for person in report["persons"]:
        for part in person["parts"]:
            part["minor"] = part["class_id"] == minor
    seen.page.route("**/parse?output=json*", lambda route: route.fulfill(json=report))
    seen.choose(scene_file)
    seen.done()
    kinds = [one for one in report["classes"] if one["name"] not in ("Background", "Human")]
    expect(seen.page.locator("#status")).to_contain_text(f"{len(kinds) - 1} kinds of parts")
    expect(seen.page.locator("#legend .target")).to_have_count(len(kinds))
    first = report["persons"][0]["parts"]
    row = seen.page.locator("#persons > li").first
    expect(row.locator("summary")).to_have_text(f"{len(first) - 1} kinds of parts")
    expect(row.locator("ul .target")).to_have_count(len(first))
