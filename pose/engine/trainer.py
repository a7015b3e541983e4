"""The training loop: steps, checkpoints, validation, and continuing to the same weights."""

from __future__ import annotations

import random
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from tqdm.contrib.logging import logging_redirect_tqdm

from pose import checkpoint
from pose.data.loader import Loaded
from pose.engine.distributed import Processes
from pose.engine.freeze import FrozenStart
from pose.engine.log import RunLog, draw_curves
from pose.engine.meter import Meter, memory_gib, timed
from pose.engine.optim import (
    MovingAverage,
    Plateau,
    build_optimizer,
    build_scheduler,
    continue_at,
    keep_settings,
    layer_rates,
    rates_to_log,
    set_rates,
)
from pose.engine.settings import TrainSettings
from pose.engine.signals import Caught, Interrupted, catch_signals, signals_for_this_process_only
from pose.errors import ToldElsewhere, UserError
from pose.metrics.base import NOTHING, Scores
from pose.model import TrainStep
from pose.structures import Batch
from pose.workers import worker_death

AGREE_SECONDS = 1.0  # how often processes agree whether to stop or save: well within torchrun's 30 s of grace


@dataclass
class Progress:
    """Where a run stands; saved with the weights."""

    step: int = 0  # finished steps
    validated: int = 0  # step of the last validation
    best: float = NOTHING  # of the validations
    best_step: int = 0
    metric: str = ""  # and what it is: "coco AP"; before there were other metrics "AP"
    nonfinite: int = 0  # skipped steps so far
    unreadable: int = 0  # pictures replaced so far

    @staticmethod
    def restored(saved: Mapping[str, Any]) -> Progress:
        """Of a checkpoint; those from before there were other metrics have `best_ap`."""
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


@dataclass
class Agreement:
    """When the processes ask each other next."""

    step: int = 0
    since_step: int = 0
    since: float = field(default_factory=time.monotonic)


@dataclass
class Pending:
    """A step whose verdict (finite or not) has not been read from the device yet."""

    step: int
    image_ids: Tensor
    finite: Tensor


