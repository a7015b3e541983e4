"""What a metric is, what comes out of it, and which ones fit a file.

A metric is one file in this folder, registered by the file's name like a head:

    @METRICS.register("pck", PckSettings)
    class Pck(Metric): ...

`pose.test` evaluates every metric that fits its annotation file, the first of them chooses `best.pt` during
training, and `pose.tools.score NAME` scores any results file by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
from pydantic import ValidationError

from pose.annotations.keypoint_file import KeypointFile
from pose.annotations.reader import read
from pose.config import Settings
from pose.errors import UserError
from pose.metrics.ground_truth import check_truth
from pose.metrics.result_files import load_content
from pose.metrics.results import records
from pose.registry import METRICS
from pose.skeleton import Skeleton
from pose.structures import People

AUTO = "auto"
NOTHING = -1.0  # a number where there is nothing to score


@dataclass(frozen=True)
class Scores:
    """What a metric says of some people."""

    metric: str
    numbers: Mapping[str, float]  # the larger the better; -1 where there is nothing to score
    best: str  # the one that chooses `best.pt`
    shown: tuple[str, ...] = ()  # what curves show, `best` first
    lines: tuple[str, ...] = ()  # for a terminal
    details: Mapping[str, Any] = field(default_factory=dict)  # plain data for JSON

    @property
    def title(self) -> str:
        """`coco AP`."""
        return f"{self.metric} {self.best}"

    @property
    def value(self) -> float:
        return self.numbers[self.best]

    def table(self) -> str:
        return "\n".join(self.lines)

    def summary(self) -> str:
        """`AP 0.412, AP50 0.700`."""
        return ", ".join(f"{name} {self.numbers[name]:.3f}" for name in (self.shown or (self.best,))[:2])

    def plain(self) -> dict[str, Any]:
        """As JSON has it beside `details`."""
        return {"best": self.best, "numbers": dict(self.numbers)}

    def also(self, **numbers: float) -> Scores:
        return replace(self, numbers={**self.numbers, **numbers})


class Written(NamedTuple):
    """A file, and the sentence that tells of it."""

    path: Path
    text: str


class Sampled(Protocol):
    """Numbers over any choice of the images, again and again: what intervals need."""

    @property
    def image_ids(self) -> list[int]: ...

    def stats(self, picked: np.ndarray | None = None) -> dict[str, float]:
        """Over the images at the positions `picked`, as often as they are picked (None: all once)."""
        ...


@dataclass(frozen=True)
class Fixed:
    """Numbers of a metric that cannot be had over other choices of images: there are no intervals."""

    image_ids: list[int]
    numbers: Mapping[str, float]

    def stats(self, picked: np.ndarray | None = None) -> dict[str, float]:
        return dict(self.numbers) if picked is None else dict.fromkeys(self.numbers, NOTHING)


class Metric:
    """Bound to an annotation file and, in a run, to its skeleton.  Binding refuses a file that cannot be
    scored, so that nobody waits for predictions first."""

    name: ClassVar[str]
    best: ClassVar[str]
    columns: ClassVar[tuple[str, ...]] = ()  # numbers in a table of several runs, `best` first
    order: ClassVar[int] = 2
    """Of several that fit, the lowest comes first: 0 made for such files, 1 for any file, 2 in addition."""
    by_name: ClassVar[bool] = False  # used only where `test.metric` names it: nothing in a file tells
    instead_of: ClassVar[tuple[str, ...]] = ()  # metrics that are left out where this one fits
    score_options: ClassVar[tuple[str, ...]] = ()  # settings that are options of `pose.tools.score NAME`
    test_options: ClassVar[tuple[str, ...]] = ()  # and of `pose.test`
    takes_records: ClassVar[bool] = True  # results are COCO's, or as `results-MODE.json` has them
    annotations_help: ClassVar[str] = "ground truth, COCO format"  # what files `pose.tools.score NAME` takes
    results_help: ClassVar[str] = "COCO keypoint results"

    def __init__(self, settings: Any, file: KeypointFile, skeleton: Skeleton | None = None) -> None:
        check_truth(file)
        self.settings = settings
        self.file = file
        self.skeleton = skeleton

    @classmethod
    def open(cls, settings: Any, path: Path, category: str | None = None) -> Metric:
        """Bound to a file alone."""
        file = read(path, category)
        why = cls.misfit(file, None)
        if why:
            raise UserError(f"{file.source} {why}, so the metric {cls.name} cannot score it")
        return cls(settings, file)

    @classmethod
    def without_truth(
        cls, settings: Any, file: KeypointFile | None, skeleton: Skeleton, images: Sequence[tuple[int, Path]]
    ) -> Metric | None:
        """Where an option of this metric was given to `pose.test`, and it cannot score the file (None: there
        is a folder of images): what writes what was asked for, if anything."""
        return None

    @classmethod
    def misfit(cls, file: KeypointFile, skeleton: Skeleton | None) -> str:
        """Why it does not fit, as the end of a sentence about the file; "" where it fits."""
        return ""

    def header(self) -> dict[str, str]:
        """What is said above the numbers."""
        return {}

    def found(self, people: Mapping[int, People]) -> Any:
        """The people of a run, by image id, as this metric's results: COCO's records."""
        assert self.skeleton is not None
        return records(people, self.skeleton, self.file)

    def read(self, path: Path) -> Any:
        """Results as `found` gives them, from a file."""
        return load_content(path, "results")

    def score(self, found: Any, image_ids: Sequence[int] | None = None) -> Scores:
        """Over `image_ids` (None: every image of the file); an image without results is one where nobody was
        found."""
        raise NotImplementedError

    def evaluate(self, people: Mapping[int, People], image_ids: Sequence[int] | None = None) -> Scores:
        return self.score(self.found(people), image_ids)

    def write(
        self,
        people: Mapping[int, People],
        image_ids: Sequence[int],
        folder: Path,
        stem: str,
        header: Mapping[str, str],
    ) -> list[Written]:
        """Results of the tested images, and what the settings ask for, in a run folder."""
        return []

    def sampled(self, found: Any, image_ids: Sequence[int]) -> Sampled:
        """For intervals."""
        return Fixed(list(image_ids), self.score(found, image_ids).numbers)


# ----------------------------------------------------------------------------------------- which metric fits


def fitting(file: KeypointFile, skeleton: Skeleton | None = None, wanted: str = AUTO) -> list[type[Metric]]:
    """Those that fit a file with annotations; the first, `wanted` or the lowest in `order`, chooses
    `best.pt`.  Raises `UserError` where the wanted one does not fit."""
    known: list[type[Metric]] = [METRICS[name].component for name in METRICS.names()]
    fit = [one for one in known if not (one.by_name and one.name != wanted or one.misfit(file, skeleton))]
    superfluous = {name for one in fit for name in one.instead_of} - {wanted}
    chosen = [one for one in fit if one.name not in superfluous]
    chosen = sorted(chosen, key=lambda one: (one.name != wanted, one.order, one.name))
    if wanted != AUTO and not any(one.name == wanted for one in chosen):
        why = METRICS[wanted].component.misfit(file, skeleton)
        others = ", ".join(one.name for one in chosen)
        raise UserError(f"test.metric: {wanted} does not fit: {file.source} {why} (fitting: {others})")
    return chosen


def bind(
    file: KeypointFile,
    skeleton: Skeleton | None,
    wanted: str = AUTO,
    options: Mapping[str, Any] | None = None,
    count: int | None = None,
) -> list[Metric]:
    """Every metric that fits (the first `count`), bound to the file; none where the file has images but no
    annotations.

    wanted: the name of the one that comes first; options: settings by name, of which each metric takes its
    own.  Raises `UserError` for a file that cannot be scored, or a metric that does not fit it."""
    if file.num_images and not file.num_entries:
        return []
    check_truth(file)
    chosen = fitting(file, skeleton, wanted)[:count]
    return [one(settings_of(one.name, options or {}), file, skeleton) for one in chosen]


def settings_of(name: str, options: Mapping[str, Any]) -> Settings:
    """The settings of a metric, of those among `options` that it has."""
    config: type[Settings] = METRICS[name].config
    try:
        known = config.model_fields.keys() - {"name"}
        return config(**{key: value for key, value in options.items() if key in known})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise UserError(f"the metric {name}: {key}: {first['msg']}, got {first['input']!r}") from None
