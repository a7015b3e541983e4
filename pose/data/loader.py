"""The endless training stream, cut into the same global batches for any number of processes and workers.

Position p of the stream is sample p of the training, for ever; a resumed run goes on at its step, and nothing
random depends on who prepares a sample.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from pose.data.dataset import Item
from pose.data.shapes import ShapedBatchSampler
from pose.errors import UserError
from pose.structures import Batch, Sample
from pose.workers import in_shared_memory, one_sentence, prepare_worker, start

MAX_WORKERS = 8  # more than one GPU ever keeps busy here
NAMED = 10  # unreadable pictures that the log names; later ones are counted
HOPELESS = 20  # this many unreadable pictures, and most of those seen, mean that the paths are wrong
PASS_TAG = 1  # keeps the generators of passes apart from those of samples, which are seeded [seed, position]

logger = logging.getLogger("pose")


class Stream(Protocol):
    """The order of the training samples: position -> index into the data set, without end."""

    def __len__(self) -> int: ...

    def __getitem__(self, position: int) -> int: ...


class Items(Protocol):
    """A data set of samples by (index, position in the stream), and the canvas where it is not always one."""

    strict: bool

    def __getitem__(self, key: Any) -> Item: ...


class TrainStream:
    """position -> index of an image.

    Pass e is a shuffle, by `seed` and e, of all `positive` indices and of round(share * len(positive)) of the
    `negative` ones, drawn anew for each pass (all of them where there are fewer)."""

    def __init__(
        self, positive: Sequence[int] | np.ndarray, negative: Sequence[int] | np.ndarray = (), *,
        share: float = 0.0, seed: int = 0,
    ) -> None:  # fmt: skip
        self.positive = np.asarray(positive, np.int64)
        self.negative = np.asarray(negative, np.int64)
        self.num_negative = min(round(share * len(self.positive)), len(self.negative))
        self.seed = seed
        if not len(self.positive):
            raise UserError("no image with people to train on")
        self._pass = lru_cache(maxsize=2)(self._shuffled)

    def __len__(self) -> int:
        """Samples in one pass."""
        return len(self.positive) + self.num_negative

    def __getitem__(self, position: int) -> int:
        number, place = divmod(position, len(self))
        return int(self._pass(number)[place])

    def _shuffled(self, number: int) -> np.ndarray:
        rng = np.random.default_rng([self.seed, number, PASS_TAG])
        drawn = rng.permutation(self.negative)[: self.num_negative]
        return rng.permutation(np.concatenate([self.positive, drawn]))


class ShardedBatchSampler(Sampler[list[tuple[int, int]]]):
    """One process's batches of (index, position), without end.

    Global step t covers positions [t * G, (t + 1) * G) with G = batch_size * world_size; rank r takes the
    r-th contiguous part, so one process with 8 and two with 4 see the same global batches."""

    def __init__(
        self,
        stream: Stream,
        batch_size: int,
        *,
        rank: int = 0,
        world_size: int = 1,
        start_step: int = 0,
        dataset: Any = None,
    ) -> None:
        self.stream = stream
        self.batch_size = batch_size
        self.rank = rank
        self.world_size = world_size
        self.start_step = start_step

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        step = self.start_step
        while True:
            first = (step * self.world_size + self.rank) * self.batch_size
            yield [(self.stream[p], p) for p in range(first, first + self.batch_size)]
            step += 1


# ------------------------------------------------------------------------------------------------ collating


class Loaded(NamedTuple):
    """A batch, and a sentence for each picture in it that could not be read (those samples are blank)."""

    batch: Batch
    unreadable: tuple[str, ...]


def collate(items: Sequence[Item]) -> Loaded:
    """People are padded to the largest count in the batch, at least 1.  In shared memory in a worker."""
    samples = [item.sample for item in items]
    people = max(1, *(len(sample.areas) for sample in samples))
    batch = Sample(
        image=_stack_images([sample.image for sample in samples]),
        loss_mask=torch.stack([sample.loss_mask for sample in samples]),
        keypoints=_pad([sample.keypoints for sample in samples], people),
        areas=_pad([sample.areas for sample in samples], people),
        color=torch.stack([sample.color for sample in samples]),
        image_id=torch.stack([sample.image_id for sample in samples]),
        labelled=torch.stack([sample.labelled for sample in samples]),
    )
    batch = Sample(*in_shared_memory(list(batch)))
    return Loaded(batch, tuple(item.unreadable for item in items if item.unreadable is not None))


def _stack_images(images: Sequence[Tensor]) -> Tensor:
    """(3, H, W) each -> (B, 3, H, W) contiguous.  A view of an (H, W, 3) picture is taken apart by
    OpenCV, many times faster than by a strided copy."""
    batch = torch.empty(len(images), *images[0].shape, dtype=torch.uint8)
    for planes, image in zip(batch, images, strict=True):
        picture = image.permute(1, 2, 0)
        if picture.is_contiguous():
            cv2.split(picture.numpy(), [plane.numpy() for plane in planes])
        else:
            planes.copy_(image)
    return batch


def _pad(values: Sequence[Tensor], people: int) -> Tensor:
    padded = values[0].new_zeros(len(values), people, *values[0].shape[1:])
    for row, value in zip(padded, values, strict=True):
        row[: len(value)] = value
    return padded


# --------------------------------------------------------------------------------------------------- loader


class TrainLoader:
    """Iterate once: `Loaded` batches without end.  Pictures that cannot be read are counted in `unreadable`
    and named in the log.

    Raises `UserError` for an unreadable picture when strict, when most pictures cannot be read, and when a
    worker dies."""

    def __init__(self, loader: DataLoader[Item], *, strict: bool = False) -> None:
        self.loader = loader
        self.strict = strict
        self.unreadable: dict[str, int] = {}  # sentence -> how often
        self.samples = 0

    def __iter__(self) -> Iterator[Loaded]:
        return self._loaded(start(self.loader))

    def _loaded(self, items: Generator[Loaded, None, None]) -> Iterator[Loaded]:
        with one_sentence(), closing(items):
            for batch, unreadable in items:
                self._count(len(batch.image), unreadable)
                yield Loaded(batch, tuple(unreadable))  # pinning turns the tuple into a list

    def _count(self, samples: int, unreadable: Sequence[str]) -> None:
        self.samples += samples
        for sentence in unreadable:
            if self.strict:
                raise UserError(f"{sentence}; mend the picture or unset data.strict")
            new = sentence not in self.unreadable
            self.unreadable[sentence] = self.unreadable.get(sentence, 0) + 1
            if new and len(self.unreadable) <= NAMED:
                more = "; further ones are only counted" if len(self.unreadable) == NAMED else ""
                logger.warning("left out of training: %s%s", sentence, more)
        times = sum(self.unreadable.values())
        if times >= HOPELESS and 2 * times > self.samples:
            raise UserError(
                f"{times} of the first {self.samples} training pictures cannot be read "
                f"(first: {next(iter(self.unreadable))}); check data.root and the paths below it"
            )


def default_workers() -> int:
    """One less than the cores this process may use, shared by the training processes of the machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    processes = max(1, int(os.environ.get("LOCAL_WORLD_SIZE") or 1))
    return max(0, min(MAX_WORKERS, cores // processes - 1))


def train_loader(
    dataset: Items,
    stream: Stream,
    batch_size: int,
    *,
    rank: int = 0,
    world_size: int = 1,
    start_step: int = 0,
    workers: int | None = None,
    device: torch.device | str = "cpu",
    context: str | None = None,
    timeout: float = 0.0,
) -> TrainLoader:
    """Batches of `batch_size` for this process, from global step `start_step` on.

    `context` is the way workers are started ("fork", "spawn"); none: the system's.  timeout: seconds that a
    batch is waited for, 0: for ever."""
    count = default_workers() if workers is None else workers
    some: dict[str, Any] = {"prefetch_factor": 2, "multiprocessing_context": context} if count else {}
    batches = ShapedBatchSampler if getattr(dataset, "whole", False) else ShardedBatchSampler
    loader: DataLoader[Item] = DataLoader(
        dataset,  # type: ignore[arg-type]
        batch_sampler=batches(
            stream,
            batch_size,
            rank=rank,
            world_size=world_size,
            start_step=start_step,
            dataset=dataset,  # type: ignore[arg-type]
        ),
        num_workers=count,
        timeout=timeout if count else 0,
        collate_fn=collate,
        pin_memory=torch.device(device).type == "cuda",
        worker_init_fn=prepare_worker,
        generator=torch.Generator(),  # else starting the workers would draw from the global generator
        **some,
    )
    return TrainLoader(loader, strict=dataset.strict)
