"""Training targets and losses of part affinity fields, restated literally: one person, limb, cell at a time.

Cao, Simon, Wei and Sheikh, "Realtime Multi-Person 2D Pose Estimation using Part Affinity Fields" (CVPR 2017),
as released by CMU ("cmu"), by rtpose (PyTorch) today ("s1") and by its code of 2017-18 ("s1_old").

Keypoints are x, y in pixels (a pixel's centre is at its whole number) and v: 0 not labelled, 1 occluded,
2 visible.  Maps are (h, w, channels) float64.  Cell i of a heatmap has its centre at pixel
stride * i + (stride - 1) / 2; cell i of a field is compared with coordinate / stride: it sits at stride * i.

Where the description leaves room:
- a keypoint counts if v > 0 and 0 <= x < width, 0 <= y < height.
- the sum over people is clipped once, at the end.
- the window of a limb grows with its width: from min - width to max + width.
- "half up" is away from zero in the original; behind the clip at 0 there is no difference.
- a person without length on a limb neither draws nor counts.
- two fields of opposite directions average to 0 and still count as two.
- CMU and the code of 2017-18 do not round the neck; v of all rules is given in COCO's coding.
- the losses multiply prediction and target by the weight, so the squared error has its square; for weights of
  0 and 1 that is the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

MAX_EXPONENT = 4.6052
# nose, neck, right shoulder, elbow, wrist, left the same, right hip, knee, ankle, left the same, right eye,
# left eye, right ear, left ear; of COCO's 17 and the neck as number 17
FROM_COCO = (0, 17, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3)
TO_COCO = (0, 15, 14, 17, 16, 5, 2, 6, 3, 7, 4, 11, 8, 12, 9, 13, 10)
LEFT_SHOULDER, RIGHT_SHOULDER = 5, 6


# ---- keypoints ----


def neck(left: Sequence[float], right: Sequence[float], rule: str = "s1") -> tuple[float, float, int]:
    """left, right: the shoulders (x, y, v) -> the neck (x, y, v), v = 0 where a shoulder is not labelled."""
    x, y = (left[0] + right[0]) / 2, (left[1] + right[1]) / 2
    if rule == "s1":
        v = 2 if left[2] == 2 and right[2] == 2 else int(left[2] * right[2])
        return float(np.round(x)), float(np.round(y)), v  # halves to even
    if rule not in ("cmu", "s1_old"):
        raise ValueError(f"unknown rule {rule!r} (known: s1, cmu, s1_old)")
    # both code v as 1 visible, 0 occluded, 2 not labelled
    recoded = {2: 1, 1: 0, 0: 2}
    a, b = recoded[int(left[2])], recoded[int(right[2])]
    if a == 2 or b == 2:
        v = 2
    elif rule == "s1_old" and (a == 1 or b == 1):
        v = 1
    else:
        v = a * b
    return x, y, {1: 2, 0: 1, 2: 0}[v]


def with_neck(keypoints: np.ndarray, rule: str = "s1") -> np.ndarray:
    """COCO's keypoints (17, 3) -> (18, 3) with the neck, in the order of the published networks."""
    own_neck = neck(keypoints[LEFT_SHOULDER], keypoints[RIGHT_SHOULDER], rule)
    return np.vstack([keypoints, own_neck])[list(FROM_COCO)]


def usable(keypoint: np.ndarray, size: tuple[int, int]) -> bool:
    """keypoint (3,); size (h, w) in pixels -> whether it is drawn."""
    x, y, v = keypoint
    return bool(v > 0 and 0 <= x < size[1] and 0 <= y < size[0])


# ---- heatmaps ----


def heatmaps(
    keypoints: np.ndarray,
    size: tuple[int, int],
    stride: int = 8,
    sigma_px: float = 7.0,
    combine: str = "sum_clip",
) -> np.ndarray:
    """keypoints (P, K, 3); size (h, w) in pixels, multiples of the stride -> (h / stride, w / stride, K + 1),
    the last channel background.  People are combined by their sum, at most 1 ("sum_clip"), or their "max"."""
    if combine not in ("sum_clip", "max"):
        raise ValueError(f"unknown combine {combine!r} (known: sum_clip, max)")
    rows, columns, num_keypoints = size[0] // stride, size[1] // stride, keypoints.shape[1]
    maps = np.zeros((rows, columns, num_keypoints + 1))
    for person in keypoints:
        for k in range(num_keypoints):
            if not usable(person[k], size):
                continue
            for j in range(rows):
                for i in range(columns):
                    value = gaussian_at(i, j, person[k], stride, sigma_px)
                    if combine == "max":
                        maps[j, i, k] = max(maps[j, i, k], value)
                    else:
                        maps[j, i, k] += value
    maps = np.minimum(maps, 1)
    for j in range(rows):
        for i in range(columns):
            maps[j, i, num_keypoints] = max(0.0, 1 - max(maps[j, i, :num_keypoints]))
    return maps


