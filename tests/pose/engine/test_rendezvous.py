"""Processes that are started again find each other, not those that are gone."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import torch.distributed as dist

from pose.engine.rendezvous import fresh_store

TIMEOUT = timedelta(seconds=60)


def meet(store: dist.Store, size: int, late: int | None = None) -> list[dist.Store]:
    """The part of the store that each of `size` ranks got; rank `late` comes after the others."""
    others = threading.Barrier(size if late is None else size - 1)

    def join(rank: int) -> dist.Store:
        if rank == late:
            threading.Event().wait(0.3)
        else:
            others.wait()
        return fresh_store(store, rank, size, TIMEOUT)

    with ThreadPoolExecutor(size) as pool:
        return [*pool.map(join, range(size))]


@pytest.mark.parametrize("late", [None, 0, 2])
def test_all_ranks_share_a_part_that_nobody_used_before(late: int | None) -> None:
    store = dist.HashStore()
    for attempt in range(4):  # the store stays, the processes are others
        parts = meet(store, 3, late)
        assert not any(part.check(["address"]) for part in parts)
        parts[attempt % 3].set("address", f"of attempt {attempt}")
        assert [part.get("address").decode() for part in parts] == [f"of attempt {attempt}"] * 3


def test_answers_to_those_who_are_gone_are_no_answers() -> None:
    store = dist.HashStore()
    for rank in (1, 2):  # left by an attempt that ended in the middle
        store.set(f"question/{rank}", "old question")
        store.set(f"answer/{rank}", "old question old")
        store.set(f"joined/{rank}", "old")
    parts = meet(store, 3)
    assert not any(part.check(["address"]) for part in parts)
    parts[0].set("address", "new")
    assert parts[2].get("address") == b"new"


@pytest.mark.parametrize(("rank", "missing"), [(0, "rank 1"), (1, "rank 0")])
def test_who_does_not_come_is_named(rank: int, missing: str) -> None:
    with pytest.raises(RuntimeError, match=f"no word of {missing}"):
        fresh_store(dist.HashStore(), rank, 2, timedelta(seconds=0.1))
