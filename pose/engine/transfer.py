"""Batches on their way to the device."""

from __future__ import annotations

import torch

from pose.structures import Batch


class Transfer:
    """Copies batches to a device.  To a GPU on a stream of its own, so that the copy of a batch runs beside
    the step before it: the host has queued that step and is ahead of the device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def __call__(self, batch: Batch) -> Batch:
        """The batch on the device, to be used on the current stream.  Does not wait for pinned memory."""
        if self.stream is None:
            return batch.to(self.device)
        current = torch.cuda.current_stream(self.device)
        with torch.cuda.stream(self.stream):
            moved = batch.to(self.device)
        current.wait_stream(self.stream)
        for value in moved:
            value.record_stream(
                current
            )  # else its memory may be given to the next copy while a step reads it
        return moved
