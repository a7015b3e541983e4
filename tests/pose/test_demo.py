"""python -m pose.demo: every kind of source in, drawings and records out, whatever is wrong with some."""

from __future__ import annotations

import io
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from pose import demo
from pose.errors import user_facing
from pose.experiment import Experiment, load_config
from pose.images import read_image
from pose.media import drawings
from pose.media.pipeline import Frame
from pose.media.sources import Source
from pose.media.video import VideoFile, VideoWriter
from pose.predict.batches import BatchPredictor
from pose.predict.settings import TestSettings
from pose.predictor import Predictor
from pose.structures import People
from tests.dot_people import SKELETON, assert_same_people, dot_model, dots, write_set
from tests.small_networks import SMALL

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run `tiny` with random weights."""
    folder = tmp_path_factory.mktemp("work")
    skeleton = {"keypoints": list(SKELETON.keypoints), "limbs": [list(limb) for limb in SKELETON.limbs]}
    files = {"annotations": "dots.json", "images": "dots"}
    config = {
        "input": {"size": [64, 64]},
        "data": {"root": ".", "train": files, "val": files, "skeleton": skeleton},
        "backbone": {"name": "hourglass", **SMALL["hourglass"]},
        "head": {"name": "tags"},
    }
    (folder / "tiny.yaml").write_text(yaml.safe_dump(config))
    experiment = Experiment.create("tiny", load_config(folder / "tiny.yaml"), runs=folder / "exp")
    Experiment.create("untrained", load_config(folder / "tiny.yaml"), runs=folder / "exp")
    built = experiment.config
    model = built.build_model()
    torch.save({"model": model.state_dict()}, experiment.path("last.pt"))
    return folder


@pytest.fixture
def at_work(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "exp").symlink_to(folder / "exp")
    return tmp_path


@pytest.fixture
def seeing(at_work: Path, monkeypatch: pytest.MonkeyPatch) -> Predictor:
    """The run's network is replaced by one that sees the dots."""
    batches = BatchPredictor(dot_model(size=160), TestSettings(batch_size=3))
    predictor = Predictor(batches, SKELETON, Experiment.open("tiny"))
    monkeypatch.setattr(demo, "build_predictor", lambda _: predictor)
    return predictor


def run(*arguments: object) -> int:
    return user_facing(lambda: demo.main(["-c", "tiny", "-o", "out", *map(str, arguments)]))()


def found(name: str) -> People:
    """What an OpenPose file says."""
    listed = json.loads((Path("out") / f"{name}_keypoints.json").read_text())["people"]
    keypoints = np.array([one["pose_keypoints_2d"] for one in listed], np.float32).reshape(-1, 3, 3)
    return People(keypoints, np.array([one["score"] for one in listed], np.float32))


def film(path: Path, people: list[int], rate: float = 12.5, size: tuple[int, int] = (120, 160)) -> Path:
    writer = VideoWriter(path, rate)
    for i, number in enumerate(people):
        writer.add(dots(size, number, seed=7)[0], i / rate)
    writer.close()
    return path


# ---- pictures ----


def write_kinds(folder: Path) -> dict[str, np.ndarray]:
    """One picture of two people, as every kind of file -> who is on each."""
    folder.mkdir()
    rgb, people = dots((120, 160), 2, seed=1)
    picture = Image.fromarray(rgb)
    cv2.imwrite(str(folder / "plain.png"), rgb[..., ::-1])
    cv2.imwrite(str(folder / "deep.png"), rgb[..., ::-1].astype(np.uint16) * 257)
    alpha = np.dstack([rgb, np.full(rgb.shape[:2], 255, np.uint8)])
    Image.fromarray(alpha).save(folder / "alpha.png")
    Image.fromarray(alpha).save(folder / "modern.webp", lossless=True)
    picture.save(folder / "tagged.tiff")
    upright = Image.Exif()
    upright[0x0112] = 6
    stored = picture.transpose(Image.Transpose.ROTATE_90)
    stored.save(folder / "turned.jpg", quality=98, exif=upright)
    return dict.fromkeys(["plain", "deep", "alpha", "modern", "tagged", "turned"], people)


