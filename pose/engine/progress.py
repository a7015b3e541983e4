"""Where a run stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pose.metrics.base import NOTHING, Scores


@dataclass
class Progress:
    """Counts of a run; saved with the weights."""

    step: int = 0  # finished steps
    validated: int = 0  # step of the last validation
    best: float = NOTHING  # of the validations
    best_step: int = 0
    metric: str = ""  # and what it is: "coco AP"; before there were other metrics "AP"
    nonfinite: int = 0  # skipped steps so far
    unreadable: int = 0  # images replaced so far

    @staticmethod
    def restored(saved: Mapping[str, Any]) -> Progress:
        """The progress in a checkpoint; those from before there were other metrics have `best_ap`."""
        values = dict(saved)
        if "best_ap" in values:
            values |= {"best": values.pop("best_ap"), "metric": "AP"}
        return Progress(**values)

    def comparable(self, scores: Scores) -> bool:
        """Whether `best` is of the same metric; another one's says nothing of it."""
        return self.metric in ("", scores.title, scores.best)

    def improved_by(self, scores: Scores) -> bool:
        """Whether this validation is the best so far, of equal ones the later; then it is noted."""
        if not self.comparable(scores):
            self.best = NOTHING
        self.metric = scores.title
        better = scores.value >= self.best
        if better:
            self.best, self.best_step = scores.value, self.step
        return better
