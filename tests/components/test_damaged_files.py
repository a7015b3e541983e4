"""Training, scoring and the doctor agree about every file, however it is damaged: on its images and on its
people, and nothing is left out without an issue that counts it."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import math
import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pose.annotations.issues import CODES
from pose.annotations.keypoint_file import KeypointFile
from pose.annotations.mpii import POINTS
from pose.annotations.names import match_keypoints
from pose.annotations.parts import PARTS, part_names
from pose.annotations.reader import read
from pose.annotations.training import Parsed, Reading, parse_file, to_arrays
from pose.doctor.bounds import measure
from pose.doctor.checks import Fault, check, image_faults
from pose.doctor.content import content_of
from pose.doctor.images import check_images
from pose.errors import UserError
from pose.metrics import coco_eval
from pose.metrics.ground_truth import clean_ground_truth
from pose.skeleton import Skeleton

FILES = 1100
AT_ONCE = 100  # files of one test
HEIGHT, WIDTH = 40, 60
NAMES = ("a.png", "b.png", "sub/c.png")
BODY = ("nose", "left_hand", "right_hand")
THREE = Skeleton("three", BODY)
WHOLE = Skeleton("whole", (*BODY, *part_names()))
MPII = Skeleton("mpii", tuple(POINTS))
Json = Any
Place = tuple[str | int, ...]

# issues by which an image's people are not trained on, not scored, or not both
OF_IMAGES = {"image_entry", "image_size", "huge_image", "same_image", "same_image_id"}
# annotations that carry keypoints and are nobody's; those of an absent image are counted by the table, too
OF_ANNOTATIONS = {
    "annotation_entry", "absent_image", "category", "other_category", "keypoint_length", "same_annotation",
}  # fmt: skip


# ------------------------------------------------------------------------------------------- sound files


def person(rng: random.Random, number: int, image: int, count: int, **more: Json) -> Json:
    points: list[float] = []
    for _ in range(count):
        x, y = round(rng.uniform(1, WIDTH - 2), 1), round(rng.uniform(1, HEIGHT - 2), 1)
        points += rng.choice([[x, y, 2], [x, y, 2], [x, y, 1], [0, 0, 0]])
    points[:3] = [rng.randint(1, 50), 8, 2]
    shown = sum(v > 0 for v in points[2::3])
    whole: Json = {
        "id": number, "image_id": image, "category_id": 1, "iscrowd": 0, "keypoints": points,
        "num_keypoints": shown, "bbox": [2, 3, 30, 30], "area": 477.5,
    }  # fmt: skip
    return {**whole, **more}


def plain(rng: random.Random, count: int = len(BODY)) -> Json:
    """Three images; a crowd of each kind, a person without labelled keypoints, and people."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    mask[5:20, 10:30] = 1
    packed = coco_mask.encode(mask)
    text = {"size": [HEIGHT, WIDTH], "counts": packed["counts"].decode()}
    runs = {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH - 100, 100]}
    nobody = {"keypoints": [0] * 3 * count, "num_keypoints": 0}
    images = [
        {"id": i, "file_name": name, "height": HEIGHT, "width": WIDTH} for i, name in enumerate(NAMES, 1)
    ]
    annotations = [person(rng, i, rng.randint(1, 3), count) for i in range(1, 6)]
    annotations += [
        person(rng, 6, 1, count, iscrowd=1, segmentation=text, **nobody),
        person(rng, 7, 2, count, iscrowd=1, segmentation=runs, **nobody),
        person(rng, 8, 2, count, segmentation=[[3, 4, 20, 4, 20, 30]], **nobody),
        person(rng, 9, 3, count, iscrowd=1, **nobody),
    ]
    return {
        "info": {"year": 2024},
        "images": images,
        "annotations": annotations,
        "categories": [
            {"id": 1, "name": "person", "keypoints": list(BODY), "skeleton": [[1, 2], [1, 3]]},
        ],
    }


