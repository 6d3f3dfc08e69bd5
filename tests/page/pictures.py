"""Photos to give, and pictures and maps to compare."""

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Page


def jpeg(image: Image.Image, **how: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **how)
    return buffer.getvalue()


def noisy(scene: bytes, size: tuple[int, int], *, quality: int = 95, **how: object) -> bytes:
    """The scene in another size, with the noise that makes files large."""
    people = np.array(Image.open(io.BytesIO(scene)).resize(size), np.int16)
    people += np.random.default_rng(7).integers(-32, 32, people.shape, np.int16)
    return jpeg(Image.fromarray(np.clip(people, 0, 255).astype(np.uint8)), quality=quality, **how)


def png_of(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


# The class map and the person map as the page holds them, `[height, width]`. In base64: a list of a million numbers
# would take Playwright ten seconds.
MAPS = """() => {
    const text = (bytes) => {
        let binary = "";
        for (let at = 0; at < bytes.length; at += 0x8000) {
            binary += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
        }
        return btoa(binary);
    };
    const { width, height, classes, persons } = state.map;
    return { width, height, classes: text(classes), persons: text(persons) };
}"""


def maps(page: Page) -> dict[str, NDArray[np.uint8]]:
    found = page.evaluate(MAPS)
    shape = found["height"], found["width"]
    return {
        name: np.frombuffer(base64.b64decode(found[name]), np.uint8).reshape(shape) for name in ("classes", "persons")
    }


def indices(png: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(png)) as image:
        return np.array(image)


def reduced(full: NDArray[np.uint8], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """The pixels under the centres of a smaller picture's."""
    rows, columns = ((2 * np.arange(to) + 1) * of // (2 * to) for of, to in zip(full.shape, shape, strict=True))
    return full[np.ix_(rows, columns)]


def canvas(page: Page, name: str) -> NDArray[np.uint8]:
    """RGBA of a canvas."""
    url = page.evaluate(f"document.getElementById('{name}').toDataURL()")
    with Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))) as image:
        return np.array(image.convert("RGBA"))


def largest_part(classes: NDArray[np.uint8]) -> int:
    return int(np.bincount(classes[classes > 0]).argmax())


def place_of(region: NDArray[np.bool_]) -> tuple[float, float]:
    """A pixel well inside a region, as shares of width and height."""
    solid = region.copy()
    while (inner := solid[1:-1, 1:-1] & solid[:-2, 1:-1] & solid[2:, 1:-1] & solid[1:-1, :-2] & solid[1:-1, 2:]).any():
        solid = np.pad(inner, 1)
    y, x = np.argwhere(solid)[0]
    return (x + 0.5) / region.shape[1], (y + 0.5) / region.shape[0]
