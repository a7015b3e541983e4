"""One update of the weights: all that a training step does on the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from pose import checkpoint
from pose.engine.average import MovingAverage
from pose.engine.freeze import FrozenStart
from pose.engine.optim import build_optimizer, keep_settings, layer_rates
from pose.engine.scheduling import build_schedule, build_scheduler, continue_at, rates_to_log
from pose.engine.settings import TrainSettings
from pose.engine.transfer import Transfer
from pose.model import PoseModel, TrainStep
from pose.structures import Batch


class Update(NamedTuple):
    """What came of a step, on the device."""

    terms: dict[str, Tensor]  # () each: the loss terms, 0 where the step was skipped, and `skipped`, 0 or 1
    finite: Tensor  # () bool: False where the step was skipped


class Buffers:
    """The buffers of a module, which are kept in some large tensors: one for each type and device."""

    def __init__(self, module: nn.Module) -> None:
        groups: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
        for buffer in module.buffers():
            if buffer.numel():
                groups.setdefault((buffer.dtype, buffer.device), []).append(buffer)
        self.groups = list(groups.values())

    def copy(self) -> list[Tensor]:
        """Their values, for `restore`."""
        return [torch.cat([buffer.reshape(-1) for buffer in group]) for group in self.groups]

    @torch.no_grad()
    def restore(self, values: Sequence[Tensor], where: Tensor) -> None:
        """Sets all to `values` if `where`, () bool, is True; does not wait for the device to learn that."""
        for group, old in zip(self.groups, values, strict=True):
            new = torch.cat([buffer.reshape(-1) for buffer in group])
            chosen = torch.where(where, old, new).split([buffer.numel() for buffer in group])
            torch._foreach_copy_(group, [part.view_as(b) for part, b in zip(chosen, group)])


class Updater:
    """The network with its optimiser, schedule and moving average.

    step: computes the loss terms of a batch; wrapped: the same as DDP, DataParallel or itself; frozen: layers
    that do not move at first.  Nothing in `update` waits for the device."""

    def __init__(
        self,
        step: TrainStep,
        wrapped: nn.Module,
        settings: TrainSettings,
        device: torch.device,
        *,
        steps_per_epoch: int,
        frozen: FrozenStart | None = None,
    ) -> None:
        self.model: PoseModel = step.model
        self.wrapped = wrapped
        self.settings = settings
        self.transfer = Transfer(device)
        self.frozen = frozen
        self.schedule = build_schedule(
            settings.schedule,
            lr=settings.optimizer.lr,
            total_steps=settings.epochs * steps_per_epoch,
            steps_per_epoch=steps_per_epoch,
        )
        self._fresh_optimizer()
        fp16 = step.precision == "fp16"
        # at scale 1 the scaler changes no number: it is torch's way to skip a step on the device itself
        self.scaler = torch.amp.GradScaler(
            device.type,
            init_scale=2.0**16 if fp16 else 1.0,
            growth_interval=2000 if fp16 else 2**31 - 1,
        )
        self.scaling = fp16
        self.average = MovingAverage(self.model, settings.ema) if settings.ema else None
        # looked up once: going through all modules takes longer than the norm of their gradients
        self.parameters = list(self.model.parameters())
        self.buffers = Buffers(self.model)

    @property
    def tested(self) -> PoseModel:
        """The network that is validated: the moving average where there is one."""
        return self.average.module if self.average else self.model  # type: ignore[return-value]

    @property
    def steps(self) -> int:
        """Updates so far, skipped ones included."""
        return self.scheduler.last_epoch

    def rates(self) -> dict[str, float]:
        """Learning rates for the log, by name."""
        return rates_to_log(self.scheduler, self.settings.optimizer.lr)

    def update(self, batch: Batch) -> Update:
        """Forward, backward and optimiser step for this process's share of a batch."""
        batch = self.transfer(batch)
        parts = split(batch, self.settings.accumulate)
        before = self.buffers.copy()
        total: dict[str, Tensor] = {}
        for i, part in enumerate(parts):
            share = len(part.image_id) / len(batch.image_id)
            with nullcontext() if i == len(parts) - 1 else self._no_sync():
                terms = {name: self._mean(value, part) for name, value in self.wrapped(part).items()}
                loss = terms["loss"] * share
                # a non-finite loss must show in the gradients of every process, even where a mask hides it
                poison = torch.where(loss.isfinite(), 1.0, torch.nan)
                self.scaler.scale(loss * poison).backward()
            for name, value in terms.items():
                part_value = value.detach() * share
                total[name] = total[name] + part_value if name in total else part_value
        finite = self.apply(before)
        kept = {name: torch.where(finite, value, 0.0) for name, value in total.items()}
        return Update({**kept, "skipped": (~finite).float()}, finite)

    def _mean(self, value: Tensor, part: Batch) -> Tensor:
        """The term of the whole part; DataParallel gives one for each replica, whose shares may differ."""
        if not isinstance(self.wrapped, DataParallel):
            return value.squeeze(0)
        shares = [len(ids) / len(part.image_id) for ids in part.image_id.chunk(len(self.wrapped.device_ids))]
        return torch.stack([one * share for one, share in zip(value, shares, strict=True)]).sum()

    def _no_sync(self) -> AbstractContextManager[None]:
        ddp = isinstance(self.wrapped, DistributedDataParallel)
        return self.wrapped.no_sync() if ddp else nullcontext()  # type: ignore[operator, no-any-return]

    def apply(self, before: list[Tensor]) -> Tensor:
        """Optimiser, schedule and average from the gradients at hand.  Where these are not finite nothing
        changes: the optimiser skips the step, and the buffers (statistics of batch norm) return to
        `before`."""
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        finite = norm.isfinite()
        if self.scaling or not fused(self.optimizer):
            self._scaled_step(gradients, finite)
        else:  # what the scaler does at scale 1, without its passes over all gradients
            if self.settings.clip_norm:
                nn.utils.clip_grads_with_norm_(self.parameters, self.settings.clip_norm, norm)
            self.optimizer.found_inf = (~finite).float()  # type: ignore[attr-defined]
            self.optimizer.step()
            del self.optimizer.found_inf  # type: ignore[attr-defined]
        self.scheduler.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.buffers.restore(before, ~finite)
        if self.average:
            self.average.update(self.steps)
        return finite

    def _scaled_step(self, gradients: list[Tensor], finite: Tensor) -> None:
        # the scaler looks at single values; finite ones whose norm overflows must stop the step as well
        gradients[0].mul_(torch.where(finite, 1.0, torch.nan))
        self.scaler.unscale_(self.optimizer)
        if self.settings.clip_norm:
            nn.utils.clip_grad_norm_(self.parameters, self.settings.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update(None if self.scaling else 1.0)

    # --------------------------------------------------------------------------------------- frozen layers

    def release_due(self) -> bool:
        """Releases the frozen layers once their steps are over; whether it did."""
        if not self.frozen or self.steps < self.frozen.steps:
            return False
        frozen, self.frozen = self.frozen, None
        del self.wrapped  # before there is another: each would wait for the same gradients
        self.wrapped = frozen.release().train()
        schedule = self.scheduler.state_dict()
        self._fresh_optimizer()
        continue_at(self.scheduler, schedule)
        return True

    def _fresh_optimizer(self) -> None:
        """An optimiser of all weights that are not frozen, with the schedule at its beginning."""
        settings = self.settings.optimizer
        rates = layer_rates(self.model.backbone, settings)
        named = ((checkpoint.strip_wrappers(name), p) for name, p in self.model.named_parameters())
        self.optimizer = build_optimizer(named, settings, rates)
        self.scheduler = build_scheduler(self.optimizer, self.schedule)

    # ----------------------------------------------------------------------------------------------- state

    def state(self) -> dict[str, Any]:
        """All that the next update depends on, as tensors and plain data."""
        return {
            "model": self.model.state_dict(),
            "ema": self.average.module.state_dict() if self.average else None,
            "optimizer": self.optimizer.state_dict(),
            "scheduler": {k: v for k, v in self.scheduler.state_dict().items() if k != "lr_lambdas"},
            "plateau": self.schedule.state_dict() or None,
            "frozen": self.frozen is not None,
            "scaler": self.scaler.state_dict(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from `state()`.  Raises KeyError, RuntimeError, ValueError, TypeError or AttributeError
        for a state of another network or optimiser."""
        self.model.load_state_dict(state["model"])
        if self.average:
            self.average.module.load_state_dict(state["ema"])
        keep_settings(self.optimizer, state["optimizer"], joined=bool(state.get("frozen")))
        if state.get("plateau"):
            self.schedule.load_state_dict(state["plateau"])
        continue_at(self.scheduler, state["scheduler"])
        self.scaler.load_state_dict(state["scaler"])


def fused(optimizer: torch.optim.Optimizer) -> bool:
    """Whether it can skip a step by itself, by a flag on the device."""
    return all(group.get("fused") for group in optimizer.param_groups)


def split(batch: Batch, parts: int) -> list[Batch]:
    """The batch in `parts` pieces of nearly equal size (fewer where it has fewer images)."""
    if parts == 1:
        return [batch]
    return [
        Batch(*fields) for fields in zip(*(value.tensor_split(parts) for value in batch)) if len(fields[0])
    ]
