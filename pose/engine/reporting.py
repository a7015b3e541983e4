"""The lines of a training's log."""

from __future__ import annotations

import time

import numpy as np

from pose.engine.distributed import Processes
from pose.engine.log import Log
from pose.engine.meter import Meter, memory_gib
from pose.engine.update import Updater


class Reporter:
    """Writes the means since the last line, of all processes; warnings of the head come once.

    quiet_steps: first steps, in which a head does not warn yet."""

    def __init__(self, group: Processes, updater: Updater, *, steps_per_epoch: int, quiet_steps: int) -> None:
        self.group = group
        self.updater = updater
        self.steps_per_epoch = steps_per_epoch
        self.quiet_steps = quiet_steps
        self.warned: set[str] = set()

    def report(self, step: int, meter: Meter, log: Log) -> None:
        seconds = time.perf_counter() - meter.start
        means = meter.means()
        if self.group.distributed:
            everyone = self.group.gather(means)
            means = {name: sum(one[name] for one in everyone) / len(everyone) for name in means}
        values: dict[str, float] = {"loss": means.pop("loss")}
        values |= {name if "/" in name else f"loss/{name}": value for name, value in means.items()}
        values |= self.updater.rates()
        values |= {
            "images_per_second": meter.images / seconds,
            "data_wait": meter.wait / seconds,
            "memory_gib": memory_gib(self.group.device),
            "epoch": step / self.steps_per_epoch,
        }
        log.scalars("train", step, values)
        log.advance(0, shown(values))
        if step < self.quiet_steps or not np.isfinite(values["loss"]):
            return
        for text in set(self.updater.model.head.warnings(means)) - self.warned:
            self.warned.add(text)  # once: it may hold for the rest of the run
            log.say(f"step {step}: {text}")


def shown(values: dict[str, float]) -> dict[str, str]:
    """What the bar shows."""
    terms = {name.removeprefix("loss/"): f"{v:.3g}" for name, v in values.items() if name.startswith("loss")}
    return terms | {
        "img/s": f"{values['images_per_second']:.0f}",
        "wait": f"{values['data_wait']:.0%}",
        "GiB": f"{values['memory_gib']:.1f}",
    }
