"""Time from maps to people on one core: the literal restatement of rtpose against `PafGroups`; and what
rtpose does in Python round its C++ extension, which joins the limbs: some 0.04 ms, which are not measured.

python -m benchmarks.paf_groups [--smallest]
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch

from benchmarks.timing import Row, Times, compare, first_row, one_thread, print_rows, times_of
from pose.config import read_yaml
from pose.decoders.paf_groups import Joints, PafGroups, PafGroupsSettings
from pose.decoders.peaks import list_peaks
from pose.skeleton import from_dict
from tests.literal.reference import rtpose_decoding as literal

SKELETON = Path(__file__).parents[1] / "configs" / "_skeletons" / "coco18.yaml"
STRIDE = 8


def rows(smallest: bool = False) -> list[Row]:
    """Per image, medians on one thread."""
    with one_thread():
        if smallest:
            return scene_rows(2, literal_runs=1, runs=1)
        return [row for people in (5, 15, 30) for row in scene_rows(people, literal_runs=5, runs=51)]


def scene_rows(people: int, literal_runs: int, runs: int) -> list[Row]:
    """From maps to people by two presets, then the parts of the first."""
    heat, paf = literal.scene(people, 0)
    maps, fields = (torch.from_numpy(one.transpose(2, 0, 1).copy())[None] for one in (heat, paf))
    result = []
    for preset in ("s1", "default"):
        what = f"peaks + limbs + people, {people} people, 46 x 62, {preset}"
        whole = partial(literal.decode_s1, heat, paf)
        ours_whole = partial(decoder(preset), maps, fields, STRIDE)
        result.append(compare(what, whole, ours_whole, literal_runs=literal_runs, runs=runs))
        if preset == "s1":
            around = partial(around_the_extension, heat, paf)
            what = "  the same; literal: rtpose's with its C++, but for the C++"
            result.append(compare(what, around, ours_whole, literal_runs=max(1, runs // 3), runs=runs))
        if preset == "s1" and people != 15:
            makers = ("benchmarks.paf_groups:theirs", "benchmarks.paf_groups:ours")
            result.append(first_row(*makers, (people,), (people, preset), smallest=runs == 1))
    of_literal, of_ours = literal_parts(heat, paf, literal_runs), our_parts(maps, fields, runs)
    names = (f"  {part} alone, {people} people, s1" for part in ("peaks", "limbs", "people"))
    return result + [Row(*row) for row in zip(names, of_literal, of_ours, strict=True)]


def ours(people: str, preset: str) -> Callable[[], object]:
    """A call of the decoder, not yet made."""
    heat, paf = literal.scene(int(people), 0)
    maps, fields = (torch.from_numpy(one.transpose(2, 0, 1).copy())[None] for one in (heat, paf))
    return partial(decoder(preset), maps, fields, STRIDE)


def theirs(people: str) -> Callable[[], object]:
    return partial(literal.decode_s1, *literal.scene(int(people), 0))


def around_the_extension(heat: np.ndarray, paf: np.ndarray) -> None:
    """rtpose finds the peaks and hands the extension the maps enlarged to pixels, the heat unused."""
    literal.s1_peaks(heat)
    for maps in (paf, heat):
        cv2.resize(maps, None, fx=STRIDE, fy=STRIDE, interpolation=cv2.INTER_NEAREST)


def decoder(preset: str) -> PafGroups:
    return PafGroups(PafGroupsSettings(preset=preset), from_dict(read_yaml(SKELETON)))  # type: ignore[arg-type]


def literal_parts(heat: np.ndarray, paf: np.ndarray, runs: int) -> list[Times]:
    """Times of its peaks, its limbs (with the enlarged fields) and its people."""
    limbs, order = literal.CMU_LIMBS, literal.DECODE_ORDER

    def join() -> list[list[literal.Connection]]:
        large = paf.repeat(STRIDE, axis=0).repeat(STRIDE, axis=1)
        return literal.connect(peaks, large, limbs, literal.s1_limb_score)

    def assemble() -> None:
        people = literal.assemble(peaks, connections, limbs, order, 18)
        literal.finish(people, peaks, 4, 0.3, lambda total, parts: 1.0)

    peaks = literal.s1_peaks(heat)
    connections = join()
    return [times_of(part, runs) for part in (partial(literal.s1_peaks, heat), join, assemble)]


def our_parts(heat: torch.Tensor, paf: torch.Tensor, runs: int) -> list[Times]:
    """The same of ours; the best pairs of a limb are chosen with the people."""
    one = decoder("s1")
    settings = one.settings

    def peaks() -> Joints:
        channel, index = list_peaks(heat, settings.max_peaks, settings.detection_threshold, settings.window)
        return Joints(channel, *one.refine_on_host(heat, channel, index, STRIDE))

    joints = peaks()
    candidates = one.candidates(paf[0], joints, STRIDE)
    limbs, people = (
        partial(one.candidates, paf[0], joints, STRIDE),
        partial(one.people, joints, candidates, STRIDE),
    )
    return [times_of(part, runs) for part in (peaks, limbs, people)]


def main(arguments: list[str] | None = None) -> None:
    print_rows("benchmarks.paf_groups", __doc__, [rows], arguments)


if __name__ == "__main__":
    main()
