"""Every command reads images that stay in a zip or in tar shards as it reads those in a folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pose import archives
from pose import test as test_command
from pose.engine.distributed import processes
from pose.errors import user_facing
from pose.experiment import Experiment
from pose.tools import browse, conversion, doctor, score, visualize
from pose.tools import draw as draw_command
from tests.archives import sharded, zipped
from tests.training_fixtures import command, differences, drawn, environment, settings

FEW = ("data.synthetic=null", "train.epochs=2", "train.panels_every=5", "train.keep=0")
KINDS = {
    "folder": ("train", "val"),
    "zip": ("train.zip", "val.zip"),
    "shards": ("train-shards", "val-shards"),
    "a folder in a zip": ("train2017.zip", "val2017.zip"),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The drawn people in folders and in archives of every kind; two images are photos that EXIF turns."""
    folder = tmp_path_factory.mktemp("archives") / "data"
    shutil.copytree(drawn(tmp_path_factory.getbasetemp()), folder)
    for name in ("train", "val"):
        for path in sorted((folder / name).iterdir())[:2]:
            exif = Image.Exif()
            exif[0x0112] = 6
            image = Image.open(path)
            image.load()
            image.save(path, exif=exif, quality=95)
        zipped(folder / name, folder / f"{name}.zip")
        zipped(folder / name, folder / f"{name}2017.zip", f"{name}2017", 8)
        sharded(folder / name, folder / f"{name}-shards", 3, f"x/{name}")
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    archives.forget_archives()
    return tmp_path


def images(kind: str) -> list[str]:
    train, val = KINDS[kind]
    return [f"data.train.images={train}", f"data.val.images={val}"]


@pytest.fixture(scope="module")
def runs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training from each kind, one of them with workers."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        for kind in KINDS:
            more = [*FEW, *images(kind), f"data.workers={2 if kind == 'zip' else 0}"]
            assert command(monkeypatch, "-e", kind.replace(" ", "-"), *settings(data, *more)) == 0
    return folder / "exp"


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(KINDS)[1:])
def test_a_training_gives_the_same_weights(runs: Path, kind: str) -> None:
    one, other = (
        torch.load(runs / name.replace(" ", "-") / "last.pt", weights_only=True) for name in ("folder", kind)
    )
    assert differences(one["model"], other["model"]) == []
    assert not [line for line in (runs / kind.replace(" ", "-") / "log.jsonl").open() if "unread" in line]


