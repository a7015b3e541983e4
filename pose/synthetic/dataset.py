"""The embedded data set: articulated little people drawn into JPEG pictures, with COCO-format keypoints.

A picture is described first (`drawn.scenes`: plain numbers) and painted second (`render`).  Nothing in the
painting knows left from right, so the mirrored description paints the mirrored picture; which
side is the left one follows from the facing direction, as with real people: from the face, or from its lack.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from pose.errors import UserError
from pose.files import locked
from pose.synthetic.annotating import annotate, paint_crowd
from pose.synthetic.canvas import Canvas
from pose.synthetic.figures import KEYPOINTS, LIMBS, PARTS
from pose.synthetic.painting import paint_cover, paint_person
from pose.synthetic.scenes import SPLITS, Scene, SyntheticConfig, describe

VERSION = 1  # of the drawer: raise it whenever the same seed would give another picture


def render(scene: Scene) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Draw a scene -> image (H, W, 3) uint8 RGB before blur and noise, and COCO annotations without ids."""
    canvas = Canvas(scene.background.copy())
    crowd = paint_crowd(canvas, scene.crowd)
    silhouettes = []
    for number, person in enumerate(scene.people, start=1):
        paint_person(canvas, person, number)
        silhouettes.append((canvas.owner // len(PARTS) == number).astype(np.uint8))
        for cover in scene.covers:
            if cover.layer == number:
                paint_cover(canvas, cover)
    people = [
        annotate(person, number, silhouettes[number - 1], canvas.owner)
        for number, person in enumerate(scene.people, start=1)
    ]
    return canvas.image, [annotation for annotation in [*people, crowd] if annotation is not None]


def _finish(image: np.ndarray, scene: Scene) -> np.ndarray:
    """The camera: blur, exposure, noise."""
    if scene.blur > 0.25:
        image = cv2.GaussianBlur(image, (0, 0), scene.blur)
    rng = np.random.default_rng(scene.noise_seed)
    noise = rng.standard_normal(image.shape, dtype=np.float32) * scene.noise
    return (image * np.float32(scene.gain) + noise + 0.5).clip(0, 255).astype(np.uint8)


def draw_picture(index: int, split: str, cfg: SyntheticConfig) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Picture number `index` (from 0) of a split: image (H, W, 3) uint8 RGB, COCO annotations without ids."""
    scene = describe(index, split, cfg)
    image, annotations = render(scene)
    return _finish(image, scene), annotations


def _write_picture(
    job: tuple[str, int], folder: Path, cfg: SyntheticConfig
) -> tuple[Any, list[dict[str, Any]]]:
    """Draw and write one picture -> its COCO `images` entry and annotations.  Top level: can be spawned."""
    split, index = job
    scene = describe(index, split, cfg)
    image, annotations = render(scene)
    image = _finish(image, scene)
    name = f"{index + 1:06d}.jpg"
    done, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, scene.quality])
    assert done
    (folder / split / name).write_bytes(data.tobytes())
    h, w = image.shape[:2]
    return {"id": index + 1, "file_name": name, "width": w, "height": h}, annotations


def _single_threaded() -> None:
    cv2.setNumThreads(0)


def _run(
    draw: Callable[[tuple[str, int]], Any], jobs: list[tuple[str, int]], processes: int
) -> Iterator[tuple[Any, list[dict[str, Any]]]]:
    """Map in order, in this process or in several."""
    if processes == 1 or len(jobs) < 2:
        yield from map(draw, jobs)
        return
    spawn = multiprocessing.get_context("spawn")  # forking after torch has started threads can hang
    with ProcessPoolExecutor(processes, mp_context=spawn, initializer=_single_threaded) as pool:
        yield from pool.map(draw, jobs, chunksize=8)


def _coco(images: list[Any], annotations: list[list[dict[str, Any]]]) -> dict[str, Any]:
    """One COCO file; annotations[i] belong to images[i]; ids are given here, from 1."""
    number = {name: index + 1 for index, name in enumerate(KEYPOINTS)}
    skeleton = [[number[a], number[b]] for a, b in LIMBS]
    category = {"id": 1, "name": "person", "supercategory": "person"}
    flat = [
        {**annotation, "image_id": image["id"]}
        for image, found in zip(images, annotations, strict=True)
        for annotation in found
    ]
    return {
        "info": {"description": f"drawn people, version {VERSION} of the drawer"},
        "images": images,
        "annotations": [{"id": index + 1, **annotation} for index, annotation in enumerate(flat)],
        "categories": [{**category, "keypoints": list(KEYPOINTS), "skeleton": skeleton}],
    }


def _stamp(cfg: SyntheticConfig) -> dict[str, Any]:
    """What `synthetic.json` holds: enough to tell whether a folder is the data set asked for."""
    return {"version": VERSION, "config": asdict(cfg)}


def _occupied(root: Path) -> bool:
    return root.exists() and (not root.is_dir() or any(root.iterdir()))


def synthesize(root: Path, cfg: SyntheticConfig, processes: int | None = None, progress: bool = True) -> None:
    """Write root/{train,val}/NNNNNN.jpg, root/annotations/person_keypoints_{train,val}.json and
    root/synthetic.json, all or nothing.  processes: None for one per core; the files do not depend on it.
    Raises `UserError` when `root` already holds something."""
    root = Path(root)
    if _occupied(root):
        raise UserError(
            f"{root} already holds something, and people are to be drawn there: choose another data.root, or "
            "set data.synthetic=null to use what is there"
        )
    folder = root.with_name(root.name + ".partial")
    if folder.exists():
        shutil.rmtree(folder)  # left by a run that was stopped
    for name in (*SPLITS, "annotations"):
        (folder / name).mkdir(parents=True)
    jobs = [
        (split, index) for split, count in (("train", cfg.train), ("val", cfg.val)) for index in range(count)
    ]
    if processes is not None and processes < 1:
        raise UserError(f"synthetic data: processes is {processes}, use 1 or more")
    workers = min(processes or os.cpu_count() or 1, max(len(jobs), 1))
    drawn = _run(partial(_write_picture, folder=folder, cfg=cfg), jobs, workers)
    results = list(tqdm(drawn, total=len(jobs), desc="drawing", unit="picture", disable=not progress))
    for split, part in (("train", results[: cfg.train]), ("val", results[cfg.train :])):
        content = _coco([image for image, _ in part], [annotations for _, annotations in part])
        file = folder / "annotations" / f"person_keypoints_{split}.json"
        file.write_text(json.dumps(content, separators=(",", ":")))
    (folder / "synthetic.json").write_text(json.dumps(_stamp(cfg), indent=2) + "\n")
    if root.exists():
        root.rmdir()
    folder.rename(root)


def ensure(root: Path, cfg: SyntheticConfig, processes: int | None = None, progress: bool = True) -> bool:
    """`synthesize` unless `root` already holds exactly this data set; returns whether it drew.  Of several
    processes that want it at once one draws, and the others wait.  Raises `UserError` when `root` holds
    something else, or cannot be written."""
    root = Path(root)
    if _drawn(root, cfg):
        return False
    waiting = f"{root}: waiting for another process, which draws this data set"
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        with locked(root.with_name(f".{root.name}.lock"), waiting):
            if _drawn(root, cfg):
                return False
            synthesize(root, cfg, processes, progress)
    except OSError as error:
        raise UserError(f"cannot draw people into {root}: {error.strerror or error}") from None
    return True


def _drawn(root: Path, cfg: SyntheticConfig) -> bool:
    """Whether `root` holds this data set.  Raises `UserError` when it holds another one."""
    stamp = root / "synthetic.json"
    if stamp.is_file():
        try:
            found = json.loads(stamp.read_text())
        except ValueError:
            found = None
        if found == _stamp(cfg):
            return True
        drawn = found.get("config", found) if isinstance(found, dict) else found
        raise UserError(
            f"{root} holds drawn data with other settings ({drawn}): delete it, take another folder (--root "
            "of synthesize, data.root of a config), or ask for the same (data.synthetic.train=..., ...)"
        )
    return False
