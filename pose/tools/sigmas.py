"""Sigmas of OKS from people who were annotated twice: how exactly each keypoint can be placed.

    python -m pose.tools.sigmas first.json second.json
    python -m pose.tools.sigmas first.json second.json --mirror -o my_skeleton.yaml
    python -m pose.tools.sigmas twice.json

Two files are two annotations of the same images, which are known by their file names; in a single file people
are annotated twice on the same image.  Annotations of one person are found by their places (--limit).

COCO's sigma of a keypoint is the root of E[d^2 / s^2]: d the distance of an annotation from the true place,
s^2 the area of the person.  The true place is not known, but the distance of two independent annotations is:
half of its mean square is E[d^2].  So sigma^2 is the mean of |a - b|^2 / (2 s^2) over the people of whom both
annotations have the keypoint, s^2 the mean of their areas.  +- is the standard error of sigma (from that of
the mean, people taken as independent).  The last column estimates the same from the median, as if errors were
Gaussian: where it is much smaller, a few annotations are far off (exchanged sides, another person).

-o writes the skeleton of the first file with these sigmas, for data.skeleton=FILE and score --sigmas FILE.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np
import yaml

from pose.annotations.categories import plain_name
from pose.annotations.keypoint_file import KeypointFile
from pose.annotations.reader import read
from pose.annotations.regions import BOX_TO_AREA
from pose.annotations.skeletons import own_skeleton
from pose.errors import UserError, user_facing
from pose.files import write_text
from pose.skeleton import Skeleton, to_dict

LIMIT = 0.3  # mean distance of two annotations of one person, as a share of the root of the area
LEAST = 2  # keypoints that two annotations of one person have in common, or all where there are fewer


@dataclass(frozen=True)
class People:
    """Of one file."""

    image: list[str]  # N: name of the image
    keypoints: np.ndarray  # (N, K, 3) float64
    areas: np.ndarray  # (N,)

    @cached_property
    def rows(self) -> dict[str, list[int]]:
        """By image."""
        found: dict[str, list[int]] = {}
        for row, image in enumerate(self.image):
            found.setdefault(image, []).append(row)
        return found

    def of(self, image: str) -> np.ndarray:
        return np.array(self.rows.get(image, []), np.int64)


@dataclass(frozen=True)
class Estimate:
    """Of one keypoint."""

    sigma: float  # NaN without pairs
    error: float  # its standard error; NaN below two pairs
    median: float  # the same from the median
    pairs: int


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m pose.tools.sigmas",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("first", type=Path, metavar="FILE", help="annotations, COCO format")
    parser.add_argument(
        "second", type=Path, nargs="?", metavar="OTHER", help="of the same images by another annotator"
    )
    parser.add_argument("--category", metavar="NAME", help="name or id, where several list keypoints")
    parser.add_argument(
        "--limit", type=float, default=LIMIT, metavar="SHARE",
        help="mean distance up to which two annotations are of one person, as a share of the root of the "
        f"area (default {LIMIT})",
    )  # fmt: skip
    parser.add_argument("--mirror", action="store_true", help="one sigma for a keypoint and its mirror image")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write a skeleton (YAML) with them")
    return parser.parse_args(arguments)


def people_of(file: KeypointFile, names: Sequence[str]) -> People:
    """Those with labelled keypoints, with the keypoints `names` in this order."""
    own = [plain_name(name) for name in file.names]
    missing = [name for name in names if name not in own]
    if missing or not own:
        raise UserError(f"{file.source} has no keypoint {', '.join(missing[:4]) or 'names'}")
    rows = np.flatnonzero(file.people)
    keypoints = file.keypoints[rows][:, [own.index(name) for name in names]].astype(np.float64)
    keypoints[~file.labelled[rows][:, [own.index(name) for name in names]]] = 0
    boxes = file.boxes[rows]
    areas = np.where(file.areas[rows] > 0, file.areas[rows], BOX_TO_AREA * boxes[:, 2] * boxes[:, 3])
    images = [PurePosixPath(file.file_names[i].replace("\\", "/")).name for i in file.image[rows]]
    known = areas > 0
    return People([name for name, good in zip(images, known) if good], keypoints[known], areas[known])


def distances(one: People, other: People, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(A, B) mean distance over the keypoints that both have, as a share of the root of the area; inf where
    they have too few in common."""
    first, second = one.keypoints[a][:, None], other.keypoints[b][None]
    both = (first[..., 2] > 0) & (second[..., 2] > 0)
    apart = np.linalg.norm(first[..., :2] - second[..., :2], axis=-1)
    scale = np.sqrt((one.areas[a][:, None] + other.areas[b][None]) / 2)
    mean = (apart * both).sum(-1) / both.sum(-1).clip(min=1) / scale
    return np.where(both.sum(-1) >= min(LEAST, both.shape[-1]), mean, np.inf)


