"""python -m pose.tools.mpii: MPII's MATLAB file to COCO's format; people cut out and trained on."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from pose import test as test_command
from pose.annotations.annotations import load_annotations
from pose.annotations.mpii import POINTS, MpiiPerson
from pose.annotations.mpii_coco import Crop, plan_crop
from pose.annotations.regions import BOX_TO_AREA
from pose.annotations.skeletons import read_skeleton
from pose.errors import user_facing
from pose.tools import mpii, score
from tests.training_fixtures import command

EMPTY = np.zeros((0, 0))  # what MATLAB has where nothing is
ORDER = [
    "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "right_wrist",
    "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist", "neck", "head_top",
]  # fmt: skip
# a person 1 unit tall round its middle, in the order of MPII's ids
BODY = np.array([
    (-0.10, 0.47), (-0.09, 0.25), (-0.07, 0.02), (0.07, 0.02), (0.09, 0.25), (0.10, 0.47), (0.0, 0.0),
    (0.0, -0.25), (0.0, -0.34), (0.0, -0.48), (-0.20, 0.02), (-0.18, -0.14), (-0.12, -0.28), (0.12, -0.28),
    (0.18, -0.14), (0.20, 0.02),
])  # fmt: skip


# ---- the official nesting: everything is an array of at least two dimensions ----


def structs(*entries: dict[str, Any]) -> np.ndarray:
    """A 1 x n array of structures; a field that an entry lacks is empty."""
    names = dict.fromkeys(name for entry in entries for name in entry)
    array = np.empty((1, len(entries)), [(name, object) for name in names])
    for i, entry in enumerate(entries):
        for name in names:
            array[0, i][name] = entry.get(name, EMPTY)
    return array


def point(kind: int, x: float, y: float, *visible: Any) -> dict[str, Any]:
    """Without `visible` the field is not there at all."""
    return {"x": x, "y": y, "id": kind, **({"is_visible": visible[0]} if visible else {})}


def body(middle: tuple[float, float], height: float, *, visible: Any = "1") -> list[dict[str, Any]]:
    """All 16 points of a person, in MATLAB's pixels."""
    places = BODY * height + middle + 1
    return [point(k, x, y, visible) for k, (x, y) in enumerate(places.round(2).tolist())]


def place(x: float, y: float, scale: float) -> dict[str, Any]:
    return {"objpos": structs({"x": x + 1, "y": y + 1}), "scale": scale}


def head(middle: tuple[float, float], height: float) -> dict[str, Any]:
    """A box by which the person is as tall as that."""
    side = height / 8 / 0.6 / np.sqrt(2)
    x, y = middle[0] + 1 - side / 2, middle[1] + 1 - 0.41 * height - side / 2
    return {"x1": x, "y1": y, "x2": x + side, "y2": y + side}


def points(listed: list[dict[str, Any]]) -> dict[str, Any]:
    return {"annopoints": structs({"point": structs(*listed)})}


def image(name: str, *people: dict[str, Any]) -> dict[str, Any]:
    rectangles = structs(*people) if people else EMPTY
    return {"image": structs({"name": name}), "annorect": rectangles, "vididx": EMPTY}


def write_mat(path: Path, images: list[dict[str, Any]], train: list[int], separate: list[Any]) -> Path:
    cells = np.empty((len(images), 1), object)
    for i in range(len(images)):
        chosen = separate[i] if i < len(separate) else []
        cells[i, 0] = np.array(chosen, np.uint8).reshape(-1, 1) if chosen else EMPTY
    release = structs(
        {
            "annolist": structs(*images),
            "img_train": np.array([train], np.uint8),
            "version": "12",
            "single_person": cells,
        }
    )
    savemat(path, {"RELEASE": release}, do_compression=True)
    return path


# ---- a file with everything that is awkward in MPII's ----

