"""What is wrong with a file of annotations, beyond what makes it unusable: `pose.tools.doctor` tells it.

Every check looks at arrays of the whole file; `check_texts.KINDS` says what each finding means.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pose.annotations.categories import plain_name
from pose.annotations.issues import SHOWN, Issue, Level, shown
from pose.annotations.keypoint_file import KeypointFile
from pose.annotations.numbers import NONE
from pose.annotations.regions import usable_box, usable_mask
from pose.doctor.content import Content
from pose.doctor.sides import find_exchanged
from pose.doctor.texts import AS_A_WHOLE, KINDS
from pose.metrics.crowdpose import UNCOUNTED

ROOMY = 1.05  # times the box: a larger area is no area of the person in it
LEAST_SHARE = 0.02  # of the box, the same
EXTENT = (0.08, 4.0)  # smallest and largest sqrt(area) over the diagonal of the keypoints' box
EXTENT_KEYPOINTS = 5  # labelled ones by which an extent says something
BOX_REACH = 0.5  # longer sides of the box that a keypoint may lie outside it
BOX_BEYOND = 0.1  # sides of the picture that a box may reach out of it
SMALL = 32.0**2  # COCO's small people
CROWDED = 20  # results that COCO scores in a picture
COPY = 0.98  # similarity at which two people are one
COPY_KEYPOINTS = 3  # labelled in both
NEIGHBOURS = 100  # people of an image whom one is compared with


@dataclass(frozen=True)
class Example:
    """One place where something was found; "" and None where there is none."""

    image_id: int | None
    annotation_id: int | None
    file: str
    detail: str


@dataclass(frozen=True)
class Fault:
    """One kind of finding: how many of how many, and the first places."""

    kind: str
    count: int
    of: int
    examples: tuple[Example, ...]
    rows: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # annotations, where it is theirs
    costly: bool = False  # AP was measured, and it takes some

    @property
    def level(self) -> Level:
        """That of its kind, serious where it is costly; a note where careful files have as many."""
        if self.costly:
            return "serious"
        kind = KINDS[self.kind]
        natural = 0 < self.count <= max(1.0, kind.natural * self.of) and kind.natural > 0
        return "note" if natural else kind.level

    @property
    def what(self) -> str:
        """With its number."""
        text = KINDS[self.kind].what
        return text if self.kind in AS_A_WHOLE else f"{self.count} {text}"


class Faults:
    """A collection in the making."""

    def __init__(self, content: Content) -> None:
        self.content = content
        self.found: list[Fault] = []

    def annotations(
        self, kind: str, wrong: np.ndarray, detail: Callable[[int], str] | None = None, of: int | None = None
    ) -> None:
        """wrong: (N,) bool, or rows.  of: how many were looked at (default: all annotations)."""
        rows = np.flatnonzero(wrong) if wrong.dtype == bool else wrong
        if len(rows):
            examples = tuple(self._example(row, detail(row) if detail else "") for row in shown(rows))
            count = len(self.content.file.ids) if of is None else of
            self.found.append(Fault(kind, len(rows), count, examples, rows))

    def images(self, kind: str, wrong: np.ndarray, detail: Callable[[int], str] | None = None) -> None:
        """wrong: (I,) bool, or rows."""
        rows = np.flatnonzero(wrong) if wrong.dtype == bool else wrong
        if len(rows):
            examples = tuple(
                image_example(self.content, row, detail(row) if detail else "") for row in shown(rows)
            )
            self.found.append(Fault(kind, len(rows), self.content.file.num_images, examples))

    def file(self, kind: str, details: Sequence[str], rows: np.ndarray | None = None) -> None:
        """About the file itself; rows: annotations that show it."""
        if not details:
            return
        examples = [Example(None, None, "", detail) for detail in details[:SHOWN]]
        marked = np.zeros(0, np.int64) if rows is None else rows
        examples += [self._example(row, "") for row in shown(marked)]
        self.found.append(Fault(kind, len(details), 0, tuple(examples), marked))

    def issue(self, issue: Issue) -> None:
        """What the reader found."""
        details = dict(zip(shown(issue.rows), issue.details))
        if issue.where == "file":
            self.file(issue.code, issue.details or ("",))
        elif issue.where == "images":
            self.images(issue.code, issue.rows, lambda row: details.get(row, ""))
        else:
            self.annotations(issue.code, issue.rows, lambda row: details.get(row, ""))

    def all(self) -> list[Fault]:
        """In the order of KINDS, the worst level first."""
        levels, kinds = ("serious", "doubtful", "note"), list(KINDS)
        return sorted(self.found, key=lambda one: (levels.index(one.level), kinds.index(one.kind)))

    def _example(self, row: int, detail: str) -> Example:
        file = self.content.file
        number, image = int(file.ids[row]), int(file.image_id[row])
        where = file.name_of_image(row)
        if number == NONE and not where:
            detail = f"entry {file.places[row]}{f': {detail}' if detail else ''}"
        return Example(None if image == NONE else image, None if number == NONE else number, where, detail)


def image_example(content: Content, row: int, detail: str = "") -> Example:
    number, name = int(content.file.image_ids[row]), content.file.file_names[row]
    if number == NONE and not name:
        detail = f"entry {row}{f': {detail}' if detail else ''}"
    return Example(None if number == NONE else number, None, name, detail)


def check(content: Content) -> list[Fault]:
    """All that the annotations themselves show, the worst first."""
    faults = Faults(content)
    with np.errstate(
        invalid="ignore", over="ignore"
    ):  # NaN is compared throughout: nothing is wrong with what is missing
        for one in (
            _check_file, _check_crowdpose, _check_images, _check_keypoints, _check_numbers, _check_sides,
            _check_areas, _check_boxes, _check_masks, _check_copies,
        ):  # fmt: skip
            one(content, faults)
    return faults.all()


def is_crowdpose(file: KeypointFile) -> bool:
    return "crowdIndex" in file.image_values


def _check_file(content: Content, faults: Faults) -> None:
    file = content.file
    for issue in file.issues:
        faults.issue(issue)
    if not file.chosen:
        faults.file("unnamed", [f"taken to be {', '.join(content.skeleton.annotated[:6])}"])
    faults.file("names", [content.other_names] if content.other_names else [])
    faults.file("limbs", [content.bad_limbs] if content.bad_limbs else [])
    if content.flip and not content.skeleton.tells_sides:
        faults.file("no_sides", [", ".join(content.skeleton.keypoints[:6])])
    if not content.file.people.any():
        told = f"{len(file.ids)} annotations, {file.num_images} images"
        faults.file("no_people", [f"{told}; {file.why_nobody()}" if file.why_nobody() else told])
        return
    if content.partial:  # training on a mixture knows what each set lacks
        return
    labelled = np.any(content.keypoints[content.file.people][..., 2] > 0, axis=0)
    annotated = content.skeleton.annotated_index
    faults.file("never_labelled", [content.skeleton.keypoints[k] for k in annotated if not labelled[k]])


def _check_crowdpose(content: Content, faults: Faults) -> None:
    """What tools that take a CrowdPose file for COCO's fall into."""
    file = content.file
    if not is_crowdpose(file):
        return
    ignored = content.file.people & (file.num_keypoints == 0)
    faults.file("crowdpose", [
        "num_keypoints counts neither head nor neck, which are scored where they are labelled; "
        f"{ignored.sum()} people with nothing else labelled are ignored by the metric, and trained on",
        "areas are 0.53 of the box by rule; there are no medium and large people",
        f"{file.crowd.sum()} crowds have no mask: their box is masked",
        "`skeleton` is COCO's and names keypoints that 14 do not have: data.skeleton=crowdpose14",
        "easy, medium and hard are below a crowdIndex of 0.2 (not 0.1 as in the paper), up to 0.8, and above",
    ])  # fmt: skip