def match_files(one: People, other: People, limit: float) -> np.ndarray:
    """(M, 2) rows of the annotations of the same people in two files."""
    from scipy.optimize import linear_sum_assignment  # slow to import

    pairs = [np.zeros((0, 2), np.int64)]
    for image in one.rows:
        a, b = one.of(image), other.of(image)
        cost = distances(one, other, a, b)
        rows, columns = linear_sum_assignment(np.minimum(cost, 1e6))
        near = cost[rows, columns] <= limit
        pairs.append(np.stack([a[rows[near]], b[columns[near]]], 1))
    return np.concatenate(pairs)


def match_within(people: People, limit: float) -> np.ndarray:
    """(M, 2) rows of two annotations of one person on an image, the nearest first; each is used once."""
    pairs: list[tuple[int, int]] = []
    for image in people.rows:
        rows = people.of(image)
        cost = distances(people, people, rows, rows)
        cost[np.tril_indices(len(rows))] = np.inf
        taken: set[int] = set()
        for flat in np.argsort(cost, axis=None, kind="stable").tolist():
            i, j = divmod(flat, len(rows))
            if cost[i, j] > limit:
                break
            if not {i, j} & taken:
                taken |= {i, j}
                pairs.append((int(rows[i]), int(rows[j])))
    return np.array(pairs, np.int64).reshape(-1, 2)


def squares(one: People, other: People, pairs: np.ndarray) -> np.ndarray:
    """(M, K) |a - b|^2 / (2 s^2); NaN where one of them lacks the keypoint."""
    a, b = one.keypoints[pairs[:, 0]], other.keypoints[pairs[:, 1]]
    area = (one.areas[pairs[:, 0]] + other.areas[pairs[:, 1]]) / 2
    value = ((a[..., :2] - b[..., :2]) ** 2).sum(-1) / (2 * area[:, None])
    return np.where((a[..., 2] > 0) & (b[..., 2] > 0), value, np.nan)


def estimate(values: np.ndarray) -> Estimate:
    """values: those of one keypoint, NaN left out."""
    known = values[~np.isnan(values)]
    if not len(known):
        return Estimate(math.nan, math.nan, math.nan, 0)
    sigma = math.sqrt(known.mean())
    error = known.std(ddof=1) / math.sqrt(len(known)) if len(known) > 1 else math.nan
    median = math.sqrt(float(np.median(known)) / math.log(2))
    return Estimate(sigma, error / (2 * sigma) if sigma else math.nan, median, len(known))


def estimates(values: np.ndarray, skeleton: Skeleton, mirror: bool = False) -> list[Estimate]:
    """values (M, K), see `squares`; mirror: a keypoint and its mirror image share theirs."""
    columns = [{k, skeleton.flip_index[k]} if mirror else {k} for k in range(len(skeleton))]
    return [estimate(values[:, sorted(own)].ravel()) for own in columns]


def table(skeleton: Skeleton, found: Sequence[Estimate]) -> str:
    width = max(map(len, skeleton.keypoints))
    lines = [f"{'keypoint':<{width}}  pairs   sigma      +-  by the median"]
    for name, one in zip(skeleton.keypoints, found, strict=True):
        numbers = [f"{value:.4f}" if value == value else "-" for value in (one.sigma, one.error, one.median)]
        lines.append(f"{name:<{width}}  {one.pairs:>5}  {numbers[0]:>6}  {numbers[1]:>6}  {numbers[2]:>13}")
    return "\n".join(lines)


def written(skeleton: Skeleton, found: Sequence[Estimate]) -> str:
    """A skeleton file."""
    unknown = [name for name, one in zip(skeleton.keypoints, found, strict=True) if not one.sigma > 0]
    if unknown:
        raise UserError(
            f"-o: no sigma for {', '.join(unknown[:4])}: nobody has it annotated twice at different places; "
            "--mirror takes that of the other side"
        )
    sigmas = {name: float(f"{one.sigma:.4g}") for name, one in zip(skeleton.keypoints, found, strict=True)}
    data = {key: value for key, value in to_dict(skeleton).items() if value and key not in ("pairs",)}
    return yaml.safe_dump({**data, "sigmas": sigmas}, sort_keys=False, default_flow_style=None, width=110)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    if not options.limit > 0:
        raise UserError(f"--limit {options.limit:g}: expected a number above 0")
    first = read(options.first, options.category)
    skeleton = own_skeleton(first)
    names = [plain_name(name) for name in skeleton.keypoints]
    one = people_of(first, names)
    if options.second is None:
        other, pairs = one, match_within(one, options.limit)
    else:
        other = people_of(read(options.second, options.category), names)
        pairs = match_files(one, other, options.limit)
    if not len(pairs):
        what = "the two files" if options.second else str(options.first)
        raise UserError(f"nobody is annotated twice in {what}; are the images named alike?  (see --limit)")
    found = estimates(squares(one, other, pairs), skeleton, options.mirror)
    print(f"{len(pairs)} people annotated twice, on {len({one.image[i] for i in pairs[:, 0]})} images")
    print(table(skeleton, found))
    if options.output is not None:
        write_text(options.output, written(skeleton, found))
        print(f"skeleton: {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(user_facing(main)())