def sparse(rng: random.Random) -> Json:
    """As little as the format allows, and numbers in other clothes."""
    data = plain(rng)
    for image in data["images"]:
        if rng.random() < 0.5:
            del image["height"], image["width"]
    for annotation in data["annotations"]:
        for key in ("area", "bbox", "num_keypoints", "iscrowd"):
            if rng.random() < 0.4:
                del annotation[key]
        if rng.random() < 0.2:
            annotation["image_id"] = float(annotation["image_id"])
        if rng.random() < 0.2:
            annotation["image_id"] = str(int(annotation["image_id"]))
    return data


def several(rng: random.Random) -> Json:
    """People in two categories with the same keypoints, and boxes of another one."""
    data = plain(rng)
    data["categories"] += [{**data["categories"][0], "id": 2, "name": "child"}, {"id": 3, "name": "dog"}]
    for annotation in data["annotations"]:
        annotation["category_id"] = rng.choice([1, 1, 2])
    for number in (20, 21):
        dog = person(rng, number, 1, len(BODY), category_id=3)
        del dog["keypoints"], dog["num_keypoints"]
        data["annotations"].append(dog)
    return data


def whole_body(rng: random.Random) -> Json:
    data = plain(rng)
    for annotation in data["annotations"]:
        for key, names in PARTS.items():
            shown = rng.random() < 0.3 and not annotation["iscrowd"]
            annotation[key] = [5.5, 6.5, 0.4 if shown else 0] * len(names)
    return data


def mpii_list(rng: random.Random) -> Json:
    return [
        {
            "image": rng.choice(NAMES),
            "joints": [[rng.randint(1, 50), rng.randint(1, 30)] for _ in POINTS],
            "joints_vis": [rng.choice([0, 1, 1]) for _ in POINTS],
            "center": [30, 20],
            "scale": 0.5,
        }
        for _ in range(5)
    ]


KINDS: tuple[tuple[Callable[[random.Random], Json], Skeleton], ...] = (
    (plain, THREE), (plain, THREE), (sparse, THREE), (several, THREE), (whole_body, WHOLE), (mpii_list, MPII),
)  # fmt: skip


# ---------------------------------------------------------------------------------------------- damages

JUNK: tuple[Json, ...] = (
    None, True, False, 0, 1, 2, 3, -1, -7, 1.0, 0.5, 1.5, math.nan, math.inf, -math.inf, 1e10, 1e300, -1e300,
    10**400, 2**31 - 1, 2**31, 2**63, 65536, "", "x", "1", "2.0", "0", "false", "nan", "1e300", "\ud800",
    "a\0b", "x" * 300, [], {}, [[]], [1], [1, 2], ["x"], {"a": 1}, [None] * 3, [math.nan] * 4, [-1] * 4,
    [0, 0, 65536, 65536], {"size": [HEIGHT, WIDTH], "counts": [1, 2]}, {"size": [4, 4], "counts": "o" * 40},
    NAMES[0], "../a.png", "/", ".",
)  # fmt: skip


@dataclass(frozen=True)
class Damage:
    """One change of a file's content."""

    kind: str
    place: Place
    value: Json = None

    def apply(self, data: Json) -> Json:
        """The changed content; the same where there is no such place (another damage took it away)."""
        if not self.place:
            return copy.deepcopy(self.value) if self.kind == "put" else data
        try:
            parent = data
            for key in self.place[:-1]:
                parent = parent[key]
            key = self.place[-1]
            old = parent[key]
            if self.kind == "put":
                parent[key] = copy.deepcopy(self.value)
            elif self.kind == "remove":
                del parent[key]
            elif self.kind == "rename":
                parent[self.value] = parent.pop(key)
            elif self.kind == "repeat":
                parent.insert(self.value, copy.deepcopy(old))
            elif self.kind == "cut":
                parent[key] = old[: self.value]
            elif self.kind == "wrap":
                parent[key] = [old] if self.value else {"x": old}
            elif self.kind == "move":  # to another place of the list
                parent.insert(self.value, parent.pop(key))
        except (LookupError, TypeError, AttributeError):
            pass
        return data


def places(data: Json, here: Place = ()) -> Iterator[Place]:
    yield here
    inside = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in inside:
        yield from places(value, (*here, key))


