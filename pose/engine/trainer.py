"""The training loop, and the parts of a run that it calls."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import ExitStack, closing, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm.contrib.logging import logging_redirect_tqdm

from pose.data.loader import Loaded
from pose.engine.backends import many_sizes
from pose.engine.distributed import Processes
from pose.engine.freeze import FrozenStart
from pose.engine.log import Log, NoLog, RunLog
from pose.engine.meter import Meter, timed
from pose.engine.progress import Progress
from pose.engine.reporting import Reporter
from pose.engine.saving import Checkpoints
from pose.engine.settings import TrainSettings
from pose.engine.signals import Caught, Interrupted, catch_signals
from pose.engine.stopping import Agreement
from pose.engine.update import Updater
from pose.engine.validation import Judge, Validator
from pose.engine.watch import NonFinite
from pose.errors import UserError
from pose.model import TrainStep
from pose.workers import worker_death

Panels = Callable[[nn.Module, int, Log], None]


def train(run: Trainer, stop: Caught) -> None:
    """Steps to the end of the run, from wherever it stands; a signal to stop is obeyed after the step."""
    progress, settings, log = run.progress, run.settings, run.log
    if run.validator.due(progress):  # interrupted between the end of an epoch and its validation
        run.validate()
    if run.finished:
        return
    run.updater.wrapped.train()
    run.checkpoints.start_clock()
    agreement, meter = Agreement(run.group, stop, progress.step), Meter()
    with closing(run.batches(stop)) as batches:
        for loaded, wait in batches:
            if run.updater.release_due():
                log.say(f"step {progress.step}: pretrained layers released, with a fresh optimiser")
            progress.unreadable += len(loaded.unreadable)
            update = run.updater.update(loaded.batch)
            progress.step += 1
            step, epoch_ends = progress.step, progress.step % run.steps_per_epoch == 0
            run.nonfinite.add(step, loaded.batch.image_id, update.finite)
            meter.add(update.terms, len(loaded.batch.image_id) * run.group.world_size, wait)
            log.advance(1)

            if step % settings.log_every == 0 or epoch_ends:
                run.count_skipped()
                run.reporter.report(step, meter, log)
                meter = Meter()
            if settings.panels_every and (step % settings.panels_every == 0 or step == 1):
                meter.start += run.draw_panels()  # once at the start: wrong targets show there

            number, late = agreement.ask(step, run.checkpoints.late)
            if epoch_ends:
                run.checkpoints.save_epoch(step // run.steps_per_epoch)
            if epoch_ends or late or number or run.checkpoints.due(step):
                run.save()
            if number:
                raise Interrupted(number)
            if run.validator.due(progress):
                run.validate()
                meter = Meter()
            if run.finished:
                break


class Trainer:
    """A run: its parts, its state, and how it is carried out.

    step, wrapped, frozen: see `Updater`; loader(start_step): this process's share of every global batch,
    endlessly; validate(model, step, log): the scores that choose the best checkpoint; panels(model, step,
    log): draws, in the process that writes the log."""

    def __init__(
        self,
        *,
        step: TrainStep,
        wrapped: nn.Module,
        settings: TrainSettings,
        group: Processes,
        loader: Callable[[int], Iterable[Loaded]],
        steps_per_epoch: int,
        folder: Path,
        validate: Judge | None = None,
        panels: Panels | None = None,
        frozen: FrozenStart | None = None,
    ) -> None:
        self.settings = settings
        self.group = group
        self.loader = loader
        self.steps_per_epoch = steps_per_epoch
        self.total_steps = settings.epochs * steps_per_epoch
        self.folder = folder
        self.panels = panels
        self.progress = Progress()
        self.log: Log = NoLog()
        self.updater = Updater(
            step, wrapped, settings, group.device, steps_per_epoch=steps_per_epoch, frozen=frozen
        )
        self.checkpoints = Checkpoints(folder, group, settings, self.state)
        self.nonfinite = NonFinite(folder, group, settings.max_nonfinite)
        self.validator = Validator(
            validate,
            group,
            every=settings.validate_every,
            steps_per_epoch=steps_per_epoch,
            total_steps=self.total_steps,
        )
        early = max(settings.schedule.warmup_steps, min(self.total_steps // 5, 5000))
        self.reporter = Reporter(group, self.updater, steps_per_epoch=steps_per_epoch, quiet_steps=early)

    @property
    def finished(self) -> bool:
        return self.progress.step >= self.total_steps

    def run(self) -> None:
        """Train to the end.  Ctrl-C and SIGTERM finish the step, or end the wait for data, save, and raise
        `Interrupted`."""
        with ExitStack() as stack:
            stop = stack.enter_context(catch_signals())
            if self.group.main:
                done = self.progress
                self.log = RunLog(self.folder, done.step, self.total_steps, validated=done.validated)
                stack.callback(self.log.close)
                stack.enter_context(logging_redirect_tqdm())
                self.checkpoints.clean()
            try:
                train(self, stop)
            except Interrupted:
                if self.checkpoints.saved_step != self.progress.step:  # while waiting for data
                    self.save()
                raise
            except KeyboardInterrupt:
                self.log.say(f"{self.folder}: ended by a second Ctrl-C; {self.checkpoints.held}")
                raise
            except RuntimeError as error:  # a dying loader process interrupts whatever runs here
                raise worker_death(error) or error from None
            self.log.curves()

    def batches(self, stop: Caught) -> Generator[tuple[Loaded, float], None, None]:
        """From the run's step on, each with the seconds that it was waited for."""
        # several processes stop together, at the same step
        waiting = nullcontext if self.group.distributed else stop.at_once
        return timed(self.loader(self.progress.step), waiting)

    def count_skipped(self) -> None:
        """Reads from the device which steps were skipped."""
        self.progress.nonfinite += self.nonfinite.check(self.log, self.checkpoints.held)

    def save(self) -> None:
        """`last.pt`."""
        self.count_skipped()
        self.checkpoints.save_last(self.progress.step)

    def validate(self) -> None:
        """Scores, then `best.pt` where they are the best, and `last.pt`."""
        with many_sizes():
            best = self.validator.validate(self.updater, self.progress, self.log)
        if best:
            self.checkpoints.save("best.pt")
        self.save()

    def draw_panels(self) -> float:
        """The seconds that it took."""
        if not (self.panels and self.group.main):
            return 0.0
        if self.group.device.type == "cuda":  # the steps before are the training's seconds
            torch.cuda.synchronize(self.group.device)
        start = time.perf_counter()
        self.panels(self.updater.tested, self.progress.step, self.log)
        self.updater.model.train()
        return time.perf_counter() - start

    def state(self) -> dict[str, Any]:
        """All that the next step depends on, as tensors and plain data."""
        progress = vars(self.progress).copy()
        return {"format": 1, **self.updater.state(), "progress": progress, "rng": torch.get_rng_state()}

    def load_state(self, state: Mapping[str, Any], where: Path) -> None:
        """Continue from `state()`; a checkpoint of another network or optimiser is a `UserError`."""
        try:
            self.updater.load_state(state)
            self.progress = Progress.restored(state["progress"])
            torch.set_rng_state(state["rng"].cpu())
            self.checkpoints.saved_step = self.progress.step
        except (KeyError, RuntimeError, ValueError, TypeError, AttributeError) as error:
            first = str(error).strip().split("\n")[0]
            raise UserError(
                f"{where} does not belong to this config ({first}); restore config.yaml, or start a "
                f"new run from these weights with train.weights={where}"
            ) from None


def seed_everything(seed: int) -> None:
    """The generators from which first weights are drawn; samples have generators of their own."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