class Trainer:
    """`loader(start_step)` gives this process's share of every global batch, endlessly; `validate(model)`
    gives the scores of a validation, which choose the best checkpoint; `panels(model, step, log)` draws, in
    the process that writes the log; `frozen` layers stand still at first."""

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
        validate: Callable[[nn.Module, int, RunLog], Scores] | None = None,
        panels: Callable[[nn.Module, int, RunLog], None] | None = None,
        frozen: FrozenStart | None = None,
    ) -> None:
        self.settings = settings
        self.group = group
        self.model = step.model
        self.wrapped = wrapped
        self.loader = loader
        self.steps_per_epoch = steps_per_epoch
        self.total_steps = settings.epochs * steps_per_epoch
        self.folder = folder
        self.validate = validate
        self.panels = panels
        self.progress = Progress()
        self.frozen = frozen
        self.plateau = Plateau(settings) if settings.schedule == "plateau" else None
        self._fresh_optimizer()
        fp16 = step.precision == "fp16"
        # at scale 1 the scaler changes no number: it is torch's way to skip a step on the device itself
        self.scaler = torch.amp.GradScaler(
            group.device.type,
            init_scale=2.0**16 if fp16 else 1.0,
            growth_interval=2000 if fp16 else 2**31 - 1,
        )
        self.scaling = fp16
        self.average = MovingAverage(self.model, settings.ema) if settings.ema else None
        self.buffers = [b for b in self.model.buffers() if b.numel()]
        self.pending: deque[Pending] = deque()
        self.nonfinite_run = 0
        self.saved_step: int | None = None  # what last.pt holds
        self.saved_at = time.monotonic()
        self.agreement = Agreement()
        self.warned: set[str] = set()
        self._say: Callable[[str], None] = lambda text: print(text, file=sys.stderr)
        self.log: RunLog | None = None

    def _fresh_optimizer(self) -> None:
        """Of all weights that move, with the schedule at its beginning."""
        rates = layer_rates(self.model.backbone, self.settings)
        named = ((checkpoint.strip_wrappers(name), p) for name, p in self.model.named_parameters())
        self.optimizer = build_optimizer(named, self.settings, rates)
        self.scheduler = build_scheduler(
            self.optimizer, self.settings, self.total_steps, self.steps_per_epoch, self.plateau
        )

    # ------------------------------------------------------------------------------------------------ state

    def state(self) -> dict[str, Any]:
        """All that the next step depends on, as tensors and plain data."""
        return {
            "format": 1,
            "model": self.model.state_dict(),
            "ema": self.average.module.state_dict() if self.average else None,
            "optimizer": self.optimizer.state_dict(),
            "scheduler": {k: v for k, v in self.scheduler.state_dict().items() if k != "lr_lambdas"},
            "plateau": self.plateau.state_dict() if self.plateau else None,
            "frozen": self.frozen is not None,
            "scaler": self.scaler.state_dict(),
            "progress": vars(self.progress).copy(),
            "rng": torch.get_rng_state(),
        }

    def load_state(self, state: Mapping[str, Any], where: Path) -> None:
        """Continue from `state()`; a checkpoint of another network or optimiser is a `UserError`."""
        try:
            self.model.load_state_dict(state["model"])
            if self.average:
                self.average.module.load_state_dict(state["ema"])
            keep_settings(self.optimizer, state["optimizer"], joined=bool(state.get("frozen")))
            if self.plateau and state.get("plateau"):
                self.plateau.load_state_dict(state["plateau"])
            continue_at(self.scheduler, state["scheduler"])
            self.scaler.load_state_dict(state["scaler"])
            self.progress = Progress.restored(state["progress"])
            torch.set_rng_state(state["rng"].cpu())
            self.saved_step = self.progress.step
        except (KeyError, RuntimeError, ValueError, TypeError, AttributeError) as error:
            first = str(error).strip().split("\n")[0]
            raise UserError(
                f"{where} does not belong to this config ({first}); restore config.yaml, or start a "
                f"new run from these weights with train.weights={where}"
            ) from None

    def save(self, name: str = "last.pt") -> None:
        """Rank 0 saves; where it cannot, every rank ends."""
        self.group.first(lambda: checkpoint.save(self.state(), self.folder / name))

    def _save_last(self) -> None:
        self._drain()
        self.save()
        self.saved_step, self.saved_at = self.progress.step, time.monotonic()

    # ------------------------------------------------------------------------------------------------- loop

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
                for rest in self.folder.glob(".*.partial"):  # of a save that was killed
                    rest.unlink()
                self._say = self.log.say
            try:
                self._loop(stop)
            except Interrupted:
                if self.saved_step != self.progress.step:  # while waiting for data
                    self._save_last()
                raise
            except RuntimeError as error:  # a dying loader process interrupts whatever runs here
                raise worker_death(error) or error from None
            if self.log:
                draw_curves(self.log.file, self.folder / "curves.png")

    def _loop(self, stop: Caught) -> None:
        if self.validation_due:  # interrupted between the end of an epoch and its validation
            self._validate()
        if self.finished:
            return
        self.wrapped.train()
        meter = Meter()
        self.saved_at, self.agreement = time.monotonic(), Agreement(self.progress.step, self.progress.step)
        # several processes stop together, at the same step
        waiting = nullcontext if self.group.distributed else stop.at_once
        with closing(timed(self.loader(self.progress.step), waiting)) as batches:
            for loaded, wait in batches:
                if self.frozen and self.progress.step >= self.frozen.steps:
                    self._release(self.frozen)
                self.progress.unreadable += len(loaded.unreadable)
                terms = self._train_step(loaded.batch)
                self.progress.step += 1
                step = self.progress.step
                meter.add(terms, len(loaded.batch.image_id) * self.group.world_size, wait)
                if self.log:
                    self.log.advance(1)
                epoch_ends = step % self.steps_per_epoch == 0
                if step % self.settings.log_every == 0 or epoch_ends:
                    self._drain()
                    self._log(meter)
                    meter = Meter()
                every = self.settings.panels_every
                if every and (step % every == 0 or step == 1):  # once at the start: wrong targets show there
                    meter.start += self._draw_panels()
                number, late = self._agree(stop)
                if epoch_ends:
                    self._keep_epoch()
                if epoch_ends or late or number or self._at_save_step():
                    self._save_last()
                if number:
                    raise Interrupted(number)
                if self.validation_due:
                    self._validate()
                    meter = Meter()
                if self.finished:
                    break

    def _draw_panels(self) -> float:
        """The seconds that it took."""
        if not (self.panels and self.log):
            return 0.0
        if self.group.device.type == "cuda":  # the steps before are the training's seconds
            torch.cuda.synchronize(self.group.device)
        start = time.perf_counter()
        self.panels(self.average.module if self.average else self.model, self.progress.step, self.log)
        self.model.train()
        return time.perf_counter() - start

    def _release(self, frozen: FrozenStart) -> None:
        """All layers move from this step on; the schedule goes on where it is."""
        self.frozen = None
        del self.wrapped  # before there is another: each would wait for the same gradients
        self.wrapped = frozen.release().train()
        schedule = self.scheduler.state_dict()
        self._fresh_optimizer()
        continue_at(self.scheduler, schedule)
        if self.log:
            self._say(f"step {self.progress.step}: pretrained layers released, with a fresh optimiser")

    def _at_save_step(self) -> bool:
        every = self.settings.save_steps
        return every is not None and self.progress.step % every == 0

    def _agree(self, stop: Callable[[], int]) -> tuple[int, bool]:
        """The signal to obey (0: none), and whether the last save is too long ago.

        With several processes all must stop and save at the same step, and asking costs a wait for the GPUs:
        they ask each other about every second, at a step on which they agreed the time before."""
        late = time.monotonic() - self.saved_at > 60 * self.settings.save_minutes
        if not self.group.distributed:
            return stop(), late
        step, last = self.progress.step, self.agreement
        if step < last.step:
            return 0, False
        pace = (time.monotonic() - last.since) / max(1, step - last.since_step)
        answers = self.group.gather((stop(), late, pace))
        slowest = max(one[2] for one in answers)
        self.agreement = Agreement(step + max(1, int(AGREE_SECONDS / max(slowest, 1e-6))), step)
        return max(one[0] for one in answers), answers[0][1]

    def _train_step(self, batch: Batch) -> dict[str, Tensor]:
        device = self.group.device
        image_ids = batch.image_id
        batch = Batch(*(value.to(device, non_blocking=True) for value in batch))
        parts = split(batch, self.settings.accumulate)
        before = [buffer.clone() for buffer in self.buffers]
        total: dict[str, Tensor] = {}
        for i, part in enumerate(parts):
            share = len(part.image_id) / len(image_ids)
            last = i == len(parts) - 1
            hold = nullcontext() if last else self._no_sync()
            with hold:
                terms = {name: self._mean(value, part) for name, value in self.wrapped(part).items()}
                loss = terms["loss"] * share
                # a non-finite loss must show in the gradients of every process, even where a mask hides it
                poison = torch.where(loss.isfinite(), 1.0, torch.nan)
                self.scaler.scale(loss * poison).backward()
            for name, value in terms.items():
                part_value = value.detach() * share
                total[name] = total[name] + part_value if name in total else part_value
        finite = self._update(before)
        self.pending.append(Pending(self.progress.step, image_ids, finite))
        return {name: torch.where(finite, value, 0.0) for name, value in total.items()} | {
            "skipped": (~finite).float()
        }

    def _mean(self, value: Tensor, part: Batch) -> Tensor:
        """The term of the whole part; DataParallel gives one for each replica, whose shares may differ."""
        if not isinstance(self.wrapped, DataParallel):
            return value.mean()
        shares = [len(ids) / len(part.image_id) for ids in part.image_id.chunk(len(self.wrapped.device_ids))]
        return torch.stack([one * share for one, share in zip(value, shares, strict=True)]).sum()

    def _no_sync(self) -> Any:
        ddp = isinstance(self.wrapped, DistributedDataParallel)
        return self.wrapped.no_sync() if ddp else nullcontext()  # type: ignore[operator]

    def _update(self, before: list[Tensor]) -> Tensor:
        """Optimiser, schedule and average, on the device.  Where the gradients are not finite nothing
        changes: the optimiser skips the step, and the buffers (statistics of batch norm) return to
        `before`."""
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        finite = nn.utils.get_total_norm(gradients).isfinite()
        # the scaler looks at single values; finite ones whose norm overflows must stop the step as well
        gradients[0].mul_(torch.where(finite, 1.0, torch.nan))
        self.scaler.unscale_(self.optimizer)
        if self.settings.clip_norm:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update(None if self.scaling else 1.0)
        self.scheduler.step()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            for buffer, old in zip(self.buffers, before):
                buffer.copy_(torch.where(finite, buffer, old))
        if self.average:
            self.average.update(self.model, self.progress.step + 1)
        return finite

    def _drain(self) -> None:
        """Read the verdicts of the steps since the last time; too many bad ones in a row end the run."""
        if not self.pending:
            return
        verdicts = torch.stack([one.finite for one in self.pending]).tolist()
        for one, finite in zip(self.pending, verdicts):
            self.nonfinite_run = 0 if finite else self.nonfinite_run + 1
            if finite:
                continue
            self.progress.nonfinite += 1
            self._report_skipped(one)
            if self.nonfinite_run >= self.settings.max_nonfinite:
                self.pending.clear()
                self._give_up(one.step + 1)
        self.pending.clear()

    def _report_skipped(self, one: Pending) -> None:
        ids = [number for share in self.group.gather(one.image_ids.tolist()) for number in share]
        if self.log:
            self.log.note("skipped", one.step + 1, {"image_ids": ids})
            listed = ", ".join(map(str, ids))
            self._say(f"step {one.step + 1}: the loss is not finite, step skipped (image ids {listed})")

    def _give_up(self, step: int) -> None:
        at = self.saved_step
        saved = "nothing was saved yet" if at is None else f"last.pt holds step {at}"
        text = (
            f"{self.folder}: the loss was not finite in {self.nonfinite_run} steps in a row (the last of "
            f"them step {step}); they changed no weights, {saved}. Set a lower train.lr, train.clip_norm: 1 "
            f"or train.precision: fp32 in {self.folder / 'config.yaml'}, then -c {self.folder.name}"
        )
        raise UserError(text) if self.group.main else ToldElsewhere(text)

    # ---------------------------------------------------------------------------------- log, validate, keep

    def _log(self, meter: Meter) -> None:
        seconds = time.perf_counter() - meter.start
        means = meter.means()
        if self.group.distributed:
            everyone = self.group.gather(means)
            means = {name: sum(one[name] for one in everyone) / len(everyone) for name in means}
        rate = meter.images / seconds
        values: dict[str, float] = {"loss": means.pop("loss")}
        values |= {name if "/" in name else f"loss/{name}": value for name, value in means.items()}
        values |= rates_to_log(self.scheduler, self.settings)
        values |= {
            "images_per_second": rate,
            "data_wait": meter.wait / seconds,
            "memory_gib": memory_gib(self.group.device),
            "epoch": self.progress.step / self.steps_per_epoch,
        }
        if not self.log:
            return
        self.log.scalars("train", self.progress.step, values)
        shown = {
            name.removeprefix("loss/"): f"{v:.3g}" for name, v in values.items() if name.startswith("loss")
        }
        shown |= {
            "img/s": f"{rate:.0f}",
            "wait": f"{values['data_wait']:.0%}",
            "GiB": f"{values['memory_gib']:.1f}",
        }
        self.log.advance(0, shown)
        early = self.progress.step < max(self.settings.warmup_steps, min(self.total_steps // 5, 5000))
        if early or not np.isfinite(values["loss"]):
            return
        for text in set(self.model.head.warnings(means)) - self.warned:
            self.warned.add(text)  # once: it may hold for the rest of the run
            self._say(f"step {self.progress.step}: {text}")

    @property
    def validation_due(self) -> bool:
        every, step = self.settings.validate_every, self.progress.step
        if not every or self.validate is None or step == 0 or self.progress.validated >= step:
            return False
        at_epoch = step % self.steps_per_epoch == 0
        return at_epoch and (step // self.steps_per_epoch % every == 0 or self.finished)

    def _validate(self) -> None:
        assert self.validate is not None
        model = self.average.module if self.average else self.model
        self.group.share_buffers(model)
        with signals_for_this_process_only():
            scores = self.validate(model, self.progress.step, self.log)  # type: ignore[arg-type]
        self.model.train()
        self.progress.validated = self.progress.step
        if self.plateau and not self.frozen:  # rtpose too begins to count at the release
            if self.plateau.metric == "best" and not self.progress.comparable(scores):
                self.plateau.restart()
            self.plateau.step(scores)
            set_rates(self.scheduler)
        better = self.progress.improved_by(scores)
        if self.log:
            self.log.scores(self.progress.step, scores)
            best = " (best so far)" if better else f" (best {self.progress.best:.3f})"
            self._say(f"step {self.progress.step}: {scores.summary()}{best}")
            draw_curves(self.log.file, self.folder / "curves.png")
        if better:
            self.save("best.pt")
        self._save_last()

    def _keep_epoch(self) -> None:
        if not self.settings.keep:
            return
        epoch = self.progress.step // self.steps_per_epoch
        self.save(f"epoch-{epoch:04d}.pt")
        if self.group.main:
            for old in sorted(self.folder.glob("epoch-*.pt"))[: -self.settings.keep]:
                old.unlink()


def split(batch: Batch, parts: int) -> list[Batch]:
    """The batch in `parts` pieces of nearly equal size (fewer where it has fewer pictures)."""
    if parts == 1:
        return [batch]
    return [
        Batch(*fields) for fields in zip(*(value.tensor_split(parts) for value in batch)) if len(fields[0])
    ]


def seed_everything(seed: int) -> None:
    """The generators from which first weights are drawn; samples have generators of their own."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
