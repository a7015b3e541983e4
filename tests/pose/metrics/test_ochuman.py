"""OCHuman's metric: COCO's numbers, also of OCHuman's own annotation format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pose.annotations.reader import parse
from pose.errors import UserError
from pose.metrics.base import fitting, settings_of
from pose.metrics.ochuman import NAMES, OCHuman, is_native, to_coco
from tests.published_scores import published, same

ORDER = ["head", *reversed(NAMES), "neck"]  # of the made-up file


def native_person(overlap: float, **changes: Any) -> dict[str, Any]:
    keypoints = [value for k in range(19) for value in (10.0 + k, 20.0 + 2 * k, k % 4)]
    own = {"bbox": [10, 20, 40, 80], "keypoints": keypoints, "segms": {"outer": [[0, 0, 1, 1]]}}
    return {**own, "max_iou": overlap, **changes}


def native(*people: dict[str, Any]) -> dict[str, Any]:
    """Each on an image of its own."""
    images = [
        {"image_id": f"{i:06}", "file_name": f"{i:06}.jpg", "width": 60, "height": 90, "annotations": [one]}
        for i, one in enumerate(people)
    ]
    return {"keypoint_names": ORDER, "keypoint_visible": {"missing": 0}, "images": images}


@pytest.mark.parametrize("case", ["ochuman_all", "ochuman_moderate", "ochuman_hard"])
def test_numbers_are_cocos_from_either_format(real_data: Path, case: str) -> None:
    known = published(real_data)
    files = known.cases[case]
    overlap = tuple(map(float, files["max_iou"]))
    for file, options in ((files["gt"], {}), (files["native"], {"overlap": overlap})):
        scores = known.metric("ochuman", file, **options).score(known.folder / files["dt"])
        assert same(scores.numbers, files["pycocotools"])


def test_who_counts_and_what_is_written_of_them() -> None:
    data = native(native_person(0.6), native_person(0.8), native_person(0.6, segms=None),
                  native_person(0.3, keypoints=None), native_person(0.1))  # fmt: skip
    assert is_native(data)
    everybody, moderate, hard = (to_coco(data, one) for one in ((0.0, 1.0), (0.5, 0.75), (0.75, 1.0)))
    assert [image["file_name"][5] for image in everybody["images"]] == ["0", "1", "4"]
    assert [len(one["annotations"]) for one in (everybody, moderate, hard)] == [3, 1, 1]
    assert hard["images"][0] == {"file_name": "000001.jpg", "height": 90, "width": 60, "id": 1}
    one = everybody["annotations"][0]
    assert one["area"] == 30 * 60 and one["bbox"] == [10, 20, 30, 60]
    k = ORDER.index("nose")
    assert one["keypoints"][:2] == [10.0 + k, 20.0 + 2 * k]
    seen = dict(zip(NAMES, one["keypoints"][2::3]))
    assert {ORDER.index(name) % 4: v for name, v in seen.items()} == {0: 0, 1: 2, 2: 2, 3: 1}
    assert one["num_keypoints"] == sum(v > 0 for v in seen.values())


def test_it_counts_where_it_is_named(tmp_path: Path) -> None:
    """Nothing in a file says that it is OCHuman's."""
    file = parse(to_coco(native(native_person(0.6))), "x.json")
    assert "ochuman" not in [one.name for one in fitting(file)]
    names = [one.name for one in fitting(file, wanted="ochuman")]
    assert names[0] == "ochuman" and "coco" not in names
    (tmp_path / "native.json").write_text(json.dumps(native(native_person(0.6))))
    own = OCHuman.open(settings_of("ochuman", {}), tmp_path / "native.json")
    record = {"image_id": 1, "category_id": 1, "score": 1.0}
    record["keypoints"] = to_coco(native(native_person(0.6)))["annotations"][0]["keypoints"]
    assert own.score([record]).value == pytest.approx(1)
    with pytest.raises(UserError, match="lacks nose"):
        to_coco({**native(), "keypoint_names": [name for name in ORDER if name != "nose"]})
