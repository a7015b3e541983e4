"""Little people as plain numbers: their joints in space, their faces and their clothes.

Frames.  Body: (left, down, forward), in body heights.  Camera: (x right, y down, z away), orthographic, in
pixels; integer x, y are pixel centres.  Colours are RGB.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

KEYPOINTS = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee",
    "left_ankle", "right_ankle",
)  # fmt: skip
LIMBS = (
    ("left_ankle", "left_knee"), ("left_knee", "left_hip"), ("right_ankle", "right_knee"),
    ("right_knee", "right_hip"), ("left_hip", "right_hip"), ("left_shoulder", "left_hip"),
    ("right_shoulder", "right_hip"), ("left_shoulder", "right_shoulder"), ("left_shoulder", "left_elbow"),
    ("right_shoulder", "right_elbow"), ("left_elbow", "left_wrist"), ("right_elbow", "right_wrist"),
    ("left_eye", "right_eye"), ("nose", "left_eye"), ("nose", "right_eye"), ("left_eye", "left_ear"),
    ("right_eye", "right_ear"), ("left_ear", "left_shoulder"), ("right_ear", "right_shoulder"),
)  # fmt: skip
# What is drawn needs a few points more than what is annotated.
JOINTS = (*KEYPOINTS, "left_hand", "right_hand", "left_toe", "right_toe", "neck", "head")
PARTS = ("torso", "neck", "head") + tuple(
    f"{side}_{part}"
    for side in ("left", "right")
    for part in ("upper_arm", "forearm", "hand", "thigh", "shin", "foot")
)
HEAD_SIZE = np.array([0.078, 0.100, 0.084])  # half axes of the head: left, down, forward, in body heights
FACE = {  # points of the head, in half axes
    "nose": (0.0, 0.20, 1.10), "left_eye": (0.40, -0.08, 0.92), "right_eye": (-0.40, -0.08, 0.92),
    "left_ear": (1.02, 0.08, -0.08), "right_ear": (-1.02, 0.08, -0.08),
}  # fmt: skip
# A point of the head is seen while its depth (in half axes, towards the viewer negative) stays below this.
FACE_DEPTH = {"nose": 0.05, "eye": -0.25, "ear": 0.45}
Color = tuple[float, float, float]


def _swapped(name: str) -> str:
    """left_x <-> right_x; other names stay."""
    side, _, rest = name.partition("_")
    return {"left": f"right_{rest}", "right": f"left_{rest}"}.get(side, name)


J = {name: index for index, name in enumerate(JOINTS)}
JOINT_FLIP = [J[_swapped(name)] for name in JOINTS]


def _own_parts(keypoint: str) -> set[str]:
    """The parts on whose surface a keypoint lies: seen there, it is visible; under any other, hidden."""
    side, _, joint = keypoint.partition("_")
    table = {
        "shoulder": ("torso", "neck", f"{side}_upper_arm"),
        "elbow": (f"{side}_upper_arm", f"{side}_forearm"),
        "wrist": (f"{side}_forearm", f"{side}_hand"),
        "hip": ("torso", "left_thigh", "right_thigh"),
        "knee": (f"{side}_thigh", f"{side}_shin"),
        "ankle": (f"{side}_shin", f"{side}_foot"),
    }
    return set(table.get(joint, ("head",)))


OWN = [[PARTS.index(part) for part in sorted(_own_parts(name))] for name in KEYPOINTS]


@dataclass(frozen=True)
class Look:
    """Colours and cut of one person; the same on both sides of the body."""

    skin: Color
    hair: Color
    shirt: Color
    print: Color  # second colour of the shirt
    trousers: Color
    shoes: Color
    sleeves: int  # 0 none, 1 short, 2 long
    long_trousers: bool
    stripes: int  # bands across the torso, 0 for a plain shirt
    hairline: float  # threshold of the hair cap: above 1 is bald
    long_hair: bool
    girth: float  # factor on the width of every part


@dataclass(frozen=True)
class Person:
    """joints (J, 3) in camera pixels (z: depth); head_axes (3, 3) rows left, down, forward in the camera
    frame; height: pixels per body height; guesses (K,) in [0, 1): low ones let hidden keypoints be v = 1."""

    joints: np.ndarray
    head_axes: np.ndarray
    height: float
    look: Look
    guesses: np.ndarray
    labelled: bool = True


def _axes(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """(3, 3) rows: body left, down, forward in the camera frame.  Radians; yaw 0 faces the viewer, positive
    yaw turns to the picture's right, positive pitch bows forward, roll turns in the picture plane."""
    sin, cos = math.sin(yaw), math.cos(yaw)
    left, forward = np.array([cos, 0.0, sin]), np.array([sin, 0.0, -cos])
    down = np.array([0.0, 1.0, 0.0])
    down, forward = (  # bowing: the upward axis tips forward
        down * math.cos(pitch) - forward * math.sin(pitch),
        forward * math.cos(pitch) + down * math.sin(pitch),
    )
    sin, cos = math.sin(roll), math.cos(roll)
    return np.stack([left, down, forward]) @ np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])


