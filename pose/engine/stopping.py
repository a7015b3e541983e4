"""When several processes stop or save: all at the same step."""

from __future__ import annotations

import time
from collections.abc import Callable

from pose.engine.distributed import Processes

AGREE_SECONDS = 1.0  # how often processes agree whether to stop or save: well within torchrun's 30 s of grace


class Agreement:
    """Lets several processes stop and save at the same step; asking costs a wait for the GPUs.

    They ask each other about every second, at a step on which they agreed the time before.

    stop: the signal that this process has received (0: none); step: where the run stands."""

    def __init__(self, group: Processes, stop: Callable[[], int], step: int) -> None:
        self.group = group
        self.stop = stop
        self.next, self.since_step = step, step
        self.since = time.monotonic()

    def ask(self, step: int, late: bool) -> tuple[int, bool]:
        """The signal to obey (0: none), and whether to save because rank 0's last save is too long ago."""
        if not self.group.distributed:
            return self.stop(), late
        if step < self.next:
            return 0, False
        pace = (time.monotonic() - self.since) / max(1, step - self.since_step)
        answers = self.group.gather((self.stop(), late, pace))
        slowest = max(one[2] for one in answers)
        self.next = step + max(1, int(AGREE_SECONDS / max(slowest, 1e-6)))
        self.since_step, self.since = step, time.monotonic()
        return max(one[0] for one in answers), answers[0][1]
