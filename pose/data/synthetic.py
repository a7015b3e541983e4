"""The embedded data set: articulated little people drawn into JPEG pictures, with COCO-format keypoints.

A picture is described first (`describe` -> `Scene`: plain numbers) and drawn second (`render`).  Nothing in
the drawing knows left from right, so the mirrored description (`mirror`) draws the mirrored picture; which
side is the left one follows from the facing direction, as with real people: from the face, or from its lack.

Frames.  Body: (left, down, forward), in body heights.  Camera: (x right, y down, z away), orthographic, in
pixels; integer x, y are pixel centres.  Colours are RGB.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from pose.errors import UserError

VERSION = 1  # of the drawer: raise it whenever the same seed would give another picture
SPLITS = ("train", "val")
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
MIN_KEYPOINTS = 3  # people with fewer are left without labelled keypoints
SUBPIXEL = 4  # bits of cv2's fixed-point drawing coordinates
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
class SyntheticConfig:
    """How many pictures, from which seed, how large (long side, pixels) and how crowded."""

    train: int = 2000
    val: int = 200
    seed: int = 1
    size: int = 320
    max_people: int = 5

    def __post_init__(self) -> None:
        """Raise `UserError` for sizes that cannot be drawn."""
        if min(self.train, self.val, self.seed) < 0:
            raise UserError("synthetic data: train, val and seed must not be negative")
        if self.size < 64:
            raise UserError(f"synthetic data: size {self.size} is too small to see people in, use 64 or more")
        if not 1 <= self.max_people <= 20:
            raise UserError(f"synthetic data: max_people is {self.max_people}, use 1 to 20")


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


class Cover(NamedTuple):
    """A foreground object: outline (n, 2) in pixels, drawn after person number `layer` (from 1)."""

    outline: np.ndarray
    color: Color
    layer: int


@dataclass(frozen=True)
class Scene:
    """Everything that decides a picture.  people and crowd from far to near; background (H, W, 3) uint8."""

    background: np.ndarray
    people: tuple[Person, ...]
    crowd: tuple[Person, ...] = ()
    covers: tuple[Cover, ...] = ()
    blur: float = 0.0  # sigma, pixels
    noise: float = 0.0  # sigma, grey levels
    gain: float = 1.0
    quality: int = 90  # JPEG
    noise_seed: int = 0


def mirror(scene: Scene) -> Scene:
    """The scene seen in a mirror: x' = W - 1 - x and every person's left and right exchanged."""
    width = scene.background.shape[1]

    def person(p: Person) -> Person:
        joints = p.joints[JOINT_FLIP] * (-1, 1, 1) + (width - 1, 0, 0)
        # Mirroring negates x; the axis called left is then the one that used to be right.
        axes = p.head_axes * (-1, 1, 1) * np.array([[-1], [1], [1]])
        return replace(p, joints=joints, head_axes=axes, guesses=p.guesses[JOINT_FLIP[: len(KEYPOINTS)]])

    return replace(
        scene,
        background=np.ascontiguousarray(scene.background[:, ::-1]),
        people=tuple(map(person, scene.people)),
        crowd=tuple(map(person, scene.crowd)),
        covers=tuple(c._replace(outline=c.outline * (-1, 1) + (width - 1, 0)) for c in scene.covers),
    )


# ------------------------------------------------------------------------------------------ describing people


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


def _color(rng: np.random.Generator, saturation: tuple[float, float], value: tuple[float, float]) -> Color:
    """A random hue within ranges of saturation and value."""
    hue, s, v = rng.uniform(0, 6), rng.uniform(*saturation), rng.uniform(*value)
    wheel = np.clip(np.abs((hue + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    return tuple((255 * v * (1 - s + s * wheel)).tolist())


def _clothes_color(rng: np.random.Generator, ground: np.ndarray) -> Color:
    """The candidate that stands out most from the background's mean colour."""
    candidates = [_color(rng, (0.45, 1.0), (0.35, 1.0)) for _ in range(3)]
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
        shoes=_color(rng, (0.0, 0.8), (0.05, 0.9)),
        sleeves=int(rng.choice(3, p=(0.2, 0.45, 0.35))),
        long_trousers=bool(rng.random() < 0.65),
        stripes=int(rng.integers(2, 6)) if rng.random() < 0.35 else 0,
        hairline=2.0 if bald else float(rng.uniform(-0.02, 0.22)),
        long_hair=bool(rng.random() < 0.3) and not bald,
        girth=float(rng.uniform(0.9, 1.3)),
    )


