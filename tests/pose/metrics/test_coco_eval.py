"""COCO results files and scores: equal numbers from both libraries, nothing silent, inputs left alone."""

from __future__ import annotations

import copy
import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pose.errors import UserError
from pose.files import write_json
from pose.metrics.coco_eval import COCO_SIGMAS, STATS, evaluate, prepare, table
from pose.metrics.results import results_json, write_results

BACKENDS: tuple[Any, ...] = (
    "own",
    "fast",
    "pycocotools",
    *(["hotcoco"] if importlib.util.find_spec("hotcoco") else []),
)


def person(number: int, image_id: int, keypoints: np.ndarray, **changes: Any) -> dict[str, Any]:
    low, high = keypoints[:, :2].min(axis=0), keypoints[:, :2].max(axis=0)
    width, height = (high - low).tolist()
    full = {
        "id": number,
        "image_id": image_id,
        "category_id": 1,
        "keypoints": keypoints.ravel().tolist(),
        "num_keypoints": int((keypoints[:, 2] > 0).sum()),
        "bbox": [*low.tolist(), width, height],
        "area": 0.53 * width * height,
        "iscrowd": 0,
    }
    return {**full, **changes}


def drawn(seed: int, num_keypoints: int = 17) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A small data set with every kind of ground truth, and noisy results with ties, strays and misses."""
    rng = np.random.default_rng(seed)
    people: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for image_id in rng.permutation(12).tolist():
        for _ in range(int(rng.integers(0, 5))):  # some images have nobody
            points = np.zeros((num_keypoints, 3))
            size = rng.choice([20, 80, 250])
            points[:, :2] = rng.uniform(0, 300, 2) + rng.uniform(0, size, (num_keypoints, 2))
            points[:, 2] = rng.integers(0, 3, num_keypoints)
            kind = rng.choice(["plain", "crowd", "unlabelled"], p=[0.7, 0.15, 0.15])
            points[:, 2] *= kind != "unlabelled"
            category = int(rng.integers(1, 3))
            people.append(
                person(len(people) + 1, image_id, points, iscrowd=int(kind == "crowd"), category_id=category)
            )
            for noise in rng.choice([0.0, 1.0, 5.0, 60.0], int(rng.integers(0, 9))):
                moved = points[:, :2] + rng.normal(0, noise, (num_keypoints, 2))
                guess = {
                    "image_id": image_id,
                    "category_id": category if rng.random() < 0.9 else 1,
                    "keypoints": np.column_stack([moved, np.ones(num_keypoints)]).ravel().tolist(),
                    "score": float(rng.integers(0, 4)) / 4,
                }
                results += [guess] * int(rng.choice([1, 1, 2]))
    images = [{"id": image_id} for image_id in range(12)]
    categories = [{"id": 1, "name": "person"}, {"id": 2, "name": "ape"}]
    return {"images": images, "annotations": people, "categories": categories}, results


def one_person(**changes: Any) -> dict[str, Any]:
    points = np.column_stack([np.linspace(10, 90, 17), np.linspace(20, 220, 17), np.full(17, 2.0)])
    return {
        "images": [{"id": 5}, {"id": 6}],
        "annotations": [{**person(1, 5, points), **changes}],
        "categories": [{"id": 1, "name": "person"}],
    }


def as_result(annotation: dict[str, Any], score: float = 0.9, **changes: Any) -> dict[str, Any]:
    record = {key: annotation[key] for key in ("image_id", "category_id", "keypoints")}
    return {**record, "score": score, **changes}


def without(record: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in keys}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", ["val250", "crowd_one_image"])
def test_equals_the_numbers_of_coco(real_data: Path, case: str, backend: Any) -> None:
    folder = real_data / "coco_eval"
    if not folder.is_dir():
        pytest.skip("no COCO results beside the checkout")
    expected = json.loads((folder / "expected_stats.json").read_text())["cases"][case]
    scores = evaluate(folder / expected["gt"], folder / expected["dt"], backend=backend)
    assert scores.stats == pytest.approx(expected["stats"], abs=1e-9)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("num_keypoints", [7, 17])
@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("boxed", [False, True])
def test_backends_agree(seed: int, num_keypoints: int, constant: bool, boxed: bool) -> None:
    truth, results = drawn(seed, num_keypoints)
    sigmas = np.linspace(0.03, 0.12, num_keypoints).tolist()
    if constant:
        results = [{**record, "score": 0.5} for record in results]
    if boxed:
        results = [{**record, "bbox": [0, 0, 10.0 * i % 200, 90]} for i, record in enumerate(results)]
    for image_ids in (None, [3, 1, 7, 8]):
        for category_id in (None, 1):
            options: dict[str, Any] = {"sigmas": sigmas, "image_ids": image_ids, "category_id": category_id}
            numbers = [evaluate(truth, results, **options, backend=one).stats for one in BACKENDS]
            for other in numbers[1:]:
                assert other == pytest.approx(numbers[0], abs=1e-9)
            assert tuple(numbers[0]) == STATS and np.isfinite(list(numbers[0].values())).all()


def test_equals_pycocotools_called_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    coco, cocoeval = pytest.importorskip("pycocotools.coco"), pytest.importorskip("pycocotools.cocoeval")
    truth, results = drawn(3)
    gt = coco.COCO()
    gt.dataset = copy.deepcopy(truth)
    gt.createIndex()
    run = cocoeval.COCOeval(gt, gt.loadRes(copy.deepcopy(results)), "keypoints")
    run.evaluate()
    run.accumulate()
    run.summarize()
    printed = capsys.readouterr().out
    scores = evaluate(truth, results)
    assert list(scores.stats.values()) == pytest.approx(run.stats.tolist(), abs=1e-9)
    rows = [line for line in printed.splitlines() if "@[" in line]
    assert [line for line in table(scores, {}).splitlines() if "@[" in line] == rows


@pytest.mark.parametrize("backend", BACKENDS)
def test_is_silent_and_leaves_its_inputs_alone(backend: Any, capfd: pytest.CaptureFixture[str]) -> None:
    truth, results = drawn(1)
    before = copy.deepcopy((truth, results))
    first = evaluate(truth, results, backend=backend)
    assert (truth, results) == before
    assert evaluate(truth, results, backend=backend) == first
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("backend", BACKENDS)
def test_perfect_results_score_one_and_none_score_zero(backend: Any) -> None:
    truth, _ = drawn(2)
    perfect = [as_result(entry) for entry in truth["annotations"]]
    stats = evaluate(truth, perfect, backend=backend).stats
    assert stats == pytest.approx(dict.fromkeys(STATS, 1.0))
    empty = evaluate(truth, [], backend=backend)
    assert empty.stats == dict.fromkeys(STATS, 0.0)
    assert empty.num_results == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_to_score_is_minus_one(backend: Any) -> None:
    truth = one_person()
    stats = evaluate(truth, [], image_ids=[6], backend=backend).stats
    assert stats == dict.fromkeys(STATS, -1.0)


def test_images_without_results_count_and_their_order_does_not() -> None:
    truth, results = drawn(4)
    wanted = [7, 2, 9, 4, 0]
    shuffled = evaluate(truth, results, image_ids=wanted)
    assert evaluate(truth, results, image_ids=sorted(wanted) + wanted) == shuffled
    assert shuffled.num_images == 5
    one_image = [record for record in results if record["image_id"] == 2]
    assert evaluate(truth, one_image).stats["AR"] < evaluate(truth, one_image, image_ids=[2]).stats["AR"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_ids_of_any_kind_give_the_same_numbers(backend: Any) -> None:
    truth, results = drawn(5)
    expected = evaluate(truth, results, backend=backend).stats
    for shift, ids in ((0, lambda i: i), (10**14, lambda i: 0), (-3, lambda i: i // 2)):
        moved = {
            **truth,
            "images": [{"id": image["id"] + shift} for image in truth["images"]],
            "annotations": [
                {**entry, "id": ids(i), "image_id": entry["image_id"] + shift}
                for i, entry in enumerate(truth["annotations"])
            ],
        }
        found = [{**record, "image_id": record["image_id"] + shift} for record in results]
        scores = evaluate(moved, found, backend=backend)
        assert scores.stats == expected
        assert scores.repaired["id"] > 0


def test_missing_fields_are_derived_and_counted() -> None:
    truth = one_person()
    entry = truth["annotations"][0]
    result = [as_result(entry)]
    expected = evaluate(truth, result).stats
    bare = {**truth, "annotations": [without(entry, "id", "area", "bbox", "iscrowd", "num_keypoints")]}
    scores = evaluate(without(bare, "categories"), result)
    assert scores.stats == expected
    assert scores.repaired == {**dict.fromkeys(scores.repaired, 1), "keypoints": 0}
    assert "area missing or invalid" in table(scores, {})
    no_keypoints = {**truth, "annotations": [entry, without(entry, "keypoints", "num_keypoints")]}
    scores = evaluate(no_keypoints, result)
    assert scores.repaired["keypoints"] == scores.ignored["no_keypoints"] == 1


def test_what_cocoeval_ignores_is_counted_and_said() -> None:
    plain = one_person()["annotations"][0]
    blank = [0.0] * 51
    truth = {
        **one_person(),
        "annotations": [
            plain,
            {**plain, "id": 2, "iscrowd": 1},
            {**plain, "id": 3, "keypoints": blank, "num_keypoints": 0},
            {**plain, "id": 4, "num_keypoints": 0},
            {**plain, "id": 5, "keypoints": blank, "num_keypoints": 4},
            {**plain, "id": 6, "area": 0},
            {**plain, "id": 7, "image_id": 99},
        ],
    }
    scores = evaluate(truth, [])
    assert scores.ignored == {
        "crowd": 1,
        "no_keypoints": 1,
        "num_keypoints_0": 1,
        "area_range": 0,
        "unlisted_image": 1,
        "other_category": 0,
    }
    assert scores.doubtful == {"area_0": 1, "num_keypoints_without_labels": 1}
    assert (scores.num_ground_truth, scores.num_used) == (7, 3)
    text = table(scores, {"flip": "on", "images": "2 (all)"})
    assert text.startswith("flip: on   images: 2 (all)\n")
    unwrapped = text.replace("\n  ", " ")
    assert "ignored ground truth: 1 crowd; 1 without labelled keypoints; 1 with num_keypoints 0" in unwrapped
    assert "doubtful ground truth: 1 with area 0" in unwrapped
    assert max(map(len, text.splitlines())) <= 110
    assert "ground truth" not in table(evaluate(one_person(), []), {})


GOOD = as_result(one_person()["annotations"][0])
BAD_RESULTS: list[tuple[Any, str]] = [
    ({"a": []}, "must be a list"),
    ({"annotations": []}, "is an annotation file; give the results"),
    ([3], "not an object"),
    ([GOOD, {**GOOD, "score": float("nan")}], "result 2, image 5: score"),
    ([{**GOOD, "score": float("inf")}], "image 5: score"),
    ([{**GOOD, "score": "high"}], "image 5: score"),
    ([without(GOOD, "score")], "image 5: score"),
    ([{**GOOD, "keypoints": [float("nan")] * 51}], "image 5: keypoints .* not a finite"),
    ([{**GOOD, "keypoints": [10**400] * 51}], "image 5: keypoints .* not a finite"),
    ([{**GOOD, "keypoints": [1.0] * 42}], "51 numbers, got 42"),
    ([without(GOOD, "keypoints")], "51 numbers, got None"),
    ([{**GOOD, "category_id": 8}], "no category 8"),
    ([{**GOOD, "image_id": "x"}], "must be an integer"),
    ([without(GOOD, "image_id")], "must be an integer"),
    ([GOOD, {**GOOD, "image_id": 77}, {**GOOD, "image_id": 78}], "2 results are for images .* image 77"),
    ([{**GOOD, "bbox": [1, 2, 3, 4]}, GOOD], "bbox"),
]


@pytest.mark.parametrize(("results", "message"), BAD_RESULTS)
def test_bad_results_are_named(results: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        evaluate(one_person(), results)


BAD_TRUTH: list[tuple[Any, str]] = [
    ([], "expected a COCO data set"),
    ({"images": [{"id": 5}]}, "no list 'annotations'"),
    ({**one_person(), "annotations": [None]}, "entry 0 of the annotations: category_id"),
    ({**one_person(), "images": []}, "no list 'images', or an empty one"),
    ({**one_person(), "annotations": []}, "no list 'annotations', or an empty one"),
    ({**one_person(), "images": [{"id": "a"}]}, "entry 0 of the images: the id of an image must be"),
    (one_person(image_id=None), "annotation 1: image_id"),
    (one_person(category_id=[1]), "annotation 1: category_id"),
    (one_person(keypoints=[]), "no annotation has keypoints"),
    (one_person(keypoints=[float("nan")] * 51), "annotation 1 of image 5: keypoints"),
    (one_person(keypoints=[1.0] * 50), "annotation 1 of image 5: keypoints: 50 numbers, 48 are needed"),
    (one_person(bbox=[1, 2]), "annotation 1 of image 5: bbox"),
    (one_person(keypoints=[1.0, 2.0, 2.0] * 7), "7 keypoints per person"),
]


@pytest.mark.parametrize(("truth", "message"), BAD_TRUTH)
def test_bad_ground_truth_is_named(truth: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        evaluate(truth, [])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sigmas": [0.1] * 7}, "7 sigmas for a ground truth with 17"),
        ({"sigmas": [0.1] * 16 + [0]}, "positive"),
        ({"sigmas": [0.1] * 16 + [float("nan")]}, "sigmas"),
        ({"image_ids": [5, 50, 51]}, "2 of the images .* 50"),
        ({"image_ids": []}, "empty"),
        ({"image_ids": ["x"]}, "integer"),
        ({"backend": "slow"}, "unknown backend 'slow'"),
        ({"category_id": 3}, "category 3"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        evaluate(one_person(), [GOOD], **options)


def test_bad_files_are_named(tmp_path: Path) -> None:
    truth, results = tmp_path / "truth.json", tmp_path / "results.json"
    truth.write_text(json.dumps(one_person()))
    with pytest.raises(UserError, match="results.json"):
        evaluate(truth, results)
    with pytest.raises(UserError, match=str(tmp_path)):
        evaluate(tmp_path, [])
    whole = json.dumps([GOOD])
    for content in (whole[: len(whole) // 2], "", "\x00", json.dumps({"a": 1}), whole.replace("0.9", "NaN")):
        results.write_text(content)
        with pytest.raises(UserError, match="results.json"):
            evaluate(truth, results)
    results.write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(UserError, match="results.json"):
        evaluate(truth, results)
    results.write_text(whole)
    assert evaluate(truth, str(results)).stats["AP"] == pytest.approx(1)


def test_sigmas_of_coco_are_the_default() -> None:
    truth, results = drawn(6)
    assert evaluate(truth, results) == evaluate(truth, results, sigmas=COCO_SIGMAS)
    assert evaluate(truth, results).stats != evaluate(truth, results, sigmas=[0.2] * 17).stats


def test_results_records_follow_the_conventions() -> None:
    keypoints = np.array(
        [
            [[10.00049, 20.0, 0.5], [np.nan, -7.0, 0.0], [30.0, 60.0, 0.25]],  # one not found
            [[1.0, 2.0, 0.0], [3.0, 4.0, 0.0], [5.0, 6.0, 0.0]],  # nobody
        ]
    )
    people: dict[int, tuple[np.ndarray, np.ndarray]]
    people = {7: (keypoints, np.array([0.75, 0.5], np.float32)), 3: (np.zeros((0, 3, 3)), np.zeros(0))}
    before = keypoints.copy()
    (record,) = results_json(people, category_id=2)
    assert record == {
        "image_id": 7,
        "category_id": 2,
        "keypoints": [10.0, 20.0, 0.5, 20.0, 40.0, 0.0, 30.0, 60.0, 0.25],
        "score": 0.75,
    }
    np.testing.assert_array_equal(keypoints, before)
    assert json.loads(json.dumps(record)) == record


@pytest.mark.parametrize("place", [(0, 0, 0), (0, 0, 2)])
def test_results_that_are_not_finite_are_refused(place: tuple[int, int, int]) -> None:
    keypoints = np.ones((1, 3, 3))
    keypoints[place] = np.nan
    with pytest.raises(UserError, match="image 7"):
        results_json({7: (keypoints, np.ones(1))})
    with pytest.raises(UserError, match="image 7"):
        results_json({7: (np.ones((1, 3, 3)), np.array([np.inf]))})


def test_results_file_round_trip_is_compact_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "results.json"
    write_results(path, [GOOD])
    assert json.loads(path.read_text()) == [GOOD]
    assert " " not in path.read_text()
    with pytest.raises(ValueError, match="(?i)json"):
        write_results(path, [{"score": float("nan")}])
    assert json.loads(path.read_text()) == [GOOD]
    assert list(path.parent.iterdir()) == [path]
    with pytest.raises(UserError, match="cannot write"):
        write_json(path / "below_a_file.json", {})


@pytest.mark.parametrize("backend", BACKENDS)
def test_people_beyond_cocos_areas_are_said_to_be_ignored(backend: Any) -> None:
    plain = one_person()["annotations"][0]
    truth = {**one_person(), "annotations": [plain, {**plain, "id": 2, "area": 2e10}]}
    scores = evaluate(truth, [as_result(plain)], backend=backend)
    assert (scores.num_used, scores.ignored["area_range"]) == (1, 1)
    assert scores.stats["AP"] == pytest.approx(1)
    assert "1 with an area above COCO's range" in table(scores, {})


@pytest.mark.parametrize("box", [[9, 9, -20, 30], [9, 9, -20, -30], [9, 9, 0, 0]])
def test_a_box_inside_out_gives_nobody_an_area_below_0(box: list[int]) -> None:
    plain = one_person()["annotations"][0]
    truth = {**one_person(), "annotations": [{**without(plain, "area"), "bbox": box}]}
    scores = evaluate(truth, [as_result(plain)])
    assert scores.num_used == 1 and scores.stats["AP"] == 1.0 and not scores.doubtful["area_0"]


@pytest.mark.parametrize("said", [0.5, -3, 1e300, "0.5", None, [3]])
def test_a_num_keypoints_that_is_no_count_is_counted_anew(said: Any) -> None:
    plain = one_person()["annotations"][0]
    truth = {**one_person(), "annotations": [{**plain, "num_keypoints": said}]}
    scores = evaluate(truth, [as_result(plain)])
    assert scores.num_used == scores.repaired["num_keypoints"] == 1
    assert scores.stats["AP"] == 1.0


UNUSUAL: list[dict[str, Any]] = [
    {"score": 1}, {"score": "0.9"}, {"image_id": "5"}, {"image_id": 5.0}, {"category_id": 1.0},
    {"keypoints": np.array(GOOD["keypoints"])}, {"keypoints": tuple(GOOD["keypoints"])},
    {"keypoints": np.reshape(GOOD["keypoints"], (17, 3)).tolist()},
    {"keypoints": [int(value) for value in GOOD["keypoints"]]}, {"score": np.float64(0.9)},
]  # fmt: skip


@pytest.mark.parametrize("changes", UNUSUAL)
def test_results_in_other_types_are_read_as_plain_ones(changes: dict[str, Any]) -> None:
    truth = one_person()
    plain = {**GOOD, "score": 1.0 if changes.get("score") == 1 else 0.9}
    if "keypoints" in changes and isinstance(changes["keypoints"], list) and len(changes["keypoints"]) == 51:
        plain["keypoints"] = [float(value) for value in changes["keypoints"]]
    expected, found = prepare(truth, [GOOD, plain]), prepare(truth, [GOOD, {**plain, **changes}])
    assert found.found == expected.found
    kinds = [type(value) for record in found.found for value in record.values()]
    assert kinds == [type(value) for record in expected.found for value in record.values()]


def test_numbers_that_overflow_are_no_warning(recwarn: pytest.WarningsRecorder) -> None:
    far = [1e200, -1e200, 1.0] * 17
    far[:2] = [-1e200, 1e200]
    evaluate(one_person(), [{**GOOD, "keypoints": far}])
    evaluate(one_person(), [{**GOOD, "bbox": [0, 0, 1e200, 1e200]}])
    assert not [str(one.message) for one in recwarn if issubclass(one.category, RuntimeWarning)]