def damages(rng: random.Random, data: Json) -> list[Damage]:
    """One to four, more of them high up in the file than its lists of numbers are long."""
    by_depth: dict[int, list[Place]] = {}
    for place in places(data):
        by_depth.setdefault(min(len(place), 4), []).append(place)
    weights = {0: 0.01, 1: 0.6, 2: 3, 3: 8, 4: 5}
    depths = rng.choices(
        list(by_depth), [weights[depth] for depth in by_depth], k=rng.choice([1, 1, 2, 3, 4, 8])
    )
    found = []
    for depth in depths:
        place = rng.choice(by_depth[depth])
        kind = rng.choices(
            ["put", "remove", "rename", "repeat", "cut", "wrap", "move", "borrow"], [8, 3, 1, 3, 2, 1, 1, 3]
        )[0]
        value: Json = rng.randint(0, 5)
        if kind == "put":
            value = rng.choice(JUNK)
        elif kind == "rename":
            value = rng.choice(["id", "image_id", "keypoints", "x", "bbox", "foot_kpts", "joints"])
        elif kind == "borrow":  # another value of the same depth: ids and names of others
            kind, value = "put", _value(data, rng.choice(by_depth[depth]))
        found.append(Damage(kind, place, value))
    return found


def _value(data: Json, place: Place) -> Json:
    for key in place:
        data = data[key]
    return copy.deepcopy(data)


def dump(data: Json, cut: int | None) -> bytes:
    text = json.dumps(data).encode()
    return text if cut is None else text[: max(cut, 1)]


# ------------------------------------------------------------------------------------------- agreement


def attempt(work: Callable[[], Any]) -> tuple[Any, str]:
    """The result, or the sentence of a `UserError`.  Any other exception goes through."""
    try:
        return work(), ""
    except UserError as error:
        return None, str(error)


def examine(path: Path, folder: Path, skeleton: Skeleton) -> str:
    """Raises `AssertionError` where training, scoring and the doctor disagree.  Returns what came of it."""
    how = Reading(skeleton, images=folder)
    file, refused = attempt(lambda: read(path))
    parsed, not_trained = attempt(lambda: parse_file(path, how))
    truth, not_scored = attempt(lambda: clean_ground_truth(read(path)))
    if refused:
        assert not_trained and not_scored, f"read refuses: {refused}"
        assert path.name in refused, f"the file is not named: {refused}"
        return "refused"
    check_entries(path, file)
    content, not_examined = attempt(lambda: content_of(file, skeleton, images=folder))
    if content is None:
        nobody = parsed is None or not len(parsed.arrays["areas"])
        assert nobody, f"only the doctor refuses: {not_examined}"
    else:
        file = content.file
        faults = check(content)
        faults += image_faults(content, check_images(content, folder))
        measure(content, faults)
        missing = {issue.code for issue in file.issues} - {fault.kind for fault in faults}
        assert not missing, f"the doctor is silent about {missing}"
        assert np.array_equal(content.file.people, file.people)
        if parsed is not None:
            check_regions(file, how, faults)
    check_training(file, skeleton, parsed, not_trained)
    if truth is None:
        assert path.name in not_scored and not_scored.count("\n") == 0, not_scored
    else:
        check_scoring(file, truth)
    outcome = "trained" if parsed is not None else "not trained"
    return f"{outcome}, {'scored' if truth is not None else 'not scored'}"


def check_entries(path: Path, file: KeypointFile) -> None:
    """Each entry that carries keypoints is somebody's, or an issue lists it."""
    data = json.loads(path.read_bytes())
    if isinstance(data, dict):
        for place, entry in enumerate(data.get("annotations") or ()):
            carries = not isinstance(entry, dict) or entry.get("keypoints") not in (None, [])
            assert not carries or place in file.places, f"annotation entry {place} is lost"
        assert file.num_images == len(data.get("images") or ())
    else:
        assert len(file.ids) == len(data)
    lost = ~(file.people | file.ignored)
    listed = marked(file, OF_ANNOTATIONS, "annotations", len(file.ids))
    assert not (lost & ~listed).any(), f"rows {np.flatnonzero(lost & ~listed)} have no issue"
    left = ~file.images & ~marked(file, OF_IMAGES, "images", file.num_images)
    assert not left.any(), f"images {np.flatnonzero(left)} have no issue"