@pytest.mark.slow
def test_a_mixture_of_a_folder_and_archives(data: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = []
    for number, kinds in enumerate((("folder", "folder"), ("zip", "shards"))):
        sets = [
            {"annotations": f"annotations/person_keypoints_{name}.json", "images": KINDS[kind][i]}
            for i, (name, kind) in enumerate(zip(("train", "val"), kinds, strict=True))
        ]
        more = ["data.synthetic=null", "train.epochs=1", f"data.sets={json.dumps(sets)}"]
        more += ["data.skeleton=coco17", *images(kinds[0])]
        assert command(monkeypatch, "-e", f"run{number}", *settings(data, *more)) == 0
        weights.append(torch.load(here / "exp" / f"run{number}" / "last.pt", weights_only=True)["model"])
    assert differences(*weights) == []


def embedded(page: str) -> list[str]:
    """The images of a page."""
    return [text.partition('"')[0] for text in page.split("data:image")[1:]]


def run_test(*arguments: str) -> int:
    def main() -> int:
        options = test_command.parse([*arguments, "--device", "cpu"])
        with processes(options.device) as group:
            return test_command.test(options, group)

    return user_facing(main)()


@pytest.fixture(scope="module")
def seeing(runs: Path) -> str:
    """The name of a run whose network sees something everywhere."""
    shutil.copytree(runs / "folder", runs / "seeing")
    config = Experiment.open("seeing", runs=runs).config
    torch.manual_seed(0)
    model = config.build_model()
    with torch.no_grad():
        model.backbone.stacks[-1].prediction.bias.fill_(0.3)  # type: ignore[index, union-attr]
        model.backbone.stacks[-1].prediction.weight.mul_(10)  # type: ignore[index, union-attr]
    torch.save({"model": model.state_dict()}, runs / "seeing" / "best.pt")
    return "seeing"


@pytest.mark.slow
def test_testing_gives_the_same_files(
    data: Path, runs: Path, seeing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(runs.parent)
    given = []
    for kind in KINDS:
        for workers in (0, 2):
            more = ["--report", "--save-pictures", "4", f"data.val.images={KINDS[kind][1]}"]
            assert run_test("-c", seeing, *more, f"data.workers={workers}") == 0
            results = (runs / seeing / "results-single.json").read_bytes()
            drawing = (runs / seeing / "pictures-single.png").read_bytes()
            report = embedded((runs / seeing / "report-single.html").read_text())
            given.append((results, drawing, report))
    assert len(json.loads(given[0][0])) > 6 and given[0][2]
    assert all(other == given[0] for other in given[1:])


@pytest.mark.slow
def test_testing_on_all_images_of_an_archive(
    data: Path, runs: Path, seeing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(runs.parent)
    made = []
    for name in KINDS["folder"][1], KINDS["zip"][1], KINDS["shards"][1]:
        assert run_test("-c", seeing, "--images", str(data / name)) == 0
        made.append(json.loads((runs / seeing / "results-single-images.json").read_text()))
    assert made[0] and made[0] == made[1] == made[2]


def spoiled(data: Path, folder: Path) -> Path:
    """Annotations and images with everything that the doctor finds in images."""
    content = json.loads((data / "annotations" / "person_keypoints_train.json").read_text())
    shutil.copytree(data / "train", folder / "train")
    names = [image["file_name"] for image in content["images"]]
    content["images"][2]["width"] += 7
    (folder / "train" / names[3]).unlink()
    raw = (folder / "train" / names[4]).read_bytes()
    (folder / "train" / names[4]).write_bytes(raw[: len(raw) // 2])
    (folder / "train" / names[5]).write_bytes(b"no image")
    (folder / "train" / names[6]).write_bytes(raw[:300] + bytes(800) + raw[1100:])
    (folder / "train" / names[7]).rename(folder / "train" / f"{names[7][:-4]}.jpeg")
    (folder / "people.json").write_text(json.dumps(content))
    zipped(folder / "train", folder / "train.zip", "top", 8)
    sharded(folder / "train", folder / "shards", 4)
    return folder


@pytest.mark.slow
def test_the_doctor_finds_the_same(data: Path, here: Path) -> None:
    spoiled(data, here)
    found = []
    for name in ("train", "train.zip", "shards"):
        arguments = ["--annotations", "people.json", "--images", name, "--pictures", "all"]
        assert doctor.main([*arguments, "-o", "found.json"]) == 1
        assert doctor.main([*arguments, "-o", "found.html"]) == 1
        text = (here / "found.json").read_text()
        assert f"{name}/" in text  # where the renamed one lies instead
        inside = f"{name}/top/" if name == "train.zip" else f"{name}/"
        found.append((text.replace(inside, "X/"), (here / "found.html").read_text().replace(inside, "X/")))
    kinds = {finding["kind"] for finding in json.loads(found[0][0])["files"][0]["findings"]}
    assert {"image_missing", "image_corrupt", "image_mismatch"} <= kinds
    assert found[0] == found[1] == found[2]


def test_the_doctor_compares_the_sets(data: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Images of the validation that are trained on are the same in whatever they lie."""
    told = []
    for train, val in (("train", "train"), ("train.zip", "train-shards"), ("train", "train2017.zip")):
        file = "annotations/person_keypoints_train.json"
        sets = [f"data.{which}.annotations={file}" for which in ("train", "val")]
        paths = [f"data.train.images={train}", f"data.val.images={val}"]
        config = ["--config", "synthetic/ae_small", f"data.root={data}", "data.synthetic=null"]
        doctor.main([*config, *sets, *paths, "--pictures", "0"])
        told.append(capsys.readouterr().out)
    assert "24 of 24" in told[0] or "100.0 %" in told[0]
    assert told[0] == told[1] == told[2]


@pytest.mark.slow
def test_samples_and_fields_are_drawn_the_same(
    data: Path, runs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(runs.parent)
    made: list[list[bytes | str]] = []
    for kind in KINDS:
        output = tmp_path / kind
        browse.main(["-c", "folder", "-n", "3", "-o", str(output), *images(kind)])
        pictures = [KINDS[kind][1] + "/000003.jpg"] if kind != "folder" else ["val/000003.jpg"]
        named = [str(data / one) for one in pictures]
        visualize.main(["-c", "folder", "-n", "2", "-o", str(output), *named, *images(kind)])
        made.append([path.read_bytes() for path in sorted(output.glob("*.png"))])
        made[-1] += embedded((output / "samples.html").read_text())
    assert len(made[0]) >= 3 + 3 and all(other == made[0] for other in made[1:])


@pytest.mark.slow
def test_reports_and_drawings_of_annotations(
    data: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = data / "annotations" / "person_keypoints_val.json"
    results = [
        {"image_id": one["image_id"], "category_id": 1, "keypoints": one["keypoints"], "score": 0.5}
        for one in json.loads(file.read_text())["annotations"][1:]
    ]
    (here / "results.json").write_text(json.dumps(results))
    made = []
    for name in ("val", "val.zip", "val2017.zip", "val-shards"):
        arguments = ["--annotations", str(file), "--images", str(data / name)]
        score.main(["coco", *arguments, "--results", "results.json", "--report", "page.html"])
        page = (here / "page.html").read_text()
        assert "data:image" in page
        assert draw_command.main([*arguments, "-o", name.replace(".", "-")]) == 0
        drawings = [path.read_bytes() for path in sorted((here / name.replace(".", "-")).iterdir())]
        assert len(drawings) == 7
        made.append((page, drawings))
    assert all(other == made[0] for other in made[1:])


@pytest.mark.slow
def test_people_in_the_images_of_an_archive(data: Path, runs: Path, tmp_path: Path) -> None:
    """pose.demo takes an archive for a folder."""
    made = []
    for name in ("val", "val.zip", "val-shards"):
        arguments = ["-c", "folder", str(data / name), "-o", str(tmp_path / name), "--device", "cpu"]
        done = subprocess.run(
            [sys.executable, "-m", "pose.demo", *arguments], cwd=runs.parent, env=environment(),
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        made.append([path.read_bytes() for path in sorted((tmp_path / name).rglob("*.jpg"))])
    assert len(made[0]) == 6 and made[0] == made[1] == made[2]


def test_converters_find_the_same_images(data: Path) -> None:
    stems = [f"{number:06d}" for number in range(1, 5)] + ["none"]
    found = [
        conversion.with_pictures(stems, stems, data / name, skip=True)
        for name in ("val", "val.zip", "val2017.zip", "val-shards")
    ]
    assert len(found[0]) == 4 and all(other == found[0] for other in found)


# ---- what is wrong ----


def corrupt(archive: Path, target: Path) -> str:
    """One file of a zip is damaged -> its name."""
    raw = bytearray(archive.read_bytes())
    start = raw.index(b"PK\3\4", 5000)
    raw[start + 200] ^= 1
    target.write_bytes(raw)
    return raw[start + 30 : start + 40].decode()


@pytest.mark.slow
def test_a_corrupt_file_in_an_archive_is_left_out_and_named(
    data: Path, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(data / "annotations", here / "annotations")
    name = corrupt(data / "train.zip", here / "train.zip")
    shutil.copy(data / "val.zip", here)
    more = ["data.synthetic=null", "train.epochs=2", *images("zip")]
    assert command(monkeypatch, "-e", "run", *settings(here, *more)) == 0
    text = f"cannot read the image {here}/train.zip/{name}: corrupt in {here}/train.zip"
    assert text in "".join(path.read_text() for path in (here / "exp" / "run").glob("*.log")) or (
        text in capsys.readouterr().err
    )
    assert command(monkeypatch, "-e", "strict", *settings(here, *more, "data.strict=true")) == 2
    assert text in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train.zip", None, "is missing"),
        ("train", None, "train is missing (train.zip is there, which can be named instead)"),
        ("train.zip", b"", "train.zip is no zip archive, or is cut off or corrupt"),
        ("train.zip", b"PK\5\6" + bytes(18), "train.zip has no files in it"),
        ("train.zip", "half", "train.zip is no zip archive, or is cut off or corrupt"),
        ("train.tar", bytes(1024), "train.tar has no files in it"),
        ("train.tar", "half", "train.tar is no tar archive, or is cut off or corrupt"),
        ("train.tar.gz", b"x", "train.tar.gz is compressed as a whole"),
        ("train.bin", b"x", "train.bin is no folder and no .zip or .tar archive"),
        ("other.zip", "other", "other.zip has none of the first 20 images of"),
    ],
)
def test_mistakes_get_one_sentence(
    data: Path,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    content: bytes | str | None,
    message: str,
) -> None:
    shutil.copytree(data / "annotations", here / "annotations")
    shutil.copy(data / "val.zip", here)
    if content == "half":
        whole = data / "train-shards" / "shard-0.tar" if name == "train.tar" else data / name
        content = whole.read_bytes()[: whole.stat().st_size // 2]
    if content == "other":
        shutil.copy(data / "val.zip", here / "other.zip")
        os.utime(here / "other.zip")
        for path in ("annotations/person_keypoints_train.json",):
            text = (here / path).read_text().replace(".jpg", ".png").replace("0000", "1111")
            (here / path).write_text(text)
    elif isinstance(content, bytes):
        (here / name).write_bytes(content)
    elif name == "train":
        shutil.copy(data / "train.zip", here)
    more = ["data.synthetic=null", f"data.train.images={name}", "data.val.images=val.zip"]
    assert command(monkeypatch, "-e", "run", *settings(here, *more)) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
    arguments = ["--annotations", "annotations/person_keypoints_train.json", "--images", name]
    code = user_facing(lambda: doctor.main(arguments))()
    assert code == (1 if name == "other.zip" else 2)
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.slow
def test_a_damaged_archive_never_gives_a_traceback(
    data: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    shutil.copy(data / "annotations" / "person_keypoints_val.json", here / "people.json")
    codes = set()
    sources = (data / "val.zip", data / "val2017.zip", data / "val-shards" / "shard-1.tar")
    for number in range(60):
        source = sources[number % 3]
        raw = bytearray(source.read_bytes())
        for _ in range(1 + number % 3):
            place = int(rng.integers(len(raw) * (2 if number % 2 else 0) // 3, len(raw)))
            raw[place] = rng.integers(256)
        if number % 5 == 0:
            raw = raw[: rng.integers(len(raw))]
        path = here / f"{number}{source.suffix}"
        path.write_bytes(raw)
        arguments = ["--annotations", "people.json", "--images", str(path), "--pictures", "all"]
        codes.add(user_facing(lambda given=arguments: doctor.main(given))())  # type: ignore[misc]
        assert "Traceback" not in capsys.readouterr().err
    assert codes == {1, 2}
