"""Everything that decides a drawn picture: people, a crowd, things in front of them, the ground behind."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np

from pose.errors import UserError
from pose.synthetic.canvas import Canvas
from pose.synthetic.figures import JOINT_FLIP, JOINTS, KEYPOINTS, Color, Person, random_color, random_person

SPLITS = ("train", "val")


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
        person = random_person(rng, ground, height, (x, foot))
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
    return tuple(random_person(rng, ground, tall, spot) for spot in sorted(spots, key=lambda spot: spot[1]))


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
        covers.append(Cover(outline, random_color(rng, (0, 0.8), (0.1, 0.95)), layer))
    return tuple(covers)


def _noise_map(rng: np.random.Generator, size: tuple[int, int], cells: int, channels: int) -> np.ndarray:
    """Smooth noise (H, W, channels), about cells x cells bumps with standard deviation 1."""
    coarse = rng.standard_normal((cells, cells, channels), dtype=np.float32)
    return cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC).reshape(*size, channels)


def _background(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Clutter (H, W, 3) uint8: gradients, a floor, shapes, bars that look like limbs, balls, texture."""
    h, w = size
    image = _noise_map(rng, size, int(rng.integers(2, 6)), 3) * rng.uniform(3, 12)
    image += np.array(random_color(rng, (0, 0.3), (0.25, 0.95)), np.float32)
    if rng.random() < 0.6:
        horizon = int(h * rng.uniform(0.35, 0.8))
        floor = np.array(random_color(rng, (0, 0.3), (0.25, 0.9)), np.float32)
        image[horizon:] = image[horizon:] * 0.4 + floor * 0.6
    canvas = Canvas(image.clip(0, 255).astype(np.uint8))
    for _ in range(rng.integers(1, 8)):
        center, radius = rng.uniform(0, 1, 2) * (w, h), h * rng.uniform(0.03, 0.22)
        color = random_color(rng, (0, 0.4), (0.15, 0.95))
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
