"""What is taken away: downloads, held against the API's own answers, and the command for the shell."""

import ast
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import expect

from tests.page.visiting import Visit, Visitor


def download(seen: Visit, output: str) -> tuple[str, bytes]:
    with seen.page.expect_download() as download:
        seen.page.locator(f"[data-output={output}]").click()
    expect(seen.page.locator("#status")).to_contain_text("Saved ")
    return download.value.suggested_filename, Path(download.value.path()).read_bytes()


def pixels(picture: bytes) -> tuple[str, NDArray[np.uint8]]:
    with Image.open(io.BytesIO(picture)) as image:
        return image.mode, np.array(image)


@pytest.mark.parametrize(
    ("output", "query", "suffix"),
    [
        ("mask", "output=mask", ".mask.png"),
        ("instances", "output=instances", ".instances.png"),
        ("overlay", "output=overlay&alpha=0.6", ".overlay.jpg"),
        ("cutout", "output=cutout", ".cutout.png"),
    ],
)
def test_pictures_are_the_apis_own(parsed: Visit, scene: bytes, output: str, query: str, suffix: str) -> None:
    name, content = download(parsed, output)
    # The browser takes an apostrophe out of names.
    assert name.endswith(f"s a scene.jpg{suffix}")
    (mode, saved), (mode_asked, asked) = pixels(content), pixels(parsed.api(query, scene))
    assert mode == mode_asked
    assert np.array_equal(saved, asked)
    assert len(np.unique(saved)) > 1


def test_the_overlay_has_the_sliders_opacity(parsed: Visit, scene: bytes) -> None:
    parsed.page.locator("#opacity").fill("25")
    _, content = download(parsed, "overlay")
    assert np.array_equal(pixels(content)[1], pixels(parsed.api("output=overlay&alpha=0.25", scene))[1])
    assert not np.array_equal(pixels(content)[1], pixels(parsed.api("output=overlay", scene))[1])


def test_the_report_is_the_apis_own(parsed: Visit, scene: bytes) -> None:
    def lasting(report: bytes) -> dict[str, Any]:
        return {name: value for name, value in json.loads(report).items() if name not in ("timings_ms", "memory")}

    name, content = download(parsed, "json")
    assert name.endswith(".jpg.json")
    assert lasting(content) == lasting(parsed.api("output=json&rle=true", scene))


def test_the_command_makes_the_same_mask(visit: Visitor, server: str, scene: bytes, scene_file: Path) -> None:
    seen = visit(server, permissions=["clipboard-read", "clipboard-write"])
    seen.choose(scene_file)
    seen.done()
    seen.page.get_by_text("Use it from code").click()
    seen.page.locator("#copy").click()
    expect(seen.page.locator("#status")).to_have_text("Copied.")
    command = seen.page.evaluate("navigator.clipboard.readText()")
    subprocess.run(["bash", "-euc", command], cwd=scene_file.parent, check=True, capture_output=True)
    made = scene_file.with_name(f"{scene_file.name}.mask.png").read_bytes()
    assert made == seen.api("output=mask", scene)


def test_the_samples_command_needs_no_file(visit: Visitor, server: str, scene: bytes, tmp_path: Path) -> None:
    seen = visit(server)
    seen.page.locator("#sample").click()
    seen.done()
    expect(seen.page.locator("#sent")).to_be_hidden()
    command = seen.page.locator("#curl").text_content()
    subprocess.run(["bash", "-euc", command], cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "sample.jpg.mask.png").read_bytes() == seen.api("output=mask", scene)


def test_a_photo_of_the_camera_is_saved_for_its_command(visit: Visitor, server: str, tmp_path: Path) -> None:
    seen = visit(server)
    seen.page.locator("#take").click()
    expect(seen.page.locator("#video")).not_to_have_js_property("videoWidth", 0)
    seen.page.locator("#shoot").click()
    seen.done()
    command = seen.page.locator("#curl").text_content()
    assert command.startswith('# "camera.jpg" is the photo as it was sent; a button under Download saves it.')
    with seen.page.expect_download() as download:
        seen.page.locator("#sent").click()
    download.value.save_as(tmp_path / download.value.suggested_filename)
    subprocess.run(["bash", "-euc", command], cwd=tmp_path, check=True, capture_output=True)
    photo = (tmp_path / "camera.jpg").read_bytes()
    assert (tmp_path / "camera.jpg.mask.png").read_bytes() == seen.api("output=mask", photo)


