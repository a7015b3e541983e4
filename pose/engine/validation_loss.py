"""The training loss on images that are not trained on, as they are: upright, whole, colours untouched."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.utils.data import DataLoader

from pose.data.dataset import Item, KeypointDataset
from pose.data.loader import collate
from pose.engine.distributed import Processes
from pose.model import PoseModel, TrainStep
from pose.structures import Batch
from pose.workers import one_sentence, prepare_worker, start


def readable(items: Sequence[Item]) -> Batch | None:
    """The batch without images that could not be read (the test for AP names them)."""
    kept = [item for item in items if item.unreadable is None]
    return collate(kept).batch if kept else None


@torch.no_grad()
def mean_loss(
    model: PoseModel,
    dataset: KeypointDataset,
    indices: Sequence[int],
    group: Processes,
    *,
    batch_size: int,
    workers: int,
    precision: str,
    timeout: float = 0.0,
) -> float:
    """The mean over the images `indices` of `dataset` (which does not augment), of all processes together.

    timeout: seconds that a batch of the workers is waited for, 0: for ever.  Leaves the model in eval mode;
    draws from no generator that training uses."""
    step = TrainStep(model, precision=precision).eval()
    own = [(index, 0) for index in indices[group.rank :: group.world_size]]
    loader = DataLoader(
        dataset,
        batch_sampler=[own[i : i + batch_size] for i in range(0, len(own), batch_size)],
        num_workers=workers if len(own) > 4 else 0,
        timeout=timeout if workers and len(own) > 4 else 0,
        collate_fn=readable,
        worker_init_fn=prepare_worker,
        generator=torch.Generator(),  # else starting the workers would draw from the global generator
    )
    total, count = torch.zeros((), dtype=torch.float64, device=group.device), 0
    with one_sentence():
        for batch in start(loader):
            if batch is None:
                continue
            batch = batch.to(group.device)
            total += step(batch)["loss"][0] * len(batch.image_id)
            count += len(batch.image_id)
    parts = group.gather((total.item(), count))
    pictures = sum(number for _, number in parts)
    return sum(part for part, _ in parts) / pictures if pictures else float("nan")
