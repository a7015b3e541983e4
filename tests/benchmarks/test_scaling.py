"""docs/scaling.md has the table that the command prints, and its bytes are those that DDP exchanges."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from benchmarks.scaling import CONFIGS, IMAGES, TERAFLOPS, efficiency, network, table, transfer
from pose.experiment import load_config
from pose.model import TrainStep
from tests.training_fixtures import batches, free_port

DOC = Path(__file__).parents[2] / "docs" / "scaling.md"


def test_the_doc_has_the_table_of_the_command() -> None:
    told = "\n".join(table(CONFIGS, IMAGES, TERAFLOPS))
    assert told in DOC.read_text(encoding="utf-8"), "python -m benchmarks.scaling prints another table"


def test_gradients_are_the_bytes_that_ddp_exchanges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(free_port()))
    sent: list[int] = []

    def counted(state: None, bucket: Any) -> Any:
        sent.append(bucket.buffer().numel() * bucket.buffer().element_size())
        future: torch.futures.Future[torch.Tensor] = torch.futures.Future()
        future.set_result(bucket.buffer())
        return future

    counted.__annotations__.clear()  # texts, of which DDP takes none
    dist.init_process_group("gloo", rank=0, world_size=1)
    try:
        config = load_config(CONFIGS[0], ["data.skeleton=coco17", "input.size=[64, 64]"])
        ddp = DistributedDataParallel(TrainStep(config.build_model()), gradient_as_bucket_view=True)
        ddp.register_comm_hook(None, counted)
        ddp(batches(1)[0].batch)["loss"].sum().backward()
        del ddp
    finally:
        dist.destroy_process_group()
    assert sum(sent) == network(CONFIGS[0]).gradients == pytest.approx(2.3e6, rel=0.02)


def test_a_ring_sends_nearly_twice_the_bytes() -> None:
    far = transfer(1e9, 256, 100) - 2 * 255 * 10e-6
    assert far == pytest.approx(2 * 255 / 256 * 8e9 / 80e9)
    assert transfer(1e9, 8, 25) == transfer(1e9, 8, 400)  # inside one machine


def test_efficiency_falls_with_gpus_and_rises_with_bandwidth_and_compression() -> None:
    values = [efficiency(5e8, 0.1, n, 100) for n in (16, 64, 256)]
    assert values == sorted(values, reverse=True)
    assert efficiency(5e8, 0.1, 64, 25) < efficiency(5e8, 0.1, 64, 25, factor=0.5) < 1
    assert efficiency(5e8, 0.1, 64, 25) < efficiency(5e8, 0.1, 64, 400)
    assert efficiency(1.0, 1e9, 8, 400) == pytest.approx(1)