def marked(file: KeypointFile, codes: set[str], where: str, count: int) -> np.ndarray:
    rows = np.zeros(count, bool)
    for issue in file.issues:
        assert issue.code in CODES
        if issue.code in codes and issue.where == where:
            rows[issue.rows] = True
    return rows


def on_bad_image(file: KeypointFile) -> np.ndarray:
    """(N,) annotations of an image that an issue is about."""
    bad = marked(file, OF_IMAGES, "images", file.num_images)
    return (file.image >= 0) & np.append(bad, False)[file.image]


def check_training(file: KeypointFile, skeleton: Skeleton, parsed: Parsed | None, refused: str) -> None:
    """`file` has the sizes of the images' headers."""
    if parsed is None:
        _, other_names = attempt(lambda: match_keypoints(file, skeleton))
        stops = [issue.code for issue in file.issues if CODES[issue.code].stops]
        usable = file.images & (file.sizes > 0).all(1)
        told = bool(other_names or stops or not file.chosen or not usable.any())
        assert told, f"refused without an issue: {refused}"
        return
    arrays = parsed.arrays
    used = np.isin(np.arange(file.num_images), np.flatnonzero(file.images & (file.sizes > 0).all(1)))
    assert arrays["image_ids"].tolist() == file.image_ids[used].tolist()
    assert np.all(used | marked(file, OF_IMAGES, "images", file.num_images))
    rows = np.flatnonzero(file.people & np.append(used, False)[file.image])
    left = file.people.copy()
    left[rows] = False
    assert not (left & ~on_bad_image(file)).any(), "people are left out without an issue"
    rows = rows[np.argsort(file.image[rows], kind="stable")]
    counts = np.bincount(file.image[rows], minlength=file.num_images)[used]
    assert np.diff(arrays["person_offsets"]).tolist() == counts.tolist()
    trained = arrays["keypoints"]
    assert np.isfinite(trained).all() and np.isfinite(arrays["boxes"]).all() and (arrays["areas"] > 0).all()
    places = [file.names.index(name) for name in skeleton.keypoints if name in file.names]
    if len(places) == len(skeleton):
        assert np.array_equal(trained[..., 2] > 0, file.labelled[rows][:, places])
        seen = trained[..., 2] > 0
        assert np.allclose(trained[..., :2][seen], file.keypoints[rows][:, places][..., :2][seen])


def check_regions(file: KeypointFile, how: Reading, faults: Sequence[Fault]) -> None:
    """Crowds of which nothing can be masked: training's and the doctor's, on images that are trained on."""
    _, issues = to_arrays(file, how, match_keypoints(file, how.skeleton))
    lost = [row for issue in issues if issue.code == "region" for row in issue.rows.tolist()]
    told = [row for fault in faults if fault.kind == "region" for row in fault.rows.tolist()]
    used = file.images & (file.sizes > 0).all(1)
    told = [row for row in told if used[file.image[row]]]
    assert lost == told, f"training cannot mask rows {lost}, the doctor says {told}"


def check_scoring(file: KeypointFile, truth: Any) -> None:
    """Whom pycocotools scores are the people, but for its own rules and for what an issue lists."""
    rows = np.flatnonzero(np.isin(file.category, file.category_ids) & (file.image >= 0))
    assert len(truth.people) == len(rows)
    sigmas = [0.1] * truth.num_keypoints
    results = [
        {key: one[key] for key in ("image_id", "category_id", "keypoints")} | {"score": 0.5}
        for one in truth.people
    ]
    scores = [coco_eval.evaluate(file, results, sigmas=sigmas, backend=b) for b in ("fast", "pycocotools")]  # type: ignore[arg-type]
    for name, value in scores[0].stats.items():
        assert math.isfinite(value) and value == pytest.approx(scores[1].stats[name], abs=1e-9), name
    counted = np.zeros(len(file.ids), bool)
    task = coco_eval.prepare(file, results, sigmas=sigmas)
    counted[rows[whom_coco_counts(task)]] = True
    assert scores[0].num_used == counted.sum(), f"{scores[0].num_used} told, {counted.sum()} counted"
    labelled = file.labelled[:, : file.num_body].any(1)
    more = counted & ~file.people  # COCO's own rules: v above 2 and num_keypoints that are only said
    odd = marked(file, {"visibility", "same_annotation"}, "annotations", len(file.ids)) | on_bad_image(file)
    said = (file.num_keypoints != 0) & ~np.isnan(file.num_keypoints)
    assert not (more & ~odd & ~(said & ~labelled)).any(), f"rows {np.flatnonzero(more)} are nobody"
    fewer = file.people & ~counted
    own = (file.num_keypoints == 0) | (labelled.astype(int) == 0)
    odd = marked(file, {"area_range"}, "annotations", len(file.ids)) | on_bad_image(file)
    assert not (fewer & ~own & ~odd).any(), f"rows {np.flatnonzero(fewer)} are not scored"


