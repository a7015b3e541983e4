"""Skeletons that the files of well-known sets describe: only heads that need limbs stop at odd ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pose.annotations.annotations import load_annotations
from pose.annotations.reader import read
from pose.annotations.skeletons import read_skeleton
from pose.data.selection import training_indices
from pose.doctor.checks import check
from pose.doctor.content import content_of
from pose.errors import UserError
from pose.experiment import load_config
from pose.tools import doctor

ONE_BASED_OF_COCO = [
    [16, 14], [14, 12], [17, 15], [15, 13], [12, 13], [6, 12], [7, 13], [6, 7], [6, 8], [7, 9], [8, 10],
    [9, 11], [2, 3], [1, 2], [1, 3], [2, 4], [3, 5], [4, 6], [5, 7],
]  # fmt: skip
BODY = [f"{side}_{part}" for part in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
        for side in ("left", "right")]  # fmt: skip
FACE = ["left_ear", "right_ear"]
PAWS = [f"{side}_{end}_{part}" for part in ("Elbow", "Knee", "Paw") for end in "FB" for side in "LR"]
ANIMAL = ["L_Eye", "R_Eye", "L_EarBase", "R_EarBase", "Nose", "Throat", "TailBase", "Withers", *PAWS]
LEGS = [f"{leg}leg{side}{k}" for leg in ("fore", "mid", "hind") for side in "LR" for k in (1, 2, 3, 4)]
FINGERS = [f"{finger}{k}" for finger in ("thumb", "index", "middle", "ring", "pinky") for k in (1, 2, 3, 4)]

# name of the set -> keypoints, skeleton, whether its limbs can be used
SETS: dict[str, tuple[list[str], Any, bool]] = {
    "CrowdPose: COCO's limbs": ([*BODY, "head", "neck"], ONE_BASED_OF_COCO, False),
    "PoseTrack18: COCO's limbs": (
        ["nose", "head_bottom", "head_top", *FACE, *BODY],
        ONE_BASED_OF_COCO,
        False,
    ),
    "AnimalPose: from 0": (ANIMAL, [[0, 1], [0, 2], [1, 3], [0, 4], [1, 4], [4, 5], [5, 7], [16, 12]], False),
    "AP-10K: from 1": (["nose", "left_eye", "right_eye"], [[1, 2], [1, 3], [2, 3]], True),
    "MPII": (["right ankle", "right knee", "left knee", "left ankle", "upper neck"], None, True),
    "H3.6M": (["root (pelvis)", "right hip", "left hip", "spine", "neck base"], [], True),
    "fly: from 0": (["head", "eyeL", "eyeR", *LEGS, "wingL", "wingR"], [[1, 0], [2, 0], [3, 0]], False),
    "locust: no partner": (["head", *LEGS], [[1, 1], [-1, 2]], False),
    "zebra: from 0": (["snout", "head", "forelegL1", "forelegR1"], [[1, 0], [2, 1], [3, 1]], False),
    "InterHand": ([f"right_{one}" for one in FINGERS] + [f"left_{one}" for one in FINGERS], None, True),
    "OneHand10K": (["wrist", *FINGERS], [[1, 2], [2, 3]], True),
    "300W": ([str(k) for k in range(68)], [], True),
    "DeepFashion": (["left collar", "right collar", "left sleeve", "right sleeve"], None, True),
    "names in the skeleton": (["nose", "left_eye", "right_eye"], [["nose", "left_eye"]], False),
    "limbs as text": (["nose", "left_eye", "right_eye"], "1-2", False),
    "one limb without a mirror image": (["nose", "left_eye", "right_eye"], [[1, 2]], False),
}


def write(folder: Path, names: list[str] | None, limbs: Any, count: int | None = None) -> Path:
    """A COCO file of six people with other keypoints."""
    count = count or len(names or ())
    rng = np.random.default_rng(0)
    annotations = []
    for i in range(6):
        xy = rng.uniform(10, 290, (count, 2)).round(1)
        low, high = xy.min(0), xy.max(0)
        annotations.append({
            "id": i + 1, "image_id": i // 2 + 1, "category_id": 1, "num_keypoints": count,
            "keypoints": np.column_stack([xy, np.full(count, 2)]).ravel().tolist(),
            "bbox": [*low.tolist(), *(high - low + 1).tolist()], "area": float(np.prod(high - low + 1)) / 2,
        })  # fmt: skip
    images = [{"id": i + 1, "file_name": f"{i}.jpg", "width": 400, "height": 300} for i in range(3)]
    category = {"id": 1, "name": "some", **({} if names is None else {"keypoints": names})}
    if limbs is not None:
        category["skeleton"] = limbs
    file = folder / "some.json"
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": [category]}))
    return file


def settings(folder: Path, head: str, *more: str) -> list[str]:
    return [
        f"data.root={folder}", "data.train={annotations: some.json, images: .}", "backbone.width=8",
        f"head={{name: {head}}}", *more,
    ]  # fmt: skip


@pytest.mark.parametrize("name", SETS)
def test_odd_limbs_stop_only_heads_that_need_them(tmp_path: Path, name: str) -> None:
    names, limbs, good = SETS[name]
    file = write(tmp_path, names, limbs)
    skeleton = read_skeleton(file)
    assert len(skeleton) == len(names)
    assert (len(skeleton.limbs) > 0) == (good and bool(limbs))
    assert bool(skeleton.no_limbs) != good
    content = content_of(read(file))
    assert len(content.skeleton) == len(names)
    assert ("limbs" in {fault.kind for fault in check(content)}) != good
    for head in ("tags", "pairwise"):
        config = load_config("coco/ae_small.yaml", settings(tmp_path, head, "data.skeleton=annotations"))
        config.build_model()
    if not config.skeleton.limbs:  # the project has none for these keypoints, either
        with pytest.raises(UserError, match="limbs"):
            config = load_config("coco/ae_small.yaml", settings(tmp_path, "paf", "data.skeleton=annotations"))
            config.build_model()


@pytest.mark.parametrize("names", [None, []])
def test_without_names_a_skeleton_with_as_many_is_asked_for(tmp_path: Path, names: Any) -> None:
    """FreiHand, 300W, Halpe: and what is advised is accepted."""
    file = write(tmp_path, names, None, 21)
    says = "names of the 21 keypoints.*data.skeleton=FILE.yaml; doctor: --skeleton FILE.yaml"
    with pytest.raises(UserError, match=says):
        read_skeleton(file)
    with pytest.raises(UserError, match=says):
        doctor.main(["--annotations", str(file)])
    with pytest.raises(UserError, match="and the skeleton 'coco17' has 17"):
        doctor.main(["--annotations", str(file), "--skeleton", "coco17"])
    hand = tmp_path / "hand.yaml"
    hand.write_text(json.dumps({"name": "hand", "keypoints": ["wrist", *FINGERS]}))
    content = content_of(read(file), doctor.named_skeleton(str(hand)))
    assert "unnamed" in {fault.kind for fault in check(content)} and content.file.people.sum() == 6
    config = load_config("coco/ae_small.yaml", settings(tmp_path, "tags", f"data.skeleton={hand}"))
    assert training_indices(config.data, load_annotations(file, config.skeleton))[0].tolist() == [0, 1, 2]


def test_many_categories_that_list_the_same_keypoints_are_one_skeleton(tmp_path: Path) -> None:
    """AP-10K, AnimalKingdom: 54 kinds of animals."""
    file = write(tmp_path, ["nose", "left_eye", "right_eye"], [[1, 2], [1, 3]])
    content = json.loads(file.read_text())
    first = content["categories"][0]
    content["categories"] = [{**first, "id": i, "name": f"animal {i}"} for i in range(1, 55)]
    for i, one in enumerate(content["annotations"]):
        one["category_id"] = 1 + 9 * i
    file.write_text(json.dumps(content))
    assert len(read_skeleton(file)) == 3
    assert content_of(read(file)).file.people.sum() == 6
