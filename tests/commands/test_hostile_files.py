"""Files that would take all memory, or time without end, cost a sentence or little."""

from __future__ import annotations

import copy
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pose.annotations.training import Reading, parse_file
from pose.errors import UserError
from pose.skeleton import Skeleton
from pose.tools import doctor, draw, score

NAMES = ("nose", "left_hand", "right_hand")
HEIGHT, WIDTH = 40, 60
Json = Any


def person(number: int, **more: Json) -> Json:
    shift = number % 20
    return {
        "id": number, "image_id": 1, "category_id": 1, "iscrowd": 0, "num_keypoints": 3, "area": 400.0,
        "keypoints": [10 + shift, 8, 2, 20 + shift, 20, 2, 5 + shift, 22, 1], "bbox": [5 + shift, 5, 20, 20],
        **more,
    }  # fmt: skip


def sound() -> Json:
    return {
        "images": [{"id": i, "file_name": f"{i}.png", "width": WIDTH, "height": HEIGHT} for i in (1, 2)],
        "annotations": [person(1), person(2, image_id=2)],
        "categories": [{"id": 1, "name": "person", "keypoints": list(NAMES)}],
    }


def of_size(width: int, height: int) -> Json:
    """An image of that size by its entry, with crowds of each kind."""
    data = sound()
    data["images"][0].update(width=width, height=height)
    crowd = person(3, iscrowd=1, bbox=[0, 0, width, height])
    masks: list[Json] = [
        {"size": [height, width], "counts": [width * height - 5, 5]},
        {"size": [height, width], "counts": "o" * 100_000},
        [[0, 0, width, height] * 1000],
        [[0, 0, width, 0, width, height]],
        None,
    ]
    data["annotations"] += [{**crowd, "id": 10 + i, "segmentation": mask} for i, mask in enumerate(masks)]
    return data


def changed(**changes: Json) -> Json:
    data = sound()
    data["annotations"][0].update(changes)
    return data


def crowded(count: int) -> Json:
    data = sound()
    data["annotations"] = [person(i + 1) for i in range(count)]
    return data


def named(name: str) -> Json:
    data = sound()
    data["images"][0]["file_name"] = name
    return data


