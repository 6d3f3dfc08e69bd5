"""Other people's clients and readers against a running server.

`clients.py URL PHOTO` asks as they do: Hugging Face's InferenceClient, rembg's documented requests, and the readers of
COCO files, pycocotools and supervision. It fails with a sentence where one of them does not get what it needs.
"""

import contextlib
import io
import json
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

import numpy as np
import supervision
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError
from PIL import Image
from pycocotools.coco import COCO

Array = np.ndarray


def check(holds: bool, sentence: str) -> None:
    if not holds:
        sys.exit(sentence)


def ask(url: str, photo: Path) -> bytes:
    with urllib.request.urlopen(urllib.request.Request(url, photo.read_bytes())) as answer:
        return answer.read()


def pixels(png: bytes, mode: str) -> Array:
    with Image.open(io.BytesIO(png)) as image:
        check(image.mode == mode, f"a PNG of mode {image.mode}, not {mode}")
        return np.asarray(image)


def hugging_face(url: str, photo: Path, index: Array, report: dict) -> None:
    """The client's segments are the classes of the mask, whichever way it sends the photo."""
    client = InferenceClient(model=f"{url}/parse?output=hf")
    names = {entry["name"]: entry for entry in report["classes"]}
    # Without parameters the photo goes as it is, with them as JSON with base64 in it.
    for segments in (
        client.image_segmentation(photo),
        client.image_segmentation(photo.read_bytes()),
        client.image_segmentation(photo, mask_threshold=0.5, subtask="semantic"),
        InferenceClient(model=url).image_segmentation(photo, subtask="semantic"),
    ):
        check([segment.label for segment in segments] == list(names), f"labels {[s.label for s in segments]}")
        for segment in segments:
            entry = names[segment.label]
            check(segment.mask.mode == "L", f"{segment.label}: a mask of mode {segment.mask.mode}")
            expected = np.where(index == entry["id"], 255, 0)
            check((np.asarray(segment.mask) == expected).all(), f"{segment.label}: another mask")
            check(segment.score == entry["score"], f"{segment.label}: score {segment.score}")
    strict = client.image_segmentation(photo, threshold=0.99)
    check(all(segment.score is None for segment in strict), "scores below the threshold are told")
    try:
        client.image_segmentation(b"no image")
    except HfHubHTTPError as error:
        check(error.response.status_code == 415, f"no image: {error.response.status_code}")
    else:
        sys.exit("no image: an answer")


def rembg(url: str, photo: Path, index: Array) -> None:
    """The requests of rembg's README, by curl."""

    def curl(*arguments: str) -> tuple[int, dict[str, str], bytes]:
        head = ["curl", "-s", "-D", "/dev/stderr", *arguments]
        done = subprocess.run(head, capture_output=True, check=True)
        status, *lines = done.stderr.decode().split("\r\n")
        return int(status.split()[1]), dict(line.lower().split(": ", 1) for line in lines if ": " in line), done.stdout

    people = index != 0
    remove = f"{url}/api/remove"
    status, headers, png = curl("-F", f"file=@{photo}", remove)
    check((status, headers["content-type"]) == (200, "image/png"), f"{status} {headers}")
    check("x-m2fp-warnings" not in headers, f"{headers}")
    check((pixels(png, "RGBA")[..., 3] == np.where(people, 255, 0)).all(), "another alpha")
    status, headers, png = curl("-F", f"file=@{photo}", "-F", "om=true", "-F", "model=u2net", "-F", "a=true", remove)
    check(status == 200, f"{status} {png}")
    check((pixels(png, "L") == np.where(people, 255, 0)).all(), "another mask")
    warning = headers.get("x-m2fp-warnings", "")
    check(warning == "rembg's options model, a are ignored", f"{headers}")
    status, headers, answer = curl(f"{remove}?url=http://input.png")
    check((status, headers["allow"]) == (405, "post, options"), f"{status} {headers}")
    check("send it itself with POST" in json.loads(answer)["detail"], f"{answer}")
    status, _, answer = curl("-F", f"image=@{photo}", remove)
    check(status == 400 and "`file`" in json.loads(answer)["detail"], f"{status} {answer}")


def coco(url: str, photo: Path, index: Array, instances: Array, report: dict) -> None:
    """pycocotools and supervision find the persons and parts of the report, with the masks of the pictures."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "annotations.json"
        file.write_bytes(ask(f"{url}/parse?output=coco", photo))
        with contextlib.redirect_stdout(io.StringIO()):
            read = COCO(file)
        (image,) = read.dataset["images"]
        check((image["height"], image["width"]) == index.shape, f"{image}")
        persons = {entry["id"]: entry for entry in report["persons"]}
        found = {number: [] for number in persons}
        nobodys = np.zeros_like(index)
        person_class = json.loads(urllib.request.urlopen(f"{url}/info").read())["person_id"]
        for annotation in read.dataset["annotations"]:
            number = annotation.get("attributes", {}).get("person", 0)
            category, what = annotation["category_id"], f"annotation {annotation['id']}"
            mask = read.annToMask(annotation) == 1
            check(annotation["area"] == int(mask.sum()), f"{what}: area")
            ys, xs = np.nonzero(mask)
            box = [xs.min(), ys.min(), xs.max() - xs.min() + 1, ys.max() - ys.min() + 1]
            check(annotation["bbox"] == [int(x) for x in box], f"{what}: box")
            if category == person_class:
                entry = persons[number]
                check((annotation["area"], annotation["score"]) == (entry["pixels"], entry["score"]), f"{what}: person")
                check((instances == number)[~mask].sum() == 0, f"{what}: part of the person is elsewhere")
            else:
                check((mask == ((instances == number) & (index == category))).all(), f"{what}: another mask")
                if number:
                    found[number].append(category)
                else:
                    nobodys[mask] = category
        for number, entry in persons.items():
            check(found[number] == [part["class_id"] for part in entry["parts"]], f"person {number}: parts")
        check((nobodys == np.where(instances == 0, index, 0)).all(), "parts of nobody")
        check(len(persons) > 2, "the photo's persons")

        (Path(folder) / image["file_name"]).write_bytes(photo.read_bytes())
        dataset = supervision.DetectionDataset.from_coco(folder, str(file), force_masks=True)
        ((_, _, detections),) = list(dataset)
        annotations = read.dataset["annotations"]
        check(len(detections) == len(annotations), f"{len(detections)} detections")
        for annotation, mask, label in zip(annotations, detections.mask, detections.class_id, strict=True):
            name = read.cats[annotation["category_id"]]["name"]
            check(dataset.classes[label] == name, f"supervision: {dataset.classes[label]}, not {name}")
            check((mask == (read.annToMask(annotation) == 1)).all(), f"supervision: annotation {annotation['id']}")


def main(url: str, photo: Path) -> None:
    index = pixels(ask(f"{url}/parse?output=index", photo), "L")
    check(len(np.unique(index)) > 3, "the photo has no parts")
    instances = pixels(ask(f"{url}/parse?output=instances", photo), "P")
    report = json.loads(ask(f"{url}/parse?output=json", photo))
    hugging_face(url, photo, index, report)
    rembg(url, photo, index)
    coco(url, photo, index, instances, report)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
