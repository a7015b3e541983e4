"""Keypoints of an annotation file and of a skeleton, matched by their names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pose.annotations.categories import plain_name
from pose.annotations.issues import Issue
from pose.annotations.keypoint_file import KeypointFile
from pose.annotations.parts import part_names
from pose.errors import UserError
from pose.skeleton import Skeleton


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


def match_keypoints(file: KeypointFile, skeleton: Skeleton, *, partial: bool = False) -> FileKeypoints:
    """Keypoints are known by their names, whatever their order; capitals do not count, and blanks and hyphens
    are underscores.  With `partial` the file may lack some and may have others, and may have derived ones.
    Without it, as many other names are taken to be the same keypoints in the same order, but only for a
    skeleton without derived keypoints, and where no name that both have stands in another place; of the
    further lists of COCO-WholeBody's files a skeleton may have none.  Raises `UserError` for any other
    names."""
    own = skeleton.annotated
    if not file.chosen:
        if file.num_listed not in (0, len(own)):
            raise UserError(unnamed(file, skeleton))
        if skeleton.derived or partial:
            which = f"{', '.join(skeleton.derived)} of the" if skeleton.derived else "the keypoints of the"
            raise UserError(
                f"{file.source}: no category lists the names of the keypoints, without which {which} "
                f"skeleton {skeleton.name!r} cannot be worked out; give the file the `categories` of the "
                "training annotations"
            )
        return FileKeypoints(own, tuple(range(len(own))))
    names = [plain_name(name) for name in file.names]
    everything = [plain_name(name) for name in skeleton.keypoints]
    if partial:
        if not set(names) & set(everything):
            raise UserError(_other_names(file, skeleton))
        return FileKeypoints(
            file.names, tuple(names.index(name) if name in names else None for name in everything)
        )
    wanted = [plain_name(name) for name in own]
    parts = set(map(plain_name, part_names()))
    body = (
        [name for name in names if name not in parts or name in wanted] if not set(wanted) >= parts else names
    )
    if sorted(body) == sorted(wanted):
        found = {name: names.index(plain_name(name)) for name in own}
        return FileKeypoints(file.names, tuple(found.get(name) for name in skeleton.keypoints))
    moved = any(names.index(name) != i for i, name in enumerate(wanted) if name in names)
    if len(names) == len(own) and not skeleton.derived and not moved:
        return FileKeypoints(file.names, tuple(range(len(own))))
    raise UserError(_other_names(file, skeleton))


def unnamed(file: KeypointFile, skeleton: Skeleton | None = None) -> str:
    """The sentence about a file whose categories list no names of keypoints."""
    if not file.num_listed:
        return (
            f"{file.source}: no category lists the names of keypoints: this is no keypoint file, or the "
            "category of its people lacks `keypoints: [names]`"
        )
    other = f", and the skeleton {skeleton.name!r} has {len(skeleton.annotated)}" if skeleton else ""
    return (
        f"{file.source}: no category lists the names of the {file.num_listed} keypoints{other}; add "
        "`keypoints: [names]` to the category of its people, or give a skeleton with as many names in the "
        "order of the file (data.skeleton=FILE.yaml; doctor: --skeleton FILE.yaml)"
    )


def name_issues(file: KeypointFile, match: FileKeypoints, skeleton: Skeleton) -> list[Issue]:
    """What a match leaves out, or takes to be the same."""
    issues = []
    if not file.chosen and file.num_listed:
        names = f"{', '.join(match.names[:3])}, ..." if len(match.names) > 3 else ", ".join(match.names)
        issues.append(Issue("unnamed", "file", details=(names,)))
    unknown = [name for name, k in zip(match.names, match.order, strict=True) if k is None]
    if unknown:
        issues.append(Issue("other_keypoints", "file", np.arange(len(unknown)), (unknown[0],)))
    other = renamed(match, skeleton)
    if other:
        there, here = other[0]
        detail = f"{there!r} there and {here!r} in the skeleton {skeleton.name!r}"
        issues.append(Issue("other_names", "file", np.arange(len(other)), (detail,)))
    return issues


def renamed(match: FileKeypoints, skeleton: Skeleton) -> list[tuple[str, str]]:
    """Keypoints matched by their place: their name in the file and in the skeleton."""
    pairs = [
        (match.names[place], name)
        for name, place in zip(skeleton.keypoints, match.places, strict=True)
        if place is not None
    ]
    return [(there, here) for there, here in pairs if plain_name(there) != plain_name(here)]


def _other_names(file: KeypointFile, skeleton: Skeleton) -> str:
    """The sentence about keypoints that cannot be matched."""
    own, names = skeleton.annotated, file.names
    here, there = {plain_name(name) for name in names}, {plain_name(name) for name in own}
    reordered = len(names) == len(own) and not skeleton.derived and here & there
    what = "some other keypoints, and the rest in another order," if reordered else "other keypoints"
    derived = f"; {', '.join(skeleton.derived)} can be worked out from these names only"
    only_here = [name for name in names if plain_name(name) not in there]
    only_there = [name for name in own if plain_name(name) not in here]
    return (
        f"{file.source}: its category {file.chosen[0].name!r} has {what} than the skeleton {skeleton.name!r} "
        f"({len(names)} against {len(own)}; only in the file: {_few(only_here)}; only in the skeleton: "
        f"{_few(only_there)}{derived if skeleton.derived else ''}); data.skeleton must be that of this file"
    )


def _few(names: Sequence[str]) -> str:
    return ", ".join([*names[:4], *(["..."] if len(names) > 4 else [])]) or "none"
