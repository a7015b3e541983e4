"""The keys under which the processes of a group find each other."""

from __future__ import annotations

import time
import uuid
from datetime import timedelta

import torch.distributed as dist

PAUSE = 0.01  # seconds between looks


def fresh_store(store: dist.Store, rank: int, world_size: int, timeout: timedelta) -> dist.Store:
    """A part of `store` that none but these processes have ever used.

    torchrun keeps its store when it starts processes again, and with it the addresses of those that are gone:
    who reads one before the new process has written its own waits for nobody.  Numbers of attempts are no
    remedy, since several agents may count them differently.  So rank 0 makes up a name, and hands it to each
    other rank in answer to a question that only the living one has asked.  Raises RuntimeError."""
    deadline = time.monotonic() + timeout.total_seconds()

    def look(key: str) -> str:
        return store.get(key).decode() if store.check([key]) else ""

    def wait(missing: str) -> None:
        if time.monotonic() > deadline:
            raise RuntimeError(f"after {timeout} there was no word of {missing}")
        time.sleep(PAUSE)

    if rank == 0:
        name, waiting = uuid.uuid4().hex, set(range(1, world_size))
        answered: dict[int, str] = {}
        while waiting:
            for other in sorted(waiting):
                if look(f"joined/{other}") == name:
                    waiting.remove(other)
                    continue
                question = look(f"question/{other}")
                if question and question != answered.get(other):
                    store.set(f"answer/{other}", f"{question} {name}")
                    answered[other] = question
            if waiting:
                wait(f"rank {min(waiting)}")
    else:
        question, name = uuid.uuid4().hex, ""
        store.set(f"question/{rank}", question)
        while not name:
            asked, _, name = look(f"answer/{rank}").partition(" ")
            if asked != question:
                name = ""
                wait("rank 0")
        store.set(f"joined/{rank}", name)
    return dist.PrefixStore(name, store)