FIRST, SECOND = (100.0, 90.0), (240.0, 95.0)
MIXED = [
    point(0, 81.0, 161.0, "1"),
    point(1, 82.0, 126.25, "0"),
    point(2, 89.0, 94.0, 1),
    point(3, 111.0, 94.0, 0),
    point(6, 101.0, 91.0, EMPTY),  # no slot
    point(8, 101.0, 40.0, EMPTY),
    point(9, 101.0, 17.0),
    point(15, -3.0, 94.0, "1"),  # beyond the picture
    point(15, 7.0, 7.0, "1"),  # once more
    point(16, 5.0, 5.0, "1"),
    {"x": EMPTY, "y": 5.0, "id": 4, "is_visible": "1"},
]


def awkward() -> tuple[list[dict[str, Any]], list[int], list[Any]]:
    images = [
        image("a.jpg", points(MIXED) | place(*FIRST, 0.75), place(*SECOND, 0.5), {"scale": EMPTY}),
        image("test.jpg", place(50, 60, 1.0)),
        image("empty.jpg"),
        image("b.jpg", points([point(13, 31, 41), point(14, 61, 61)])),  # neither place nor head
        image("unannotated.jpg", place(50, 60, 1.0)),
        image("c.jpg", points(body(SECOND, 150)) | place(*SECOND, 0.75)),
        image("", points(body(SECOND, 150))),
        image("a.jpg", points(body(SECOND, 150))),
    ]
    return images, [1, 0, 1, 1, 1, 1, 1, 1], [[1], [], [], [1, 2], [1], [1], [], []]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """mpii.mat and images/."""
    write_mat(tmp_path / "mpii.mat", *awkward())
    (tmp_path / "images").mkdir()
    for name in ("a", "b", "c", "test", "empty", "unannotated"):
        Image.new("RGB", (320, 180), (90, 120, 60)).save(tmp_path / "images" / f"{name}.jpg")
    return tmp_path


def run(*arguments: Any) -> int:
    return user_facing(lambda: mpii.main([str(a) for a in arguments]))()


def convert(folder: Path, *options: Any) -> int:
    source, images = folder / "mpii.mat", folder / "images"
    return run("to-coco", source, "--images", images, "-o", folder / "out" / "train.json", *options)


def content(path: Path) -> Any:
    return json.loads(path.read_text())


