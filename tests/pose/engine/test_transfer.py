"""Batches are copied on a stream of their own, and used only when they are there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from pose.engine.transfer import Transfer
from pose.structures import Batch
from tests.training_fixtures import batches


class Stream:
    """Notes who waits for whom."""

    def __init__(self, name: str, events: list[str]) -> None:
        self.name, self.events = name, events

    def wait_stream(self, other: Stream) -> None:
        self.events.append(f"{self.name} waits for {other.name}")


def test_a_cpu_gets_the_batch_as_it_is() -> None:
    batch = batches(1)[0].batch
    moved = Transfer(torch.device("cpu"))(batch)
    assert all(torch.equal(one, other) for one, other in zip(moved, batch, strict=True))


def test_copies_run_on_their_own_stream_and_keep_their_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    current = Stream("step", events)

    @contextmanager
    def using(stream: Stream) -> Iterator[None]:
        events.append(f"on {stream.name}")
        yield
        events.append(f"off {stream.name}")

    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream("copy", events))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: current)
    monkeypatch.setattr(torch.cuda, "stream", using)
    kept: list[Any] = []
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda value, stream: kept.append((value, stream)))
    here = batches(1)[0].batch
    there = Batch(*(value.clone() for value in here))

    def to(self: Batch, device: torch.device) -> Batch:
        events.append(f"to {device}")
        return there

    monkeypatch.setattr(Batch, "to", to)
    assert Transfer(torch.device("cuda", 1))(here) is there
    assert events == ["on copy", "to cuda:1", "off copy", "step waits for copy"]
    assert [id(value) for value, _ in kept] == [id(value) for value in there]
    assert all(stream is current for _, stream in kept)
