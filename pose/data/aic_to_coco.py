"""AI Challenger's annotations -> COCO's format; `pose.data.aic.from_coco` is the way back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from pose.data.aic import KEYPOINTS, NOT_LABELLED, AicImage, plain
from pose.skeleton import Skeleton

BLOCK = 1000  # images that are converted together


class Picture(NamedTuple):
    """The file of an image, and its size in pixels."""

    file_name: str
    width: int
    height: int


def to_coco(images: Sequence[AicImage], pictures: Sequence[Picture], skeleton: Skeleton) -> dict[str, Any]:
    """A COCO data set of annotated images; ids count from 1 in the order given.

    pictures: one per image.  skeleton: the keypoints to write, by name; what AI Challenger does not have is
    not labelled.  v 1, 2, 3 becomes 2, 1, 0, and `area` is that of the box.  Images keep `aic_id` and `url`,
    annotations `human`, which `from_coco` reads."""
    annotations: list[dict[str, Any]] = []
    for start in range(0, len(images), BLOCK):
        _add_people(annotations, images[start : start + BLOCK], start + 1, skeleton)
    return {
        "images": [_coco_image(*pair, i + 1) for i, pair in enumerate(zip(images, pictures, strict=True))],
        "annotations": annotations,
        "categories": [coco_category(skeleton)],
    }


def _add_people(
    annotations: list[dict[str, Any]], images: Sequence[AicImage], first: int, skeleton: Skeleton
) -> None:
    """Append the people of images whose ids count from `first`."""
    owners = [first + i for i, image in enumerate(images) for _ in image.humans]
    humans = [human for image in images for human in image.humans]
    keypoints = _coco_keypoints(np.concatenate([image.keypoints for image in images]), skeleton)
    boxes = np.concatenate([image.boxes for image in images])
    sizes = boxes[:, 2:] - boxes[:, :2]
    labelled = (keypoints[..., 2] > 0).sum(1).tolist()
    numbers = plain(keypoints.reshape(len(keypoints), -1))
    boxes_and_areas = plain(np.concatenate([boxes[:, :2], sizes, sizes.prod(1, keepdims=True)], axis=1))
    people = zip(owners, humans, boxes_and_areas, labelled, numbers, strict=True)
    for owner, human, (*box, area), count, values in people:
        annotations.append(
            {
                "id": len(annotations) + 1,
                "image_id": owner,
                "category_id": 1,
                "human": human,
                "bbox": box,
                "area": area,
                "iscrowd": 0,
                "num_keypoints": count,
                "keypoints": values,
            }
        )


def coco_category(skeleton: Skeleton) -> dict[str, Any]:
    """The category of people, as `pose.skeleton.from_coco_category` reads it."""
    return {
        "id": 1,
        "name": "person",
        "supercategory": "person",
        "keypoints": list(skeleton.keypoints),
        "skeleton": [[a + 1, b + 1] for a, b in skeleton.limb_index],
        "sigmas": list(skeleton.sigmas),
        "grouping_order": list(skeleton.grouping_order),
    }


def _coco_image(image: AicImage, picture: Picture, number: int) -> dict[str, Any]:
    url = {"url": image.url} if image.url else {}
    return {"id": number, **picture._asdict(), "aic_id": image.image_id, **url}


def _coco_keypoints(keypoints: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """(P, 14, 3) official -> (P, K, 3) with COCO's v; 0 0 0 where nothing is labelled."""
    own = np.where(keypoints[..., 2:] == NOT_LABELLED, 0.0, keypoints)
    own[..., 2] = NOT_LABELLED - keypoints[..., 2]
    slots = np.zeros((len(keypoints), len(skeleton), 3))
    for k, name in enumerate(KEYPOINTS):
        if name in skeleton.keypoints:
            slots[:, skeleton.keypoints.index(name)] = own[:, k]
    return slots