def test_values_one_by_one(
    folder: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert convert(folder) == 0
    coco = content(folder / "out" / "train.json")
    size = {"width": 320, "height": 180}
    assert coco["images"] == [
        {"id": 1, "file_name": "a.jpg", **size},
        {"id": 4, "file_name": "b.jpg", **size},
        {"id": 6, "file_name": "c.jpg", **size},
    ]
    assert coco["categories"][0]["keypoints"] == ORDER
    first, second, third, fourth = coco["annotations"]
    wanted = dict.fromkeys(ORDER, [0, 0, 0]) | {
        "right_ankle": [80, 160, 2],
        "right_knee": [81, 125.25, 1],
        "right_hip": [88, 93, 2],
        "left_hip": [110, 93, 1],
        "neck": [100, 39, 2],
        "head_top": [100, 16, 2],
        "left_wrist": [-4, 93, 2],
    }
    assert np.reshape(first["keypoints"], (14, 3)).tolist() == [*wanted.values()]
    assert [one["num_keypoints"] for one in coco["annotations"]] == [7, 0, 2, 14]
    assert [(one["image_id"], one["person"]) for one in coco["annotations"]] == [
        (1, 1),
        (1, 2),
        (4, 1),
        (6, 1),
    ]
    # a square of 150 px round (100, 90), one of 100 px round (240, 95); the rectangle round two points, whose
    # longer side is 30; a square that the picture cuts off
    assert first["bbox"] == [25, 15, 150, 150] and first["area"] == pytest.approx(BOX_TO_AREA * 150 * 150)
    assert second["bbox"] == [190, 45, 100, 100] and not any(second["keypoints"])
    assert third["bbox"] == [27, 37, 36, 26]
    assert fourth["bbox"] == [165, 20, 150, 150]
    assert "3 images, 3 people with 23 labelled keypoints, 1 without" in capsys.readouterr().out
    for told in (
        "1 image(s) without a file name",
        "1 image(s) whose file another has",
        "2 point(s) without",
        "1 point(s) of a kind",
        "1 person(s) with neither points",
        "1 image(s) whose single_person",
    ):
        assert told in caplog.text


def test_the_training_pipeline_reads_the_file(folder: Path) -> None:
    convert(folder, "--split", "all")
    path = folder / "out" / "train.json"
    annotations = load_annotations(path, read_skeleton(path), strict=True, cache=False)
    assert annotations.image_ids.tolist() == [1, 2, 4, 6] and annotations.num_people == 3
    assert annotations.size(0) == (180, 320)
    ignored = annotations.ignore_mask(0)
    assert (
        ignored is not None and ignored[95, 240] and not ignored[90, 100]
    )  # nobody knows that person's pose


def test_a_body_keeps_left_and_right(folder: Path) -> None:
    convert(folder)
    keypoints = np.reshape(content(folder / "out" / "train.json")["annotations"][-1]["keypoints"], (14, 3))
    for k, name in enumerate(ORDER):
        assert keypoints[k, :2] == pytest.approx(BODY[POINTS.index(name)] * 150 + SECOND, abs=0.01)


def test_test_images_only_where_asked_for(folder: Path) -> None:
    convert(folder, "--split", "all")
    coco = content(folder / "out" / "train.json")
    assert [one["id"] for one in coco["images"]] == [1, 2, 4, 6]
    test = [one for one in coco["annotations"] if one["image_id"] == 2]
    assert [(one["bbox"], one["num_keypoints"]) for one in test] == [([0, 0, 150, 160], 0)]


def test_every_nth_training_image_is_held_out(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def held(*options: str) -> tuple[list[int], list[int]]:
        assert convert(folder, *options) == 0
        files = [content(folder / "out" / name) for name in ("train.json", "train-val.json")]
        ids = [[one["id"] for one in coco["images"]] for coco in files]
        for coco, own in zip(files, ids):
            assert {one["image_id"] for one in coco["annotations"]} == {*own}
        return ids[0], ids[1]

    assert held("--hold-out", "2") == ([1, 6], [4])
    assert held("--hold-out", "3", "--split", "all") == ([1, 2, 4], [6])
    (folder / "images" / "a.jpg").unlink()
    assert held("--hold-out", "3", "--skip-missing") == ([4], [6])
    assert convert(folder, "--hold-out", "1") == 2
    assert "expected 2 or more" in capsys.readouterr().err
    assert convert(folder, "--hold-out", "4") == 2
    assert "only 3 training images" in capsys.readouterr().err


def test_missing_and_damaged_pictures(
    folder: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    images = folder / "images"
    (images / "a.jpg").unlink()
    whole = (images / "c.jpg").read_bytes()
    (images / "c.jpg").write_bytes(whole[: len(whole) // 2])
    assert convert(folder) == 2 and not (folder / "out").exists()
    error = capsys.readouterr().err
    assert "2 of 3 pictures" in error and "no a.jpg; c.jpg is cut off" in error and "--skip-missing" in error
    assert convert(folder, "--skip-missing") == 0 and "2 of 3 pictures" in caplog.text
    assert [one["id"] for one in content(folder / "out" / "train.json")["images"]] == [4]


def test_a_picture_that_breaks_while_it_is_decoded(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its first bytes are fine."""
    read = mpii.read_image

    def breaking(path: Path, **options: Any) -> np.ndarray:
        if path.name == "a.jpg":
            raise mpii.UnreadableImage("broken")
        return read(path, **options)

    monkeypatch.setattr(mpii, "read_image", breaking)
    assert convert(folder, "--crops", folder / "crops") == 2
    assert "a.jpg is damaged" in capsys.readouterr().err
    assert convert(folder, "--crops", folder / "crops", "--skip-missing") == 0
    assert [one["id"] for one in content(folder / "out" / "train.json")["images"]] == [4, 6]
    crops = content(folder / "crops" / "train.json")["images"]
    assert [one["file_name"] for one in crops] == ["c_1.jpg"]


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda path: None, "no file"),
        (lambda path: path.write_bytes(b"no matlab file " * 20), "is no MATLAB file or was cut off"),
        (lambda path: path.write_bytes(b""), "is no MATLAB file or was cut off"),
        (lambda path: cut(write_mat(path, *awkward()), 0.7), "is no MATLAB file or was cut off"),
        (lambda path: path.write_bytes(b"MATLAB 7.3".ljust(124) + b"\x00\x02IM" + bytes(400)), "7.3"),
        (lambda path: savemat(path, {"dataset": np.eye(3)}), "it has no RELEASE"),
        (lambda path: savemat(path, {"RELEASE": np.eye(3)}), "it has no RELEASE"),
        (lambda path: savemat(path, {"RELEASE": {"annolist": EMPTY, "img_train": EMPTY}}), "lacks annolist"),
        (lambda path: write_mat(path, awkward()[0], [1, 1], []), "lacks annolist"),
        (lambda path: write_mat(path, [image("a.jpg"), image("b.jpg")], [1, 1], []), "no training image"),
    ],
)  # fmt: skip
def test_files_of_another_kind(
    folder: Path, make: Any, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "mpii.mat").unlink()
    make(folder / "mpii.mat")
    assert convert(folder) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1 and not (folder / "out").exists()


def cut(path: Path, share: float) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])


def test_one_image_and_one_person(folder: Path) -> None:
    """MATLAB keeps no difference between one structure and a list of one."""
    write_mat(
        folder / "mpii.mat", [image("a.jpg", points(body(FIRST, 90)) | place(*FIRST, 0.45))], [1], [[1]]
    )
    assert convert(folder, "--crops", folder / "crops") == 0
    assert len(content(folder / "out" / "train.json")["annotations"]) == 1
    assert len(content(folder / "crops" / "train.json")["images"]) == 1


def test_no_file_is_written_over_what_is_read(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, images = folder / "mpii.mat", folder / "images"
    before = source.read_bytes()
    assert run("to-coco", source, "--images", images, "-o", source) == 2
    assert run("to-coco", source, "--images", images, "-o", folder / "x.json", "--crops", folder) == 2
    assert capsys.readouterr().err.count("named twice") == 2
    assert convert(folder, "--crops", images) == 2
    assert "the folder of --images" in capsys.readouterr().err
    assert convert(folder, "--everyone") == 2
    assert "give --crops" in capsys.readouterr().err
    assert source.read_bytes() == before and len([*images.iterdir()]) == 6


def test_help_shows_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["to-coco"]):
        with pytest.raises(SystemExit) as stopped:
            mpii.main([*words, "-h"])
        example = capsys.readouterr().out.split("example")[1]
        assert stopped.value.code == 0 and "python -m pose.tools.mpii" in example


# ---- single people ----

COLORS = np.random.default_rng(5).integers(0, 256, (16, 3))


def draw(path: Path, people: list[tuple[tuple[float, float], float]], size: tuple[int, int]) -> None:
    """Every point is a disc of its kind's colour."""
    canvas = np.full((*size, 3), 128, np.uint8)
    for middle, height in people:
        for k, (x, y) in enumerate((BODY * height + middle).tolist()):
            center = (round(x * 16), round(y * 16))
            cv2.circle(canvas, center, round(height / 2), COLORS[k].tolist(), -1, cv2.LINE_AA, 4)
    Image.fromarray(canvas).save(path, quality=98)


def person(middle: tuple[float, float], height: float, **changes: Any) -> dict[str, Any]:
    """Drawn by `draw`, with a head's box by which it is that tall; the scale says another height."""
    return points(body(middle, height)) | head(middle, height) | place(*middle, height / 160) | changes


def crops_folder(folder: Path, *options: Any) -> Path:
    """Of four pictures: a small person and a tall one, two beside each other, a pair that is too near."""
    cases: dict[str, list[tuple[tuple[float, float], float]]] = {
        "small": [((150.0, 100.0), 130.0)],
        "tall": [((300.0, 450.0), 800.0)],
        "beside": [((150.0, 150.0), 200.0), ((300.0, 150.0), 180.0)],
        "near": [((150.0, 150.0), 200.0), ((180.0, 150.0), 200.0)],
    }
    sizes = {"small": (240, 320), "tall": (900, 600), "beside": (300, 400), "near": (300, 400)}
    for name, people in cases.items():
        draw(folder / "images" / f"{name}.jpg", people, sizes[name])
    images = [image(f"{name}.jpg", *(person(*one) for one in people)) for name, people in cases.items()]
    write_mat(folder / "mpii.mat", images, [1] * 4, [[1], [1], [1, 2], []])
    assert convert(folder, "--crops", folder / "crops", *options) == 0
    return folder / "crops"


def test_people_are_cut_out_with_their_labels(folder: Path) -> None:
    crops = crops_folder(folder)
    coco = content(crops / "train.json")
    assert [one["file_name"] for one in coco["images"]] == [
        "small_1.jpg", "tall_1.jpg", "beside_1.jpg", "beside_2.jpg"
    ]  # fmt: skip
    assert [one["image_id"] for one in coco["annotations"]] == [one["id"] for one in coco["images"]]
    for entry, label in zip(coco["images"], coco["annotations"], strict=True):
        pixels = np.asarray(Image.open(crops / entry["file_name"])).astype(int)
        assert pixels.shape == (entry["height"], entry["width"], 3)
        keypoints = np.reshape(label["keypoints"], (14, 3))
        assert (keypoints[:, 2] == 2).all() and label["num_keypoints"] == 14
        extent = np.ptp(keypoints[:, :2], axis=0)
        assert extent == pytest.approx([160, 380], abs=0.5)  # 0.4 and 0.95 of 400 px
        for (x, y), k in zip(keypoints[:, :2].round().astype(int), map(POINTS.index, ORDER), strict=True):
            assert np.abs(pixels[y, x] - COLORS[k]).max() < 60, (entry, POINTS[k])
        x, y, width, height = label["bbox"]
        assert x >= 0 and y >= 0 and x + width <= entry["width"] and y + height <= entry["height"]
        assert label["area"] == pytest.approx(BOX_TO_AREA * width * height)


def test_crops_say_where_they_are_from(folder: Path) -> None:
    crops = content(crops_folder(folder) / "train.json")
    whole = content(folder / "out" / "train.json")
    keypoints = {(one["image_id"], one["person"]): one["keypoints"] for one in whole["annotations"]}
    for entry, label in zip(crops["images"], crops["annotations"], strict=True):
        origin = entry["crop"]
        found = np.reshape(label["keypoints"], (14, 3))[:, :2]
        back = (found + [origin["left"], origin["top"]] + 0.5) / origin["factor"] - 0.5
        wanted = np.reshape(keypoints[origin["id"], origin["person"]], (14, 3))[:, :2]
        assert np.abs(back - wanted).max() < 0.01


def test_the_rest_of_the_people_are_cut_out_for_training_only(folder: Path) -> None:
    crops = crops_folder(folder, "--everyone", "--hold-out", "3")
    train, held = (content(crops / f"train{end}.json")["images"] for end in ("", "-val"))
    assert [one["file_name"] for one in train] == ["small_1.jpg", "tall_1.jpg", "near_1.jpg", "near_2.jpg"]
    assert [one["file_name"] for one in held] == ["beside_1.jpg", "beside_2.jpg"]


def test_margins() -> None:
    def crop(separate: bool, *others: float, middle: tuple[float, float] = (1000, 1000)) -> Crop:
        """Of someone 800 px tall, with others 800 px tall at these places."""
        people = [mpii_person(middle, 800, separate), *(mpii_person((x, 1000), 800, True) for x in others)]
        planned = plan_crop(people[0], people[1:], (2000, 2000))
        assert isinstance(planned, Crop)
        return planned

    first = np.floor((np.array([1000 - 160, 1000 - 384]) + 0.5) / 2 - 0.5)
    last = np.ceil((np.array([1000 + 160, 1000 + 376]) + 0.5) / 2 - 0.5)
    for separate, margin in ((True, 130), (False, 65)):
        planned = crop(separate)
        assert planned.factor == pytest.approx(0.5)
        assert [planned.left, planned.top] == (first - margin).tolist()
        assert [*reversed(planned.size)] == (last - first + 1 + 2 * margin).tolist()
    near = crop(True, 580, 1420)  # their points end at x = 740 and begin at 1260
    assert (near.left, near.size[1]) == (390, 610 - 390 + 1)
    assert near.top == crop(True).top and near.size[0] == crop(True).size[0]
    assert crop(False, 580, 1420).left == crop(False).left  # only those who are far enough are set apart
    touching = crop(True, 670, 1330)
    assert (touching.left, touching.size[1]) == (first[0], last[0] - first[0] + 1)  # own points stay
    corner = crop(True, middle=(170, 400))
    assert (corner.left, corner.top) == (0, 0)
    assert crop(True, middle=(1900, 1900)).left + crop(True, middle=(1900, 1900)).size[1] == 1000


def mpii_person(middle: tuple[float, float], tall: float, separate: bool, **changes: Any) -> MpiiPerson:
    given = np.column_stack([BODY * tall + middle, np.full(16, 2)])
    values = {"number": 1, "points": given, "head": None, "place": middle, "height": tall}
    return MpiiPerson(**{**values, "separate": separate, **changes})


def test_the_height_is_that_of_the_head_else_of_the_scale() -> None:
    side = 100 / np.sqrt(2)  # a diagonal of 100 is a head of 60, a person of 480
    for head_box, height in (((0, 0, side, side), 480), (None, 800)):
        planned = plan_crop(mpii_person((500, 500), 800, True, head=head_box), [], (1000, 1000))
        assert isinstance(planned, Crop) and planned.factor == pytest.approx(400 / height)


@pytest.mark.parametrize(
    ("changes", "middle", "kind"),
    [
        ({"height": None}, (500, 500), "no height"),
        ({"head": (0, 0, 3, 3)}, (500, 500), "extent"),
        ({}, (-500, 500), "outside"),
    ],
)
def test_who_cannot_be_cut_out(changes: dict[str, Any], middle: tuple[float, float], kind: str) -> None:
    assert plan_crop(mpii_person(middle, 800, True, **changes), [], (1000, 1000)) == kind


def test_who_cannot_be_cut_out_is_told(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert convert(folder, "--crops", folder / "crops") == 0  # b.jpg has neither head nor scale
    assert "1 person(s) without a head's box and scale, not cut out (first: b.jpg, person 1)" in caplog.text
    assert [one["file_name"] for one in content(folder / "crops" / "train.json")["images"]] == [
        "a_1.jpg", "c_1.jpg"
    ]  # fmt: skip


# ---- training ----

TINY = [
    "data.workers=0", "data.augment.whole_scale=[0.2, 0.25]", "data.augment.whole_multiple=32",
    "input.size=[160, 160]", "backbone.pretrained=null", "backbone.blocks=[1, 1, 2, 1]", "backbone.width=8",
    "backbone.batch_norm=train", "head.radius=5", "train.batch_size=2", "train.epochs=2",
    "train.steps_per_epoch=4", "train.validate_every=2", "train.schedule.rates=[[0, 0.01]]",
]  # fmt: skip


@pytest.mark.slow
def test_from_the_matlab_file_to_a_table_of_pck(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The config that comes with the project, smaller."""
    crops_folder(folder, "--everyone", "--hold-out", "3")
    (folder / "crops").rename(folder / "out" / "crops")
    monkeypatch.chdir(folder)
    recipe = ["--config", "mpii/deepercut_resnet101.yaml", "--device", "cpu"]
    assert command(monkeypatch, "-e", "single", *recipe, f"data.root={folder / 'out'}", *TINY) == 0
    monkeypatch.setattr(sys, "argv", ["pose.test", "-c", "single", "--device", "cpu"])
    assert user_facing(test_command.main)() == 0
    results = folder / "exp" / "single" / "results-single.json"
    assert [one["image_id"] for one in content(results)] == [1, 2]  # one person each
    capsys.readouterr()
    truth = folder / "out" / "crops" / "train-val.json"
    score.main(["pck", "--annotations", str(truth), "--results", str(results)])
    table = capsys.readouterr().out
    for name in ORDER:
        assert f"PCK@0.2 {name} " in table
    assert "2 results, of which 2 are compared with 2 people in 2 images" in table