def _check_images(content: Content, faults: Faults) -> None:
    file = content.file
    names = np.array([*file.file_names, ""], object)[:-1]
    _, first, inverse = np.unique(names.astype(str), return_index=True, return_inverse=True)
    again = first[inverse.reshape(-1)] != np.arange(len(names))
    faults.images("same_file", again & file.images & (names != ""))
    counts = np.bincount(file.image[file.image >= 0], minlength=len(names))
    faults.images("no_annotations", (counts == 0) & file.images)
    people = np.bincount(file.image[content.file.people], minlength=len(names))
    faults.images("crowded", people > CROWDED, lambda row: f"{people[row]} people")


def _check_keypoints(content: Content, faults: Faults) -> None:
    given = content.file.keypoints
    people = ~content.file.crowd & content.file.ours
    origin = content.file.labelled & (given[..., :2] == 0).all(-1)
    names = content.file.names or content.skeleton.annotated
    faults.annotations("origin", people & origin.any(1), lambda row: _named(names, origin[row]))
    outside, keypoints = content.outside, content.skeleton.keypoints
    faults.annotations(
        "outside", people & outside.any(1),
        lambda row: f"{_named(keypoints, outside[row])} by {content.beyond[row].max():.0f} pixels",
    )  # fmt: skip


def _named(keypoints: Sequence[str], which: np.ndarray) -> str:
    """The keypoints that `which` marks."""
    names = [keypoints[k] for k in np.flatnonzero(which).tolist()]
    return ", ".join([*names[:3], *(["..."] if len(names) > 3 else [])])


