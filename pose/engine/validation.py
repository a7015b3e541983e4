"""When a run is validated, and what follows from the scores."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from pose.engine.distributed import Processes
from pose.engine.log import Log
from pose.engine.progress import Progress
from pose.engine.scheduling import set_rates
from pose.engine.signals import signals_for_this_process_only
from pose.engine.update import Updater
from pose.metrics.base import Scores

Judge = Callable[[nn.Module, int, Log], Scores]


class Validator:
    """Every `every` epochs (0: never) and after the last step.  judge: gives the scores of a network."""

    def __init__(
        self, judge: Judge | None, group: Processes, *, every: int, steps_per_epoch: int, total_steps: int
    ) -> None:
        self.judge = judge
        self.group = group
        self.every = every
        self.steps_per_epoch = steps_per_epoch
        self.total_steps = total_steps

    def due(self, progress: Progress) -> bool:
        step = progress.step
        if not self.every or self.judge is None or step == 0 or progress.validated >= step:
            return False
        at_epoch = step % self.steps_per_epoch == 0
        return at_epoch and (step // self.steps_per_epoch % self.every == 0 or step >= self.total_steps)

    def validate(self, updater: Updater, progress: Progress, log: Log) -> bool:
        """Judges the network, lowers the rate where the schedule goes by scores, and notes the best; whether
        this is the best so far."""
        assert self.judge is not None
        self.group.share_buffers(updater.tested)
        with signals_for_this_process_only():
            scores = self.judge(updater.tested, progress.step, log)
        updater.model.train()
        progress.validated = progress.step
        if not updater.frozen:  # rtpose too begins to count at the release
            updater.schedule.validated(scores, comparable=progress.comparable(scores))
            set_rates(updater.scheduler)
        better = progress.improved_by(scores)
        log.scores(progress.step, scores)
        best = " (best so far)" if better else f" (best {progress.best:.3f})"
        log.say(f"step {progress.step}: {scores.summary()}{best}")
        log.curves()
        return better
