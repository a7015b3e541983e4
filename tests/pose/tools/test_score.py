"""The scoring command: options in, table and JSON out, one-sentence errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.aic_score import scene
from pose.annotations.aic import to_official
from pose.annotations.aic_coco import Picture, to_coco
from pose.annotations.reader import read
from pose.config import read_yaml
from pose.errors import UserError, user_facing
from pose.metrics import aic_eval
from pose.skeleton import from_dict
from pose.tools.score import main, read_image_ids, read_sigmas

KEYPOINTS = [10, 10, 2, 60, 40, 2, 90, 150, 1]


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Two images, two people with 3 keypoints; the one of image 2 is found exactly, the other not."""
    person: dict[str, Any] = {"category_id": 1, "keypoints": KEYPOINTS, "bbox": [10, 10, 80, 140]}
    people = [{**person, "id": image_id, "image_id": image_id} for image_id in (1, 2)]
    found = {"image_id": 2, "category_id": 1, "keypoints": KEYPOINTS, "score": 0.5}
    contents = {
        "truth": {"images": [{"id": 1}, {"id": 2}], "annotations": people, "categories": [{"id": 1}]},
        "results": [found],
    }
    paths = {name: tmp_path / f"{name}.json" for name in contents}
    for name, path in paths.items():
        path.write_text(json.dumps(contents[name]))
    return paths


def command(files: dict[str, Path], *options: str) -> list[str]:
    return ["coco", "--annotations", str(files["truth"]), "--results", str(files["results"]), *options]