FILES: dict[str, Callable[[], Json]] = {
    "65536 x 65536": lambda: of_size(65_536, 65_536),
    "60000 x 60000": lambda: of_size(60_000, 60_000),
    "2000000000 x 2": lambda: of_size(2_000_000_000, 2),
    "2147483647 x 2147483647": lambda: of_size(2**31 - 1, 2**31 - 1),
    "13000 x 13000": lambda: of_size(13_000, 13_000),
    "2000 people": lambda: crowded(2000),
    "x of 1e300": lambda: changed(keypoints=[1e300, 8, 2, -1e300, 20, 2, 5, 22, 1]),
    "x of 9e8": lambda: changed(keypoints=[9e8, 8, 2, -9e8, 20, 2, 5, 22, 1]),
    "box of 1e300": lambda: changed(bbox=[1e300] * 4),
    "area of 1e300": lambda: changed(area=1e300),
    "numbers of 400 digits": lambda: changed(id=10**399, area=10**399, iscrowd=10**399),
    "a number of 5000 digits": lambda: '{"images": [{"id": ' + "9" * 5000 + "}]}",
    "nested": lambda: '{"images": ' + "[" * 100_000,
    "nested and closed": lambda: '{"images": [], "x": ' + "[" * 9000 + "]" * 9000 + "}",
    "a name of 300 letters": lambda: named("x" * 300),
    "a name with NUL": lambda: named("a\0b.png"),
    "a name that is no Unicode": lambda: named("\ud800.png"),
    "a pipe as image": lambda: named("pipe"),
    "a device as image": lambda: named("/dev/zero"),
    "an image of 196 megapixels": lambda: of_size(14_000, 14_000) | {"images": [
        {"id": 1, "file_name": "bomb.png", "width": 14_000, "height": 14_000}, sound()["images"][1],
    ]},
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images")
    for i in (1, 2):
        Image.fromarray(np.zeros((HEIGHT, WIDTH, 3), np.uint8)).save(path / f"{i}.png")
    Image.new("1", (14_000, 14_000)).save(path / "bomb.png")
    os.mkfifo(path / "pipe")
    return path


@pytest.fixture(autouse=True)
def an_end() -> Iterator[None]:
    """What waits for ever is ended, so that the test fails."""

    def stop(*_: object) -> None:
        raise TimeoutError("it does not end")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(120)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def told(work: Callable[[], object]) -> str:
    """The sentence in which it ends; "" where the work is done."""
    try:
        work()
    except UserError as error:
        return str(error)
    return ""


def commands(annotations: Path, results: Path, images: Path, out: Path) -> dict[str, Callable[[], object]]:
    files = ["--annotations", str(annotations)]
    seen = ["--images", str(images)]
    sigmas = "0.05,0.05,0.05"
    skeleton = Skeleton("three", NAMES)
    return {
        "doctor": lambda: doctor.main([*files, *seen, "-o", str(out / "doctor.html")]),
        "draw": lambda: draw.main([*files, *seen, "-o", str(out / "drawn")]),
        "score": lambda: score.main(
            ["coco", *files, "--results", str(results), "--sigmas", sigmas, "--report", str(out / "r.html")]
        ),
        "train": lambda: parse_file(annotations, Reading(skeleton, images=images)),
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_every_command_does_its_work_or_says_why_not(folder: Path, tmp_path: Path, name: str) -> None:
    content = FILES[name]()
    annotations, results = tmp_path / "hostile.json", tmp_path / "results.json"
    annotations.write_text(content if isinstance(content, str) else json.dumps(content))
    found = [{"image_id": 1, "category_id": 1, "keypoints": person(1)["keypoints"], "score": 0.5}]
    results.write_text(json.dumps(found))
    for command, work in commands(annotations, results, folder, tmp_path).items():
        sentence = told(work)
        assert not sentence or "hostile.json" in sentence, f"{command}: {sentence}"


RESULTS: dict[str, Callable[[Json], Json]] = {
    "1e300": lambda one: {**one, "keypoints": [1e300, *one["keypoints"][1:]], "score": 1e300},
    "400 digits": lambda one: {**one, "image_id": 10**399},
    "a score of 400 digits": lambda one: {**one, "score": 10**399},
    "lists": lambda one: {key: [value] for key, value in one.items()},
}


@pytest.mark.parametrize("name", RESULTS)
def test_hostile_results(folder: Path, tmp_path: Path, name: str) -> None:
    annotations, results = tmp_path / "sound.json", tmp_path / "results.json"
    annotations.write_text(json.dumps(sound()))
    good = {"image_id": 1, "category_id": 1, "keypoints": person(1)["keypoints"], "score": 0.5}
    results.write_text(json.dumps([good, RESULTS[name](copy.deepcopy(good))]))
    sentence = told(commands(annotations, results, folder, tmp_path)["score"])
    assert not sentence or "results.json" in sentence


@pytest.mark.parametrize("what", ["annotations", "results"])
def test_a_pipe_or_a_device_is_no_file(folder: Path, tmp_path: Path, what: str) -> None:
    files = {key: tmp_path / f"{key}.json" for key in ("annotations", "results")}
    for file in files.values():
        file.write_text(json.dumps(sound()))
    for other in (folder / "pipe", Path("/dev/zero")):
        given = {**files, what: other}
        for command, work in commands(given["annotations"], given["results"], folder, tmp_path).items():
            if what == "annotations" or command == "score":
                assert "no regular file" in told(work), command


@pytest.mark.parametrize("option", ["--sigmas", "--image-ids"])
def test_a_pipe_as_an_option_of_score(folder: Path, tmp_path: Path, option: str) -> None:
    (tmp_path / "sound.json").write_text(json.dumps(sound()))
    os.mkfifo(tmp_path / "pipe.yaml")
    files = ["--annotations", str(tmp_path / "sound.json"), "--results", str(tmp_path / "sound.json")]
    assert "no regular file" in told(
        lambda: score.main(["coco", *files, option, str(tmp_path / "pipe.yaml")])
    )