def test_every_kind_of_picture_is_drawn_upright(seeing: Predictor) -> None:
    expected = write_kinds(Path("in"))
    picture = Image.fromarray(dots((120, 160), 1)[0])
    picture.convert("L").save("in/grey.png")
    picture.convert("CMYK").save("in/print.jpg")
    Image.new("RGB", (1, 1)).save("in/dot.png")
    Image.new("RGB", (5000, 10)).save("in/long.png")
    assert run("in", "--json") == 0
    suffixes = {"tagged": ".png", "turned": ".jpg", "modern": ".webp"}
    for name, people in expected.items():
        assert_same_people(found(name), people, 1.5)
        drawn = read_image(Path("out", name + suffixes.get(name, ".png")), orientation="stored")
        assert drawn.shape == (120, 160, 3)
        plain = dots((120, 160), 2, seed=1)[0]
        for point in people[..., :2].reshape(-1, 2).round().astype(int):  # something was drawn right there
            x, y = point
            near = np.s_[max(0, y - 3) : y + 4, max(0, x - 3) : x + 4]
            assert np.abs(drawn[near].astype(int) - plain[near]).max() > 40
        far = np.ones((120, 160), bool)  # and nothing far from the people
        for person in people[..., :2]:
            low, high = (person.min(0) - 12).clip(0).astype(int), (person.max(0) + 13).astype(int)
            far[low[1] : high[1], low[0] : high[0]] = False
        assert np.abs(drawn[far].astype(int) - plain[far]).max(initial=0) < 40
    for name, shape in (("grey.png", (120, 160, 3)), ("dot.png", (1, 1, 3)), ("long.png", (10, 5000, 3))):
        assert read_image(Path("out", name)).shape == shape
    assert read_image(Path("out/print.jpg")).shape == (120, 160, 3)


def test_records_are_the_predictors_people(seeing: Predictor) -> None:
    """Both kinds, of pictures of several sizes, which are not predicted in this order."""
    paths = write_set(Path("."), [(120, 160), (160, 120), (97, 128), (120, 160), (120, 160)])
    assert run("dots/*.png", "--json", "more/all.json", "--score-threshold=0") == 0
    results = json.loads(Path("more/all.json").read_text())
    images = {one["id"]: one for one in json.loads(Path("more/all-images.json").read_text())["images"]}
    assert [images[i]["file_name"] for i in sorted(images)] == [path.as_posix() for path in paths]
    for image_id, path in enumerate(paths, start=1):
        expected = seeing(path)
        assert len(expected) == 1 + (image_id - 1) % 3
        own = [one for one in results if one["image_id"] == image_id]
        coco = np.array([one["keypoints"] for one in own], np.float32).reshape(-1, 3, 3)
        for keypoints in (coco, found(path.stem).keypoints):
            np.testing.assert_allclose(keypoints, expected.keypoints, atol=2e-3)
        np.testing.assert_allclose([one["score"] for one in own], expected.scores, atol=1e-5)
        height, width = seeing.load(path).shape[:2]
        assert (images[image_id]["height"], images[image_id]["width"]) == (height, width)


def test_a_bad_picture_stops_nothing_and_is_listed(seeing: Predictor, capsys: Any) -> None:
    paths = write_set(Path("."), [(120, 160)] * 3)
    paths[1].write_text("no picture")
    assert run("dots") == 1
    told = capsys.readouterr()
    assert "pictures: 2, people: 4" in told.out
    assert told.err.count("could not be read: dots/001.png is corrupt or no image (10 bytes)") == 1
    assert sorted(path.name for path in Path("out").iterdir()) == ["000.png", "002.png"]


def test_pictures_of_one_name_from_two_folders(seeing: Predictor) -> None:
    first, second = (write_set(Path(name), [(120, 160)])[0] for name in ("x", "y"))
    cv2.imwrite(str(second), dots((120, 160), 3, seed=5)[0][..., ::-1])
    assert run(first, second, "--json") == 0
    assert (len(found("000")), len(found("000-2"))) == (1, 3)
    assert Path("out/000-2.png").is_file()
    assert run("x", "y", "--json") == 0  # folders: without their own names
    assert Path("out/dots/000-2.png").is_file()


def test_paths_come_from_a_pipe(seeing: Predictor, monkeypatch: Any, capsys: Any) -> None:
    paths = write_set(Path("."), [(120, 160)] * 3)
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{paths[1]}\n\nmissing.png\n{paths[2]}\n"))
    assert run(paths[0], "-", "--json") == 1
    assert "no image missing.png" in capsys.readouterr().err
    assert [len(found(f"00{i}")) for i in range(3)] == [1, 2, 3]


def test_options_of_drawing_reach_the_picture(seeing: Predictor) -> None:
    (path,) = write_set(Path("."), [(240, 320)])
    drawn = {}
    for options in ("", "--color=side", "--names", "--labels", "--score-threshold=0.99"):
        assert run(path, *options.split()) == 0
        drawn[options] = read_image(Path("out/000.png")).tobytes()
    assert len(set(drawn.values())) == 5
    assert drawn["--score-threshold=0.99"] == read_image(path).tobytes()


