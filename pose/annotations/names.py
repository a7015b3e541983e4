"""Keypoints of an annotation file and of a skeleton, matched by their names."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pose.errors import UserError
from pose.skeleton import Skeleton

logger = logging.getLogger("pose")


@dataclass(frozen=True)
class FileKeypoints:
    """How the keypoint lists of an annotation file and a skeleton correspond."""

    names: tuple[str, ...]  # of the file, in its order
    places: tuple[int | None, ...]  # K: where the file has each of the skeleton's keypoints

    @property
    def order(self) -> list[int | None]:
        """For each keypoint of the file, which of the skeleton's it is, if any."""
        known = {place: k for k, place in enumerate(self.places) if place is not None}
        return [known.get(i) for i in range(len(self.names))]


def match_keypoints(
    data: Mapping[str, Any], skeleton: Skeleton, source: Path | str, *, partial: bool = False
) -> FileKeypoints:
    """`data` is the content of a COCO file, `source` its name for messages.

    Keypoints are known by their names, whatever their order; capitals do not count, and blanks and hyphens
    are underscores.  With `partial` the file may lack some and may have others, and may have derived ones.
    Without it, as many other names are taken to be the same keypoints in the same order, but only for a
    skeleton without derived keypoints, and where no name that both have stands in another place.  Raises
    `UserError` for any other names."""
    category = person_category(data, source)
    own = skeleton.annotated
    if category is None:
        if skeleton.derived or partial:
            which = f"{', '.join(skeleton.derived)} of the" if skeleton.derived else "the keypoints of the"
            raise UserError(
                f"{source}: no category lists the names of the keypoints, without which {which} skeleton "
                f"{skeleton.name!r} cannot be worked out; give the file the `categories` of the training "
                "annotations"
            )
        return FileKeypoints(own, tuple(range(len(own))))
    given = listed_names(category, source)
    names = [plain_name(name) for name in given]
    everything = [plain_name(name) for name in skeleton.keypoints]
    if partial:
        if not set(names) & set(everything):
            raise UserError(_other_names(category, given, skeleton, source))
        return FileKeypoints(
            tuple(given), tuple(names.index(name) if name in names else None for name in everything)
        )
    wanted = [plain_name(name) for name in own]
    if sorted(names) == sorted(wanted):
        found = {name: names.index(plain_name(name)) for name in own}
        return FileKeypoints(tuple(given), tuple(found.get(name) for name in skeleton.keypoints))
    moved = any(names.index(name) != i for i, name in enumerate(wanted) if name in names)
    if len(names) == len(own) and not skeleton.derived and not moved:
        return FileKeypoints(tuple(given), tuple(range(len(own))))
    raise UserError(_other_names(category, given, skeleton, source))


def plain_name(name: str) -> str:
    """`Right Shoulder` -> `right_shoulder`."""
    return name.strip().lower().replace(" ", "_").replace("-", "_")


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


def listed_names(category: Mapping[str, Any], source: Path | str) -> list[str]:
    """The names of a category's keypoints as they are written there."""
    names = category["keypoints"]
    if not isinstance(names, list):
        raise UserError(f"{source}: category {category.get('name')!r}: keypoints must be a list of names")
    return [str(name) for name in names]


def _other_names(
    category: Mapping[str, Any], names: Sequence[str], skeleton: Skeleton, source: Path | str
) -> str:
    """The sentence about keypoints that cannot be matched."""
    own = skeleton.annotated
    here, there = {plain_name(name) for name in names}, {plain_name(name) for name in own}
    reordered = len(names) == len(own) and not skeleton.derived and here & there
    what = "some other keypoints, and the rest in another order," if reordered else "other keypoints"
    derived = f"; {', '.join(skeleton.derived)} can be worked out from these names only"
    only_here = [name for name in names if plain_name(name) not in there]
    only_there = [name for name in own if plain_name(name) not in here]
    return (
        f"{source}: its category {category.get('name')!r} has {what} than the skeleton {skeleton.name!r} "
        f"({len(names)} against {len(own)}; only in the file: {_few(only_here)}; only in the skeleton: "
        f"{_few(only_there)}{derived if skeleton.derived else ''}); data.skeleton must be that of this file"
    )


def _few(names: Sequence[str]) -> str:
    return ", ".join([*names[:4], *(["..."] if len(names) > 4 else [])]) or "none"


def tell_other_names(file: FileKeypoints, skeleton: Skeleton, path: Path) -> None:
    """Warn of names that are matched by their place; tell what a file of a mixture lacks."""
    for k, place in enumerate(file.places):
        if place is not None and plain_name(file.names[place]) != plain_name(skeleton.keypoints[k]):
            logger.warning(
                "%s: keypoint %d is called %r there and %r in the skeleton %r: taken to be the same",
                path, place + 1, file.names[place], skeleton.keypoints[k], skeleton.name,
            )  # fmt: skip
            return