def gaussian_at(i: int, j: int, keypoint: np.ndarray, stride: int, sigma_px: float) -> float:
    """The value of a keypoint's Gaussian at cell (column i, row j)."""
    start = stride / 2 - 0.5
    x, y = start + stride * i, start + stride * j
    exponent = ((x - keypoint[0]) ** 2 + (y - keypoint[1]) ** 2) / 2 / sigma_px / sigma_px
    return math.exp(-exponent) if exponent <= MAX_EXPONENT else 0.0


# ---- part affinity fields ----


def pafs(
    keypoints: np.ndarray,
    limbs: Sequence[tuple[int, int]],
    size: tuple[int, int],
    stride: int = 8,
    overlap: str = "average",
    edge: str = "open",
    rounding: str = "half_even",
    width: float = 1.0,
) -> np.ndarray:
    """keypoints (P, K, 3); limbs: (a, b) each; size (h, w) in pixels -> (h / stride, w / stride, 2L): unit
    vectors from a to b, x and y by turns.

    overlap: where limbs of a kind meet, the running mean ("average") or the last person ("overwrite").  edge:
    whether a cell at exactly `width` (in cells) belongs to the limb ("closed") or not ("open").  rounding of
    the window: "half_even" or "half_up".  rtpose: average, open, half_even; CMU: overwrite, closed, half_up.
    """
    for value, known in (
        (overlap, ("average", "overwrite")),
        (edge, ("open", "closed")),
        (rounding, ("half_even", "half_up")),
    ):
        if value not in known:
            raise ValueError(f"unknown {value!r} (known: {', '.join(known)})")
    grid = (size[0] // stride, size[1] // stride)
    maps = np.zeros((*grid, 2 * len(limbs)))
    for limb, (a, b) in enumerate(limbs):
        count = np.zeros(grid, np.int64)
        for person in keypoints:
            if not (usable(person[a], size) and usable(person[b], size)):
                continue
            vector = maps[:, :, 2 * limb : 2 * limb + 2]  # a view: drawn into
            start, end = person[a, :2] / stride, person[b, :2] / stride
            _draw_limb(vector, count, start, end, overlap, edge, rounding, width)
    return maps


def _draw_limb(
    vector: np.ndarray,
    count: np.ndarray,
    start: np.ndarray,
    end: np.ndarray,
    overlap: str,
    edge: str,
    rounding: str,
    width: float,
) -> None:
    length = math.sqrt((end[0] - start[0]) ** 2 + (end[1] - start[1]) ** 2)
    if length == 0:
        return
    ux, uy = (end[0] - start[0]) / length, (end[1] - start[1]) / length
    rows, columns = count.shape
    left, right = _window(start[0], end[0], columns, rounding, width)
    top, bottom = _window(start[1], end[1], rows, rounding, width)
    for j in range(top, bottom):
        for i in range(left, right):
            distance = abs((i - start[0]) * uy - (j - start[1]) * ux)
            if distance > width or (edge == "open" and distance == width):
                continue
            if overlap == "overwrite":
                vector[j, i] = (ux, uy)
            else:
                n = count[j, i]
                vector[j, i, 0] = (vector[j, i, 0] * n + ux) / (n + 1)
                vector[j, i, 1] = (vector[j, i, 1] * n + uy) / (n + 1)
            count[j, i] += 1


def _window(start: float, end: float, cells: int, rounding: str, width: float) -> tuple[int, int]:
    """The first cell and the one behind the last, along one axis.  The upper end is exclusive, as in the
    originals, which makes the window lopsided."""
    low, high = min(start, end) - width, max(start, end) + width
    if rounding == "half_even":
        return max(round(low), 0), min(round(high), cells)
    return max(math.floor(low + 0.5), 0), min(math.floor(high + 0.5), cells)


# ---- losses ----


def loss_mean(prediction: np.ndarray, target: np.ndarray, weight: np.ndarray) -> tuple[float, np.ndarray]:
    """prediction, target (B, C, h, w), weight (B, 1, h, w) -> mean over *all* elements of the squared error
    of weight * prediction and weight * target, and its gradient (B, C, h, w).  rtpose, per stage, field."""
    difference = (prediction.astype(np.float64) - target) * weight
    return float((difference**2).sum() / difference.size), 2 * difference * weight / difference.size


def loss_sum_over_2n(
    prediction: np.ndarray, target: np.ndarray, weight: np.ndarray
) -> tuple[float, np.ndarray]:
    """As `loss_mean`, but the sum of the squared errors over twice the number of pictures: CMU's."""
    difference = (prediction.astype(np.float64) - target) * weight
    pictures = difference.shape[0]
    return float((difference**2).sum() / (2 * pictures)), difference * weight / pictures