def test_a_threshold_holds_for_records_too(seeing: Predictor) -> None:
    (path,) = write_set(Path("."), [(240, 320)])
    for threshold, count in (("0.1", 1), ("0.99", 0)):
        assert run(path, "--json", "--no-pictures", "--score-threshold", threshold) == 0
        assert len(found("000")) == count == len(json.loads(Path("out/people.json").read_text()))
    assert not Path("out/000.png").exists()


# ---- videos ----


def test_a_video_keeps_rate_size_and_length(seeing: Predictor, capsys: Any) -> None:
    numbers = [1, 2, 3, 1, 0, 2, 2]
    path = film(Path("film.mp4"), numbers)
    assert run(path, "--json") == 0
    assert "frames: 7, people: 11" in capsys.readouterr().out
    drawn, plain = VideoFile(Path("out/film.mp4")), VideoFile(path)
    assert drawn.rate == plain.rate == 12.5
    pairs = list(zip(drawn, plain, strict=True))
    assert len(pairs) == 7
    for i, (one, other) in enumerate(pairs):
        assert one.image.shape == (120, 160, 3)
        changed = (np.abs(one.image.astype(int) - other.image).max(axis=2) > 60).mean()
        assert (changed > 0.005) == (numbers[i] > 0)  # each frame has its own people
        assert len(found(f"film_{i:012}")) == numbers[i]
    images = json.loads(Path("out/people-images.json").read_text())["images"]
    assert [(one["id"], one["frame"]) for one in images] == [(i + 1, i) for i in range(7)]


