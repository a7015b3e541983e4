"""Several sets as one: shares, order, keypoints by name, and what a set never labels."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from pose.annotations.annotations import load_annotations
from pose.data.augment import no_augmentation
from pose.data.loader import ShardedBatchSampler, TrainStream, collate
from pose.data.mixture import MixedDataset, MixedStream, portions, training_data
from pose.data.selection import validation_images
from pose.data.settings import DataSettings, MixedSetSettings
from pose.errors import UserError
from pose.skeleton import Derived, Skeleton, to_dict
from pose.structures import InputSettings

UNION = Skeleton(
    "union", ("nose", "left_hand", "right_hand", "head_top"), (("nose", "left_hand"), ("nose", "right_hand"))
)
A = ("nose", "left_hand", "right_hand")
B = ("Head Top", "right-hand", "left_hand", "tail")  # other order, other spelling, one that the union lacks


def write(
    folder: Path, names: tuple[str, ...], people: Sequence[Sequence[Sequence[float]]], pictures: int
) -> Path:
    """`pictures` black pictures of 64 x 48; person p stands on picture p modulo their number."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    images = []
    for i in range(pictures):
        cv2.imwrite(str(folder / "images" / f"{i}.png"), np.zeros((48, 64, 3), np.uint8))
        images.append({"id": i + 1, "file_name": f"{i}.png", "width": 64, "height": 48})
    annotations = [
        {"id": p + 1, "image_id": p % pictures + 1, "category_id": 1, "area": 100.0, "bbox": [1, 1, 30, 30],
         "keypoints": [v for point in person for v in point]}
        for p, person in enumerate(people)
    ]  # fmt: skip
    category = {"id": 1, "name": "person", "keypoints": list(names)}
    (folder / "people.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": [category]})
    )
    return folder


def mixed(
    a: Path, b: Path, weights: tuple[float | None, float | None] = (None, None), **more: Any
) -> DataSettings:
    sets = tuple(
        MixedSetSettings(root=str(root), annotations="people.json", images="images", weight=weight)
        for root, weight in zip((a, b), weights)
    )
    given = {"skeleton": to_dict(UNION), "augment": no_augmentation().model_dump(), "cache": False}
    return DataSettings.model_validate_json(
        json.dumps({**given, **more, "sets": [one.model_dump() for one in sets]})
    )


@pytest.fixture
def sets(tmp_path: Path) -> tuple[Path, Path]:
    a = write(tmp_path / "a", A, [[[10, 11, 2], [20, 21, 2], [30, 31, 1]]] * 3, 3)
    b = write(tmp_path / "b", B, [[[5, 6, 2], [7, 8, 1], [9, 10, 2], [40, 41, 2]]] * 5, 5)
    return a, b


# ---------------------------------------------------------------------------------------------------- order


@pytest.mark.parametrize(
    ("total", "weights", "expected"),
    [
        (10, [1, 1], [5, 5]),
        (10, [1, 2], [3, 7]),
        (7, [1, 1, 1], [3, 2, 2]),
        (3, [100, 1], [3, 0]),
        (5, [0.5], [5]),
        (10, [1e308, 1e308], [5, 5]),
        (10, [1e-300, 4e-300], [2, 8]),
    ],
)
def test_portions_are_whole_and_sum_up(total: int, weights: list[float], expected: list[int]) -> None:
    assert portions(total, weights) == expected


@pytest.mark.parametrize("weights", [None, [1, 1], [1, 3], [5, 1]])
def test_every_pass_has_each_sets_share(weights: list[float] | None) -> None:
    streams = [TrainStream(range(12), seed=3), TrainStream(range(4), range(4, 10), share=0.5, seed=3)]
    stream = MixedStream(streams, [0, 12], weights, seed=3)
    assert len(stream) == 18
    wanted = [12, 6] if weights is None else portions(18, weights)
    for number in range(3):
        taken = [stream[number * 18 + i] for i in range(18)]
        assert [sum(i < 12 for i in taken), sum(i >= 12 for i in taken)] == wanted


def test_every_picture_of_a_set_comes_as_often_as_any_other() -> None:
    """Also where its share is not a multiple of its pictures: the next pass goes on where this one ended."""
    stream = MixedStream([TrainStream(range(10)), TrainStream(range(7))], [0, 10], [1, 3])
    count = stream.counts[0]
    assert count % 10 and stream.counts[1] % 7
    times = Counter(stream[i] for i in range(70 * len(stream)))
    assert {times[i] for i in range(10)} == {7 * count}
    assert {times[10 + i] for i in range(7)} == {10 * stream.counts[1]}


@pytest.mark.slow
def test_the_order_depends_on_the_seed_only_and_is_reached_anywhere() -> None:
    def make(seed: int) -> MixedStream:
        return MixedStream(
            [TrainStream(range(20), seed=seed), TrainStream(range(30), seed=seed)], [0, 20], [1, 1], seed
        )

    one = make(1)
    order = [one[i] for i in range(150)]
    assert order[100:] == [make(1)[i] for i in range(100, 150)]  # without what came before
    assert order != [make(2)[i] for i in range(150)]
    assert sorted(order[:50]) != order[:50]
    switches = np.diff(np.array(order[:50]) < 20).sum()
    assert switches > 10  # mixed, not one set after the other
    passes = [[i < 20 for i in order[50 * e : 50 * e + 50]] for e in range(3)]
    assert passes[0] != passes[1] != passes[2]  # another mixture in every pass


