"""Worker CPU time of one 512-pixel training sample: this package against the literal way of pose-ae-train.

Run it as `python -m benchmarks.sample`.
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

from pose.data.annotations import load_annotations
from pose.data.augment import color_jitter
from pose.data.dataset import DataSettings, KeypointDataset, SetSettings
from pose.data.loader import collate
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


def data_set(folder: Path) -> tuple[KeypointDataset, Path, np.ndarray]:
    """One picture with four people, as a data set; its path and keypoints (P, K, 3)."""
    path = folder / "one.jpg"
    cv2.imwrite(str(path), picture(), [cv2.IMWRITE_JPEG_QUALITY, 92])
    rng = np.random.default_rng(1)
    keypoints = rng.uniform(0, (WIDTH, HEIGHT, 1), (PEOPLE, KEYPOINTS, 3))
    keypoints[..., 2] = 2
    names = [f"point_{k}" for k in range(KEYPOINTS)]
    annotations = [
        {"id": p, "image_id": 1, "category_id": 1, "keypoints": person.ravel().tolist(), "bbox": [0, 0, 9, 9],
         "area": 9000.0}
        for p, person in enumerate(keypoints)
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
    return KeypointDataset(loaded, folder, settings, InputSettings(), skeleton), path, keypoints


def cpu_ms(function: Callable[[int], Any], repeats: int = 30, rounds: int = 3) -> float:
    """Least mean CPU milliseconds of a call over some rounds."""
    function(0)
    best = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        for i in range(repeats):
            function(i)
        best = min(best, (time.process_time() - start) / repeats * 1e3)
    return best


def measure() -> tuple[float, float, float]:
    """Milliseconds per sample: the literal way, ours, and our colour jitter (which the device does)."""
    from benchmarks.literal import pose_ae_training as literal

    threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    try:
        with tempfile.TemporaryDirectory() as folder:
            dataset, path, keypoints = data_set(Path(folder))

            def ours(i: int) -> Any:
                return collate([dataset[0, BATCH * i + b] for b in range(BATCH)])

            def theirs(i: int) -> Any:
                rngs = [np.random.default_rng([0, BATCH * i + b]) for b in range(BATCH)]
                samples = [literal.sample_from_file(str(path), keypoints, None, rng) for rng in rngs]
                return literal.collate(samples)

            new, old = cpu_ms(ours, 6) / BATCH, cpu_ms(theirs, 2) / BATCH
            batch = ours(0).batch
            images = batch.image.float() / 255
            jitter = cpu_ms(lambda _: color_jitter(images, batch.color), 2) / BATCH
    finally:
        torch.set_num_threads(threads[0])
        cv2.setNumThreads(threads[1])
    return old, new, jitter


def rows() -> list[tuple[str, float, float]]:
    """(what, milliseconds of the literal way, of ours)."""
    old, new, jitter = measure()
    return [
        ("training sample, CPU of a worker", old, new),
        ("training sample, and its colours (done on the device)", old, new + jitter),
    ]


if __name__ == "__main__":
    for what, slow, fast in rows():
        print(f"{what}: literal {slow:.1f} ms, ours {fast:.2f} ms, {fast / slow:.2f} of it")
