"""People made of coloured dots, and a "network" that sees them without learning: for tests of prediction.

A person is a blue dot (the nose) and two green ones, the left hand in the right half of the picture and the
right hand in the left half, so that a mirrored picture shows the mirrored people.  The share of red in a dot
is the person's tag; it survives any linear resampling, as the background is black.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pose.decoders.tag_groups import TagGroupsSettings
from pose.heads.tags import TagsHead, TagsSettings
from pose.model import PoseModel
from pose.skeleton import Skeleton
from pose.structures import InputSettings, People

SKELETON = Skeleton(
    "dots", ("nose", "left_hand", "right_hand"), limbs=(("nose", "left_hand"), ("nose", "right_hand"))
)
STRIDE = 4
RED = (0.0, 0.5, 1.0)  # of the people in one picture


def dots(size: tuple[int, int], people: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """-> a picture (H, W, 3) uint8 RGB with at most 3 people, and their keypoints (N, 3, 3)."""
    height, width = size
    rng = np.random.default_rng([seed, height, width])
    sigma = max(size) / 40
    image = np.zeros((height, width, 3))
    keypoints = np.ones((people, 3, 3))
    for i, red in enumerate(RED[:people]):
        y = height * (i + 0.5) / people + rng.uniform(-0.02, 0.02, 3) * height
        reach = width * rng.uniform(0.25, 0.35, 2)
        x = np.array([width * rng.uniform(0.4, 0.6), width / 2 + reach[0], width / 2 - reach[1]])
        keypoints[i, :, :2] = np.stack([x, y], 1)
        for point, channel in zip(keypoints[i], (2, 1, 1), strict=True):
            rows, columns = np.ogrid[:height, :width]
            distance = (columns - point[0]) ** 2 + (rows - point[1]) ** 2
            spot = 230 * np.exp(-distance / (2 * sigma**2))
            image[..., channel] += spot
            image[..., 0] += red * spot
    return image.round().clip(0, 255).astype(np.uint8), keypoints


class DotNetwork(nn.Module):
    """Heat from blue and green, tags from red; an exact mirror image for a mirrored canvas."""

    size_multiple = 32
    strides: tuple[int, ...] = (STRIDE,)
    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))
        line = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
        self.register_buffer("kernel", torch.outer(line, line)[None, None].repeat(3, 1, 1, 1))

    def forward(self, x: Tensor) -> list[dict[str, Tensor]]:
        # smooth, or the rounding of the pixels makes peaks of two equal cells
        smooth = F.conv2d(F.avg_pool2d(x, STRIDE), self.kernel, padding=2, groups=3)
        red, green, blue = smooth.split(1, dim=1)
        right = (torch.arange(red.shape[-1]) * 2 >= red.shape[-1]).float()
        heat = torch.cat([blue, green * right, green * (1 - right)], 1) * self.gain
        tag = 10 * red / (green + blue + 1e-3)
        return [{"heatmap": heat, "tag": tag.expand(-1, 3, -1, -1)}]


def dot_model(
    network: nn.Module | None = None, *, pixel_center: float = 0.5, subpixel: str = "dark", size: int = 256
) -> PoseModel:
    decoder = TagGroupsSettings(subpixel=subpixel)  # type: ignore[arg-type]
    head = TagsHead(TagsSettings(decoder=decoder), SKELETON, pixel_center)
    return PoseModel(
        network or DotNetwork(), head, InputSettings(size=(size, size), pixel_center=pixel_center)
    )


def assert_same_people(found: People, expected: np.ndarray, tolerance: float = 0.5) -> None:
    """Every expected person (N, K, 3) is found once, each keypoint within `tolerance` pixels."""
    assert len(found) == len(expected)
    for person in expected:
        apart = np.linalg.norm(found.keypoints[..., :2] - person[:, :2], axis=-1).max(axis=1)
        assert apart.min() < tolerance, f"nearest person: {apart.min():.3f} pixels"
        assert (found.keypoints[apart.argmin(), :, 2] > 0.1).all()


def write_set(
    root: Path, sizes: Sequence[tuple[int, int]], *, name: str = "dots", category: int = 1
) -> list[Path]:
    """Pictures and COCO annotations, 1 to 3 people by turns; image ids are 10, 20, ..."""
    folder = root / name
    folder.mkdir(parents=True)
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    paths = []
    for i, size in enumerate(sizes):
        image, people = dots(size, 1 + i % 3, seed=i)
        path = folder / f"{i:03}.png"
        cv2.imwrite(str(path), image[..., ::-1])
        paths.append(path)
        image_id = 10 * (i + 1)
        images.append({"id": image_id, "file_name": path.name, "height": size[0], "width": size[1]})
        for person in people:
            person[:, 2] = 2
            low, extent = person[:, :2].min(0), np.ptp(person[:, :2], axis=0)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": category,
                    "iscrowd": 0,
                    "num_keypoints": 3,
                    "keypoints": person.ravel().tolist(),
                    "bbox": [*low.tolist(), *extent.tolist()],
                    "area": float(max(extent[0], 20) ** 2),
                }
            )
    described = {
        "id": category,
        "name": "dots",
        "keypoints": list(SKELETON.keypoints),
        "skeleton": [[1, 2], [1, 3]],
    }
    data = {"images": images, "annotations": annotations, "categories": [described]}
    (root / f"{name}.json").write_text(json.dumps(data))
    return paths
