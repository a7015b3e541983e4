"""Categories of a keypoint file: those that list keypoints, and which of them are meant."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pose.annotations.keypoint_file import Category
from pose.annotations.numbers import whole
from pose.errors import UserError

CHOOSE = "--category NAME"  # how a command lets one of several categories be chosen


def list_categories(given: Sequence[Any], source: Path | str) -> tuple[list[int], list[Category]]:
    """The ids of all, and those that list keypoints."""
    ids: list[int] = []
    listing: list[Category] = []
    for entry in given:
        if not isinstance(entry, dict):
            continue
        own = whole(entry.get("id"))
        if own is not None:
            ids.append(own)
        names = entry.get("keypoints")
        if not names:
            continue
        if not isinstance(names, list) or not all(_is_name(name) for name in names):
            raise UserError(f"{source}: category {entry.get('name')!r}: keypoints must be a list of names")
        listing.append(Category(own, str(entry.get("name", "")), tuple(map(str, names)), entry))
    return ids, listing


def _is_name(value: Any) -> bool:
    """Keypoints may be called 1, 2, 3."""
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def choose_categories(
    listing: Sequence[Category], wanted: str | None, source: Path | str, choose: str
) -> list[Category]:
    """The categories whose annotations are people: the named one, or all where they list the same
    keypoints."""
    told = ", ".join(f"{one.name!r} with {len(one.keypoints)} keypoints" for one in listing[:6])
    told += ", ..." if len(listing) > 6 else ""
    if wanted is not None:
        found = [one for one in listing if wanted.strip().lower() in (one.name.strip().lower(), str(one.id))]
        if not found:
            there = f"(there are: {told or 'none'})"
            raise UserError(f"{source}: no category {wanted!r} lists keypoints {there}; choose with {choose}")
        return _unique(found[:1], source)
    if len({tuple(map(plain_name, one.keypoints)) for one in listing}) > 1:
        example = choose.replace("NAME", next((one.name for one in listing if one.name), "NAME"))
        raise UserError(
            f"{source}: {len(listing)} categories list keypoints ({told}); choose one with {example}"
        )
    return _unique(list(listing), source)


def _unique(chosen: list[Category], source: Path | str) -> list[Category]:
    """The categories themselves, if each of their keypoints has a name of its own."""
    plain = [plain_name(name) for category in chosen[:1] for name in category.keypoints]
    again = next((name for i, name in enumerate(plain) if name in plain[:i]), None)
    if again is not None:
        raise UserError(f"{source}: category {chosen[0].name!r} names the keypoint {again!r} twice")
    return chosen


def plain_name(name: str) -> str:
    """`Right Shoulder` -> `right_shoulder`."""
    return name.strip().lower().replace(" ", "_").replace("-", "_")
