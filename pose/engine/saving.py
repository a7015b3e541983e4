"""The checkpoints of a run."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pose import checkpoint
from pose.engine.distributed import Processes
from pose.engine.settings import TrainSettings
from pose.errors import UserError


class Checkpoints:
    """`last.pt`, `best.pt` and those of epochs; rank 0 saves, and where it cannot, every rank ends.

    state: gives what is saved; it is called on rank 0 only."""

    def __init__(
        self, folder: Path, group: Processes, settings: TrainSettings, state: Callable[[], dict[str, Any]]
    ) -> None:
        self.folder = folder
        self.group = group
        self.settings = settings
        self.state = state
        self.saved_step: int | None = None  # what last.pt holds
        self.start_clock()

    @property
    def held(self) -> str:
        """For messages."""
        if self.saved_step is None:
            return "nothing was saved yet"
        return f"last.pt holds step {self.saved_step}"

    def start_clock(self) -> None:
        """From here on `late` counts."""
        self.saved_at = time.monotonic()

    def save(self, name: str) -> None:
        """Raises `UserError` where it cannot; if the run's folder is gone, after saving elsewhere."""
        self.group.first(lambda: self._write(name))

    def _write(self, name: str) -> None:
        state = self.state()
        try:
            checkpoint.save(state, self.folder / name)
        except UserError:
            if self.folder.is_dir():
                raise
            file = save_elsewhere(state, self.folder)
            raise UserError(
                f"{self.folder} is gone (was it moved or removed?); the state of step "
                f"{state['progress']['step']} is saved as {file}: put it back as last.pt, beside "
                f"config.yaml, and continue with -c {self.folder.name}"
            ) from None

    def save_last(self, step: int) -> None:
        self.save("last.pt")
        self.saved_step = step
        self.start_clock()

    def save_epoch(self, epoch: int) -> None:
        """Keeps the newest epochs, as many as `train.keep` says."""
        if not self.settings.keep:
            return
        self.save(f"epoch-{epoch:04d}.pt")
        if self.group.main:
            for old in sorted(self.folder.glob("epoch-*.pt"))[: -self.settings.keep]:
                old.unlink()

    @property
    def late(self) -> bool:
        """Whether the last save is longer ago than `train.save_minutes`."""
        return time.monotonic() - self.saved_at > 60 * self.settings.save_minutes

    def due(self, step: int) -> bool:
        """By `train.save_steps`."""
        every = self.settings.save_steps
        return every is not None and step % every == 0

    def clean(self) -> None:
        """Removes what is left of a save that was killed."""
        for rest in self.folder.glob(".*.partial"):
            rest.unlink()


def save_elsewhere(state: dict[str, Any], folder: Path) -> Path:
    """Where the run's folder was, in the current folder, or among temporary files; the file.  Raises
    `UserError` where nothing can be written."""
    name = f"{folder.name}-step-{state['progress']['step']}.pt"
    places = [folder.parent, Path.cwd(), Path(tempfile.gettempdir())]
    for place in places[:-1]:
        try:
            checkpoint.save(state, place / name)
            return place / name
        except UserError:
            continue
    checkpoint.save(state, places[-1] / name)
    return places[-1] / name
