"""Steps whose gradients were not finite."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from pose.engine.distributed import Processes
from pose.engine.log import Log
from pose.errors import ToldElsewhere, UserError


class Verdict(NamedTuple):
    """Whether a step was finite; not read from the device yet."""

    step: int  # from 1
    image_ids: Tensor
    finite: Tensor


class NonFinite:
    """Names skipped steps with their images, and ends a run that has `most` of them in a row.

    Verdicts are collected and read together by `check`, so that no step waits for the device."""

    def __init__(self, folder: Path, group: Processes, most: int) -> None:
        self.folder = folder
        self.group = group
        self.most = most
        self.pending: list[Verdict] = []
        self.in_a_row = 0

    def add(self, step: int, image_ids: Tensor, finite: Tensor) -> None:
        self.pending.append(Verdict(step, image_ids, finite))

    def check(self, log: Log, saved: str) -> int:
        """How many steps were skipped since the last time.

        saved: what last.pt holds, for the message.  Raises `UserError` where too many were skipped in a
        row."""
        pending, self.pending = self.pending, []
        skipped = 0
        verdicts = torch.stack([one.finite for one in pending]).tolist() if pending else []
        for one, finite in zip(pending, verdicts):
            self.in_a_row = 0 if finite else self.in_a_row + 1
            if finite:
                continue
            skipped += 1
            self._name(one, log)
            if self.in_a_row >= self.most:
                self._give_up(one.step, saved)
        return skipped

    def _name(self, one: Verdict, log: Log) -> None:
        ids = [number for share in self.group.gather(one.image_ids.tolist()) for number in share]
        log.note("skipped", one.step, {"image_ids": ids})
        listed = ", ".join(map(str, ids))
        log.say(f"step {one.step}: the loss is not finite, step skipped (image ids {listed})")

    def _give_up(self, step: int, saved: str) -> None:
        text = (
            f"{self.folder}: the loss was not finite in {self.in_a_row} steps in a row (the last of "
            f"them step {step}); they changed no weights, {saved}. Set a lower train.optimizer.lr, "
            f"train.clip_norm: 1 or train.precision: fp32 in {self.folder / 'config.yaml'}, then -c "
            f"{self.folder.name}"
        )
        raise UserError(text) if self.group.main else ToldElsewhere(text)
