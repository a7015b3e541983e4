"""MPII Human Pose's MATLAB file, checked while it is read; `mpii_coco` turns it into COCO's format
(Andriluka, Pishchulin, Gehler, Schiele: 2D Human Pose Estimation, CVPR 2014).

RELEASE has for every image annolist(i).image.name, img_train(i), single_person{i} (which of its people are
far enough from others) and annolist(i).annorect(j): the head's box x1 y1 x2 y2, objpos.x .y near the
person's middle, scale (the person's height / 200 px) and annopoints.point(k).x .y .id .is_visible.  Any of
them may be absent or empty; people of the test pictures have neither points nor heads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from pose.annotations.findings import Finding, Findings
from pose.annotations.numbers import LARGEST
from pose.errors import UserError

POINTS: tuple[str, ...] = (
    "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "pelvis", "thorax",
    "neck", "head_top", "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow",
    "left_wrist",
)  # fmt: skip
UNIT_HEIGHT = 200.0  # pixels that a person of scale 1 is tall
FIRST_PIXEL = 1.0  # MATLAB's pixels count from 1

KINDS = {
    "image": ("repaired", "image(s) without a file name, left out"),
    "same image": ("repaired", "image(s) whose file another has; the first one counts"),
    "point": ("repaired", "point(s) without an id from 0 to 15 or without numbers, left out"),
    "same point": ("repaired", "point(s) of a kind that the person has already; the first one counts"),
    "person": ("repaired", "person(s) with neither points nor a place and a size, left out"),
    "separate": ("repaired", "image(s) whose single_person names nobody in the image"),
}


@dataclass(frozen=True, eq=False)
class MpiiPerson:
    """Places in pixels whose centres are whole numbers from 0."""

    number: int  # in annorect, from 1
    points: np.ndarray  # (16, 3) float64 x, y and COCO's v: 2 visible or not said, 1 occluded, 0 not labelled
    head: tuple[float, float, float, float] | None  # x1, y1, x2, y2
    place: tuple[float, float] | None  # near the middle
    height: float | None  # 200 * scale
    separate: bool  # far enough from others

    @property
    def labelled(self) -> bool:
        return bool(self.points[:, 2].any())


@dataclass(frozen=True, eq=False)
class MpiiImage:
    number: int  # in annolist, from 1
    name: str
    training: bool  # the points of the others are not published
    people: tuple[MpiiPerson, ...]

    @property
    def stem(self) -> str:
        return PurePosixPath(self.name).stem

    @property
    def labelled(self) -> bool:
        return any(person.labelled for person in self.people)


def read_official(path: Path) -> tuple[list[MpiiImage], tuple[Finding, ...]]:
    """All images of the official file, in its order, and what had to be repaired.

    Raises `UserError` for a file that is not MPII's."""
    release = _load(path)
    listed = _structs(getattr(release, "annolist", None))
    training = np.asarray(getattr(release, "img_train", ())).ravel()
    separate = np.asarray(getattr(release, "single_person", ()), object).ravel()
    if not listed or not hasattr(listed[0], "annorect") or len(training) != len(listed):
        raise UserError(
            f"{path} is not MPII's: RELEASE lacks annolist with annorect, or img_train for each of its images"
        )
    findings = Findings(KINDS)
    images: dict[str, MpiiImage] = {}
    for i, (entry, train) in enumerate(zip(listed, training.tolist(), strict=True)):
        name = _text(_member(getattr(entry, "image", None), "name"))
        if not name:
            findings.add("image", f"entry {i + 1}")
        elif name in images:
            findings.add("same image", f"entry {i + 1}, {name}")
        else:
            chosen = separate[i] if i < len(separate) else ()
            people = _people(getattr(entry, "annorect", None), chosen, name, findings)
            images[name] = MpiiImage(i + 1, name, _number(train) == 1, people)
    return list(images.values()), findings.all()


