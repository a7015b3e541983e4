"""COCO-WholeBody's further keypoint lists of an annotation (`foot_kpts` and so on): whole-body files hold 17
body keypoints in `keypoints` and 116 more beside it (Jin et al.: Whole-Body Human Pose Estimation in the
Wild, ECCV 2020)."""

from __future__ import annotations

FOOT = ("left_big_toe", "left_small_toe", "left_heel", "right_big_toe", "right_small_toe", "right_heel")
FINGERS = ("thumb", "forefinger", "middle_finger", "ring_finger", "pinky_finger")


def _hand(side: str) -> tuple[str, ...]:
    return (f"{side}_hand_root", *(f"{side}_{finger}{joint}" for finger in FINGERS for joint in range(1, 5)))


PARTS: dict[str, tuple[str, ...]] = {
    "foot_kpts": FOOT,
    "face_kpts": tuple(f"face-{k}" for k in range(68)),
    "lefthand_kpts": _hand("left"),
    "righthand_kpts": _hand("right"),
}


def part_names() -> tuple[str, ...]:
    """116 names, in the order in which the lists follow the body's."""
    return tuple(name for names in PARTS.values() for name in names)
