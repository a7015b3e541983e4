"""The skeleton that a file's category describes, as far as it makes one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pose.annotations.categories import CHOOSE
from pose.annotations.keypoint_file import Category, KeypointFile
from pose.annotations.names import unnamed
from pose.annotations.parts import part_names
from pose.annotations.reader import read
from pose.errors import UserError
from pose.skeleton import Skeleton, from_dict, mirrored_name


def read_skeleton(
    path: Path | str, category: str | None = None, *, choose: str = CHOOSE, mirrored: bool = False
) -> Skeleton:
    """The skeleton that a COCO file's category describes; limbs that make none are left out, and it says why
    (`no_limbs`).  Raises `UserError` for a file without one, and for names whose mirror image is missing,
    unless they will be said (`mirrored`)."""
    file = read(path, category, choose=choose)
    skeleton = own_skeleton(file)
    partners = {name: mirrored_name(name, skeleton.keypoints) for name in skeleton.keypoints}
    for name, partner in partners.items():
        if partner not in partners and not mirrored:
            raise UserError(
                f"{path}: keypoint {name!r} would mirror to {partner!r}, which is no keypoint; say what it "
                f"mirrors to: data.skeleton={{base: annotations, mirror: {{{name}: {name}}}}}"
            )
    return skeleton


def own_skeleton(file: KeypointFile) -> Skeleton:
    """As `read_skeleton`, of a file that has been read; a name whose mirror image is missing is its own."""
    if not file.chosen:
        raise UserError(unnamed(file))
    why = bad_limbs(file)
    try:
        skeleton = _skeleton(file.chosen[0], file, limbs=not why)
    except UserError as error:
        raise UserError(f"{file.source}: {error}") from None
    return replace(skeleton, no_limbs=why) if why else skeleton


def bad_limbs(file: KeypointFile) -> str:
    """Why the category's limbs make no skeleton; "" where they do, or where there are none."""
    if not file.chosen:
        return ""
    category = file.chosen[0]
    given = category.entry.get("skeleton")
    if given in (None, []):
        return ""
    count = len(category.keypoints)
    if not isinstance(given, Sequence) or isinstance(given, str):
        return f"{file.source}: category {category.name!r}: `skeleton` is no list of pairs"
    pairs = [pair for pair in given if _is_pair(pair)]
    if len(pairs) < len(given):
        return (
            f"{file.source}: category {category.name!r}: `skeleton` has an entry that is no pair of numbers"
        )
    outside = [k for pair in pairs for k in pair if not 1 <= k <= count]
    if outside:
        from_0 = all(0 <= k < count for pair in pairs for k in pair)
        why = "counts keypoints from 0, not from 1" if from_0 else f"names keypoint {outside[0]}"
        return f"{file.source}: category {category.name!r}: `skeleton` {why} (there are {count})"
    try:
        _skeleton(category, file, limbs=True)
    except UserError as error:
        return f"{file.source}: category {category.name!r}: `skeleton`: {str(error).partition(': ')[2]}"
    return ""


def _is_pair(pair: Any) -> bool:
    """Two whole numbers."""
    return (
        isinstance(pair, Sequence)
        and len(pair) == 2
        and all(isinstance(k, int) and not isinstance(k, bool) for k in pair)
    )


def _skeleton(category: Category, file: KeypointFile, *, limbs: bool) -> Skeleton:
    """limbs: with them.  Names whose mirror image is missing have none."""
    names, entry = category.keypoints, category.entry
    pairs = entry.get("skeleton") or () if limbs else ()
    data: dict[str, Any] = {
        "name": category.name or "custom",
        "keypoints": list(names) + list(part_names() if len(file.names) > len(names) else ()),
        "limbs": list(dict.fromkeys((names[a - 1], names[b - 1]) for a, b in pairs)),
        "grouping_order": entry.get("grouping_order"),
        "sigmas": None if len(file.names) > len(names) else entry.get("sigmas"),
    }
    alone = {
        name: name
        for name in data["keypoints"]
        if mirrored_name(name, data["keypoints"]) not in data["keypoints"]
    }
    return from_dict({**data, "mirror": alone})


def listed_sigmas(file: KeypointFile) -> list[float] | None:
    """Those that the category lists, if it does.  Raises `UserError` where they are no sigmas."""
    if not file.chosen or not file.chosen[0].entry.get("sigmas"):
        return None
    category = file.chosen[0]
    own: Mapping[str, Any] = {"keypoints": list(category.keypoints), "sigmas": category.entry["sigmas"]}
    alone = {name: name for name in category.keypoints}
    try:
        return list(from_dict({**own, "name": category.name, "mirror": alone}).sigmas)
    except UserError as error:
        raise UserError(f"{file.source}: {error}") from None