def test_an_index_counts_through_all_sets(sets: tuple[Path, Path]) -> None:
    dataset, stream = training_data(mixed(*sets), InputSettings(size=(48, 64)), UNION, seed=1)
    assert isinstance(dataset, MixedDataset) and len(dataset) == len(stream) == 8
    assert sorted(stream[i] for i in range(8)) == list(range(8))
    for index in range(8):
        sample = dataset[index, index].sample
        part, local = (0, index) if index < 3 else (1, index - 3)
        assert sample.image_id == local + 1
        assert torch.equal(sample.keypoints, dataset.parts[part][local, index].sample.keypoints)


# -------------------------------------------------------------------------------------------------- by name


def test_keypoints_go_by_name_into_the_skeleton(sets: tuple[Path, Path]) -> None:
    dataset, _ = training_data(mixed(*sets), InputSettings(size=(48, 64)), UNION)
    assert isinstance(dataset, MixedDataset)
    given = [part.annotations.keypoints(0)[0].tolist() for part in dataset.parts]
    assert given[0] == [[10, 11, 2], [20, 21, 2], [30, 31, 1], [0, 0, 0]]
    assert given[1] == [[0, 0, 0], [9, 10, 2], [7, 8, 1], [5, 6, 2]]
    first, last = dataset[0, 0].sample, dataset[3, 0].sample
    assert first.keypoints[0, :, 2].tolist() == [2, 2, 1, 0] and last.keypoints[0, :, 2].tolist() == [
        0,
        2,
        1,
        2,
    ]
    assert first.labelled.tolist() == [True, True, True, False]
    assert last.labelled.tolist() == [False, True, True, True]
    batch = collate([dataset[0, 0], dataset[3, 0]]).batch
    assert batch.labelled.shape == (2, 4) and batch.labelled.dtype == torch.bool


def test_what_is_named_but_never_labelled_is_not_labelled(tmp_path: Path, sets: tuple[Path, Path]) -> None:
    """Alone such a keypoint is trained as absent; in a mixture, where another set has it, it is not."""
    people = [[[10, 11, 2], [20, 21, 2], [0, 0, 0]]]
    never = write(tmp_path / "never", A, people, 1)
    dataset, _ = training_data(mixed(never, sets[1]), InputSettings(size=(48, 64)), UNION)
    assert dataset[0, 0].sample.labelled.tolist() == [True, True, False, False]
    alone = Skeleton("alone", A)
    assert load_annotations(never / "people.json", alone, cache=False).labelled.all()


def test_a_mirrored_sample_has_a_mirrored_label_mask(tmp_path: Path, sets: tuple[Path, Path]) -> None:
    people = [[[10, 11, 2], [20, 21, 2], [0, 0, 0]]]
    one_hand = write(tmp_path / "one", A, people, 1)
    flip = {**no_augmentation().model_dump(), "flip": 1.0}
    dataset, _ = training_data(mixed(one_hand, sets[1], augment=flip), InputSettings(size=(48, 64)), UNION)
    sample = dataset[0, 0].sample
    assert sample.keypoints[0, :, 2].tolist() == [2, 0, 2, 0]
    assert sample.labelled.tolist() == [True, False, True, False]


def test_people_without_a_keypoint_of_the_skeleton_are_ignored_not_background(tmp_path: Path) -> None:
    folder = write(tmp_path / "c", B, [[[0, 0, 0], [0, 0, 0], [0, 0, 0], [20, 20, 2]], [[9, 9, 2]] * 4], 1)
    loaded = load_annotations(folder / "people.json", UNION, cache=False, partial=True)
    mask = loaded.ignore_mask(0)
    assert loaded.num_people == 1 and mask is not None and mask[1:31, 1:31].all() and mask.sum() == 900


def test_a_derived_keypoint_is_taken_where_a_set_has_it_and_worked_out_where_not(tmp_path: Path) -> None:
    skeleton = Skeleton(
        "d", ("left_hand", "right_hand", "middle"), derived={"middle": Derived(("left_hand", "right_hand"))}
    )
    own = write(tmp_path / "own", ("middle", "left_hand"), [[[1, 2, 2], [3, 4, 2]]], 1)
    without = write(tmp_path / "without", ("right_hand", "left_hand"), [[[1, 2, 2], [3, 4, 2]]], 1)
    half = write(tmp_path / "half", ("left_hand", "tail"), [[[1, 2, 2], [3, 4, 2]]], 1)
    found = [
        load_annotations(folder / "people.json", skeleton, cache=False, partial=True)
        for folder in (own, without, half)
    ]
    assert [one.keypoints(0)[0, 2].tolist() for one in found] == [[1, 2, 2], [2, 3, 2], [0, 0, 0]]
    assert [one.labelled.tolist() for one in found] == [[True, False, True], [True] * 3, [True, False, False]]


