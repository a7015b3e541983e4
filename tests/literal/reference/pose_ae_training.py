"""Training samples and losses of pose-ae-train, restated literally: one image, one person, one keypoint at a
time.

Newell, Huang and Deng, "Associative Embedding: End-to-End Learning for Joint Detection and Grouping" (2017),
as released in pose-ae-train.  A sample is made as its loader workers do (float32 warp, colour jitter,
heatmaps and references drawn there), the losses with a Python loop per image and person.

Coordinates follow the original, without half-pixel terms: x' = res / (200 scale) * (x - cx) + res / 2, a
mirrored point is `W - x`, a keypoint is drawn and read at its truncated cell.

Where the description leaves room:
- hue is a fraction of a turn and wraps; the "grey" of a pixel is the plain mean of its three channels.
- the shift is drawn per axis from U(-40, 40) and multiplied by the scale *after* its jitter.
- the mask ignores crowds only, so the zero border outside the picture is supervised as background.  (Warping
  the mask "1 = supervise" with a zero border would leave it out: `supervise_outside=False`.)
- truncation is towards zero, so a point at -0.5 cells is drawn in cell 0; what then lies outside is skipped.
- every person is drawn; tags know the first 30 in file order, people without labelled keypoints counted in.
- people of whom no keypoint is referenced take no part in the tag loss; people with a single one do.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

INPUT_SIZE = 512
OUTPUT_SIZE = 128
MAX_PEOPLE = 30
COCO_FLIP_INDEX = (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15)
PULL_WEIGHT = 1e-3
PUSH_WEIGHT = 1e-3


# ---- geometry ----


def get_transform(center: tuple[float, float], scale: float, res: int, rot: float = 0.0) -> np.ndarray:
    """Affine (2, 3) float64 from image pixels to a square of side `res` that shows 200 * `scale` pixels
    around `center` (x, y), turned by `rot` degrees (positive: clockwise as seen on a screen)."""
    zoom = res / (200.0 * scale)
    cos, sin = math.cos(math.radians(rot)), math.sin(math.radians(rot))
    cx, cy = center
    return np.array(
        [
            [zoom * cos, -zoom * sin, res / 2 - zoom * (cos * cx - sin * cy)],
            [zoom * sin, zoom * cos, res / 2 - zoom * (sin * cx + cos * cy)],
        ]
    )


def invert_transform(matrix: np.ndarray) -> np.ndarray:
    """The inverse (2, 3) of an affine (2, 3)."""
    return np.linalg.inv(np.vstack([matrix, [0.0, 0.0, 1.0]]))[:2]


def transform_points(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """points (..., 2) x, y -> the same through an affine (2, 3)."""
    return points @ matrix[:, :2].T + matrix[:, 2]


# ---- one training sample ----


class Augmentation(NamedTuple):
    """What is drawn at random for one sample (the defaults change nothing)."""

    scale_factor: float = 1.0  # U(.75, 1.25), times max(height, width) / 200
    rotation: float = 0.0  # degrees, U(-30, 30)
    shift_x: float = 0.0  # U(-40, 40), times the jittered scale = image pixels
    shift_y: float = 0.0
    flip: bool = False  # with probability one half
    hue: float = 0.0  # turns, U(-.2, .2)
    saturation: float = 1.0  # U(.5, 1.5)
    brightness: float = 0.0  # U(-.3, .3)
    contrast: float = 1.0  # U(.5, 1.5)


def draw_augmentation(rng: np.random.Generator) -> Augmentation:
    """One set of random numbers, drawn in the order of the fields."""
    return Augmentation(
        scale_factor=float(rng.uniform(0.75, 1.25)),
        rotation=float(rng.uniform(-30, 30)),
        shift_x=float(rng.uniform(-40, 40)),
        shift_y=float(rng.uniform(-40, 40)),
        flip=bool(rng.random() < 0.5),
        hue=float(rng.uniform(-0.2, 0.2)),
        saturation=float(rng.uniform(0.5, 1.5)),
        brightness=float(rng.uniform(-0.3, 0.3)),
        contrast=float(rng.uniform(0.5, 1.5)),
    )


def jitter_colors(image: np.ndarray, augmentation: Augmentation) -> np.ndarray:
    """image (H, W, 3) float32 RGB in [0, 1] -> the same after hue, saturation, brightness and contrast."""
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)  # hue in degrees, the others in [0, 1]
    hsv[:, :, 0] = np.mod(hsv[:, :, 0] + augmentation.hue * 360 + 360, 360)
    hsv[:, :, 1] = np.clip(hsv[:, :, 1] * augmentation.saturation, 0, 1)
    image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    image = image + np.float32(augmentation.brightness)
    grey = image.mean(axis=2, keepdims=True)
    image = (image - grey) * np.float32(augmentation.contrast) + grey
    return np.clip(image, 0, 1).astype(np.float32)


def draw_heatmaps(keypoints: np.ndarray, size: int = OUTPUT_SIZE) -> np.ndarray:
    """keypoints (P, K, 3) in cells -> heatmaps (K, size, size) float32: a square cut of a Gaussian around the
    truncated cell of every keypoint with v > 0, people combined by maximum."""
    sigma = size / 64
    reach = int(3 * sigma + 1)  # the patch has side 6 sigma + 3
    offsets = np.arange(-reach, reach + 1)
    patch = np.exp(-(offsets[None, :] ** 2 + offsets[:, None] ** 2) / (2 * sigma**2)).astype(np.float32)
    heatmaps = np.zeros((keypoints.shape[1], size, size), np.float32)
    for person in keypoints:
        for heatmap, (x, y, v) in zip(heatmaps, person, strict=True):
            if v <= 0:
                continue
            column, row = int(x), int(y)
            if not (0 <= column < size and 0 <= row < size):
                continue
            left, right = max(0, column - reach), min(size, column + reach + 1)
            top, bottom = max(0, row - reach), min(size, row + reach + 1)
            part = patch[
                top - row + reach : bottom - row + reach, left - column + reach : right - column + reach
            ]
            heatmap[top:bottom, left:right] = np.maximum(heatmap[top:bottom, left:right], part)
    return heatmaps


def keypoint_references(
    keypoints: np.ndarray, size: int = OUTPUT_SIZE, max_people: int = MAX_PEOPLE
) -> np.ndarray:
    """keypoints (P, K, 3) in cells -> references (max_people, K, 2) int64: where in the flattened (K, size,
    size) map a tag is read, and whether it is (1 for v > 0 inside the map, else 0)."""
    references = np.zeros((max_people, keypoints.shape[1], 2), np.int64)
    for p, person in enumerate(keypoints[:max_people]):
        for k, (x, y, v) in enumerate(person):
            column, row = int(x), int(y)
            if v > 0 and 0 <= column < size and 0 <= row < size:
                references[p, k] = (k * size * size + row * size + column, 1)
    return references


def apply_augmentation(
    image: np.ndarray,
    keypoints: np.ndarray,
    crowd_mask: np.ndarray | None,
    augmentation: Augmentation,
    *,
    input_size: int = INPUT_SIZE,
    output_size: int = OUTPUT_SIZE,
    flip_index: tuple[int, ...] = COCO_FLIP_INDEX,
    supervise_outside: bool = True,
) -> dict[str, np.ndarray]:
    """One sample from given random numbers.  image (H, W, 3) uint8 RGB; keypoints (P, K, 3) in its pixels;
    crowd_mask (H, W), true on crowds, or None.

    -> image (input, input, 3) float32 in [0, 1]; mask (output, output) float32, 1 where the loss counts;
    keypoints (P, K, 3) float64 in cells of the output; heatmaps (K, output, output) float32; references (30,
    K, 2).
    """
    height, width = image.shape[:2]
    scale = max(height, width) / 200 * augmentation.scale_factor
    center = (width / 2 + augmentation.shift_x * scale, height / 2 + augmentation.shift_y * scale)
    to_input = get_transform(center, scale, input_size, augmentation.rotation)
    to_output = get_transform(center, scale, output_size, augmentation.rotation)

    pixels = cv2.warpAffine(image.astype(np.float32) / 255, to_input, (input_size, input_size))
    mask = _warp_mask(crowd_mask, (height, width), to_output, output_size, supervise_outside)
    moved: np.ndarray = np.array(keypoints, np.float64).reshape(-1, len(flip_index), 3)
    moved[..., :2] = transform_points(moved[..., :2], to_output)

    if augmentation.flip:
        pixels = np.ascontiguousarray(pixels[:, ::-1])
        mask = np.ascontiguousarray(mask[:, ::-1])
        moved = moved[:, list(flip_index)]
        moved[..., 0] = output_size - moved[..., 0]

    return {
        "image": jitter_colors(pixels, augmentation),
        "mask": mask,
        "keypoints": moved,
        "heatmaps": draw_heatmaps(moved, output_size),
        "references": keypoint_references(moved, output_size),
    }


def _warp_mask(
    crowd_mask: np.ndarray | None, size: tuple[int, int], matrix: np.ndarray, output: int, outside: bool
) -> np.ndarray:
    crowd = np.zeros(size, bool) if crowd_mask is None else crowd_mask.astype(bool)
    counts = (~crowd * 255).astype(np.uint8)
    warped = cv2.warpAffine(counts, matrix, (output, output), borderValue=255 if outside else 0)
    return (warped / 255 > 0.5).astype(np.float32)


def sample(
    image: np.ndarray, keypoints: np.ndarray, crowd_mask: np.ndarray | None, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """One training sample with fresh random numbers; see `apply_augmentation` for the shapes."""
    return apply_augmentation(image, keypoints, crowd_mask, draw_augmentation(rng))


def sample_from_file(
    path: str, keypoints: np.ndarray, crowd_mask: np.ndarray | None, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """As `sample`, from an image file: all that a loader worker does for one sample."""
    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if pixels is None:
        raise FileNotFoundError(f"cannot read the image {path}")
    return sample(np.ascontiguousarray(pixels[:, :, ::-1]), keypoints, crowd_mask, rng)


# ---- losses ----


def heatmap_loss(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """prediction, target (B, K, h, w); mask (B, h, w) -> (B,): mean over all channels and cells (masked ones
    too, as zeros) of (p - t)^2 * mask."""
    losses = []
    for p, t, m in zip(prediction, target, mask, strict=True):
        losses.append(((p - t) ** 2 * m[None]).mean())
    return torch.stack(losses)


def tag_loss(tags: Tensor, people: Tensor | np.ndarray, push: str = "exp") -> tuple[Tensor, Tensor]:
    """tags (B, K*h*w) or (B, K, h, w), for D-dimensional tags with one more axis D at the end; people (B, P,
    K, 2) index and visibility as from `keypoint_references` -> pull (B,), push (B,).

    A squared difference of two tags is the mean over D of the squared differences.  pull = mean over people
    of the mean over their keypoints of the squared difference to the person's mean tag.  push = 0.5 * mean
    over ordered pairs of different people of exp(-d^2) ("exp") or max(0, 1 - |d|) ("hinge"), d between their
    mean tags.
    """
    if push not in ("exp", "hinge"):
        raise ValueError(f"unknown push {push!r} (known: exp, hinge)")
    if tags.ndim in (4, 5):
        tags = tags.flatten(1, 3)
    if tags.ndim == 2:
        tags = tags[:, :, None]
    pulls, pushes = [], []
    for image_tags, image_people in zip(tags, people, strict=True):  # (N, D), (P, K, 2)
        pull_value, push_value = _tag_loss_of_image(image_tags, image_people, push)
        pulls.append(pull_value)
        pushes.append(push_value)
    return torch.stack(pulls), torch.stack(pushes)


def _tag_loss_of_image(tags: Tensor, people: Tensor | np.ndarray, push: str) -> tuple[Tensor, Tensor]:
    zero = tags[:0].sum()  # keeps the graph, so that an image without people can be differentiated
    means: list[Tensor] = []
    pull = zero
    for person in people:
        where = [int(index) for index, visible in person if int(visible) > 0]
        if not where:
            continue
        own = tags[where]  # (keypoints of this person, D)
        mean = own.mean(dim=0)
        squared = ((own - mean) ** 2).mean(dim=1)
        pull = pull + squared.mean()
        means.append(mean)
    n = len(means)
    if n == 0:
        return zero, zero
    total = zero
    for i in range(n):
        for j in range(n):
            if i != j:
                total = total + _push_of_pair(((means[i] - means[j]) ** 2).mean(), push)
    return pull / n, 0.5 * total / (n * (n - 1)) if n > 1 else zero


def _push_of_pair(squared_distance: Tensor, push: str) -> Tensor:
    if push == "exp":
        return torch.exp(-squared_distance)
    if squared_distance.item() == 0:  # the square root has no gradient there; equal tags give no direction
        return 1 - squared_distance
    return (1 - squared_distance.sqrt()).clamp(min=0)


def loss(
    outputs: Tensor, heatmaps: Tensor, mask: Tensor, people: Tensor | np.ndarray, push: str = "exp"
) -> dict[str, Tensor]:
    """outputs (B, S, 68, h, w); heatmaps (B, K, h, w); mask (B, h, w); people (B, P, K, 2) -> scalars
    `heatmap`, `pull`, `push`, each the mean over stacks and images, and `total` with weights 1, 1e-3,
    1e-3."""
    k = heatmaps.shape[1]
    terms: dict[str, list[Tensor]] = {"heatmap": [], "pull": [], "push": []}
    for stack in range(outputs.shape[1]):
        output = outputs[:, stack]
        terms["heatmap"].append(heatmap_loss(output[:, :k], heatmaps, mask).mean())
        pull_value, push_value = tag_loss(output[:, k : 2 * k], people, push)
        terms["pull"].append(pull_value.mean())
        terms["push"].append(push_value.mean())
    means = {name: torch.stack(values).mean() for name, values in terms.items()}
    total = means["heatmap"] + PULL_WEIGHT * means["pull"] + PUSH_WEIGHT * means["push"]
    return {**means, "total": total}


def collate(samples: list[dict[str, np.ndarray]]) -> dict[str, Tensor]:
    """Samples -> one batch of tensors: images (B, 3, H, W), heatmaps, mask, references."""
    images = np.stack([s["image"] for s in samples]).transpose(0, 3, 1, 2)
    batch = {"image": torch.from_numpy(np.ascontiguousarray(images))}
    for name in ("heatmaps", "mask", "references"):
        batch[name] = torch.from_numpy(np.stack([s[name] for s in samples]))
    return batch