def _person(rng: np.random.Generator, ground: np.ndarray, height: float, at: tuple[float, float]) -> Person:
    """A person whose extent is centred on x = at[0] and whose lowest point is y = at[1], in pixels."""
    joints, axes = _figure(rng)
    joints = joints * height
    middle = (joints[:, 0].min() + joints[:, 0].max()) / 2
    joints = joints + (at[0] - middle, at[1] - joints[:, 1].max() - 0.02 * height, 0.0)
    return Person(joints, axes, height, _look(rng, ground), rng.random(len(KEYPOINTS)))


# --------------------------------------------------------------------------------------- describing the scene


def _people(
    rng: np.random.Generator, size: tuple[int, int], ground: np.ndarray, count: int
) -> tuple[Person, ...]:
    """`count` people side by side with jitter, larger (nearer) ones last."""
    h, w = size
    slots = (rng.permutation(count) + 0.5 + rng.uniform(-0.45, 0.45, count)) / count
    people = []
    for slot in slots:
        height = h * rng.uniform(0.5, 0.98) ** (1 + 0.12 * (count - 1))
        height = max(height, 0.25 * h)
        # The ground rises with distance; a few people come so near that the picture cuts them off.
        near = rng.random() < 0.12
        height = max(height, 0.6 * h) if near else height
        foot = h * rng.uniform(0.97, 1.3) if near else rng.uniform(max(height, 0.75 * h), h)
        x = w * (0.5 + (slot - 0.5) * rng.uniform(0.8, 1.0))
        person = _person(rng, ground, height, (x, foot))
        ignored = rng.random() < (0.08 if height < 0.4 * h else 0.02)
        people.append(replace(person, labelled=not ignored))
    return tuple(sorted(people, key=lambda p: p.height))


def _crowd(rng: np.random.Generator, size: tuple[int, int], ground: np.ndarray) -> tuple[Person, ...]:
    """A clump of small figures, far away."""
    h, w = size
    tall, count = h * rng.uniform(0.10, 0.16), int(rng.integers(8, 17))
    center, spread = rng.uniform(0.2, 0.8) * w, rng.uniform(0.5, 1.0) * tall * math.sqrt(count)
    foot = rng.uniform(0.35, 0.6) * h
    spots = [
        (center + rng.uniform(-1, 1) * spread, foot + rng.uniform(-0.5, 0.5) * tall) for _ in range(count)
    ]
    return tuple(_person(rng, ground, tall, spot) for spot in sorted(spots, key=lambda spot: spot[1]))


def _blob(rng: np.random.Generator, center: np.ndarray, radius: float) -> np.ndarray:
    """Outline (n, 2) of a random convex-ish shape: box, pole, disc or polygon."""
    kind, turn = rng.integers(4), rng.uniform(0, 2 * math.pi)
    if kind == 3:
        count = int(rng.integers(3, 8))
        angles = turn + np.arange(count) * 2 * math.pi / count
        radii = rng.uniform(0.6, 1.2, (count, 1)) * radius
    else:
        count = 24 if kind == 2 else 4
        # Boxes and poles stand nearly upright.
        turn = turn if kind == 2 else rng.normal(0, 0.15) + math.pi / 4
        angles = turn + np.arange(count) * 2 * math.pi / count
        radii = np.full((count, 1), radius)
    outline = np.stack([np.cos(angles), np.sin(angles)], 1) * radii
    return outline * ((0.25, 2.2) if kind == 1 else (1, 1)) + center


def _covers(rng: np.random.Generator, size: tuple[int, int], people: Sequence[Person]) -> tuple[Cover, ...]:
    """Foreground objects, each placed somewhere on a person."""
    count = int(rng.choice(3, p=(0.62, 0.28, 0.10))) if people else 0
    covers = []
    for _ in range(count):
        target = int(rng.integers(len(people)))
        spot = people[target].joints[rng.integers(len(JOINTS)), :2]
        # A hidden head or torso leaves nothing to learn, so objects stay small beside the person.
        outline = _blob(rng, spot, people[target].height * rng.uniform(0.05, 0.14))
        layer = int(rng.integers(target, len(people))) + 1
        covers.append(Cover(outline, _color(rng, (0, 0.8), (0.1, 0.95)), layer))
    return tuple(covers)


def _noise_map(rng: np.random.Generator, size: tuple[int, int], cells: int, channels: int) -> np.ndarray:
    """Smooth noise (H, W, channels), about cells x cells bumps with standard deviation 1."""
    coarse = rng.standard_normal((cells, cells, channels), dtype=np.float32)
    return cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC).reshape(*size, channels)