def test_cached_annotations_know_what_is_labelled(sets: tuple[Path, Path]) -> None:
    path = sets[0] / "people.json"
    for _ in range(2):
        assert load_annotations(path, UNION, partial=True).labelled.tolist() == [True, True, True, False]
    with pytest.raises(UserError, match="other keypoints"):  # not from the cache of the other reading
        load_annotations(path, UNION)


# ------------------------------------------------------------------------------------------------ bad input


def test_a_set_without_a_common_keypoint_is_refused(tmp_path: Path, sets: tuple[Path, Path]) -> None:
    strange = write(tmp_path / "strange", ("wheel", "door"), [[[1, 2, 2], [3, 4, 2]]], 1)
    with pytest.raises(
        UserError, match="strange/people.json: .*other keypoints.*only in the file: wheel, door"
    ):
        training_data(mixed(sets[0], strange), InputSettings(size=(48, 64)), UNION)


def test_what_no_set_labels_is_told(sets: tuple[Path, Path], caplog: pytest.LogCaptureFixture) -> None:
    more = Skeleton("more", (*UNION.keypoints, "tip"), (*UNION.limbs, ("nose", "head_top")))
    settings = mixed(*sets, skeleton=to_dict(more))
    with caplog.at_level(logging.INFO):
        training_data(settings, InputSettings(size=(48, 64)), more)
    assert "no set of data.sets labels tip: never trained" in caplog.text
    assert "both ends of the limbs nose-head_top" in caplog.text
    assert "a/people.json never labels head_top, tip" in caplog.text


def test_settings_of_a_mixture_are_checked(sets: tuple[Path, Path]) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"weights": (1.0, None)}, "give every set a weight, or none"),
        ({"skeleton": None}, "sets: they need a data.skeleton"),
        ({"validation_ids": "ids.txt"}, "validation_ids: chosen from `train`"),
        ({"weights": (-1.0, 1.0)}, "greater than 0"),
    ]
    for change, words in cases:
        with pytest.raises(ValueError, match=words):
            mixed(*sets, **change)
    with pytest.raises(UserError, match=r"data.sets.1: its weight gives it none of a pass's 8 samples"):
        training_data(mixed(*sets, weights=(1e6, 1.0)), InputSettings(size=(48, 64)), UNION)


def test_a_subset_is_one_of_each_set(sets: tuple[Path, Path]) -> None:
    _, stream = training_data(mixed(*sets, subset=2), InputSettings(size=(48, 64)), UNION)
    taken = [stream[i] for i in range(4)]
    assert len(stream) == 4 and sum(i < 3 for i in taken) == 2


def test_pictures_without_people_come_as_often_as_the_settings_say(tmp_path: Path) -> None:
    many = write(tmp_path / "many", A, [[[10, 11, 2], [20, 21, 2], [30, 31, 1]]], 4)  # people on one of four
    few = write(tmp_path / "few", B, [[[5, 6, 2]] * 4] * 2, 2)
    for share, wanted in ((0.0, [1, 2]), (2.0, [3, 2])):
        _, stream = training_data(mixed(many, few, negatives=share), InputSettings(size=(48, 64)), UNION)
        assert isinstance(stream, MixedStream) and stream.counts == wanted


def test_a_mixture_is_as_strict_as_its_settings(sets: tuple[Path, Path]) -> None:
    for strict in (False, True):
        dataset, _ = training_data(mixed(*sets, strict=strict), InputSettings(size=(48, 64)), UNION)
        assert dataset.strict is strict


def test_two_processes_share_the_batches_of_one_and_a_resumed_run_goes_on(sets: tuple[Path, Path]) -> None:
    _, stream = training_data(mixed(*sets, (1.0, 2.0)), InputSettings(size=(48, 64)), UNION, seed=4)

    def batches(size: int, count: int, **more: int) -> list[list[tuple[int, int]]]:
        return list(islice(ShardedBatchSampler(stream, size, **more), count))

    alone = batches(4, 9)
    shared = zip(*(batches(2, 9, rank=rank, world_size=2) for rank in (0, 1)))
    assert [first + second for first, second in shared] == alone
    assert batches(4, 4, start_step=5) == alone[5:]


def test_a_validation_set_with_keypoints_that_the_skeleton_lacks_is_refused_first(
    sets: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    """It could be trained on, but not scored: the first validation would end the run."""
    for i, refused in ((0, False), (1, True)):
        files = {"annotations": str(sets[i] / "people.json"), "images": str(sets[i] / "images")}
        for cache in (False, True, True):
            settings = mixed(*sets, val=files, cache=cache)
            if not refused:
                assert len(validation_images(settings, UNION)) == 3
                continue
            with pytest.raises(UserError, match=r"people.json cannot be validated on: 1 .*\(first: tail\)"):
                validation_images(settings, UNION)
    with caplog.at_level(logging.INFO):
        training_data(mixed(*sets), InputSettings(size=(48, 64)), UNION)
    assert "1 keypoint(s) of the file that the skeleton does not have, left out (first: tail)" in caplog.text
