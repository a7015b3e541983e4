"""What a network answers, as pictures: heatmaps, part affinity fields and tags over the picture itself."""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Mapping

import cv2
import numpy as np
from torch import Tensor

DIM = 0.45  # brightness of the picture below the colours


def draw_fields(image: np.ndarray, fields: Mapping[str, Tensor], num_keypoints: int) -> dict[str, np.ndarray]:
    """image (H, W, 3) uint8 RGB; fused fields of this one picture, as a head decodes them but without the
    batch -> a picture (H, W, 3) for each field that can be drawn.

    heatmap: every kind of keypoint in its own colour; paf: the direction of the strongest limb as hue (red to
    the right, then clockwise through yellow, green and blue); tag: its value at the strongest keypoint as
    hue."""
    arrays = {name: maps.float().nan_to_num().cpu().numpy() for name, maps in fields.items()}
    if "heatmap" in arrays:
        arrays["heatmap"] = arrays["heatmap"][:num_keypoints]  # without the background
    return {name: draw(image, arrays) for name, draw in PAINTERS.items() if name in arrays}


def paint_heatmap(image: np.ndarray, fields: Mapping[str, np.ndarray]) -> np.ndarray:
    heat = fields["heatmap"]
    colors = np.array([colorsys.hsv_to_rgb(k * 0.618034, 0.9, 1.0) for k in range(len(heat))])
    weight = heat.clip(0, 1) ** 2  # the strongest kind gives the colour
    mixed = np.tensordot(weight, colors, (0, 0)) / weight.sum(0).clip(min=1e-6)[..., None]
    return _over(image, mixed, heat.max(0))


def paint_paf(image: np.ndarray, fields: Mapping[str, np.ndarray]) -> np.ndarray:
    x, y = fields["paf"][0::2], fields["paf"][1::2]
    length = np.hypot(x, y)
    strongest = length.argmax(0)[None]
    dx, dy, alpha = (np.take_along_axis(maps, strongest, 0)[0] for maps in (x, y, length))
    return _over(image, _hue(np.arctan2(dy, dx) / (2 * np.pi) % 1), alpha)


def paint_tag(image: np.ndarray, fields: Mapping[str, np.ndarray]) -> np.ndarray:
    """tag (T, K * D, h, w): the mean over passes of the first of the D numbers."""
    heat, tag = fields["heatmap"], fields["tag"].mean(0)
    tag = tag[:: len(tag) // len(heat)]
    strongest = heat.argmax(0)[None]
    value, alpha = (np.take_along_axis(maps, strongest, 0)[0] for maps in (tag, heat))
    seen = value[alpha > 0.2]
    low, high = (seen.min(), seen.max()) if len(seen) else (0.0, 1.0)
    return _over(image, _hue(0.8 * ((value - low) / max(high - low, 1e-6)).clip(0, 1)), alpha)


PAINTERS: dict[str, Callable[[np.ndarray, Mapping[str, np.ndarray]], np.ndarray]] = {
    "heatmap": paint_heatmap,
    "paf": paint_paf,
    "tag": paint_tag,
}


def _hue(hue: np.ndarray) -> np.ndarray:
    """Full colours (h, w, 3) in [0, 1] of hues (h, w) in turns."""
    hsv = np.stack([hue * 360, np.ones_like(hue), np.ones_like(hue)], -1).astype(np.float32)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def _over(image: np.ndarray, color: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """color (h, w, 3) in [0, 1] over the dimmed image (H, W, 3), as opaque as alpha (h, w)."""
    height, width = image.shape[:2]
    alpha = alpha.clip(0, 1).astype(np.float32)
    # colours are weighted before they are enlarged, or those of empty cells would bleed into the others
    weighted = cv2.resize(color.astype(np.float32) * alpha[..., None], (width, height))
    alpha = cv2.resize(alpha, (width, height))[..., None]
    return (255 * weighted + DIM * image * (1 - alpha)).round().clip(0, 255).astype(np.uint8)