def _background(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Clutter (H, W, 3) uint8: gradients, a floor, shapes, bars that look like limbs, balls, texture."""
    h, w = size
    image = _noise_map(rng, size, int(rng.integers(2, 6)), 3) * rng.uniform(3, 12)
    image += np.array(_color(rng, (0, 0.3), (0.25, 0.95)), np.float32)
    if rng.random() < 0.6:
        horizon = int(h * rng.uniform(0.35, 0.8))
        floor = np.array(_color(rng, (0, 0.3), (0.25, 0.9)), np.float32)
        image[horizon:] = image[horizon:] * 0.4 + floor * 0.6
    canvas = Canvas(image.clip(0, 255).astype(np.uint8))
    for _ in range(rng.integers(1, 8)):
        center, radius = rng.uniform(0, 1, 2) * (w, h), h * rng.uniform(0.03, 0.22)
        color = _color(rng, (0, 0.4), (0.15, 0.95))
        kind = rng.random()
        if kind < 0.25:  # a limb-like bar
            end = center + rng.normal(0, 0.15, 2) * h
            canvas.capsule(center, end, radius * 0.25, radius * 0.2, color, 0)
        elif kind < 0.42:  # a head-like ball
            canvas.capsule(center, center, radius * 0.5, radius * 0.5, color, 0)
        else:
            canvas.fill(_blob(rng, center, radius), color, 0)
    texture = _noise_map(rng, size, int(rng.integers(20, 80)), 1) * rng.uniform(0, 8)
    if rng.random() < 0.25:  # a regular pattern: wallpaper, tiles, planks
        period, angle = rng.uniform(6, 30), rng.uniform(0, math.pi)
        phase = np.arange(w) * math.cos(angle) + np.arange(h)[:, None] * math.sin(angle)
        texture[..., 0] += np.sin(phase * 2 * math.pi / period) * rng.uniform(3, 9)
    return (canvas.image + texture).clip(0, 255).astype(np.uint8)


def describe(index: int, split: str, cfg: SyntheticConfig) -> Scene:
    """The scene of one picture, a function of (seed, split, index) alone.  index counts from 0."""
    rng = np.random.default_rng([cfg.seed, SPLITS.index(split), index])
    short = int(cfg.size * rng.uniform(0.72, 1.0)) // 2 * 2
    size = (short, cfg.size) if rng.random() < 0.6 else (cfg.size, short)
    background = _background(rng, size)
    ground = background.reshape(-1, 3).mean(0)
    odds = np.array([0.40, 0.30, 0.17, 0.09, 0.04] + [0.03] * cfg.max_people)[: cfg.max_people]
    count = 0 if rng.random() < 0.04 else 1 + int(rng.choice(cfg.max_people, p=odds / odds.sum()))
    people = _people(rng, size, ground, count)
    return Scene(
        background=background,
        people=people,
        crowd=_crowd(rng, size, ground) if rng.random() < 0.06 else (),
        covers=_covers(rng, size, people),
        blur=float(rng.uniform(0, 0.8)),
        noise=float(rng.uniform(0, 8)),
        gain=float(rng.uniform(0.8, 1.15)),
        quality=int(rng.integers(60, 96)),
        noise_seed=int(rng.integers(2**31)),
    )


# ---------------------------------------------------------------------------------------------------- drawing


class Canvas:
    """image (H, W, 3) uint8, painted in place, and owner (H, W) int32: what is on top at each pixel."""

    def __init__(self, image: np.ndarray) -> None:
        self.image = np.ascontiguousarray(image)
        self.owner: np.ndarray = np.zeros(image.shape[:2], np.int32)

    def fill(self, outline: np.ndarray, color: Color, owner: int) -> None:
        """Fill a convex outline (n, 2), without shading."""
        points = np.rint(outline * (1 << SUBPIXEL)).astype(np.int32)
        cv2.fillConvexPoly(self.image, points, color, cv2.LINE_AA, SUBPIXEL)
        cv2.fillConvexPoly(self.owner, points, owner, cv2.LINE_8, SUBPIXEL)

    def hull(
        self, centers: np.ndarray, radii: Sequence[float], color: Color, owner: int, rim: float = 0.62
    ) -> None:
        """The shaded hull of discs (n, 2): a dark rim, the colour, a light core (lit from the viewer)."""
        for shrink, shade in ((1.0, rim), (0.82, 1.0), (0.42, 1.14)):
            if shade > 1 and max(radii) * shrink < 1.5:
                return
            self.fill(_hull(centers, np.asarray(radii) * shrink), _shaded(color, shade), owner)

    def capsule(
        self,
        start: np.ndarray,
        end: np.ndarray,
        start_radius: float,
        end_radius: float,
        color: Color,
        owner: int,
    ) -> None:
        """A shaded limb between two points (2,)."""
        self.hull(np.stack([start, end]), (start_radius, end_radius), color, owner)

    def dot(self, center: np.ndarray, radius: float, color: Color) -> None:
        """A small flat disc, which leaves the owner as it is."""
        x, y = np.rint(center * (1 << SUBPIXEL)).astype(int).tolist()
        radius = max(int(round(radius * (1 << SUBPIXEL))), 1)
        cv2.circle(self.image, (x, y), radius, color, -1, cv2.LINE_AA, SUBPIXEL)


_CIRCLE = np.stack([np.cos(a := np.arange(16) * math.pi / 8), np.sin(a)], 1)


def _hull(centers: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Outline (n, 2) of the convex hull of discs: centers (m, 2), radii (m,)."""
    points = (centers[:, None] + radii[:, None, None] * _CIRCLE).reshape(-1, 2).astype(np.float32)
    return cv2.convexHull(points)[:, 0]


def _shaded(color: Color, shade: float) -> Color:
    return (min(color[0] * shade, 255), min(color[1] * shade, 255), min(color[2] * shade, 255))


def _paint_torso(canvas: Canvas, p: Person, owner: int) -> None:
    """Shirt with stripes, then the seat of the trousers."""
    look, xy, thick = p.look, p.joints[:, :2], 0.054 * p.height * p.look.girth
    shoulders, hips = xy[[J["left_shoulder"], J["right_shoulder"]]], xy[[J["left_hip"], J["right_hip"]]]
    radii = (thick * 0.72, thick * 0.72, thick, thick)
    canvas.hull(np.concatenate([shoulders, hips]), radii, look.shirt, owner)
    for band in range(look.stripes):
        t, width = (band + 0.5) / look.stripes * 0.8, 0.5 * thick / look.stripes
        line = shoulders * (1 - t) + hips * t
        canvas.hull(line, (width,) * 2, look.print, owner)
    belt = shoulders * 0.16 + hips * 0.84
    canvas.hull(np.concatenate([belt, hips]), (thick * 0.96,) * 4, look.trousers, owner, rim=0.85)


def _paint_limb(canvas: Canvas, p: Person, part: str, owner: int) -> None:
    """An arm or leg segment, a hand or a shoe."""
    look, unit = p.look, p.height * p.look.girth
    side, _, name = part.partition("_")
    start, end, wide, narrow = {
        "upper_arm": ("shoulder", "elbow", 0.036, 0.029),
        "forearm": ("elbow", "wrist", 0.028, 0.021),
        "hand": ("wrist", "hand", 0.021, 0.025),
        "thigh": ("hip", "knee", 0.050, 0.036),
        "shin": ("knee", "ankle", 0.035, 0.024),
        "foot": ("ankle", "toe", 0.027, 0.026),
    }[name]
    color = {
        "upper_arm": look.shirt if look.sleeves else look.skin,
        "forearm": look.shirt if look.sleeves == 2 else look.skin,
        "thigh": look.trousers,
        "shin": look.trousers if look.long_trousers else look.skin,
        "foot": look.shoes,
    }.get(name, look.skin)
    a, b = p.joints[J[f"{side}_{start}"], :2], p.joints[J[f"{side}_{end}"], :2]
    canvas.capsule(a, b, wide * unit, narrow * unit, color, owner)
    if look.stripes and color == look.shirt:
        band = np.stack([a * 0.45 + b * 0.55, a * 0.3 + b * 0.7])
        canvas.hull(band, (narrow * unit * 0.95, narrow * unit * 0.9), look.print, owner)


def _paint_skull(canvas: Canvas, p: Person, owner: int) -> None:
    """The head's ellipsoid pixel by pixel: hair where the surface looks up or back, skin elsewhere."""
    center, axes = p.joints[J["head"], :2], p.head_axes
    wide, tall = 0.081 * p.height, 0.100 * p.height
    down = axes[1, :2] / max(float(np.linalg.norm(axes[1, :2])), 1e-6)
    right = np.array([down[1], -down[0]])
    h, w = canvas.owner.shape
    low = np.maximum(np.floor(center - tall - 2), 0).astype(int)
    high = np.minimum(np.ceil(center + tall + 3), (w, h)).astype(int)
    if (high <= low).any():
        return
    x = np.arange(low[0], high[0])[None, :] - center[0]
    y = np.arange(low[1], high[1])[:, None] - center[1]
    u, v = (x * right[0] + y * right[1]) / wide, (x * down[0] + y * down[1]) / tall
    radius = np.sqrt(u * u + v * v)
    depth = -np.sqrt(np.clip(1 - radius**2, 0, 1))
    normal = np.stack([u * right[0] + v * down[0], u * right[1] + v * down[1], depth], -1) @ axes.T
    cap = -0.75 * normal[..., 1] - 0.65 * normal[..., 2] - p.look.hairline
    hair = np.clip(cap * wide + 0.5, 0, 1)[..., None]
    color = (1 - hair) * np.array(p.look.skin) + hair * np.array(p.look.hair)
    color = color * np.clip(1.08 - 0.4 * radius**4, 0.6, 1.1)[..., None]
    alpha = np.clip((1 - radius) * wide + 0.5, 0, 1)[..., None]
    box = (slice(low[1], high[1]), slice(low[0], high[0]))
    blend = canvas.image[box] * (1 - alpha) + color * alpha + 0.5
    canvas.image[box] = np.clip(blend, 0, 255).astype(np.uint8)
    canvas.owner[box][alpha[..., 0] > 0.5] = owner


def _paint_head(canvas: Canvas, p: Person, owner: int) -> None:
    """Far ear, head, face as far as it is turned to the viewer, near ear."""
    unit, look, axes = p.height, p.look, p.head_axes

    def at(left: float, down: float, forward: float) -> np.ndarray:
        """A head point in half axes -> camera pixels (3,)."""
        return p.joints[J["head"]] + (np.array([left, down, forward]) * HEAD_SIZE) @ axes * unit

    def ear(side: str) -> None:
        point = p.joints[J[f"{side}_ear"], :2]
        for radius, shade in ((0.024, 0.6), (0.018, 0.95)):
            canvas.dot(point, radius * unit, _shaded(look.skin, shade))

    ears = sorted(("left", "right"), key=lambda side: -p.joints[J[f"{side}_ear"], 2])
    ear(ears[0])
    _paint_skull(canvas, p, owner)
    ear(ears[1])
    for side in ("left", "right"):
        x = 0.40 if side == "left" else -0.40
        if seen(p, f"{side}_eye"):
            eye = p.joints[J[f"{side}_eye"], :2]
            canvas.dot(eye, 0.0185 * unit, (250, 250, 250))
            canvas.dot(eye, 0.0115 * unit, (25, 20, 20))
            brow = np.stack([at(x * 1.35, -0.36, 0.8)[:2], at(x * 0.65, -0.36, 0.9)[:2]])
            canvas.fill(_hull(brow, np.full(2, 0.006 * unit)), _shaded(look.hair, 0.7), owner)
    if seen(p, "nose"):
        nose = p.joints[J["nose"], :2]
        canvas.dot(nose, 0.016 * unit, _shaded(look.skin, 0.72))
        canvas.dot(nose, 0.009 * unit, _shaded(look.skin, 1.12))
        mouth = np.stack([at(0.2, 0.56, 0.82)[:2], at(-0.2, 0.56, 0.82)[:2]])
        canvas.fill(_hull(mouth, np.full(2, 0.006 * unit)), (140, 50, 50), owner)


def seen(p: Person, keypoint: str) -> bool:
    """Whether a point of the head is on the side turned to the viewer; True for points of the body."""
    limit = FACE_DEPTH.get(keypoint.rpartition("_")[2])
    if limit is None:
        return True
    depth = p.joints[J[keypoint], 2] - p.joints[J["head"], 2]
    return bool(depth < limit * HEAD_SIZE[0] * p.height)


def _depths(p: Person) -> list[tuple[float, str]]:
    """(depth, part), far to near.  Limbs win over the torso they hang from, by about their thickness."""
    z = dict(zip(JOINTS, p.joints[:, 2].tolist(), strict=True))
    trunk = (z["neck"] + (z["left_hip"] + z["right_hip"]) / 2) / 2
    depths = [(trunk, "torso"), (z["neck"] - 0.01 * p.height, "neck"), (z["head"] - 0.09 * p.height, "head")]
    for side in ("left", "right"):
        elbow, wrist = z[f"{side}_elbow"], z[f"{side}_wrist"]
        knee, ankle = z[f"{side}_knee"], z[f"{side}_ankle"]
        # The shoulder counts little: an upper arm lies before or behind the torso with its elbow.
        upper = 0.7 * elbow + 0.3 * z[f"{side}_shoulder"] - 0.03 * p.height
        fore = (elbow + wrist) / 2 - 0.032 * p.height
        depths += [(upper, f"{side}_upper_arm"), (fore, f"{side}_forearm")]
        depths += [(fore - 0.001 * p.height, f"{side}_hand")]
        thigh = (z[f"{side}_hip"] + knee) / 2
        depths += [
            (thigh - 0.03 * p.height, f"{side}_thigh"),
            ((knee + ankle) / 2 - 0.02 * p.height, f"{side}_shin"),
        ]
        depths += [((knee + ankle) / 2 - 0.03 * p.height, f"{side}_foot")]
    return sorted(depths, reverse=True)


def _paint_person(canvas: Canvas, p: Person, number: int) -> None:
    """All parts of a person, far to near; the owner map gets number * len(PARTS) + part."""
    if p.look.long_hair:
        _paint_mane(canvas, p, number)
    for _, part in _depths(p):
        owner = number * len(PARTS) + PARTS.index(part)
        if part == "torso":
            _paint_torso(canvas, p, owner)
        elif part == "neck":
            width = 0.030 * p.height * p.look.girth
            chest, head = p.joints[J["neck"], :2], p.joints[J["head"], :2]
            canvas.capsule(chest, head, width, width, p.look.skin, owner)
        elif part == "head":
            _paint_head(canvas, p, owner)
        else:
            _paint_limb(canvas, p, part, owner)
    if p.look.long_hair and p.head_axes[2, 2] > 0:
        _paint_mane(canvas, p, number)


def _paint_mane(canvas: Canvas, p: Person, number: int) -> None:
    """Long hair: behind everything, or over the back of a person seen from behind."""
    back = p.joints[J["head"]] - p.head_axes[2] * 0.04 * p.height
    tip = back + p.head_axes[1] * 0.13 * p.height
    radii = (0.086 * p.height, 0.06 * p.height)
    canvas.capsule(back[:2], tip[:2], *radii, p.look.hair, number * len(PARTS) + PARTS.index("head"))


def _paint_cover(canvas: Canvas, cover: Cover) -> None:
    canvas.fill(cover.outline, _shaded(cover.color, 0.6), 0)
    middle = cover.outline.mean(0)
    canvas.fill(middle + (cover.outline - middle) * 0.9, cover.color, 0)


# ------------------------------------------------------------------------------------------------- annotating


def _paint_crowd(canvas: Canvas, crowd: Sequence[Person]) -> dict[str, Any] | None:
    """Paint a clump of people, blur it, and return its crowd annotation (None when nothing of it is seen)."""
    for person in crowd:
        _paint_person(canvas, person, 1)
    mask = cv2.dilate((canvas.owner > 0).astype(np.uint8), np.ones((5, 5), np.uint8))
    canvas.owner[:] = 0
    if not mask.any():
        return None
    blurred = cv2.GaussianBlur(canvas.image, (0, 0), 1.3)
    canvas.image[mask > 0] = blurred[mask > 0]
    return {
        "iscrowd": 1,
        "segmentation": {"size": list(mask.shape), "counts": _run_lengths(mask)},
        "area": int(mask.sum()),
        "bbox": list(map(int, cv2.boundingRect(mask))),
        "keypoints": [0] * 3 * len(KEYPOINTS),
        "num_keypoints": 0,
        "category_id": 1,
    }


def _run_lengths(mask: np.ndarray) -> list[int]:
    """COCO's uncompressed run lengths of a mask (H, W): column by column, beginning with a run of zeros."""
    flat = np.concatenate([[0], mask.ravel(order="F") > 0, [1]])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    runs = np.diff(np.concatenate([[0], changes]))
    if flat[-2]:  # the sentinel made no change: the last run of ones is still open
        runs = np.append(runs, mask.size - runs.sum())
    return [int(run) for run in runs]


def _polygons(mask: np.ndarray) -> list[list[int]]:
    """Outer contours of a mask as COCO polygons [x, y, x, y, ...]; never empty for a mask that is not."""
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    polygons = [[int(value) for value in contour.ravel()] for contour in contours if len(contour) >= 3]
    if polygons:
        return polygons
    x, y, w, h = map(int, cv2.boundingRect(mask))
    return [[x, y, x + w, y, x + w, y + h, x, y + h]]


def _visibilities(p: Person, number: int, owner: np.ndarray, shown: float) -> list[int]:
    """v for each keypoint, from the final owner map; shown: the uncovered share of the silhouette."""
    h, w = owner.shape
    visibilities = []
    for k, name in enumerate(KEYPOINTS):
        x, y = p.joints[k, :2]
        column, row = int(round(x)), int(round(y))
        if not (0 <= column < w and 0 <= row < h and 0 <= x <= w - 1 and 0 <= y <= h - 1):
            visibilities.append(0)
            continue
        around = owner[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
        person, part = np.divmod(around, len(PARTS))
        mine = person == number
        if not seen(p, name):
            visibilities.append(0)  # nobody annotates the far side of a head
        elif (mine & np.isin(part, OWN[k])).mean() > 0.34:
            visibilities.append(2)
        else:
            # Under one's own body the place is easy to tell; under something else annotators often give up.
            chance = 0.85 if mine.mean() > 0.34 else 0.6 if shown > 0.4 else 0.0
            visibilities.append(1 if p.guesses[k] < chance else 0)
    return visibilities


def _annotate(p: Person, number: int, silhouette: np.ndarray, owner: np.ndarray) -> dict[str, Any] | None:
    """The COCO annotation of a person, without ids; None for somebody of whom hardly anything is seen.
    silhouette (H, W) uint8: the person in the picture as if nobody stood in front."""
    area = int(silhouette.sum())
    shown = int((owner // len(PARTS) == number).sum()) / max(area, 1)
    if area < 64 or shown < 0.05:
        return None
    values = _visibilities(p, number, owner, shown)
    # A hand at the picture's edge or behind somebody says too little about a person to be annotated.
    if not p.labelled or shown < 0.15 or sum(v > 0 for v in values) < MIN_KEYPOINTS:
        values = [0] * len(KEYPOINTS)
    keypoints: list[float] = []
    for (x, y), v in zip(p.joints[: len(KEYPOINTS), :2].tolist(), values, strict=True):
        keypoints += [round(x, 1), round(y, 1), v] if v else [0, 0, 0]
    return {
        "iscrowd": 0,
        "segmentation": _polygons(silhouette),
        "area": area,
        "bbox": list(map(int, cv2.boundingRect(silhouette))),
        "keypoints": keypoints,
        "num_keypoints": sum(v > 0 for v in values),
        "category_id": 1,
    }


def render(scene: Scene) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Draw a scene -> image (H, W, 3) uint8 RGB before blur and noise, and COCO annotations without ids."""
    canvas = Canvas(scene.background.copy())
    crowd = _paint_crowd(canvas, scene.crowd)
    silhouettes = []
    for number, person in enumerate(scene.people, start=1):
        _paint_person(canvas, person, number)
        silhouettes.append((canvas.owner // len(PARTS) == number).astype(np.uint8))
        for cover in scene.covers:
            if cover.layer == number:
                _paint_cover(canvas, cover)
    people = [
        _annotate(person, number, silhouettes[number - 1], canvas.owner)
        for number, person in enumerate(scene.people, start=1)
    ]
    return canvas.image, [annotation for annotation in [*people, crowd] if annotation is not None]


def _finish(image: np.ndarray, scene: Scene) -> np.ndarray:
    """The camera: blur, exposure, noise."""
    if scene.blur > 0.25:
        image = cv2.GaussianBlur(image, (0, 0), scene.blur)
    rng = np.random.default_rng(scene.noise_seed)
    noise = rng.standard_normal(image.shape, dtype=np.float32) * scene.noise
    return (image * np.float32(scene.gain) + noise + 0.5).clip(0, 255).astype(np.uint8)


def draw_picture(index: int, split: str, cfg: SyntheticConfig) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Picture number `index` (from 0) of a split: image (H, W, 3) uint8 RGB, COCO annotations without ids."""
    scene = describe(index, split, cfg)
    image, annotations = render(scene)
    return _finish(image, scene), annotations


# ---------------------------------------------------------------------------------------------- writing files


def _write_picture(
    job: tuple[str, int], folder: Path, cfg: SyntheticConfig
) -> tuple[Any, list[dict[str, Any]]]:
    """Draw and write one picture -> its COCO `images` entry and annotations.  Top level: can be spawned."""
    split, index = job
    scene = describe(index, split, cfg)
    image, annotations = render(scene)
    image = _finish(image, scene)
    name = f"{index + 1:06d}.jpg"
    done, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, scene.quality])
    assert done
    (folder / split / name).write_bytes(data.tobytes())
    h, w = image.shape[:2]
    return {"id": index + 1, "file_name": name, "width": w, "height": h}, annotations


def _single_threaded() -> None:
    cv2.setNumThreads(0)


def _run(
    draw: Callable[[tuple[str, int]], Any], jobs: list[tuple[str, int]], processes: int
) -> Iterator[tuple[Any, list[dict[str, Any]]]]:
    """Map in order, in this process or in several."""
    if processes == 1 or len(jobs) < 2:
        yield from map(draw, jobs)
        return
    spawn = multiprocessing.get_context("spawn")  # forking after torch has started threads can hang
    with ProcessPoolExecutor(processes, mp_context=spawn, initializer=_single_threaded) as pool:
        yield from pool.map(draw, jobs, chunksize=8)


def _coco(images: list[Any], annotations: list[list[dict[str, Any]]]) -> dict[str, Any]:
    """One COCO file; annotations[i] belong to images[i]; ids are given here, from 1."""
    number = {name: index + 1 for index, name in enumerate(KEYPOINTS)}
    skeleton = [[number[a], number[b]] for a, b in LIMBS]
    category = {"id": 1, "name": "person", "supercategory": "person"}
    flat = [
        {**annotation, "image_id": image["id"]}
        for image, found in zip(images, annotations, strict=True)
        for annotation in found
    ]
    return {
        "info": {"description": f"drawn people, version {VERSION} of the drawer"},
        "images": images,
        "annotations": [{"id": index + 1, **annotation} for index, annotation in enumerate(flat)],
        "categories": [{**category, "keypoints": list(KEYPOINTS), "skeleton": skeleton}],
    }


def _stamp(cfg: SyntheticConfig) -> dict[str, Any]:
    """What `synthetic.json` holds: enough to tell whether a folder is the data set asked for."""
    return {"version": VERSION, "config": asdict(cfg)}


def _occupied(root: Path) -> bool:
    return root.exists() and (not root.is_dir() or any(root.iterdir()))


def synthesize(root: Path, cfg: SyntheticConfig, processes: int | None = None, progress: bool = True) -> None:
    """Write root/{train,val}/NNNNNN.jpg, root/annotations/person_keypoints_{train,val}.json and
    root/synthetic.json, all or nothing.  processes: None for one per core; the files do not depend on it.
    Raises `UserError` when `root` already holds something."""
    root = Path(root)
    if _occupied(root):
        raise UserError(
            f"{root} already holds something, and people are to be drawn there: choose another data.root, or "
            "set data.synthetic=null to use what is there"
        )
    folder = root.with_name(root.name + ".partial")
    if folder.exists():
        shutil.rmtree(folder)  # left by a run that was stopped
    for name in (*SPLITS, "annotations"):
        (folder / name).mkdir(parents=True)
    jobs = [
        (split, index) for split, count in (("train", cfg.train), ("val", cfg.val)) for index in range(count)
    ]
    if processes is not None and processes < 1:
        raise UserError(f"synthetic data: processes is {processes}, use 1 or more")
    workers = min(processes or os.cpu_count() or 1, max(len(jobs), 1))
    drawn = _run(partial(_write_picture, folder=folder, cfg=cfg), jobs, workers)
    results = list(tqdm(drawn, total=len(jobs), desc="drawing", unit="picture", disable=not progress))
    for split, part in (("train", results[: cfg.train]), ("val", results[cfg.train :])):
        content = _coco([image for image, _ in part], [annotations for _, annotations in part])
        file = folder / "annotations" / f"person_keypoints_{split}.json"
        file.write_text(json.dumps(content, separators=(",", ":")))
    (folder / "synthetic.json").write_text(json.dumps(_stamp(cfg), indent=2) + "\n")
    if root.exists():
        root.rmdir()
    folder.rename(root)


def ensure(root: Path, cfg: SyntheticConfig, processes: int | None = None, progress: bool = True) -> bool:
    """`synthesize` unless `root` already holds exactly this data set; returns whether it drew.  Raises
    `UserError` when `root` holds something else."""
    root = Path(root)
    stamp = root / "synthetic.json"
    if stamp.is_file():
        try:
            found = json.loads(stamp.read_text())
        except ValueError:
            found = None
        if found == _stamp(cfg):
            return False
        drawn = found.get("config", found) if isinstance(found, dict) else found
        raise UserError(
            f"{root} holds drawn data with other settings ({drawn}): delete it, take another folder (--root "
            "of synthesize, data.root of a config), or ask for the same (data.synthetic.train=..., ...)"
        )
    synthesize(root, cfg, processes, progress)
    return True
