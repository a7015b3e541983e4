"""Scenes -> pixels.  Nothing here knows left from right, so the mirrored scene gives the mirrored picture."""

from __future__ import annotations

import numpy as np

from pose.synthetic.canvas import Canvas, hull, shaded
from pose.synthetic.figures import HEAD_SIZE, JOINTS, PARTS, J, Person, seen
from pose.synthetic.scenes import Cover


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
            canvas.dot(point, radius * unit, shaded(look.skin, shade))

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
            canvas.fill(hull(brow, np.full(2, 0.006 * unit)), shaded(look.hair, 0.7), owner)
    if seen(p, "nose"):
        nose = p.joints[J["nose"], :2]
        canvas.dot(nose, 0.016 * unit, shaded(look.skin, 0.72))
        canvas.dot(nose, 0.009 * unit, shaded(look.skin, 1.12))
        mouth = np.stack([at(0.2, 0.56, 0.82)[:2], at(-0.2, 0.56, 0.82)[:2]])
        canvas.fill(hull(mouth, np.full(2, 0.006 * unit)), (140, 50, 50), owner)


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


def paint_person(canvas: Canvas, p: Person, number: int) -> None:
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


def paint_cover(canvas: Canvas, cover: Cover) -> None:
    canvas.fill(cover.outline, shaded(cover.color, 0.6), 0)
    middle = cover.outline.mean(0)
    canvas.fill(middle + (cover.outline - middle) * 0.9, cover.color, 0)
