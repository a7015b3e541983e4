"""Worker CPU time of one 512-pixel training sample: this package against the literal way of pose-ae-train;
and of a 368-pixel sample cut round a person, as part affinity fields are trained, against that.

    python -m benchmarks.sample [--smallest]
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from benchmarks.timing import Row, Times, print_rows, taken
from pose.annotations.annotations import load_annotations
from pose.data.augment import AugmentSettings, DeviceAugment
from pose.data.dataset import KeypointDataset
from pose.data.loader import collate
from pose.data.settings import DataSettings, SetSettings
from pose.skeleton import Skeleton
from pose.structures import InputSettings

HEIGHT, WIDTH, PEOPLE, KEYPOINTS = 425, 640, 4, 17
BATCH = 8


def picture(seed: int = 0) -> np.ndarray:
    """(425, 640, 3) uint8 with the spectrum of a photo (amplitude falling with frequency) and some edges: a
    JPEG of about 150 KB, as COCO's."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(HEIGHT)[:, None], np.fft.rfftfreq(WIDTH)[None]) + 1 / WIDTH
    layers = []
    for _ in range(3):
        noise = np.fft.rfft2(rng.standard_normal((HEIGHT, WIDTH)))
        layer = np.fft.irfft2(noise / frequency, (HEIGHT, WIDTH))
        layers.append(layer / layer.std())
    shared = layers[0]
    image = np.stack([120 + 35 * (0.9 * shared + 0.45 * layer) for layer in layers], -1)
    image = np.clip(image, 0, 255).astype(np.uint8)
    for _ in range(12):
        x, y, w, h = rng.integers((0, 0, 20, 20), (WIDTH, HEIGHT, 150, 150)).tolist()
        patch = image[y : y + h, x : x + w]
        patch[:] = patch // 2 + rng.integers(0, 128, 3, dtype=np.uint8)
    return image


def data_set(folder: Path) -> tuple[KeypointDataset, KeypointDataset, Path, np.ndarray]:
    """One picture with four people, as a data set for the first method and as one whose samples are cut round
    a person; its path and keypoints (P, K, 3)."""
    path = folder / "one.jpg"
    cv2.imwrite(str(path), picture(), [cv2.IMWRITE_JPEG_QUALITY, 92])
    rng = np.random.default_rng(1)
    keypoints = rng.uniform(0, (WIDTH, HEIGHT, 1), (PEOPLE, KEYPOINTS, 3))
    keypoints[..., 2] = 2
    boxes = [[40, 60, 110, 300], [220, 100, 80, 190], [330, 30, 200, 390], [560, 180, 60, 120]]
    names = [f"point_{k}" for k in range(KEYPOINTS)]
    annotations = [
        {"id": p, "image_id": 1, "category_id": 1, "keypoints": person.ravel().tolist(), "bbox": box,
         "area": 9000.0}
        for p, (person, box) in enumerate(zip(keypoints, boxes, strict=True))
    ]  # fmt: skip
    (folder / "one.json").write_text(
        json.dumps(
            {
                "images": [{"id": 1, "file_name": path.name, "height": HEIGHT, "width": WIDTH}],
                "annotations": annotations,
                "categories": [{"id": 1, "name": "person", "keypoints": names}],
            }
        )
    )
    skeleton = Skeleton("bench", tuple(names))
    files = SetSettings(annotations="one.json", images=".")
    settings = DataSettings(root=str(folder), train=files, val=files)
    loaded = load_annotations(folder / "one.json", skeleton, cache=False)
    first = KeypointDataset(loaded, folder, settings, InputSettings(), skeleton)
    person = settings.model_copy(update={"augment": AugmentSettings(crop="person", rotation=40.0)})
    second = KeypointDataset(
        loaded, folder, person, InputSettings(size=(368, 368), pad_value=(128, 128, 128)), skeleton
    )
    return first, second, path, keypoints


def in_turns(calls: Sequence[Callable[[int], Any]], turns: int) -> list[Times]:
    """Per sample of a batch, each call in turn, as the speed of a shared machine changes with time."""
    for call in calls:
        call(0)
    hot, cold = (
        np.array([[taken(partial(call, i), 1, cold=cold)[0] for call in calls] for i in range(turns)])
        for cold in (False, True)
    )
    sides = zip(np.median(hot, 0) / BATCH, np.median(cold, 0) / BATCH, strict=True)
    return [Times(*warm.tolist(), *emptied.tolist()) for warm, emptied in sides]


def plus(one: Times, other: Times) -> Times:
    return Times(*(a + b for a, b in zip(one, other, strict=True)))


def measure(smallest: bool) -> list[Times]:
    """Per sample: the literal way, ours, ours cut round a person, and our colour jitter (which the device
    does)."""
    from tests.literal.reference import pose_ae_training as literal

    threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    try:
        with tempfile.TemporaryDirectory() as folder:
            dataset, round_person, path, keypoints = data_set(Path(folder))

            def ours(i: int) -> Any:
                return collate([dataset[0, BATCH * i + b] for b in range(BATCH)])

            def person(i: int) -> Any:
                return collate([round_person[0, BATCH * i + b] for b in range(BATCH)])

            def theirs(i: int) -> Any:
                rngs = [np.random.default_rng([0, BATCH * i + b]) for b in range(BATCH)]
                samples = [literal.sample_from_file(str(path), keypoints, None, rng) for rng in rngs]
                return literal.collate(samples)

            batch = ours(0).batch
            augment = DeviceAugment(AugmentSettings())

            def jitter(i: int) -> Any:
                return augment(batch.image, batch.color)

            return in_turns([theirs, ours, person, jitter], 1 if smallest else 9)
    finally:
        torch.set_num_threads(threads[0])
        cv2.setNumThreads(threads[1])


def rows(smallest: bool = False) -> list[Row]:
    """Per sample, on one thread; in the last row both are ours."""
    old, new, cut, jitter = measure(smallest)
    return [
        Row("training sample, CPU of a worker", old, new),
        Row("training sample, and its colours (done on the device)", old, plus(new, jitter)),
        Row("368-pixel sample round a person, against our 512-pixel one", new, cut),
    ]


def main(arguments: list[str] | None = None) -> None:
    print_rows("benchmarks.sample", __doc__, [rows], arguments)


if __name__ == "__main__":
    main()