def _load(path: Path) -> Any:
    """RELEASE as scipy's objects."""
    from scipy.io import loadmat  # slow to import

    if not path.is_file():
        raise UserError(f"no file {path}; check the path")
    try:
        content = loadmat(path, appendmat=False, struct_as_record=False, variable_names=["RELEASE"])
        releases = _structs(content.get("RELEASE"))
    except NotImplementedError:  # what scipy says of version 7.3
        raise UserError(
            f"{path} is a MATLAB 7.3 file, which MPII's is not; give mpii_human_pose_v1_u12_1.mat"
        ) from None
    except Exception as error:  # bytes at random make scipy raise nearly everything
        reason = str(error).strip().split("\n")[0][:120]
        raise UserError(
            f"{path} is no MATLAB file or was cut off ({reason}); give mpii_human_pose_v1_u12_1.mat, or "
            "fetch it again"
        ) from None
    if len(releases) != 1:
        raise UserError(f"{path} is not MPII's: it has no RELEASE; give mpii_human_pose_v1_u12_1.mat")
    return releases[0]


def _people(annorect: Any, separate: Any, name: str, findings: Findings) -> tuple[MpiiPerson, ...]:
    entries = _structs(annorect)
    chosen = {_number(value) for value in np.asarray(separate).ravel().tolist()}
    if not chosen <= set(range(1, len(entries) + 1)):
        findings.add("separate", name)
    people = []
    for number, entry in enumerate(entries, 1):
        where = f"{name}, person {number}"
        person = _person(entry, number, number in chosen, where, findings)
        if person.labelled or (person.place and person.height):
            people.append(person)
        else:
            findings.add("person", where)
    return tuple(people)


def _person(entry: Any, number: int, separate: bool, where: str, findings: Findings) -> MpiiPerson:
    x1, y1, x2, y2 = (_number(getattr(entry, key, None)) - FIRST_PIXEL for key in ("x1", "y1", "x2", "y2"))
    head = (min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))
    x, y = (_number(_member(getattr(entry, "objpos", None), axis)) - FIRST_PIXEL for axis in "xy")
    height = UNIT_HEIGHT * _number(getattr(entry, "scale", None))
    return MpiiPerson(
        number,
        _points(_member(getattr(entry, "annopoints", None), "point"), where, findings),
        head if math.hypot(x2 - x1, y2 - y1) > 0 else None,
        None if math.isnan(x + y) else (x, y),
        height if height > 0 else None,
        separate,
    )


def _points(listed: Any, where: str, findings: Findings) -> np.ndarray:
    """(16, 3)."""
    points = np.zeros((len(POINTS), 3))
    for entry in _structs(listed):
        x, y, kind = (_number(getattr(entry, key, None)) for key in ("x", "y", "id"))
        if math.isnan(x + y) or kind not in range(len(POINTS)):
            findings.add("point", where)
        elif points[int(kind), 2]:
            findings.add("same point", f"{where}, {POINTS[int(kind)]}")
        else:
            occluded = _number(getattr(entry, "is_visible", None)) == 0
            points[int(kind)] = x - FIRST_PIXEL, y - FIRST_PIXEL, 1 if occluded else 2
    return points


# ---- values of scipy ----


def _structs(value: Any) -> Sequence[Any]:
    """The elements of an array of structures; none where it is empty or something else."""
    return [one for one in np.asarray(value, object).ravel() if hasattr(one, "_fieldnames")]


def _member(value: Any, name: str) -> Any:
    """Of a single structure; None without."""
    entries = _structs(value)
    return getattr(entries[0], name, None) if entries else None


def _number(value: Any) -> float:
    """Of a single number, also where it is text; else NaN."""
    array = np.asarray(value)
    if array.size != 1:
        return math.nan
    try:
        number = float(array.ravel()[0])
    except (TypeError, ValueError):
        return math.nan
    return number if abs(number) < LARGEST else math.nan


def _text(value: Any) -> str:
    array = np.asarray(value)
    return str(array.ravel()[0]) if array.size == 1 and array.dtype.kind == "U" else ""
