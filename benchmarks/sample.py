"""Worker CPU time of one 512-pixel training sample: this package against the literal way of pose-ae-train;
and of a 368-pixel sample cut round a person, as part affinity fields are trained, against that.

    python -m benchmarks.sample [--smallest]
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from benchmarks.timing import Row, print_rows
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


def cpu_ms(function: Callable[[int], Any], repeats: int, rounds: int = 3) -> float:
    """Least mean CPU milliseconds of a call over some rounds."""
    function(0)
    best = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        for i in range(repeats):
            function(i)
        best = min(best, (time.process_time() - start) / repeats * 1e3)
    return best


def measure(smallest: bool) -> tuple[float, float, float, float]:
    """Milliseconds per sample: the literal way, ours, our colour jitter (which the device does), and ours cut
    round a person."""
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

            repeats, rounds = (1, 1) if smallest else (2, 3)
            old = cpu_ms(theirs, repeats, rounds) / BATCH
            # by turns, as the speed of a shared machine changes with time
            turns = 1 if smallest else 6
            pairs = [(cpu_ms(ours, turns, 1), cpu_ms(person, turns, 1)) for _ in range(turns)]
            new, cut = (min(times) / BATCH for times in zip(*pairs, strict=True))
            batch = ours(0).batch
            augment = DeviceAugment(AugmentSettings())
            jitter = cpu_ms(lambda _: augment(batch.image, batch.color), repeats, rounds) / BATCH
    finally:
        torch.set_num_threads(threads[0])
        cv2.setNumThreads(threads[1])
    return old, new, jitter, cut


def rows(smallest: bool = False) -> list[Row]:
    """Per sample, on one thread; in the last row both are ours."""
    old, new, jitter, cut = measure(smallest)
    return [
        Row("training sample, CPU of a worker", old, new),
        Row("training sample, and its colours (done on the device)", old, new + jitter),
        Row("368-pixel sample round a person, against our 512-pixel one", new, cut),
    ]


def main(arguments: list[str] | None = None) -> None:
    print_rows("benchmarks.sample", __doc__, [rows], arguments)


if __name__ == "__main__":
    main()
