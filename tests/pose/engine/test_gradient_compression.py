"""`train.gradient_compression`: two processes learn the same to bfloat16's rounding, with half the bytes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from pose.engine.distributed import processes, wrap
from pose.errors import UserError
from tests.training_fixtures import CPU, batches, free_port, tiny_step

COMPRESSIONS = ("none", "bf16")


def exchange(rank: int, port: int, folder: Path) -> None:
    """One of two processes: the gradients of one step, and the bytes that went to the other."""
    torch.set_num_threads(1)
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    batch = batches(1, seed=rank)[0].batch
    found: dict[str, Any] = {}
    with processes("cpu") as group:
        reduce = dist.all_reduce

        for compression in COMPRESSIONS:
            sent: list[torch.Tensor] = []

            def counted(
                tensor: torch.Tensor, *args: Any, sent: list[torch.Tensor] = sent, **more: Any
            ) -> Any:
                sent.append(tensor.detach())
                return reduce(tensor, *args, **more)

            step = tiny_step()
            wrapped = wrap(step, group, gpus=1, compression=compression)
            dist.all_reduce = counted  # what the hook calls; DDP's own exchange is not in Python
            try:
                wrapped(batch)["loss"].sum().backward()
            finally:
                dist.all_reduce = reduce
            gradients = {name: p.grad for name, p in step.named_parameters()}
            found[compression] = gradients
            found[f"{compression} bytes"] = sum(one.numel() * one.element_size() for one in sent)
        del wrapped
    torch.save(found, folder / f"{rank}.pt")


@pytest.mark.slow
def test_two_processes_agree_to_the_rounding_of_bf16(tmp_path: Path) -> None:
    mp.spawn(exchange, (free_port(), tmp_path), nprocs=2)
    one, other = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    size = sum(4 * gradient.numel() for gradient in one["none"].values())
    assert one["none bytes"] == 0 and one["bf16 bytes"] == size / 2
    for name, exact in one["none"].items():
        rounded = one["bf16"][name]
        assert torch.equal(rounded, other["bf16"][name])  # processes stay equal
        assert torch.equal(rounded, rounded.bfloat16().float())
        # each share and the sum are rounded to 8 bits
        torch.testing.assert_close(rounded, exact, rtol=0.02, atol=0.02 * float(exact.abs().max()))
    assert any(not torch.equal(one["none"][name], one["bf16"][name]) for name in one["none"])


def test_a_backend_that_cannot_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(tensor: torch.Tensor) -> None:
        raise RuntimeError("Invalid scalar type\nmore")

    port = str(free_port())
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", port)
    dist.init_process_group("gloo", rank=0, world_size=1)
    try:
        monkeypatch.setattr(dist, "all_reduce", refuse)
        group = CPU.__class__(CPU.device, 0, 2)
        with pytest.raises(
            UserError, match=r"gloo cannot exchange bfloat16 here \(Invalid scalar type\); set"
        ):
            wrap(tiny_step(), group, gpus=1, compression="bf16")
    finally:
        dist.destroy_process_group()


def test_one_process_has_nothing_to_compress() -> None:
    step = tiny_step()
    assert wrap(step, CPU, gpus=1, compression="bf16") is step