def _check_numbers(content: Content, faults: Faults) -> None:
    body = content.file.labelled[:, : content.file.num_body]
    if is_crowdpose(content.file):  # which never counts head and neck
        names = content.file.names[: content.file.num_body]
        counted = np.array([plain_name(name) not in UNCOUNTED for name in names], bool)
        counted[12:] &= not counted.all()  # the last two, however they are called
        body = body & counted
    said, labelled = content.file.num_keypoints, body.sum(1)
    people = ~content.file.crowd & content.file.ours & np.isfinite(said)

    def both(row: int) -> str:
        return f"num_keypoints {said[row]:g}, labelled {labelled[row]}"

    faults.annotations("num_keypoints_zero", people & (said == 0) & (labelled > 0), both)
    faults.annotations("num_keypoints_empty", people & (said != 0) & (labelled == 0), both)
    faults.annotations("num_keypoints", people & (said != labelled) & (said != 0) & (labelled > 0), both)


def _check_sides(content: Content, faults: Faults) -> None:
    rows = np.flatnonzero(content.file.people)
    sides = find_exchanged(content.keypoints[rows], content.skeleton)
    faults.file("sides_file", [sides.exchanged] if sides.exchanged else [], rows[sides.faces])
    faults.file("sides_pair", sides.pairs)
    if not sides.exchanged:  # else everybody would be accused once more
        parts = dict(zip(rows[sides.people].tolist(), sides.parts, strict=True))
        if not sides.pairs:
            faults.annotations("sides_person", rows[sides.people], lambda row: parts[row], of=len(rows))
        faults.annotations("sides_face", rows[sides.faces], of=len(rows))


def _check_areas(content: Content, faults: Faults) -> None:
    areas, boxes, people = content.file.areas, content.file.boxes, content.file.people
    if not is_crowdpose(content.file):  # whose rule needs none
        faults.annotations("area_missing", people & np.isnan(areas), of=int(people.sum()))
    faults.annotations("area_zero", people & (areas <= 0), lambda row: f"area {areas[row]:g}")
    positive = people & (areas > 0)
    box = boxes[:, 2] * boxes[:, 3]
    share = areas / np.where(box > 0, box, np.nan)
    wrong = positive & ((share > ROOMY) | (share < LEAST_SHARE))
    faults.annotations("area_box", wrong, lambda row: f"area {areas[row]:.0f}, box {box[row]:.0f}")
    x0, y0, x1, y1 = content.extents.T
    diagonal = np.hypot(x1 - x0, y1 - y0)
    enough = (content.keypoints[..., 2] > 0).sum(1) >= EXTENT_KEYPOINTS
    ratio = np.sqrt(np.maximum(areas, 0)) / np.where(diagonal > 0, diagonal, np.nan)
    faults.annotations(
        "area_extent", positive & enough & ~wrong & ((ratio < EXTENT[0]) | (ratio > EXTENT[1])),
        lambda row: f"area {areas[row]:.0f}, keypoints {diagonal[row]:.0f} pixels apart",
    )  # fmt: skip
    faults.annotations("small", positive & (areas < SMALL) & ~wrong, lambda row: f"area {areas[row]:.0f}")


def _check_boxes(content: Content, faults: Faults) -> None:
    boxes, people = content.file.boxes, content.file.people
    usable = (boxes[:, 2:] > 0).all(1) & np.isfinite(boxes).all(1)
    faults.annotations("box_missing", people & ~usable, of=int(people.sum()))
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    longer = boxes[:, 2:].max(1)
    away = np.maximum(low - content.extents[:, :2], content.extents[:, 2:] - high).max(1)
    faults.annotations(
        "box_keypoints", people & usable & (away > BOX_REACH * longer),
        lambda row: f"{away[row]:.0f} pixels outside a box of {boxes[row, 2]:.0f} x {boxes[row, 3]:.0f}",
        of=int(people.sum()),
    )  # fmt: skip
    size = content.file.image_size[:, ::-1]
    beyond = (np.maximum(-low, high - size) / np.where(size > 0, size, np.nan)).max(1)
    faults.annotations("box_picture", people & usable & (beyond > BOX_BEYOND))