def in_python(seen: Visit, folder: Path) -> None:
    """Runs the code as it is shown."""
    code = seen.page.locator("#python").text_content()
    subprocess.run([sys.executable, "-I", "-c", code], cwd=folder, check=True, capture_output=True)


def in_browser(seen: Visit) -> list[str]:
    """Runs the code in the page, as its console does: it may await. What it said."""
    said: list[str] = []
    seen.page.on("console", lambda message: said.append(message.text))
    seen.page.evaluate(f"async () => {{\n{seen.page.locator('#javascript').text_content()}\n}}")
    return said


def test_python_makes_the_same_mask(parsed: Visit, scene: bytes, scene_file: Path) -> None:
    parsed.page.get_by_text("Use it from code").click()
    parsed.page.locator("[name=code][value=python]").check()
    expect(parsed.page.locator("#python")).to_be_visible()
    expect(parsed.page.locator("#curl")).to_be_hidden()
    in_python(parsed, scene_file.parent)
    made = scene_file.with_name(f"{scene_file.name}.mask.png").read_bytes()
    assert made == parsed.api("output=mask", scene)


def test_javascript_makes_the_same_mask(parsed: Visit, scene_file: Path) -> None:
    parsed.page.once("filechooser", lambda chooser: chooser.set_files(scene_file))
    assert in_browser(parsed) == ["1280 720"]


def test_the_samples_code_needs_no_file(visit: Visitor, server: str, scene: bytes, tmp_path: Path) -> None:
    seen = visit(server)
    seen.page.locator("#sample").click()
    seen.done()
    in_python(seen, tmp_path)
    assert (tmp_path / "sample.jpg.mask.png").read_bytes() == seen.api("output=mask", scene)
    assert in_browser(seen) == ["1280 720"]


def test_the_code_has_the_options(parsed: Visit, scene: bytes, scene_file: Path) -> None:
    parsed.page.get_by_text("More options").click()
    parsed.page.locator("#option-max_side").fill("320")
    in_python(parsed, scene_file.parent)
    made = scene_file.with_name(f"{scene_file.name}.mask.png")
    expected = parsed.api("output=mask&max_side=320", scene)
    assert made.read_bytes() == expected != parsed.api("output=mask", scene)
    made.unlink()
    subprocess.run(
        ["bash", "-euc", parsed.page.locator("#curl").text_content()],
        cwd=scene_file.parent,
        check=True,
        capture_output=True,
    )
    assert made.read_bytes() == expected


def test_a_command_that_is_refused_fails(parsed: Visit, scene_file: Path, tmp_path: Path) -> None:
    (tmp_path / scene_file.name).write_bytes(b"no photo")
    command = parsed.page.locator("#curl").text_content()
    assert subprocess.run(["bash", "-c", command], cwd=tmp_path, check=False, capture_output=True).returncode != 0


def test_a_files_name_cannot_become_a_command(visit: Visitor, server: str, scene: bytes, tmp_path: Path) -> None:
    seen = visit(server)
    name = "a'; touch made; 'b\ntouch made\n$(touch made)\u2028made()\u2029\"); made() //</script>.png"
    # A photo whose type has it converted, so that its name is in a comment too.
    seen.page.evaluate(
        """async (name) => {
            const sample = await (await fetch("sample.jpg")).blob();
            give(new File([sample], name, {type: "image/x-own"}));
        }""",
        name,
    )
    seen.done()
    command = seen.page.locator("#curl").text_content()
    assert "touch made" in command
    subprocess.run(["bash", "-uc", command], cwd=tmp_path, check=False, capture_output=True)
    assert not (tmp_path / "made").exists()
    # In Python and JavaScript it is in one text, and in one comment.
    code = ast.parse(seen.page.locator("#python").text_content())
    calls = [node.func.id for node in ast.walk(code) if isinstance(node, ast.Call) and hasattr(node.func, "id")]
    assert set(calls) == {"Path", "Request", "urlopen"}
    named = [one for one in seen.page.locator("#javascript").text_content().splitlines() if "made" in one]
    assert len(named) == 1 and named[0].startswith("// ")


def test_where_copying_is_not_allowed_the_command_is_selected(parsed: Visit) -> None:
    parsed.page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error('no')); }")
    parsed.page.get_by_text("Use it from code").click()
    parsed.page.locator("#copy").click()
    expect(parsed.page.locator("#status")).to_contain_text("selected")
    assert parsed.page.evaluate("getSelection().toString()").startswith("curl ")
