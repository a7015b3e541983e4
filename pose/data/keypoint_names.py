"""Keypoints of an annotation file and of a skeleton, matched by their names."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pose.errors import UserError
from pose.skeleton import Skeleton

logger = logging.getLogger("pose")


def file_places(data: Mapping[str, Any], skeleton: Skeleton, source: Path | str) -> tuple[int, ...]:
    """The place in the keypoint lists of a COCO file of each of `skeleton.annotated`; `data` is the content
    of the file, `source` its name for messages.

    Keypoints are known by their names, whatever their order.  As many other names are taken to be the same
    keypoints in the same order, but only for a skeleton without derived keypoints, and where no name that
    both have stands in another place.  Raises `UserError` for any other names."""
    category = person_category(data, source)
    own = skeleton.annotated
    if category is None:
        if skeleton.derived:
            raise UserError(
                f"{source}: no category lists the names of the keypoints, without which "
                f"{', '.join(skeleton.derived)} of the skeleton {skeleton.name!r} cannot be worked out; "
                "give the file the `categories` of the training annotations"
            )
        return tuple(range(len(own)))
    names = _names(category, source)
    if sorted(names) == sorted(own):
        return tuple(names.index(name) for name in own)
    moved = any(names.index(name) != i for i, name in enumerate(own) if name in names)
    if len(names) == len(own) and not skeleton.derived and not moved:
        return tuple(range(len(own)))
    raise UserError(_other_names(category, names, skeleton, source))


def entries(data: Mapping[str, Any], key: str, path: Path | str) -> list[Any]:
    """A list of the file's top level; empty where there is none."""
    value = data.get(key)
    if not isinstance(value, list | None):
        raise UserError(f"{path}: {key!r} must be a list, got a {type(value).__name__}")
    return value or []


def person_category(data: Mapping[str, Any], path: Path | str) -> dict[str, Any] | None:
    """The one category that lists keypoints."""
    categories = [c for c in entries(data, "categories", path) if isinstance(c, dict) and c.get("keypoints")]
    if len(categories) > 1:
        names = ", ".join(repr(category.get("name")) for category in categories)
        raise UserError(f"{path}: {len(categories)} categories list keypoints ({names}); keep one per file")
    return categories[0] if categories else None


def _names(category: Mapping[str, Any], source: Path | str) -> list[str]:
    names = category["keypoints"]
    if not isinstance(names, list):
        raise UserError(f"{source}: category {category.get('name')!r}: keypoints must be a list of names")
    return [str(name) for name in names]


def _other_names(
    category: Mapping[str, Any], names: Sequence[str], skeleton: Skeleton, source: Path | str
) -> str:
    """The sentence about keypoints that cannot be matched."""
    own = skeleton.annotated
    reordered = len(names) == len(own) and not skeleton.derived
    what = "some other keypoints, and the rest in another order," if reordered else "other keypoints"
    derived = f"; {', '.join(skeleton.derived)} can be worked out from these names only"
    only_here = [name for name in names if name not in own]
    only_there = [name for name in own if name not in names]
    return (
        f"{source}: its category {category.get('name')!r} has {what} than the skeleton {skeleton.name!r} "
        f"({len(names)} against {len(own)}; only in the file: {_few(only_here)}; only in the skeleton: "
        f"{_few(only_there)}{derived if skeleton.derived else ''}); set data.skeleton to that of this file"
    )


def _few(names: Sequence[str]) -> str:
    return ", ".join([*names[:4], *(["..."] if len(names) > 4 else [])]) or "none"


def tell_other_names(category: Mapping[str, Any], skeleton: Skeleton, path: Path) -> None:
    """Warn of names that are matched by their place."""
    names = _names(category, path)
    if sorted(names) == sorted(skeleton.annotated):
        return
    k = next(i for i, name in enumerate(names) if name != skeleton.keypoints[i])
    logger.warning(
        "%s: keypoint %d is called %r there and %r in the skeleton %r: taken to be the same",
        path, k + 1, names[k], skeleton.keypoints[k], skeleton.name,
    )  # fmt: skip
