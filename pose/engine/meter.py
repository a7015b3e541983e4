"""What is measured between two lines of the log: loss terms, seconds, memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pose.data.loader import Loaded
from pose.engine.signals import signals_for_this_process_only


@dataclass
class Meter:
    """Sums of the loss terms on the device and of seconds on the host, since the last line of the log."""

    terms: dict[str, Tensor] = field(default_factory=dict)
    steps: int = 0
    images: int = 0
    wait: float = 0.0
    start: float = field(default_factory=time.perf_counter)

    def means(self) -> dict[str, float]:
        """Of every term over the steps that were not skipped; nan where all were."""
        skipped = self.terms["skipped"].item()
        good = self.steps - skipped or float("nan")
        return {name: value.item() / good for name, value in self.terms.items() if name != "skipped"}

    def add(self, terms: Mapping[str, Tensor], images: int, wait: float) -> None:
        for name, value in terms.items():
            self.terms[name] = self.terms[name] + value if name in self.terms else value.clone()
        self.steps += 1
        self.images += images
        self.wait += wait


def timed(
    items: Iterable[Loaded], waiting: Callable[[], AbstractContextManager[None]] = nullcontext
) -> Generator[tuple[Loaded, float], None, None]:
    """The items, each with the seconds that its arrival was waited for; `waiting` is active meanwhile.
    Closing it closes the iterator of `items`, which ends its workers."""
    with signals_for_this_process_only():  # starts the workers
        start = time.perf_counter()
        iterator = iter(items)
    try:
        while True:
            with waiting():
                item = next(iterator, None)
            if item is None:
                return
            yield item, time.perf_counter() - start
            start = time.perf_counter()
    finally:
        if isinstance(iterator, Generator):
            iterator.close()


def memory_gib(device: torch.device) -> float:
    """Peak memory: of the GPU where there is one, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
