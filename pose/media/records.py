"""People as files: one OpenPose file per picture or frame, and one COCO results file for all."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from pose.errors import UserError
from pose.files import write_text
from pose.media.pipeline import Frame
from pose.metrics.results import records
from pose.skeleton import Skeleton
from pose.structures import People

OTHER_PARTS = (  # of OpenPose's records
    "face_keypoints_2d", "hand_left_keypoints_2d", "hand_right_keypoints_2d", "pose_keypoints_3d",
    "face_keypoints_3d", "hand_left_keypoints_3d", "hand_right_keypoints_3d",
)  # fmt: skip
VERSION = 1.3  # of OpenPose's format


def openpose(people: People, ids: Sequence[int] | None = None) -> dict[str, Any]:
    """OpenPose's record of one picture, all keypoints in the skeleton's order; those not found are 0, 0, 0.
    Who is not followed through a video has person_id -1.  The lists of what OpenPose finds besides are there
    and empty, as readers of its files expect."""
    empty: dict[str, list[float]] = {key: [] for key in OTHER_PARTS}
    listed = []
    for n in range(len(people)):
        keypoints = people.keypoints[n].astype(np.float64).round(3)
        listed.append(
            {
                "person_id": [-1 if ids is None else ids[n]],
                "pose_keypoints_2d": keypoints.ravel().tolist(),
                **empty,
                "score": round(float(people.scores[n]), 6),
            }
        )
    return {"version": VERSION, "people": listed}


def openpose_name(frame: Frame) -> Path:
    """As OpenPose names them: STEM_keypoints.json, of a video STEM_000000000000_keypoints.json."""
    number = "" if frame.source.kind == "picture" else f"_{frame.number:012}"
    name = frame.source.name
    return name.with_name(f"{name.name}{number}_keypoints.json")


class Records:
    """Written as the people come, so that nothing is held; whole files at `close`, also after Ctrl-C.

    folder: of the OpenPose files.  file: COCO results, with image ids from 1 in the order of the pictures and
    frames; beside it FILE-images.json says which is which: a COCO annotation file without annotations."""

    def __init__(self, folder: Path, file: Path, skeleton: Skeleton) -> None:
        self.folder, self.file = folder, file
        self.images_file = file.parent / f"{file.stem}-images.json"
        self.skeleton = skeleton
        self._results = _List(file, "", "")
        self._images = _List(self.images_file, f'{{"categories":[{self._category()}],"images":', "}")

    def _category(self) -> str:
        names = self.skeleton.annotated
        limbs = [[names.index(a) + 1, names.index(b) + 1] for a, b in self._limbs(names)]
        return json.dumps({"id": 1, "name": "person", "keypoints": list(names), "skeleton": limbs})

    def _limbs(self, names: Sequence[str]) -> list[tuple[str, str]]:
        return [limb for limb in self.skeleton.limbs if set(limb) <= set(names)]

    def add(self, frame: Frame, people: People, ids: Sequence[int] | None = None) -> None:
        """ids: of the people, where they are followed."""
        write_text(self.folder / openpose_name(frame), json.dumps(openpose(people, ids)))
        entries = records({frame.id: people}, self.skeleton)
        if ids is not None:
            listed = people.keypoints[:, list(self.skeleton.annotated_index), 2].max(axis=1, initial=0)
            seen = [number for number, highest in zip(ids, listed) if highest > 0]
            entries = [{**entry, "track_id": one} for entry, one in zip(entries, seen, strict=True)]
        for entry in entries:
            self._results.add(entry)
        self._images.add(self._image(frame))

    def _image(self, frame: Frame) -> dict[str, Any]:
        height, width = frame.size
        image = {"id": frame.id, "file_name": frame.source.path.as_posix(), "width": width, "height": height}
        if frame.source.kind != "picture":
            image |= {"frame": frame.number, "seconds": round(frame.seconds, 4)}
        return image

    def close(self) -> None:
        try:
            self._results.close()
        finally:
            self._images.close()


class _List:
    """A JSON list in a file, entry by entry; it has its name when it is whole."""

    def __init__(self, path: Path, before: str, after: str) -> None:
        self.path, self.after = path, after
        self.temporary = path.parent / f".{path.name}.{os.getpid()}.partial"
        self.count = 0
        if path.is_dir():
            raise UserError(f"{path} is a folder; name a file in it")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.file: IO[str] | None = open(self.temporary, "w", encoding="utf-8")  # noqa: SIM115
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror}") from None
        self._write(f"{before}[")

    def add(self, entry: dict[str, Any]) -> None:
        text = json.dumps(entry, separators=(",", ":"), allow_nan=False)
        self._write(f"{',' if self.count else ''}\n{text}")
        self.count += 1

    def _write(self, text: str) -> None:
        assert self.file is not None
        try:
            self.file.write(text)
        except OSError as error:
            self._discard()
            raise UserError(f"cannot write {self.path}: {error.strerror}") from None

    def close(self) -> None:
        if self.file is None:
            return
        self._write(f"\n]{self.after}\n")
        try:
            self.file.close()
            os.replace(self.temporary, self.path)
        except OSError as error:
            self._discard()
            raise UserError(f"cannot write {self.path}: {error.strerror}") from None
        self.file = None

    def _discard(self) -> None:
        """Nothing of it stays; what is not written yet would fail again."""
        file, self.file = self.file, None
        if file is not None:
            with contextlib.suppress(OSError):
                file.close()
        self.temporary.unlink(missing_ok=True)