def whom_coco_counts(task: coco_eval.Task) -> np.ndarray:
    """Places in the task's targets of the people whom pycocotools itself does not ignore."""
    truth = COCO()
    truth.dataset = {
        "images": [{"id": i} for i in range(1, len(task.image_ids) + 1)],
        "categories": [{"id": i} for i in task.category_ids],
        "annotations": copy.deepcopy(task.targets),
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        run = COCOeval(truth, truth, "keypoints")
    run.params.kpt_oks_sigmas = task.sigmas
    run._prepare()
    everybody = run.params.areaRng[0]
    place = {one["id"]: i for i, one in enumerate(task.targets)}
    return np.array(
        [
            place[one["id"]]
            for people in run._gts.values()
            for one in people
            if not one["ignore"] and everybody[0] <= one["area"] <= everybody[1]
        ],
        np.int64,
    )


# ---------------------------------------------------------------------------------------------- shrinking


def shrunk(data: Json, fails: Callable[[Json], bool]) -> Json:
    """`data` without entries that its failure does not need."""
    again = True
    while again:
        again = False
        for place in sorted(places(data), key=len):
            if not 1 <= len(place) <= 3 or not isinstance(_value(data, place[:-1]), dict | list):
                continue
            try:
                smaller = Damage("remove", place).apply(copy.deepcopy(data))
                if smaller != data and fails(smaller):
                    data, again = smaller, True
                    break
            except (LookupError, TypeError):
                continue
    return data


def failure(data: bytes, folder: Path, skeleton: Skeleton) -> BaseException | None:
    path = folder / "damaged.json"
    path.write_bytes(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            examine(path, folder, skeleton)
    except Exception as error:  # noqa: BLE001 -- whatever it is, it is reported
        return error
    return None


def damaged(seed: int) -> tuple[Json, int | None, Skeleton, Sequence[Damage]]:
    """The content of a damaged file, after how many bytes it ends (None: it is whole), its skeleton."""
    rng = random.Random(seed)
    make, skeleton = KINDS[seed % len(KINDS)]
    data = make(rng)
    changes = damages(rng, data)
    for change in changes:
        data = change.apply(data)
    cut = rng.randrange(4000) if rng.random() < 0.03 else None
    return data, cut, skeleton, changes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The images."""
    path = tmp_path_factory.mktemp("images")
    write_images(path)
    return path


def write_images(folder: Path) -> None:
    for name in NAMES:
        (folder / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (WIDTH, HEIGHT)).save(folder / name)


def fails_alike(kind: type[BaseException], folder: Path, skeleton: Skeleton, data: Json) -> bool:
    return type(failure(dump(data, None), folder, skeleton)) is kind


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, FILES, AT_ONCE))
def test_three_policies_agree_about_damaged_files(folder: Path, first: int) -> None:
    for seed in range(first, first + AT_ONCE):
        data, cut, skeleton, changes = damaged(seed)
        error = failure(dump(data, cut), folder, skeleton)
        if error is None:
            continue
        if cut is None:
            data = shrunk(data, partial(fails_alike, type(error), folder, skeleton))
            error = failure(dump(data, cut), folder, skeleton)
        changed = ", ".join(f"{one.kind} {one.place} {one.value!r:.40}" for one in changes)
        pytest.fail(f"seed {seed} ({changed}): {type(error).__name__}: {error}\n{dump(data, cut)[:3000]!r}")