def test_a_video_that_was_cut_off_is_drawn_as_far_as_it_goes(seeing: Predictor, capsys: Any) -> None:
    writer = cv2.VideoWriter("cut.avi", cv2.VideoWriter.fourcc(*"MJPG"), 10, (160, 120))
    for i in range(30):
        writer.write(dots((120, 160), 1, seed=i)[0][..., ::-1])
    writer.release()
    content = Path("cut.avi").read_bytes()
    Path("cut.avi").write_bytes(content[: len(content) * 2 // 3])
    assert run("cut.avi") == 1
    told = capsys.readouterr()
    count = len(list(VideoFile(Path("out/cut.mp4"))))
    assert 10 < count < 25 and f"frames: {count}" in told.out
    assert f"cut.avi ended after {count} of 30 frames" in told.err


def test_people_of_a_video_have_identities(seeing: Predictor) -> None:
    """They tremble less, and lie within pixels of where they were found; pictures have no identities."""
    writer = VideoWriter(Path("film.mp4"), 30)
    rng = np.random.default_rng(0)
    for i in range(24):
        move = np.array([[1, 0, rng.normal(0, 2)], [0, 1, rng.normal(0, 2)]])
        writer.add(cv2.warpAffine(dots((120, 160), 2, seed=7)[0], move, (160, 120)), i / 30)
    writer.close()
    tremble = {}
    for options in ([], ["--tracks"]):
        assert run("film.mp4", "--json", *options) == 0
        ids, noses = [], []
        for i in range(24):
            listed = json.loads(Path(f"out/film_{i:012}_keypoints.json").read_text())["people"]
            listed.sort(key=lambda one: one["pose_keypoints_2d"][1])
            ids.append([one["person_id"][0] for one in listed])
            noses.append([one["pose_keypoints_2d"][:2] for one in listed])
        assert all(sorted(one) == ([1, 2] if options else [-1, -1]) for one in ids)
        assert len({tuple(one) for one in ids}) == 1
        tremble[bool(options)] = float(np.abs(np.diff(np.array(noses), axis=0)).mean())
    assert tremble[True] < 0.6 * tremble[False]
    tracks = [one["track_id"] for one in json.loads(Path("out/people.json").read_text())]
    assert sorted(tracks) == [1] * 24 + [2] * 24


def test_a_limit_counts_pictures_and_frames(seeing: Predictor, capsys: Any) -> None:
    paths = write_set(Path("."), [(120, 160)] * 2)
    film(Path("film.mp4"), [1] * 9)
    assert run(paths[0], "film.mp4", paths[1], "--limit", 4) == 0
    assert "pictures: 1, frames: 3, people: 4" in capsys.readouterr().out
    assert len(list(VideoFile(Path("out/film.mp4")))) == 3


# ---- a window ----


class Screen:
    """OpenCV's windows, with a person who presses a key at every picture."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, keys: list[int]) -> None:
        self.shown: list[np.ndarray] = []
        self.sizes: list[tuple[int, int]] = []
        self.keys = keys
        monkeypatch.setenv("DISPLAY", ":0")
        for name in ("namedWindow", "destroyAllWindows"):
            monkeypatch.setattr(drawings.cv2, name, lambda *_: None, raising=False)
        resize = lambda _, width, height: self.sizes.append((width, height))  # noqa: E731
        monkeypatch.setattr(drawings.cv2, "resizeWindow", resize, raising=False)
        monkeypatch.setattr(drawings.cv2, "imshow", lambda _, image: self.shown.append(image), raising=False)
        monkeypatch.setattr(drawings.cv2, "waitKey", lambda _: self.keys.pop(0) if self.keys else 255)
        monkeypatch.setattr(drawings.cv2, "getWindowProperty", lambda *_: 1.0, raising=False)


def test_a_window_shows_what_is_drawn_until_q(seeing: Predictor, monkeypatch: Any, capsys: Any) -> None:
    paths = write_set(Path("."), [(120, 160)] * 4)
    screen = Screen(monkeypatch, [255, ord(" "), ord("x"), ord("q")])
    assert run(*paths, "--show") == 0
    assert len(screen.shown) == 3 and "pictures: 3" in capsys.readouterr().out
    drawn = cv2.imread("out/001.png")
    np.testing.assert_array_equal(screen.shown[1], drawn)
    assert not Path("out/003.png").exists()
    assert screen.sizes == [(160, 120)]  # once: it is the person's window


@pytest.mark.parametrize("knows", [True, False])
def test_a_closed_window_ends_it(seeing: Predictor, monkeypatch: Any, knows: bool) -> None:
    paths = write_set(Path("."), [(120, 160)] * 3)
    screen = Screen(monkeypatch, [ord(" ")])
    answers = iter([1.0])

    def visible(*_: object) -> float:
        if (answer := next(answers, None)) is None and not knows:  # OpenCV 5 with Qt
            raise cv2.error("NULL guiReceiver")
        return answer or 0.0

    monkeypatch.setattr(drawings.cv2, "getWindowProperty", visible, raising=False)
    assert run(*paths, "--show") == 0
    assert len(screen.shown) == 2


def test_a_window_begins_within_the_screen(monkeypatch: Any) -> None:
    for size, expected in [((2000, 4000), (1280, 640)), ((4000, 1000), (200, 800)), ((9000, 2), (1, 800))]:
        screen = Screen(monkeypatch, [ord("q")])
        frame = Frame(1, Source("picture", Path("a.png"), Path("a")))
        assert not drawings.Window("people").show(frame, np.zeros((*size, 3), np.uint8))
        assert screen.sizes == [expected]


def test_a_window_plays_a_video(seeing: Predictor, monkeypatch: Any) -> None:
    film(Path("film.mp4"), [1] * 5, rate=100)
    screen = Screen(monkeypatch, [])
    assert run("film.mp4", "--show", "--no-pictures") == 0
    assert len(screen.shown) == 5
    assert not Path("out").exists()


def test_where_there_is_no_window_it_says_what_to_do(
    seeing: Predictor, monkeypatch: Any, capsys: Any
) -> None:
    write_set(Path("."), [(120, 160)])
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    if sys.platform.startswith("linux"):
        assert run("dots", "--show") == 2
        assert "--show needs a display" in capsys.readouterr().err
    monkeypatch.setenv("DISPLAY", ":0")

    def missing(*_: object) -> None:
        raise cv2.error("The function is not implemented")

    monkeypatch.setattr(drawings.cv2, "namedWindow", missing, raising=False)
    assert run("dots", "--show") == 2
    assert "pip install opencv-python" in capsys.readouterr().err


# ---- mistakes ----


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere.jpg"], "no file or folder nowhere.jpg"),
        (["empty"], "holds no pictures and no videos"),
        (["camera:99"], "no camera 99"),
        (["in.png", "-c", "other"], "no run 'other'"),
        (["in.png", "-c", "untrained"], "the run has saved none yet"),
        (["in.png", "backbone.width=3"], "cannot be changed for a trained run"),
        (["test.flip=false"], "nothing to look at"),
        (["in.png", "--limit", "0"], "--limit 0"),
        (["in.png", "--no-pictures"], "leaves nothing to do"),
        (["in.png", "--json=people.txt"], "ends in .json"),
        (["in.png", "-o", "."], "choose another folder with -o"),
        (["in.png", "-o", "file/below"], "cannot write file/below/in.png"),
        (["in.png", "--device", "gpu"], "unknown device 'gpu'"),
        (["in.png", "--onnx", "x.onnx", "--weights", "last"], "leave --weights out"),
        (["in.png", "--line-width", "inf"], "--line-width inf"),
        (["in.png", "--score-threshold", "nan"], "--score-threshold nan"),
        (["a=b/*.png"], "no file matches a=b/*.png"),
    ],
)
def test_mistakes_get_one_sentence(at_work: Path, capsys: Any, arguments: list[str], sentence: str) -> None:
    Path("empty").mkdir()
    Path("file").write_text("")
    cv2.imwrite("in.png", np.zeros((64, 64, 3), np.uint8))
    before = Path("in.png").read_bytes()
    assert run(*arguments) == 2
    assert sentence in capsys.readouterr().err
    assert Path("in.png").read_bytes() == before


def test_records_are_never_written_over_a_picture(at_work: Path) -> None:
    """`--json in.png` is a picture to look at, not a file to write."""
    cv2.imwrite("in.png", np.zeros((64, 64, 3), np.uint8))
    before = Path("in.png").read_bytes()
    assert run("--json", "in.png") == 0
    assert Path("in.png").read_bytes() == before
    assert Path("out/in.png").is_file() and Path("out/people.json").is_file()


@pytest.mark.slow
def test_ctrl_c_leaves_everything_whole(at_work: Path) -> None:
    """In the middle of an endless pipe, after a video: the files are whole and say what was done."""
    film(Path("film.mp4"), [1] * 20)
    cv2.imwrite("in.png", np.zeros((64, 64, 3), np.uint8))
    running = subprocess.Popen(
        [sys.executable, "-m", "pose.demo", "-c", "tiny", "-o", "out", "film.mp4", "-", "--json"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert running.stdin is not None
    running.stdin.write("in.png\n")
    running.stdin.flush()
    deadline = time.monotonic() + 60
    while not Path("out/in.png").exists() and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=30)
    assert running.returncode == 130, err
    assert "pictures: 1, frames: 20" in out and "Traceback" not in err and "stopped" in err
    assert len(list(VideoFile(Path("out/film.mp4")))) == 20
    images = json.loads(Path("out/people-images.json").read_text())["images"]
    assert [one["id"] for one in images] == list(range(1, 22))
    assert isinstance(json.loads(Path("out/people.json").read_text()), list)
    assert not [path for path in Path("out").iterdir() if path.name.startswith(".")]


def test_ctrl_c_in_the_middle_of_a_video(seeing: Predictor, monkeypatch: Any, capsys: Any) -> None:
    """What was seen is a video that plays, with the records of the same frames."""
    film(Path("film.mp4"), [1] * 200)
    calls = itertools.count()

    @contextmanager
    def interrupted() -> Iterator[Any]:
        yield lambda: signal.SIGINT if next(calls) > 40 else 0

    monkeypatch.setattr(demo, "catch_signals", interrupted)
    assert run("film.mp4", "--json") == 130
    count = len(list(VideoFile(Path("out/film.mp4"))))
    assert 5 < count < 100 and f"frames: {count}" in capsys.readouterr().out
    assert len(json.loads(Path("out/people.json").read_text())) == count


def test_the_output_folder_is_the_runs_own_by_default(seeing: Predictor) -> None:
    write_set(Path("."), [(120, 160)])
    assert demo.main(["-c", "tiny", "dots"]) == 0
    assert Path("exp/tiny/demo/000.png").is_file()


def test_without_arguments_it_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        demo.parse([])
    assert ended.value.code == 2 and "SOURCE" in capsys.readouterr().err


def test_options_reach_the_predictor(at_work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []

    def noted(*names: object, **options: object) -> None:
        asked.append((*map(str, names), options))

    for kind in ("from_run", "from_exported"):
        monkeypatch.setattr(Predictor, kind, noted)
    Path("a.png").touch()
    common = ["a.png", "-m", "multi", "--device", "cpu", "test.flip=false"]
    shared = {"mode": "multi", "device": "cpu", "settings": ["test.flip=false"]}
    demo.build_predictor(demo.parse(["-c", "tiny", "--weights", "last", *common]))
    demo.build_predictor(demo.parse(["-c", "tiny", "--onnx", "x.onnx", *common]))
    of_run = {**shared, "weights": "last", "runtime": "torch"}
    assert asked == [("tiny", of_run), ("x.onnx", {**shared, "name": "tiny"})]
