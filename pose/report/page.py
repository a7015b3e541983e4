"""The report as one HTML file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from pose.data.images import Orientation, read_of_size
from pose.draw.pages import drawing, page, picture, table, text
from pose.draw.people import Style, draw_people
from pose.errors import UserError
from pose.metrics.base import Scores
from pose.report import figures
from pose.report.analysis import Analysis, Worst
from pose.report.errors import GOOD, KINDS, NEAR, SAME_PERSON
from pose.report.groups import CROWDED, Group
from pose.structures import People

PICTURE_HEIGHT = 420  # pixels of the largest, in the page
PICTURE_WIDTH = 520
LARGER = 1.5  # times its size: a small picture

NAMES = {"AP": "average precision", "AR": "average recall"}
Reader = Callable[[int], tuple[str, np.ndarray] | None]  # image id -> name and (H, W, 3) uint8 RGB, if any


def picture_reader(
    files: Mapping[int, Path],
    sizes: Mapping[int, tuple[int, int]] | None = None,
    orientation: Orientation = "auto",
) -> Reader:
    """files, and sizes that their annotations are for: by image id.  orientation: see `data.orientation`."""

    def read(image_id: int) -> tuple[str, np.ndarray] | None:
        try:
            path = files[image_id]
            return path.name, read_of_size(path, (sizes or {}).get(image_id), orientation)
        except (KeyError, UserError):
            return None

    return read


def render(
    analysis: Analysis,
    header: Mapping[str, str],
    reader: Reader | None = None,
    scores: Sequence[Scores] = (),
) -> str:
    """The page.  header: what was tested; reader: of pictures (None: the worst ones are not drawn); scores:
    of every metric, of which those are shown that say more than the analysis."""
    sections = [
        ("What was tested", table(("setting", "value"), list(header.items()), text_columns=(0, 1))),
        *(
            (f"Scores: {one.metric}", _numbers(one))
            for one in scores
            if set(one.numbers) - set(analysis.stats)
        ),
        ("AP and AR", _scores(analysis)),
    ]
    if analysis.num_people:
        sections += [
            ("Precision and recall", _curves(analysis)),
            ("Groups of people", _groups(analysis)),
            ("Errors per keypoint", _keypoints(analysis)),
            ("What errors cost", _costs(analysis)),
            ("False positives and missed people", _people(analysis)),
        ]
    else:
        sections[-1] = (
            "AP and AR",
            _note(
                "On the tested pictures nobody is annotated with keypoints, so there is nothing to score; "
                f"{len(analysis.matches.pairing.found)} people were found there."
            ),
        )
    sections.append(("Worst pictures", _worst(analysis, reader)))
    return page(f"Report: {header.get('run') or header.get('results', 'results')}", sections)


def _note(sentence: str) -> str:
    return f'<p class="note">{text(sentence)}</p>'


def _number(value: float) -> str:
    return "–" if value < 0 else f"{value:.3f}"


def _numbers(scores: Scores) -> str:
    rows = [(name.replace("_", " "), _number(value)) for name, value in scores.numbers.items()]
    return table(("", "value"), rows, text_columns=(0,))


def _scores(analysis: Analysis) -> str:
    def meaning(name: str) -> str:
        limit = {"50": "OKS 0.50", "75": "OKS 0.75"}.get(name[2:], "mean over OKS 0.50 to 0.95")
        size = {"M": ", medium people (32² to 96² pixels)", "L": ", large people (from 96²)"}
        return f"{NAMES[name[:2]]}, {limit}{size.get(name[2:], '')}"

    stats = analysis.stats
    rows = [(name, _number(value), meaning(name)) for name, value in stats.items()]
    found = len(analysis.matches.pairing.found)
    return table(("", "value", "what"), rows, text_columns=(0, 2)) + _note(
        f"{analysis.num_people} people annotated and {found} found (at most 20 of each picture, the best "
        f"scores) on {len(analysis.matches.image_ids)} pictures.  – : nothing to score."
    )


def _curves(analysis: Analysis) -> str:
    return drawing(figures.precision_recall(analysis.matches)) + _note(
        "Precision is the best one at this recall or a higher one, as in COCO's AP, which is its mean over "
        "101 recalls."
    )


def _groups(analysis: Analysis) -> str:
    caption = f"AP; below each name the number of people annotated (pale: fewer than {figures.FEW})"
    parts = [drawing(figures.group_bars(analysis.groups), caption)]
    parts += [f"<h3>By {text(title)}</h3>{_group_table(groups)}" for title, groups in analysis.groups.items()]
    parts.append(
        _note(
            "People annotated outside a group are ignored in it: who matches them is neither right nor "
            "wrong.  Of the people found who match nobody, those count against a size whose own area is of "
            "that size, as in COCOeval; against a degree of crowding or a number of keypoints count all but "
            f"those that are most like (OKS of {SAME_PERSON} or more) somebody outside the group, so that "
            "one in the background counts against every such group.  Boxes overlap from an IoU of "
            f"{CROWDED} on.  missed: people with whom nobody found comes to an OKS of {SAME_PERSON:g}, "
            "whatever the score."
        )
    )
    return "\n".join(parts)


def _group_table(groups: list[Group]) -> str:
    rows = [
        (g.name, g.people, g.missed, *(_number(value) for value in (g.ap, g.ap50, g.ap75, g.ar)))
        for g in groups
    ]
    return table(("", "people", "missed", "AP", "AP50", "AP75", "AR"), rows)


def _keypoints(analysis: Analysis) -> str:
    counts = analysis.errors.counts()
    if not counts.any():
        return _note("Nobody was found near anybody annotated, so there are no keypoints to judge.")
    names = analysis.skeleton.keypoints
    everything = [*zip(names, counts), ("all", counts.sum(axis=0))]
    rows = [(name.replace("_", " "), *row.tolist(), int(row.sum())) for name, row in everything]
    sentence = (
        "In the manner of Ronchi and Perona (ICCV 2017).  Everybody found is taken for a person annotated "
        f"from an OKS of {SAME_PERSON} on, best score first; then every keypoint labelled there is judged by "
        "its similarity exp(-d² / (2 s² k²)) to places in the annotations.  "
        f"good: {GOOD} or more to its own place; jitter: {NEAR} to {GOOD}; inversion: {NEAR} or more to its "
        f"mirror image's place in the same person; swap: {NEAR} or more to its own or its mirror image's "
        "place in another person; miss: none of these.  The first that holds counts."
    )
    return (
        drawing(figures.keypoint_bars(analysis.errors, names), "shares in %, among the people found")
        + table(("keypoint", *KINDS, "all"), rows)
        + _note(sentence)
    )


def _costs(analysis: Analysis) -> str:
    before, costs = analysis.stats["AP"], analysis.costs
    rows, last = [], before
    for cost in costs:
        gains = (cost.alone - before, cost.together - last)
        rows.append(
            (figures.FIX_NAMES[cost.fix], *(f"{gain:+.3f}" for gain in gains), f"{cost.together:.3f}")
        )
        last = cost.together
    header = ("without", "AP gained alone", "AP gained after those above", "AP then")
    return (
        drawing(figures.cost_steps(before, costs), "AP as errors are put right one kind after the other")
        + table(header, rows)
        + _note(
            "Keypoints of a kind are put exactly where they are annotated; people in the background are left "
            "out; missed people need not be found; people are ranked by their OKS instead of their scores, "
            "those who match nobody last; at the end the good keypoints are made exact too.  Ronchi and "
            f"Perona's own analysis puts a jittering keypoint only where its similarity is {GOOD}, a "
            f"missed one at {NEAR}, and leaves inverted and swapped ones the similarity that they had in "
            "the wrong place: its gains are lower."
        )
    )


def _people(analysis: Analysis) -> str:
    errors, found = analysis.errors, analysis.matches.pairing.found
    kinds = (
        ("found with a person annotated", errors.person >= 0),
        ("false positive: found twice", errors.double),
        ("false positive: in the background", errors.background),
        (
            "with somebody who does not count",
            (errors.person < 0) & ~errors.double & ~errors.background,
        ),
    )
    middle = float(np.median(found.scores[errors.person >= 0])) if (errors.person >= 0).any() else 0.0
    rows = [(name, int(mask.sum()), int((mask & (found.scores >= middle)).sum())) for name, mask in kinds]
    header = ("people found", "number", f"of them with a score of {middle:.3f} or more")
    sentence = (
        f"In the background: an OKS below {SAME_PERSON} with everybody annotated.  Found twice: like "
        "somebody whom one with a better score has taken already.  Somebody who does not count: a crowd, or "
        f"a person without labelled keypoints.  {middle:.3f} is the median score of those found with a "
        "person annotated: a false positive above it costs the most."
    )
    far = f"nobody found comes to an OKS of {SAME_PERSON:g} with them, whatever the score"
    missed = f"{int(errors.missed.sum())} of {analysis.num_people} people annotated are missed: {far}."
    figure = drawing(figures.score_histogram(found.scores, errors)) if len(found) else ""
    return f"<p>{missed}</p>" + table(header, rows) + figure + _note(sentence)


def _worst(analysis: Analysis, reader: Reader | None) -> str:
    if not analysis.worst:
        return _note("Nothing is wrong on any picture.")
    parts = [
        _note(
            "Left what is annotated, right what was found; a person found has the colour of the one "
            "annotated for whom it is taken.  The loss is the sum of 1 - OKS over the people annotated (1 "
            "for a missed one), and for each false positive the share of the people rightly found whom it "
            "outranks."
        )
    ]
    if reader is None:
        rows = [(one.image_id, f"{one.loss:.2f}", one.sentence) for one in analysis.worst]
        return parts[0] + table(("picture", "loss", "what is wrong"), rows, text_columns=(0, 2))
    for one in analysis.worst:
        shown = reader(one.image_id)
        if shown is None:
            parts.append(f"<p>{text(one.image_id)}: cannot be read; {text(one.sentence)}</p>")
        else:
            name, image = shown
            caption = f"{name} (id {one.image_id}), loss {one.loss:.2f}: {one.sentence}"
            parts.append(picture(side_by_side(analysis, one, image), caption))
    return "\n".join(parts)


def side_by_side(analysis: Analysis, one: Worst, image: np.ndarray) -> np.ndarray:
    """The picture twice: with the people annotated, and with those found."""
    height, width = image.shape[:2]
    ratio = min(LARGER, PICTURE_HEIGHT / height, PICTURE_WIDTH / width)
    size = max(1, round(width * ratio)), max(1, round(height * ratio))
    shrunk = cv2.resize(image, size, interpolation=cv2.INTER_AREA if ratio < 1 else cv2.INTER_LINEAR)
    truth, found = analysis.matches.pairing.truth, analysis.matches.pairing.found
    place = {person: i for i, person in enumerate(one.people.tolist())}
    strangers = iter(range(len(place), len(place) + len(one.found)))
    numbers = [place.get(p) if p >= 0 else None for p in analysis.errors.person[one.found].tolist()]
    sides = (
        _people_of(truth.keypoints[one.people], np.ones(len(one.people)), ratio),
        _people_of(found.keypoints[one.found], found.scores[one.found], ratio),
    )
    colors = ([*range(len(place))], [next(strangers) if n is None else n for n in numbers])
    drawn = [
        draw_people(shrunk, people, analysis.skeleton, Style(fade=False, min_score=-np.inf), chosen)
        for people, chosen in zip(sides, colors)
    ]
    gap = np.full((size[1], 6, 3), 255, np.uint8)
    return np.concatenate([drawn[0], gap, drawn[1]], axis=1)


def _people_of(keypoints: np.ndarray, scores: np.ndarray, ratio: float) -> People:
    """keypoints (N, K, 3): where no keypoint has a score, as some results files have it, all are shown."""
    shown = keypoints.copy()
    shown[..., :2] *= ratio
    shown[..., 2] = np.clip(shown[..., 2], 0, 1)
    if len(shown) and not shown[..., 2].any():
        shown[..., 2] = 1
    return People(shown.astype(np.float32), scores.astype(np.float32))