@pytest.mark.parametrize("backend", ["fast", "pycocotools"])
def test_scores_are_printed_and_written(
    files: dict[str, Path], backend: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "metrics.json"
    main(command(files, "--backend", backend, "--sigmas", "0.1, 0.1,0.1", "-o", str(output)))
    text = capsys.readouterr().out
    assert " Average Recall     (AR) @[ IoU=0.50:0.95 | area=   all | maxDets= 20 ] = 0.500" in text
    assert "images: 2 (all)" in text and f"backend: {backend}" in text
    metrics = json.loads(output.read_text())
    assert metrics["stats"]["AR"] == pytest.approx(0.5)
    assert metrics["num_images"] == 2


def test_only_chosen_images_count(
    files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = tmp_path / "ids.txt"
    for content in ("2\n\n", "[2]"):
        chosen.write_text(content)
        main(command(files, "--sigmas", "0.1,0.1,0.1", "--image-ids", str(chosen)))
        text = capsys.readouterr().out
        assert "maxDets= 20 ] = 1.000" in text and f"images: 1 (of {chosen})" in text


def test_a_mistake_is_one_sentence(files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert user_facing(lambda: main(command(files)))() == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "3 keypoints" in error and error.count("\n") == 1


def test_a_metric_must_be_named() -> None:
    with pytest.raises(SystemExit):
        main([])


@pytest.mark.parametrize(
    "content",
    [
        "[0.1, 0.2, 3.0e-1]",
        "sigmas: [0.1, 0.2, 0.3]",
        "{keypoints: [a, b, c], limbs: [[a, b], [b, c]], sigmas: {c: 0.3, b: 0.2, a: 0.1}}",
    ],
)
def test_sigmas_of_a_file_are_in_keypoint_order(tmp_path: Path, content: str) -> None:
    path = tmp_path / "sigmas.yaml"
    path.write_text(content)
    assert read_sigmas(str(path)) == [0.1, 0.2, 0.3]


@pytest.mark.parametrize(
    "content",
    ["", "a: [", "{keypoints: [a, b]}", "{keypoints: [a], sigmas: {}}", "[x, y]", "{sigmas: {a: 1}}", "7"],
)
def test_bad_sigmas_are_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "sigmas.yaml"
    path.write_text(content)
    for text in (str(path), str(tmp_path / "absent.yaml"), "0.1;0.2"):
        with pytest.raises(UserError, match="--sigmas"):
            read_sigmas(text)


@pytest.mark.parametrize("content", ["1\ntwo\n", "[1, 'a']", "[1, ", '["1"]', "[true]"])
def test_bad_image_ids_are_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "ids.json"
    path.write_text(content)
    for place in (path, tmp_path / "absent"):
        with pytest.raises(UserError, match="--image-ids"):
            read_image_ids(place)


def test_sigmas_of_a_skeleton_go_by_name(tmp_path: Path) -> None:
    """The file's keypoints in another order, and one that is only derived."""
    skeleton = tmp_path / "stick.yaml"
    skeleton.write_text(
        "keypoints: [c, m, a, b]\nderived: {m: {middle_of: [a, b]}}\nsigmas: {a: 0.1, b: 0.2, c: 0.3, m: 0.4}"
    )
    annotations = tmp_path / "a.json"
    annotations.write_text('{"categories": [{"id": 1, "name": "x", "keypoints": ["a", "b", "c"]}]}')
    assert read_sigmas(str(skeleton), read(annotations)) == [0.1, 0.2, 0.3]


# ---- AI Challenger ----


@pytest.fixture
def lists(tmp_path: Path) -> dict[str, Path]:
    """Annotations, official and in COCO format, and predictions with what a list may have wrong."""
    truth, found = scene(3, 3, images=20)
    skeleton = from_dict(read_yaml(Path(__file__).parents[3] / "configs" / "_skeletons" / "aic14.yaml"))
    predictions = to_official(found[:-2], boxes=False)
    wrong = [{**predictions[0], "image_id": predictions[0]["image_id"] + ".jpg"}, *predictions[1:]]
    unknown = [{**one, "image_id": f"other{i}"} for i, one in enumerate(predictions[:3])]
    pictures = [Picture(f"{image.image_id}.jpg", 900, 900) for image in truth]
    contents = {
        "truth": to_official(truth, boxes=True),
        "coco": to_coco(truth, pictures, skeleton),
        "results": predictions,
        "wrong": wrong + unknown,
    }
    paths = {name: tmp_path / f"{name}.json" for name in contents}
    for name, path in paths.items():
        path.write_text(json.dumps(contents[name], indent=1))
    return paths


def aic_command(lists: dict[str, Path], truth: str, results: str, *options: str) -> list[str]:
    return ["aic", "--annotations", str(lists[truth]), "--results", str(lists[results]), *options]


@pytest.mark.parametrize("truth", ["truth", "coco"])
def test_the_official_score_is_printed_and_written(
    lists: dict[str, Path], truth: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth_images, found = scene(3, 3, images=20)
    expected = aic_eval.evaluate(truth_images, found[:-2])
    output = tmp_path / "metrics.json"
    main(aic_command(lists, truth, "results", "--strict", "-o", str(output)))
    printed = capsys.readouterr()
    assert aic_eval.table(expected) in printed.out and f"annotations: {lists[truth]}" in printed.out
    assert "images without predictions: " in printed.out and "(2 of them not in the list)" in printed.out
    assert printed.err == ""
    metrics = json.loads(output.read_text())
    assert metrics["metric"] == "aic" and metrics["score"] == expected.score and metrics["ap"] == expected.ap


def test_what_is_wrong_with_a_list_is_told_and_with_strict_fatal(
    lists: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    main(aic_command(lists, "truth", "results"))
    right = capsys.readouterr().out
    main(aic_command(lists, "truth", "wrong"))
    printed = capsys.readouterr()
    assert f"warning: {lists['wrong']}: 1 image_id(s) with a" in printed.err
    assert right.splitlines()[2:14] == printed.out.splitlines()[2:14]  # neither changes the score
    assert "ignored: " in printed.out and "ignored" not in right
    assert user_facing(lambda: main(aic_command(lists, "truth", "wrong", "--strict")))() == 2
    assert "extension" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("truth", "results", "sentence"),
    [
        ("results", "coco", "expected AI Challenger's list of images, got a COCO data set"),
        ("truth", "absent", "absent.json"),
        ("absent", "results", "absent.json"),
        ("cut", "results", "cut.json"),
        ("other", "results", "14 keypoints"),
    ],
)
def test_files_that_are_no_such_lists_are_named(
    lists: dict[str, Path], capsys: pytest.CaptureFixture[str], truth: str, results: str, sentence: str
) -> None:
    folder = lists["truth"].parent
    (folder / "cut.json").write_text(lists["truth"].read_text()[:-200])
    (folder / "other.json").write_text('{"images": [], "categories": [{"id": 1, "keypoints": ["nose"]}]}')
    files = {**lists, **{name: folder / f"{name}.json" for name in ("absent", "cut", "other")}}
    assert user_facing(lambda: main(aic_command(files, truth, results)))() == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and sentence in error