def _hanging(side: int, raised: float, turned: float) -> np.ndarray:
    """Body-frame direction of a limb raised from hanging by `raised` degrees: sideways (turned 0) or forward
    (turned 90).  side: +1 left, -1 right."""
    a, t = math.radians(raised), math.radians(turned)
    return np.array([side * math.sin(a) * math.cos(t), math.cos(a), math.sin(a) * math.sin(t)])


def _bent(direction: np.ndarray, towards: np.ndarray, degrees: float) -> np.ndarray:
    """`direction` rotated by `degrees` towards another body-frame direction."""
    normal = towards - direction * (towards @ direction)
    normal = normal / max(float(np.linalg.norm(normal)), 1e-6)
    angle = math.radians(degrees)
    return direction * math.cos(angle) + normal * math.sin(angle)


def _arm(rng: np.random.Generator, style: str, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Body-frame directions of the upper arm and the forearm."""
    inward, forward, up = np.array([-side, 0.0, 0.0]), np.array([0.0, 0.0, 1.0]), np.array([0.0, -1.0, 0.0])
    if style == "up":
        upper, bend = _hanging(side, rng.uniform(95, 165), rng.normal(10, 15)), rng.uniform(0, 60)
        return upper, _bent(upper, up + 0.3 * inward, min(bend, 60))
    if style == "akimbo":
        upper = _hanging(side, rng.uniform(35, 55), rng.normal(-10, 10))
        return upper, _bent(upper, inward + 0.1 * forward, rng.uniform(75, 105))
    if style == "reach":
        upper = _hanging(side, rng.uniform(50, 100), rng.uniform(0, 50))
        return upper, _bent(upper, up + rng.normal(0, 0.5) * forward, rng.uniform(0, 80))
    if style == "fold":
        upper = _hanging(side, rng.uniform(10, 35), rng.uniform(20, 60))
        return upper, _bent(upper, forward + 0.7 * inward + 0.5 * up, rng.uniform(50, 120))
    swing = rng.normal(0, 25)
    upper = _bent(_hanging(side, rng.uniform(8, 32), 0.0), forward * np.sign(swing), abs(swing) * 0.7)
    return upper, _bent(upper, forward + 0.4 * up + rng.normal(0.1, 0.3) * inward, rng.uniform(0, 40))


def _leg(rng: np.random.Generator, style: str, side: int, phase: float) -> tuple[np.ndarray, np.ndarray]:
    """Body-frame directions of the thigh and the shin; phase +1 / -1 is the fore / hind leg when walking."""
    forward, down = np.array([0.0, 0.0, 1.0]), np.array([0.0, 1.0, 0.0])
    if style == "sit":
        thigh = _hanging(side, rng.uniform(55, 85), rng.uniform(45, 85))
        return thigh, _bent(thigh, down - 0.1 * forward, rng.uniform(50, 85))
    if style == "walk":
        thigh = _bent(_hanging(side, rng.uniform(0, 10), 0.0), forward * phase, rng.uniform(8, 35))
        return thigh, _bent(thigh, -forward, rng.uniform(5, 20) if phase > 0 else rng.uniform(15, 50))
    if style == "kick":
        thigh = _hanging(side, rng.uniform(30, 65), rng.uniform(0, 50))
        return thigh, _bent(thigh, down - 0.3 * forward, rng.uniform(0, 60))
    thigh = _hanging(side, rng.uniform(15, 32) if style == "wide" else rng.uniform(1, 11), rng.normal(10, 10))
    return thigh, _bent(thigh, -forward, rng.uniform(0, 12))


def _facing(rng: np.random.Generator) -> float:
    """Yaw in radians: seven in eight people face the viewer, some turned; the others show their back."""
    kind = rng.random()
    if kind < 0.80:
        return math.radians(np.clip(rng.normal(0, 17), -45, 45))
    if kind < 0.88:
        return math.radians(rng.uniform(30, 75)) * rng.choice((-1, 1))
    return math.pi + math.radians(np.clip(rng.normal(0, 20), -50, 50))


def _figure(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A posed body: joints (J, 3) in the camera frame, in body heights from the pelvis, and head_axes."""
    yaw = _facing(rng)
    roll = rng.normal(0, 4) if rng.random() < 0.9 else rng.uniform(-30, 30)
    hips = _axes(yaw, math.radians(rng.normal(2, 4)), math.radians(roll))
    trunk = _axes(
        yaw + rng.normal(0, 0.15), math.radians(rng.normal(5, 8)), math.radians(roll + rng.normal(0, 7))
    )
    head = _axes(
        yaw + rng.normal(0, 0.25), math.radians(rng.normal(4, 8)), math.radians(roll + rng.normal(0, 9))
    )
    legs = rng.choice(("stand", "walk", "wide", "sit", "kick"), p=(0.44, 0.24, 0.18, 0.09, 0.05))
    styles = rng.choice(("hang", "up", "akimbo", "reach", "fold"), p=(0.42, 0.18, 0.1, 0.18, 0.12), size=2)
    if rng.random() < 0.6:
        styles[1] = styles[0]
    phase, kicker = rng.choice((-1.0, 1.0), size=2)
    spine, shoulder, hip = 0.27, 0.118, 0.066
    stretch = rng.normal(1, 0.06, 6).clip(0.85, 1.15)
    point = {"neck": -trunk[1] * spine * stretch[0]}
    point["head"] = point["neck"] - trunk[1] * 0.03 - head[1] * 0.10
    for side, name, style in ((1, "left", styles[0]), (-1, "right", styles[1])):
        upper, fore = _arm(rng, style, side)
        stand = "stand" if legs == "kick" and side != kicker else legs
        thigh, shin = _leg(rng, stand, side, phase * side)
        start = point["neck"] + (trunk[0] * side * shoulder + trunk[1] * 0.035) * stretch[1]
        end = start + upper @ trunk * 0.155 * stretch[2]
        point[f"{name}_shoulder"], point[f"{name}_elbow"] = start, end
        point[f"{name}_wrist"] = end + fore @ trunk * 0.14 * stretch[3]
        point[f"{name}_hand"] = point[f"{name}_wrist"] + fore @ trunk * 0.032
        start = hips[0] * side * hip * stretch[1]
        end = start + thigh @ hips * 0.225 * stretch[4]
        ankle = end + shin @ hips * 0.215 * stretch[5]
        point[f"{name}_hip"], point[f"{name}_knee"], point[f"{name}_ankle"] = start, end, ankle
        point[f"{name}_toe"] = ankle + np.array([side * 0.03, 0.028, 0.062]) @ hips
    for name, offset in FACE.items():
        point[name] = point["head"] + (np.array(offset) * HEAD_SIZE) @ head
    return np.stack([point[name] for name in JOINTS]), head


def random_color(
    rng: np.random.Generator, saturation: tuple[float, float], value: tuple[float, float]
) -> Color:
    """A random hue within ranges of saturation and value."""
    hue, s, v = rng.uniform(0, 6), rng.uniform(*saturation), rng.uniform(*value)
    wheel = np.clip(np.abs((hue + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    return tuple((255 * v * (1 - s + s * wheel)).tolist())


def _clothes_color(rng: np.random.Generator, ground: np.ndarray) -> Color:
    """The candidate that stands out most from the background's mean colour."""
    candidates = [random_color(rng, (0.45, 1.0), (0.35, 1.0)) for _ in range(3)]
    return max(candidates, key=lambda c: float(np.abs(np.array(c) - ground).sum()))


def _look(rng: np.random.Generator, ground: np.ndarray) -> Look:
    """Random clothes, skin, hair and build for a picture with mean colour `ground` (3,)."""
    skin = np.array([236, 198, 168]) * (1 - rng.uniform(0, 0.6) * np.array([0.75, 0.95, 1.05]))
    hair = np.array([60, 42, 28]) * rng.uniform(0.3, 2.6) if rng.random() < 0.85 else np.full(3, 170.0)
    bald = rng.random() < 0.06
    return Look(
        skin=tuple(skin.tolist()),
        hair=tuple(hair.clip(0, 235).tolist()),
        shirt=_clothes_color(rng, ground),
        print=_clothes_color(rng, ground),
        trousers=_clothes_color(rng, ground),
        shoes=random_color(rng, (0.0, 0.8), (0.05, 0.9)),
        sleeves=int(rng.choice(3, p=(0.2, 0.45, 0.35))),
        long_trousers=bool(rng.random() < 0.65),
        stripes=int(rng.integers(2, 6)) if rng.random() < 0.35 else 0,
        hairline=2.0 if bald else float(rng.uniform(-0.02, 0.22)),
        long_hair=bool(rng.random() < 0.3) and not bald,
        girth=float(rng.uniform(0.9, 1.3)),
    )


def random_person(
    rng: np.random.Generator, ground: np.ndarray, height: float, at: tuple[float, float]
) -> Person:
    """A person whose extent is centred on x = at[0] and whose lowest point is y = at[1], in pixels."""
    joints, axes = _figure(rng)
    joints = joints * height
    middle = (joints[:, 0].min() + joints[:, 0].max()) / 2
    joints = joints + (at[0] - middle, at[1] - joints[:, 1].max() - 0.02 * height, 0.0)
    return Person(joints, axes, height, _look(rng, ground), rng.random(len(KEYPOINTS)))


def seen(p: Person, keypoint: str) -> bool:
    """Whether a point of the head is on the side turned to the viewer; True for points of the body."""
    limit = FACE_DEPTH.get(keypoint.rpartition("_")[2])
    if limit is None:
        return True
    depth = p.joints[J[keypoint], 2] - p.joints[J["head"], 2]
    return bool(depth < limit * HEAD_SIZE[0] * p.height)
