"""Many picture files -> people: read and letterboxed by workers, shared among devices and processes."""

from __future__ import annotations

import copy
import logging
import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from pose.data.images import Orientation, SetImage, read_of_size
from pose.errors import UserError
from pose.images import UnreadableImage
from pose.model import PoseModel
from pose.predict.batches import BatchPredictor, Timing
from pose.predict.canvas import Prepared, prepare
from pose.predict.settings import Mode, TestSettings
from pose.structures import InputSettings, People
from pose.workers import in_shared_memory, one_sentence, prepare_worker, start

log = logging.getLogger("pose")


class PreparedImages(Dataset):
    """Reads and letterboxes in workers; a picture that cannot be read, or whose shorter side has fewer pixels
    than `cell`, is returned as a sentence."""

    def __init__(
        self,
        images: Sequence[SetImage],
        scales: Sequence[float],
        settings: TestSettings,
        input: InputSettings,
        multiple: int,
        cell: int,
        orientation: Orientation,
    ) -> None:
        self.paths = [str(one.path) for one in images]
        self.sizes = [one.size for one in images]
        self.arguments = (tuple(scales), settings, input, multiple)
        self.cell = cell
        self.orientation = orientation

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Prepared | tuple[int, str]:
        try:
            image = read_of_size(Path(self.paths[index]), self.sizes[index], self.orientation)
        except UnreadableImage as error:
            return index, str(error)
        height, width = image.shape[:2]
        if min(height, width) < self.cell:
            return index, (
                f"{self.paths[index]} is {width} x {height} pixels, smaller than one cell of the network "
                f"({self.cell}): nobody can be found on it"
            )
        return prepare(image, index, *self.arguments)


def _shared(item: Prepared | tuple[int, str]) -> Prepared | tuple[int, str]:
    """Instead of the loader's own conversion, which makes tensors of arrays."""
    return item._replace(canvases=in_shared_memory(item.canvases)) if isinstance(item, Prepared) else item


@dataclass
class Outcome:
    """People by position in the list of pictures, and why others were skipped (unreadable or too small)."""

    people: dict[int, People] = field(default_factory=dict)
    unreadable: dict[int, str] = field(default_factory=dict)
    timing: Timing = field(default_factory=Timing)


def predict_images(
    models: Sequence[PoseModel],
    images: Sequence[SetImage],
    settings: TestSettings,
    *,
    mode: Mode = "single",
    workers: int = 2,
    strict: bool = False,
    orientation: Orientation = "stored",
    share: tuple[int, int] = (0, 1),
    timeout: float = 0.0,
    progress: bool = True,
) -> Outcome:
    """The people of this process's share (rank, of how many) of the images; each model works on its own
    device.

    Every picture of the share is predicted once, whatever the number of devices and the batch size.
    orientation: see `data.orientation`; timeout: seconds that an image is waited for, 0: for ever."""
    rank, world_size = share
    positions = list(range(rank, len(images), world_size))
    outcome = Outcome()
    bar = tqdm(
        total=len(positions),
        desc=f"testing ({mode})",
        unit="img",
        dynamic_ncols=True,
        leave=False,
        disable=None if progress and rank == 0 else True,
    )
    predictors = [BatchPredictor(model, settings, mode) for model in models]
    model = models[0]
    dataset = PreparedImages(
        [images[i] for i in positions],
        predictors[0].scales,
        settings,
        model.input,
        model.size_multiple,
        model.coarsest_stride,
        orientation,
    )
    loader = DataLoader(
        dataset,
        batch_size=None,
        num_workers=workers if len(positions) > 4 else 0,
        timeout=timeout if workers and len(positions) > 4 else 0,
        collate_fn=_shared,  # type: ignore[arg-type]  # without batches: of one item
        worker_init_fn=prepare_worker,
        generator=torch.Generator(),  # else starting the workers would draw from the global generator
        pin_memory=predictors[0].device.type == "cuda",
    )

    def readable() -> Iterator[Prepared]:
        with closing(start(loader)) as items:
            for item in items:
                if isinstance(item, Prepared):
                    yield item
                    continue
                index, text = item
                if strict:
                    raise UserError(f"{text}; repair or remove the picture, or set data.strict=false")
                outcome.unreadable[positions[index]] = text
                log.warning("picture skipped: %s", text)
                bar.update()

    with bar, one_sentence():
        for index, people in _run(predictors, readable()):
            outcome.people[positions[index]] = people
            bar.update()
    for predictor in predictors:
        for name, value in vars(predictor.timing).items():
            setattr(outcome.timing, name, getattr(outcome.timing, name) + value)
    if len(outcome.people) + len(outcome.unreadable) != len(positions):
        raise AssertionError(f"{len(positions)} pictures went in, {len(outcome.people)} came out")
    return outcome


def _run(predictors: Sequence[BatchPredictor], items: Iterator[Prepared]) -> Iterator[tuple[int, People]]:
    """One predictor in this thread, or one thread for each, all fed from the same iterator."""
    if len(predictors) == 1:
        yield from predictors[0].predict(items)
        return
    lock, stop = threading.Lock(), threading.Event()
    results: queue.Queue[Any] = queue.Queue()

    def shared() -> Iterator[Prepared]:
        while not stop.is_set():
            with lock:
                item = next(items, None)
            if item is None:
                return
            yield item

    def work(predictor: BatchPredictor) -> None:
        try:
            for result in predictor.predict(shared()):
                results.put(result)
        except BaseException as error:  # handed to the caller's thread, which raises it
            results.put(error)
        results.put(None)

    threads = [threading.Thread(target=work, args=(p,), daemon=True) for p in predictors]
    for thread in threads:
        thread.start()
    running = len(threads)
    try:
        while running:
            result = results.get()
            if result is None:
                running -= 1
            elif isinstance(result, BaseException):
                raise result
            else:
                yield result
    finally:  # after an error the others end with the batch they are at
        stop.set()
        for thread in threads:
            thread.join()


def replicas(model: PoseModel, devices: Sequence[torch.device]) -> list[PoseModel]:
    """The model on each device; on its own device it is the model itself."""
    return [model if device == model.device else copy.deepcopy(model).to(device) for device in devices]