def _check_masks(content: Content, faults: Faults) -> None:
    file = content.file
    hidden = file.ignored
    unlabelled = hidden & ~file.crowd
    masked = np.zeros(len(hidden), bool)
    boxed = usable_box(file.boxes)
    for row, segmentation in file.masks.items():
        height, width = (int(side) for side in content.file.image_size[row])
        masked[row] = hidden[row] and usable_mask(segmentation, (height, width))
    faults.annotations("region", hidden & ~masked & ~boxed)
    faults.annotations("crowd_box", file.crowd & hidden & ~masked & boxed, of=int(file.crowd.sum()))
    faults.annotations("unlabelled", unlabelled & (masked | boxed))


def _check_copies(content: Content, faults: Faults) -> None:
    first, second = find_copies(content)
    of = dict(zip(second.tolist(), content.file.ids[first].tolist(), strict=True))
    faults.annotations("copies", np.unique(second), lambda row: f"as annotation {of[row]}")


def find_copies(content: Content) -> tuple[np.ndarray, np.ndarray]:
    """Rows of pairs of people in one image whose labelled keypoints are the same (similarity >= COPY); the
    second of a pair comes later in the file.

    People are compared with the NEIGHBOURS next ones from left to right: in an image with no more, with all;
    where there are thousands, copies lie side by side."""
    rows = np.flatnonzero(content.file.people)
    seen = content.keypoints[rows][..., 2] > 0
    left = (content.keypoints[rows][..., 0] * seen).sum(1) / np.maximum(seen.sum(1), 1)
    rows = rows[np.lexsort((left, content.file.image[rows]))]
    image = content.file.image[rows]
    scale = np.nan_to_num(content.extents[:, 2:] - content.extents[:, :2]).prod(1).clip(min=1)
    variance = (2 * np.array(content.skeleton.sigmas)) ** 2
    pairs: list[tuple[np.ndarray, np.ndarray]] = []
    for step in range(1, min(len(rows), NEIGHBOURS + 1)):
        near = np.flatnonzero(image[step:] == image[:-step])
        if not len(near):
            break
        a, b = rows[near], rows[near + step]
        one, other = content.keypoints[a], content.keypoints[b]
        both = (one[..., 2] > 0) & (other[..., 2] > 0)
        apart = ((one[..., :2] - other[..., :2]) ** 2).sum(-1) / (2 * variance * scale[a][:, None])
        alike = np.where(both, np.exp(-apart), 0).sum(1) / np.maximum(both.sum(1), 1)
        labelled = np.maximum((one[..., 2] > 0).sum(1), (other[..., 2] > 0).sum(1))
        copies = (alike >= COPY) & (both.sum(1) >= COPY_KEYPOINTS) & (2 * both.sum(1) > labelled)
        pairs.append((np.minimum(a, b)[copies], np.maximum(a, b)[copies]))
    if not pairs:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    return np.concatenate([a for a, _ in pairs]), np.concatenate([b for _, b in pairs])


def shared_images(
    train: Sequence[tuple[Content, Path]], val: tuple[Content, Path], same: Callable[[Path, Path], bool]
) -> list[Fault]:
    """Validation images that are trained on.  train, val: contents and their folders of images.

    An image is the same where it is the same file, or has the same name and `same` of both files."""
    content, folder = val
    own = {name: row for row, name in enumerate(content.file.file_names) if name}
    found: dict[int, str] = {}
    for other, elsewhere in train:
        for name in other.file.file_names:
            row = own.get(name)
            if row is None or row in found:
                continue
            if folder.resolve() == elsewhere.resolve() or same(folder / name, elsewhere / name):
                found[row] = f"in {Path(other.file.source).name}, too"
    faults = Faults(content)
    faults.images("shared", np.array(sorted(found), np.int64), lambda row: found[row])
    return faults.all()


def image_faults(content: Content, problems: Iterable[tuple[int, str, str]]) -> list[Fault]:
    """problems: (row of the image, kind, what is wrong), as of `check_images`."""
    faults = Faults(content)
    by_kind: dict[str, dict[int, str]] = {}
    for place, kind, detail in problems:
        by_kind.setdefault(kind, {})[place] = detail
    for kind, details in by_kind.items():
        faults.images(kind, np.array(sorted(details), np.int64), details.__getitem__)
    return faults.all()
