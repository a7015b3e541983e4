"""Files -> training samples."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from pydantic import ValidationError

from pose import geometry
from pose.annotations.annotations import load_annotations
from pose.data.augment import AugmentSettings, draw_color, no_augmentation
from pose.data.dataset import KeypointDataset, load_training_set
from pose.data.loader import TrainStream, train_loader
from pose.data.selection import training_indices, validation_images
from pose.data.settings import DataSettings, SetSettings, SkeletonSettings, resolve_skeleton, set_files
from pose.data.warps import draw_affine, draw_person_affine
from pose.errors import UserError
from pose.images import UnreadableImage, read_image
from pose.skeleton import Derived, Skeleton, to_dict
from pose.structures import InputSettings

SKELETON = Skeleton("five", ("nose", "left_eye", "right_eye", "left_hand", "right_hand"))
SIZES = [(120, 160), (150, 100), (128, 128)]  # height, width of pictures 1, 2, 3
FILES = SetSettings(annotations="people.json", images="images")


@pytest.fixture(autouse=True)
def own_user_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user_cache"))


def draw_dots(size: tuple[int, int], keypoints: np.ndarray) -> np.ndarray:
    """Soft dots on black; keypoint k of every person has its own grey, none below 100."""
    y, x = np.mgrid[: size[0], : size[1]]
    image = np.zeros(size)
    for px, py, v in keypoints.reshape(-1, 3):
        if v:
            image = np.maximum(image, 250 * np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * 3.0**2)))
    return np.repeat(image.astype(np.uint8)[..., None], 3, 2)


def people_of(picture: int) -> np.ndarray:
    """(1, 5, 3): far enough apart to be found one by one; the last keypoint is not labelled."""
    height, width = SIZES[picture]
    rng = np.random.default_rng(picture)
    places = np.array([[0.2, 0.2], [0.8, 0.25], [0.25, 0.8], [0.75, 0.75], [0, 0]]) * [width, height]
    v = np.array([2, 1, 2, 2, 0])
    return np.column_stack([places + rng.uniform(-4, 4, (5, 2)), v])[None]


def make(folder: Path, **more: Any) -> DataSettings:
    """Three pictures with a person each, a fourth and a fifth without people."""
    (folder / "images").mkdir(exist_ok=True)
    images, annotations = [], []
    for i in range(5):
        size = SIZES[i % 3]
        name = f"{i + 1}.png"
        keypoints = people_of(i) if i < 3 else np.zeros((0, 5, 3))
        cv2.imwrite(str(folder / "images" / name), draw_dots(size, keypoints))
        images.append({"id": i + 1, "file_name": name, "height": size[0], "width": size[1]})
        person = {"id": 10 * i, "image_id": i + 1, "category_id": 1, "area": 400.0, "bbox": [1, 1, 20, 20]}
        annotations += [{**person, "keypoints": points.ravel().tolist()} for points in keypoints]
    category = {"id": 1, "name": "person", "keypoints": list(SKELETON.keypoints)}
    data = {"images": images, "annotations": annotations, "categories": [category]}
    (folder / "people.json").write_text(json.dumps(data))
    return DataSettings(root=str(folder), **{"train": FILES, "val": FILES, **more})


def edit(folder: Path, change: Any) -> None:
    data = json.loads((folder / "people.json").read_text())
    change(data)
    (folder / "people.json").write_text(json.dumps(data))


def open_set(
    settings: DataSettings, size: tuple[int, int] = (128, 128), skeleton: Skeleton = SKELETON, **more: Any
) -> KeypointDataset:
    files, seen = set_files(settings, "train"), InputSettings(size=size, **more)
    return load_training_set(settings, files, seen, skeleton, seed=7)


def dot_near(image: torch.Tensor, x: float, y: float, reach: int = 6) -> tuple[float, float]:
    """Centre of mass of the dot around (x, y)."""
    grey = image[0].double().numpy()
    column, row = round(x), round(y)
    part = grey[row - reach : row + reach + 1, column - reach : column + reach + 1]
    ys, xs = np.mgrid[row - reach : row + reach + 1, column - reach : column + reach + 1]
    return float((part * xs).sum() / part.sum()), float((part * ys).sum() / part.sum())


# ------------------------------------------------------------------------------------------------- samples


@pytest.mark.parametrize("size", [(128, 128), (96, 160)])
def test_keypoints_lie_on_their_dots(tmp_path: Path, size: tuple[int, int]) -> None:
    dataset = open_set(make(tmp_path), size)
    found = 0
    for position in range(60):
        sample = dataset[position % 3, position].sample
        for x, y, v in sample.keypoints[0].tolist():
            inside = 8 < x < size[1] - 9 and 8 < y < size[0] - 9
            if v and inside:
                dot = dot_near(sample.image, x, y)
                assert np.hypot(dot[0] - x, dot[1] - y) < 0.6
                found += 1
    assert found > 100


def test_flip_swaps_left_and_right(tmp_path: Path) -> None:
    """A mirrored sample is the mirror image of the unmirrored one, with left and right exchanged."""
    settings = make(tmp_path)
    plain = open_set(settings.model_copy(update={"augment": AugmentSettings(flip=0.0)}))
    mirrored = open_set(settings.model_copy(update={"augment": AugmentSettings(flip=1.0)}))
    for position in range(6):
        a, b = plain[position % 3, position].sample, mirrored[position % 3, position].sample
        assert (a.image.flip(-1).int() - b.image.int()).abs().max() <= 2  # the warp's fixed-point weights
        back = b.keypoints[:, list(SKELETON.flip_index)]
        v = a.keypoints[..., 2]
        assert torch.equal(back[..., 2], v)
        expected = geometry.mirror_x(a.keypoints[..., 0], 128)
        torch.testing.assert_close(back[..., 0][v > 0], expected[v > 0], atol=1e-3, rtol=0)
        torch.testing.assert_close(back[..., 1], a.keypoints[..., 1], atol=1e-3, rtol=0)
    assert SKELETON.keypoints[SKELETON.flip_index[1]] == "right_eye"


def test_without_augmentation_the_picture_is_itself(tmp_path: Path) -> None:
    dataset = open_set(make(tmp_path, augment=no_augmentation()))
    sample = dataset[2, 0].sample  # 128 x 128 like the input
    image = read_image(tmp_path / "images" / "3.png")
    assert np.array_equal(sample.image.permute(1, 2, 0).numpy(), image)
    expected = people_of(2).astype(np.float32)
    expected[expected[..., 2] == 0] = 0
    np.testing.assert_allclose(sample.keypoints, expected, atol=1e-4)
    assert sample.areas.tolist() == [400.0] and sample.color.tolist() == [0, 1, 0, 1]
    assert sample.loss_mask.all() and sample.image_id.item() == 3


def test_shapes_and_types(tmp_path: Path) -> None:
    for index, people in [(0, 1), (4, 0)]:
        sample, unreadable = open_set(make(tmp_path), (96, 160))[index, 5]
        assert unreadable is None
        assert sample.image.shape == (3, 96, 160) and sample.image.dtype == torch.uint8
        assert sample.loss_mask.shape == (96, 160) and sample.loss_mask.dtype == torch.bool
        assert sample.keypoints.shape == (people, 5, 3) and sample.keypoints.dtype == torch.float32
        assert sample.areas.shape == (people,) and sample.areas.dtype == torch.float32
        assert sample.color.shape == (4,) and sample.color.dtype == torch.float32
        assert sample.image_id.shape == () and sample.image_id.dtype == torch.int64


def test_areas_scale_with_the_picture(tmp_path: Path) -> None:
    settings = make(tmp_path)
    dataset = open_set(settings)
    matrix, _ = draw_affine(np.random.default_rng([7, 11]), settings.augment, SIZES[1], (128, 128))
    scale = np.sqrt(abs(np.linalg.det(matrix[:, :2])))
    np.testing.assert_allclose(dataset[1, 11].sample.areas, [400 * scale**2], rtol=1e-5)


def test_the_first_people_are_kept(tmp_path: Path) -> None:
    settings = make(tmp_path, max_people=2, augment=no_augmentation())

    def crowd(data: Any) -> None:
        first = data["annotations"][0]
        data["annotations"] += [
            {**first, "id": 100 + i, "keypoints": [10 + i, 20, 2] + [0] * 12} for i in range(4)
        ]

    edit(tmp_path, crowd)
    sample = open_set(settings)[0, 0].sample
    assert len(sample.keypoints) == 2 and sample.keypoints[1, 0, 2] == 2 and len(sample.areas) == 2


def test_keypoints_outside_the_input_keep_their_visibility(tmp_path: Path) -> None:
    augment = no_augmentation().model_copy(update={"scale": (0.4, 0.4)})
    sample = open_set(make(tmp_path, augment=augment))[0, 0].sample
    outside = ((sample.keypoints[..., :2] < 0) | (sample.keypoints[..., :2] > 127)).any(-1)
    assert sample.keypoints[0, :, 2].tolist() == [2, 1, 2, 2, 0] and outside[0, :4].all()


def test_the_same_position_gives_the_same_sample_and_another_seed_another(tmp_path: Path) -> None:
    settings = make(tmp_path)
    one, same, other = open_set(settings), open_set(settings), open_set(settings)
    other.seed = 8
    for a, b in zip(one[0, 3].sample, same[0, 3].sample, strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(one[0, 3].sample.keypoints, other[0, 3].sample.keypoints)
    assert not torch.equal(one[0, 3].sample.keypoints, one[0, 4].sample.keypoints)


@pytest.mark.parametrize("color", [(0, 0, 0), (124, 116, 104)])
def test_what_lies_outside_the_picture_has_the_pad_value(tmp_path: Path, color: tuple[int, int, int]) -> None:
    """Red, green, blue; and the loss counts there."""
    settings = make(tmp_path)
    still = settings.model_copy(update={"augment": no_augmentation()})
    sample = open_set(still, pad_value=color)[0, 0].sample
    for row in (0, 10, 117, 127):  # the picture is 160 x 120
        assert (sample.image[:, row] == torch.tensor(color)[:, None]).all()
    assert sample.loss_mask.all()
    one, other = open_set(settings), open_set(settings, pad_value=color)
    for position in range(5):
        plain, padded = one[0, position].sample, other[0, position].sample
        changed = (plain.image != padded.image).any(0)
        assert torch.equal(plain.keypoints, padded.keypoints)
        assert changed.any() == any(color) and not (changed & (plain.image > 60).any(0)).any()


def test_derived_keypoints_are_mirrored_and_moved_like_others(tmp_path: Path) -> None:
    names = ("middle", "left_eye", "right_eye", "nose", "left_hand", "right_hand")
    skeleton = Skeleton("six", names, derived={"middle": Derived(("left_eye", "right_eye"))})
    settings = make(tmp_path)
    for position in range(6):
        sample, plain = (open_set(settings, skeleton=s)[1, position].sample for s in (skeleton, SKELETON))
        order = [SKELETON.keypoints.index(name) for name in names[1:]]
        assert torch.equal(sample.keypoints[:, 1:], plain.keypoints[:, order])
        eyes = sample.keypoints[0, 1:3]
        torch.testing.assert_close(sample.keypoints[0, 0, :2], eyes[:, :2].mean(0), atol=1e-3, rtol=0)
        assert sample.keypoints[0, 0, 2] == 2 and torch.equal(sample.image, plain.image)


# -------------------------------------------------------------------------------- a crop round a person

PERSON = AugmentSettings(crop="person", rotation=20.0, person_shift=10.0)
HEIGHT = 60.0  # of the boxes


def people_to_crop(data: Any) -> None:
    """Two people on picture 1 who can be chosen, and three who cannot: too small, too few keypoints (with a
    derived one enough), beyond `max_people`."""
    box = {"bbox": [30, 20, 40, HEIGHT], "area": 1024.0}
    first = {**data["annotations"][0], **box}
    points = first["keypoints"][:12] + [80, 60, 1]
    small = {"keypoints": points, "bbox": [0, 0, 5, 5], "area": 1023.0}
    few = {"keypoints": points[:12] + [0, 0, 0], "bbox": [150, 110, 5, 5]}
    changes = [{"keypoints": points}, small, few, {"keypoints": points, "bbox": [90, 50, 30, HEIGHT]}]
    changes.append({"keypoints": points, "bbox": [0, 110, 5, 5]})
    data["annotations"][:1] = [{**first, "id": 500 + i, **change} for i, change in enumerate(changes)]


MIDDLE = Skeleton(
    "middle", (*SKELETON.keypoints, "middle"), derived={"middle": Derived(("left_eye", "right_eye"))}
)


@pytest.mark.parametrize("skeleton", [SKELETON, MIDDLE], ids=lambda s: s.name)
def test_samples_are_cut_round_people_who_are_large_and_labelled(tmp_path: Path, skeleton: Skeleton) -> None:
    settings = make(tmp_path, max_people=4, augment=PERSON)
    edit(tmp_path, people_to_crop)
    dataset = open_set(settings, skeleton=skeleton)
    chosen = []
    for position in range(40):
        sample = dataset[0, position].sample
        scale = np.sqrt(sample.areas[0].item() / 1024)
        assert 0.3 - 1e-6 <= HEIGHT * scale / 128 <= 0.66 + 1e-6
        rng = np.random.default_rng([7, position])
        draw_affine(rng, PERSON, SIZES[0], (128, 128))
        color = draw_color(rng, PERSON)
        boxes = np.array([[30, 20, 40, HEIGHT], [90, 50, 30, HEIGHT]])
        matrix, flip = draw_person_affine(rng, PERSON, boxes, SIZES[0], (128, 128))
        assert np.array_equal(sample.color, color)
        point = geometry.apply(matrix, np.array([80.0, 60.0]))
        hands = [skeleton.keypoints.index(name) for name in ("right_hand", "left_hand")]
        np.testing.assert_allclose(sample.keypoints[0, hands[flip], :2], point, atol=1e-3)
        middle = geometry.apply(matrix, boxes[:, :2] + boxes[:, 2:] / 2 - 0.5)
        near = np.abs(middle - 63.5).max(1) <= 10 + 1e-6
        assert near.sum() == 1
        chosen.append(near.argmax())
    assert set(chosen) == {0, 1}


def test_without_somebody_to_choose_the_whole_picture_is_taken(tmp_path: Path) -> None:
    """Bit for bit what a sample is that is not cut round a person."""
    settings = make(tmp_path)  # people of four labelled keypoints
    person = settings.model_copy(update={"augment": AugmentSettings(crop="person")})
    for index in (0, 1, 2, 4):
        for a, b in zip(open_set(person)[index, 9].sample, open_set(settings)[index, 9].sample, strict=True):
            assert torch.equal(a, b)


def test_colours_do_not_depend_on_the_crop(tmp_path: Path) -> None:
    settings = make(tmp_path)
    edit(tmp_path, people_to_crop)
    person = settings.model_copy(update={"augment": AugmentSettings(crop="person")})
    a, b = open_set(person)[0, 3].sample, open_set(settings)[0, 3].sample
    assert torch.equal(a.color, b.color) and not torch.equal(a.keypoints, b.keypoints)


def test_crops_round_people_do_not_depend_on_the_workers(tmp_path: Path) -> None:
    settings = make(tmp_path, augment=PERSON)
    edit(tmp_path, people_to_crop)
    dataset = open_set(settings)
    stream = TrainStream([0, 1, 2], seed=7)
    runs = []
    for workers in (0, 1, 2):
        batches = iter(train_loader(dataset, stream, 3, workers=workers))
        runs.append([next(batches).batch for _ in range(4)])
    for other in runs[1:]:
        for one, same in zip(runs[0], other, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))


# ------------------------------------------------------------------------------------------------- the mask


def test_the_mask_covers_crowds_and_unlabelled_people_and_no_border(tmp_path: Path) -> None:
    settings = make(tmp_path)

    def add(data: Any) -> None:
        crowd = {"id": 90, "image_id": 1, "category_id": 1, "iscrowd": 1, "bbox": [20, 30, 40, 20]}
        unlabelled = {"id": 91, "image_id": 1, "category_id": 1, "bbox": [100, 60, 30, 40]}
        data["annotations"] += [crowd, unlabelled]

    edit(tmp_path, add)
    for augment in (no_augmentation(), AugmentSettings()):
        dataset = open_set(settings.model_copy(update={"augment": augment}))
        for position in range(5):
            mask = dataset[0, position].sample.loss_mask
            matrix, _ = draw_affine(np.random.default_rng([7, position]), augment, SIZES[0], (128, 128))
            grid = np.stack(np.meshgrid(np.arange(128), np.arange(128)), -1).astype(np.float64)
            x, y = np.moveaxis(geometry.apply(geometry.invert(matrix), grid), -1, 0)
            ignored = (x > 19.5) & (x < 59.5) & (y > 29.5) & (y < 49.5)
            ignored |= (x > 99.5) & (x < 129.5) & (y > 59.5) & (y < 99.5)
            assert (mask.numpy() == ignored).mean() < 0.02  # but for the edges
    assert dataset[1, 0].sample.loss_mask.all()


# ------------------------------------------------------------------------------------------- the pictures


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


@pytest.mark.parametrize(
    "damage, words",
    [
        (lambda path: path.unlink(), "no image"),
        (lambda path: path.write_bytes(b""), "corrupt or no image (0 bytes)"),
        (lambda path: path.write_bytes(b"<html>not found</html>"), "corrupt or no image"),
        (lambda path: cv2.imwrite(str(path), np.zeros((160, 120, 3), np.uint8)), "is 120 x 160 pixels"),
        (lambda path: (path.unlink(), path.mkdir()), "is no regular file"),
    ],
)
def test_an_unreadable_picture_gives_a_blank_sample_and_a_sentence(
    tmp_path: Path, damage: Any, words: str
) -> None:
    settings = make(tmp_path)
    dataset = open_set(settings)
    damage(tmp_path / "images" / "1.png")
    sample, unreadable = dataset[0, 0]
    assert unreadable is not None and words in unreadable and "1.png" in unreadable
    assert not sample.loss_mask.any() and not len(sample.areas) and not sample.image.any()
    assert sample.image.shape == (3, 128, 128) and sample.image_id.item() == 1
    assert dataset[1, 0].unreadable is None


def test_an_image_with_a_side_that_cannot_be_warped_is_left_out(tmp_path: Path) -> None:
    settings = make(tmp_path)
    edit(tmp_path, lambda data: data["images"][0].update(width=40_000, height=2))
    cv2.imwrite(str(tmp_path / "images" / "1.png"), np.zeros((2, 40_000, 3), np.uint8))
    unreadable = open_set(settings)[0, 0].unreadable
    assert unreadable is not None and "1.png is 40000 x 2 pixels; a side of at most 32000" in unreadable


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_jpeg_that_was_cut_off_is_unreadable(tmp_path: Path, share: float) -> None:
    path = tmp_path / "a.jpg"
    noise = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)
    cv2.imwrite(str(path), noise)
    read_image(path)
    raw = path.read_bytes()
    path.write_bytes(raw + b"trailing bytes do no harm")
    read_image(path)
    path.write_bytes(raw[: int(len(raw) * share)])
    with pytest.raises(UnreadableImage, match="a.jpg is corrupt"):
        read_image(path)


def test_images_are_rgb_grey_and_alpha_too(tmp_path: Path) -> None:
    red = np.zeros((4, 5, 3), np.uint8)
    red[..., 2] = 200  # OpenCV writes blue, green, red
    for name, data in [("c.png", red), ("a.png", np.dstack([red, np.full((4, 5), 9, np.uint8)]))]:
        cv2.imwrite(str(tmp_path / name), data)
        image = read_image(tmp_path / name, orientation="stored")  # as for training
        assert image.shape == (4, 5, 3) and (image == [200, 0, 0]).all()
    cv2.imwrite(str(tmp_path / "g.png"), red[..., 2])
    assert (read_image(tmp_path / "g.png") == 200).all()


def exif_orientation(jpeg: bytes, orientation: int) -> bytes:
    """The JPEG with an EXIF block that says how it is to be turned."""
    entry = b"\x01\x12\x00\x03\x00\x00\x00\x01" + bytes([0, orientation, 0, 0])
    tiff = b"MM\x00\x2a\x00\x00\x00\x08\x00\x01" + entry + b"\x00\x00\x00\x00"
    block = b"Exif\x00\x00" + tiff
    return jpeg[:2] + b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block + jpeg[2:]


def test_orientation_is_followed_only_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "turned.jpg"
    _, jpeg = cv2.imencode(".jpg", np.zeros((20, 30, 3), np.uint8))
    path.write_bytes(exif_orientation(jpeg.tobytes(), 6))
    assert read_image(path).shape == (30, 20, 3)
    assert read_image(path, orientation="stored").shape == (20, 30, 3)


# ------------------------------------------------------------------------------------ settings and splits


def test_a_dataset_is_small_to_ship(tmp_path: Path) -> None:
    settings = make(tmp_path)
    edit(tmp_path, lambda data: data["annotations"].extend(
        {**data["annotations"][0], "id": 1000 + i} for i in range(3000)))  # fmt: skip
    dataset = open_set(settings)
    shipped = pickle.dumps(dataset)
    assert len(shipped) < 5000
    assert torch.equal(pickle.loads(shipped)[0, 2].sample.image, dataset[0, 2].sample.image)


def test_paths_of_the_sets() -> None:
    files = set_files(DataSettings(year=2017), "val")
    assert files.annotations == Path("data/coco/annotations/person_keypoints_val2017.json")
    assert files.images == Path("data/coco/val2017")
    with pytest.raises(UserError, match="data.year"):
        set_files(DataSettings(), "train")


def test_the_skeleton_comes_from_the_settings_or_the_file(tmp_path: Path) -> None:
    settings = make(tmp_path)
    assert resolve_skeleton(settings).keypoints == SKELETON.keypoints
    embedded = SkeletonSettings.model_validate_json(json.dumps(to_dict(SKELETON)))
    assert embedded.build() == SKELETON
    assert resolve_skeleton(settings.model_copy(update={"skeleton": embedded})) == SKELETON
    with pytest.raises(ValidationError, match="no keypoint 'nsoe', did you mean 'nose'"):
        SkeletonSettings(keypoints=("nose",), limbs=(("nose", "nsoe"),))


@pytest.mark.parametrize("text", ["2\n3\n", "[2, 3]", "2, 3  # two of them", '["2", "3"]'])
def test_validation_ids_leave_training(tmp_path: Path, text: str) -> None:
    ids = tmp_path / "ids.txt"
    ids.write_text(text)
    settings = make(tmp_path, validation_ids=str(ids), val=SetSettings(annotations="none", images="none"))
    annotations = load_annotations(tmp_path / "people.json", SKELETON)
    positive, negative = training_indices(settings, annotations)
    assert positive.tolist() == [0] and negative.tolist() == [3, 4]
    expected = [(i, tmp_path / "images" / f"{i}.png") for i in (2, 3)]
    assert [one[:2] for one in validation_images(settings, SKELETON)] == expected


@pytest.mark.parametrize(
    "text, words",
    [("2 99 98", "2 of the 3 ids"), ("", "lists no image id"), ("a b", "whole numbers"), (None, "cannot")],
)
def test_wrong_validation_ids(tmp_path: Path, text: str | None, words: str) -> None:
    ids = tmp_path / "ids.txt"
    if text is not None:
        ids.write_text(text)
    settings = make(tmp_path, validation_ids=str(ids))
    annotations = load_annotations(tmp_path / "people.json", SKELETON)
    with pytest.raises(UserError, match=words) as error:
        training_indices(settings, annotations)
    assert "data.validation_ids" in str(error.value) and "ids.txt" in str(error.value)


def test_nothing_left_to_train_on(tmp_path: Path) -> None:
    ids = tmp_path / "ids.txt"
    ids.write_text("1 2 3")
    settings = make(tmp_path, validation_ids=str(ids))
    with pytest.raises(UserError, match="no image with labelled keypoints .* and data.validation_ids"):
        training_indices(settings, load_annotations(tmp_path / "people.json", SKELETON))


def test_subsets_are_fixed_and_nested(tmp_path: Path) -> None:
    settings = make(tmp_path)
    annotations = load_annotations(tmp_path / "people.json", SKELETON)
    chosen = [
        set(training_indices(settings.model_copy(update={"subset": n}), annotations)[0].tolist())
        for n in (1, 2, 3, 50)
    ]
    assert [len(c) for c in chosen] == [1, 2, 3, 3]
    assert chosen[0] < chosen[1] < chosen[2] == {0, 1, 2}


def test_validation_images_have_those_without_people_too(tmp_path: Path) -> None:
    settings = make(tmp_path)
    everything = validation_images(settings, SKELETON)
    assert [one.id for one in everything] == [1, 2, 3, 4, 5]
    few = validation_images(settings, SKELETON, limit=2)
    assert len(few) == 2 and few == validation_images(settings, SKELETON, limit=2)
    assert [entry for entry in everything if entry in few] == few


def test_validation_images_may_be_those_with_people_only(tmp_path: Path) -> None:
    settings = make(tmp_path, validation_people_only=True)
    assert [one.id for one in validation_images(settings, SKELETON)] == [1, 2, 3]
    assert len(validation_images(settings, SKELETON, limit=2)) == 2
    ids = tmp_path / "ids.txt"
    ids.write_text("4 2 5")
    named = settings.model_copy(update={"validation_ids": str(ids)})
    assert [one.id for one in validation_images(named, SKELETON)] == [2]
    ids.write_text("4 5")
    with pytest.raises(UserError, match="data.validation_people_only: no picture .*people.json; set it"):
        validation_images(named, SKELETON)


def test_a_wrong_folder_of_pictures_is_found_at_once(tmp_path: Path) -> None:
    settings = make(tmp_path)
    (tmp_path / "empty").mkdir()
    for folder, words in [
        ("nowhere", "folder of images .* is missing"),
        ("empty", "none of the first 5 images"),
    ]:
        wrong = SetSettings(annotations="people.json", images=folder)
        with pytest.raises(UserError, match=words):
            open_set(settings.model_copy(update={"train": wrong}))


def test_real_pictures(real_data: Path, tmp_path: Path) -> None:
    source = real_data / "coco_train80"
    settings = DataSettings(
        root=str(source),
        train=SetSettings(annotations="person_keypoints_train2017.json", images="images"),
        strict=True,
        cache=False,
    )
    files = set_files(settings, "train")
    dataset = load_training_set(settings, files, InputSettings(), resolve_skeleton(settings))
    for index in range(0, 80, 8):
        sample, unreadable = dataset[index, index]
        assert unreadable is None and sample.image.float().std() > 5
