"""The page behind a gateway's stage, with the function under the emulator: bodies are base64, answers are limited."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from tests.page import servers
from tests.page.pictures import indices, maps, noisy, reduced
from tests.page.visiting import Visitor


@pytest.fixture(scope="module")
def stage() -> Iterator[str]:
    with servers.lambda_function() as address:
        yield address


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_stage_is_no_obstacle(visit: Visitor, stage: str, scene: bytes, scene_file: Path, slash: str) -> None:
    seen = visit(stage + slash)
    seen.choose(scene_file)
    seen.done()
    shown = maps(seen.page)["classes"]
    mask = seen.api("output=mask", scene)
    assert np.array_equal(shown, reduced(indices(mask), shown.shape))
    with seen.page.expect_download() as download:
        seen.page.locator("[data-output=mask]").click()
    assert Path(download.value.path()).read_bytes() == mask
    assert f"'{stage}/parse?output=mask'" in seen.page.locator("#curl").text_content()


def test_an_answer_too_large_for_the_function_comes_from_the_bucket(visit: Visitor, scene: bytes) -> None:
    photo = noisy(scene, (3200, 1800), quality=80)
    with (
        servers.storage(masks="OutputBucket") as storage,
        servers.lambda_function(S3_ENDPOINT=storage, OUTPUT_BUCKET="masks") as stage,
    ):
        seen = visit(stage)
        seen.storage.add(urlsplit(storage).netloc)
        seen.choose({"name": "large.jpg", "mimeType": "image/jpeg", "buffer": photo})
        seen.done()
        with seen.page.expect_download() as download:
            seen.page.locator("[data-output=cutout]").click()
        cutout = Path(download.value.path()).read_bytes()
        assert len(cutout) > 6_000_000
        assert cutout == seen.api("output=cutout", photo)
        assert urlsplit(storage).netloc in seen.hosts


def test_the_sample_passes_the_gateway_too(visit: Visitor, stage: str) -> None:
    seen = visit(stage)
    seen.page.locator("#sample").click()
    seen.done()
