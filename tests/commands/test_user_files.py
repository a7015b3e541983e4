"""Files as users have them: each input, made from a sound set by one change, has its right outcome."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageOps

from pose import checkpoint, demo, test
from pose.data.images import read_of_size
from pose.experiment import Experiment, load_config
from pose.tools import browse, doctor
from tests.command_lines import ROOT
from tests.image_files import read_rgb
from tests.small_machines import can_mount, mounted
from tests.training_fixtures import environment
from tests.user_files import (
    NAMES,
    SMALL,
    Change,
    UserFiles,
    base,
    each,
    everywhere,
    results,
    write_folder,
)

Content = dict[str, Any]
torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sound set below data/, and two runs with random weights: `run` and `drawn`, of a drawn set."""
    work = tmp_path_factory.mktemp("work")
    data = write_folder(work / "data")
    where = [f"data.{one}={{annotations: base.json, images: pictures}}" for one in ("train", "val")]
    own = load_config("coco/ae_small.yaml", [*SMALL, f"data.root={data}", *where])
    drawn = load_config("synthetic/ae_small.yaml", [*SMALL, "data.skeleton=coco17"])
    for name, config in (("run", own), ("drawn", drawn)):
        experiment = Experiment.create(name, config, runs=work / "exp")
        model = config.build_model()
        checkpoint.save({"model": model.state_dict()}, experiment.path("last.pt"))
    return work


@pytest.fixture
def files(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> Iterator[UserFiles]:
    """A copy; the working directory has the runs."""
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    yield UserFiles(tmp_path / "data", monkeypatch, capsys, caplog)


def told(text: str, *says: str) -> None:
    plain = " ".join(text.split())
    for one in says:
        assert one in plain, text


def perfect_ap(text: str) -> None:
    """Of pose.test and of score."""
    told(text, "(AP) @[ IoU=0.50:0.95 | area= all | maxDets= 20 ] = 1.000")


# --------------------------------------------------------------------- read as they are meant: all commands


def image_id_in_images(content: Content) -> None:
    for one in content["images"]:
        one["image_id"] = one["id"]


def only_image_id(content: Content) -> None:
    for one in content["images"]:
        one["image_id"] = one.pop("id")


def no_sizes(content: Content) -> None:
    for one in content["images"]:
        del one["width"], one["height"]


def float_ids(content: Content) -> Content:
    return everywhere(float)(content)


def text_numbers(content: Content) -> Content:
    return everywhere(str)(content)


def text_floats(content: Content) -> Content:
    return everywhere(lambda value: str(float(value)))(content)


def nan_where_not_labelled(content: Content) -> None:
    content["annotations"][0]["keypoints"][:3] = [math.nan, math.nan, 0]
    content["annotations"][0]["num_keypoints"] = 16


def null_where_not_labelled(content: Content) -> None:
    content["annotations"][0]["keypoints"][:3] = [None, None, 0]
    content["annotations"][0]["num_keypoints"] = 16


def nested(content: Content) -> None:
    for one in content["annotations"]:
        numbers = one["keypoints"]
        one["keypoints"] = [numbers[i : i + 3] for i in range(0, 51, 3)]


def visible_is_true(content: Content) -> None:
    for one in content["annotations"]:
        one["keypoints"][2::3] = [True] * 17


def zero_padded(content: Content) -> None:
    """ids as COCO's files have them in their names."""
    for one in content["images"]:
        one["id"] = f"{one['id']:012}"
    for one in content["annotations"]:
        one["image_id"] = f"{one['image_id']:012}"


MEANT: dict[str, Change] = {
    "image_id_in_images": image_id_in_images,
    "only_image_id": only_image_id,
    "no_sizes": no_sizes,
    "float_ids": float_ids,
    "text_numbers": text_numbers,
    "text_floats": text_floats,
    "nan_where_not_labelled": nan_where_not_labelled,
    "null_where_not_labelled": null_where_not_labelled,
    "nested": nested,
    "visible_is_true": visible_is_true,
    "zero_padded": zero_padded,
    "category_id_half_text": each("annotations", "category_id", str, every=2),
    "iscrowd_half_text": each("annotations", "iscrowd", str, every=2),
    "iscrowd_false": each("annotations", "iscrowd", lambda _: "false"),
    "iscrowd_truth": each("annotations", "iscrowd", bool),
    "upper_case_names": lambda content: content["categories"][0].update(
        keypoints=[name.upper().replace("_", " ") for name in NAMES]
    ),
}


@pytest.mark.parametrize("name", MEANT)
def test_what_is_unambiguous_is_read(files: UserFiles, name: str) -> None:
    """All commands agree: 4 images, 8 people, AP 1.000."""
    files.knows_the_truth()
    file = files.write(MEANT[name])
    code, text = files.doctor(file)
    assert code in (0, 1)
    told(text, "4 images, 8 people")
    assert "serious" not in text, text
    code, text = files.browse(file)
    assert code == 0 and (files.folder / "out" / "samples.png").is_file(), text
    assert "left out" not in text, text
    code, text = files.score(file)
    assert code == 0, text
    perfect_ap(text)
    code, text = files.test("run", file)
    assert code == 0, text
    perfect_ap(text)
    code, text = files.draw(file)
    assert code == 0 and len(list((files.folder / "drawn").glob("p*.png"))) == 4, text


@pytest.mark.parametrize("name", ["float_ids", "nan_where_not_labelled", "category_id_half_text", "nested"])
def test_what_is_unambiguous_is_trained_and_validated_on(files: UserFiles, name: str) -> None:
    files.knows_the_truth()
    code, text = files.train("x", files.write(MEANT[name]))
    assert code == 0, text
    told(text, "AP 1.000", "finished after 2 steps")


def test_sizes_of_missing_images_are_named(files: UserFiles) -> None:
    file = files.write(no_sizes)
    code, text = files.browse(file)
    told(text, "4 image(s) without width and height, taken from the image file's header")
    (files.folder / "pictures" / "p01.png").unlink()
    code, text = files.browse(file, "data.cache=false")
    assert code == 0
    told(text, "1 image(s) without width and height, left out (first: p01.png)")
    shutil.rmtree(files.folder / "pictures")
    code, text = files.browse(file, "data.cache=false")
    assert code == 2
    told(text, "4 image(s) without width and height", "no usable image")


# -------------------------------------------------------------------------- refused, or told in a sentence


def test_a_category_id_off_by_one_is_told(files: UserFiles) -> None:
    """Never an AP of 0 without a sentence."""
    files.knows_the_truth()
    file = files.write(each("annotations", "category_id", lambda _: 0))
    says = "8 annotation(s) with keypoints are of category 0, which lists no keypoints"
    code, text = files.doctor(file)
    assert code == 1
    told(text, says)
    for code, text in (files.browse(file), files.train("x", file), files.test("run", file)):
        assert code == 2
        told(text, says)
    assert not Path("exp/x").exists()
    code, text = files.score(file)
    assert code == 2, text
    told(text, "category 0")


def test_a_missing_category_id_is_told(files: UserFiles) -> None:
    def without(content: Content) -> None:
        for one in content["annotations"]:
            del one["category_id"]

    file = files.write(without)
    for code, text in (files.browse(file), files.score(file)):
        assert code == 2
        told(text, "category_id")


def test_names_that_do_not_tell_sides_are_told(files: UserFiles) -> None:
    def numbers(content: Content) -> None:
        content["categories"][0]["keypoints"] = [str(i + 1) for i in range(17)]

    file, own = files.write(numbers), "data.skeleton=annotations"
    code, text = files.doctor(file)
    assert code == 1
    told(text, "no keypoint name tells left from right", "mirror")
    code, text = files.browse(file, own)
    assert code == 0
    told(text, "no keypoint name tells left from right", "data.augment.flip=0")
    code, text = files.browse(file, own, "data.augment.flip=0")
    assert code == 0 and "tells left from right" not in text


@pytest.mark.parametrize("shift", [-1, 1])
def test_limbs_of_other_keypoints_stop_only_heads_that_need_limbs(files: UserFiles, shift: int) -> None:
    def other(content: Content) -> None:
        category = content["categories"][0]
        category["skeleton"] = [[a + shift, b + shift] for a, b in category["skeleton"]]
        category["keypoints"] = [f"{name}_" if name == "nose" else name for name in NAMES]

    file, own = files.write(other), "data.skeleton=annotations"
    code, text = files.doctor(file)
    told(text, "4 images, 8 people", "`skeleton`")
    for head in ("tags", "pairwise"):
        code, text = files.browse(file, own, f"head={{name: {head}}}")
        assert code == 0, text
        told(text, "`skeleton`")
    code, text = files.browse(file, own, "head={name: paf}")
    assert code == 2
    told(text, file, "limbs")


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_shares_of_images_are_told(files: UserFiles, scale: float) -> None:
    def shares(content: Content) -> None:
        for one in content["annotations"]:
            for i in range(0, 51, 3):
                one["keypoints"][i] = round(one["keypoints"][i] / 160 * scale, 4)
                one["keypoints"][i + 1] = round(one["keypoints"][i + 1] / 128 * scale, 4)
            x, y, w, h = one["bbox"]
            one["bbox"] = [x / 160 * scale, y / 128 * scale, w / 160 * scale, h / 128 * scale]

    file = files.write(shares)
    code, text = files.doctor(file)
    assert code == 1
    if scale == 1:
        told(text, "serious", "shares instead of pixels?")
        told(files.browse(file)[1], "shares instead of pixels?")


def test_boxes_as_shares_are_told(files: UserFiles) -> None:
    file = files.write(each("annotations", "bbox", lambda box: [round(side / 160, 4) for side in box]))
    code, text = files.doctor(file)
    assert code == 1
    told(text, "shares")


def test_two_numbers_per_keypoint_are_refused(files: UserFiles) -> None:
    def two(content: Content) -> None:
        for one in content["annotations"]:
            one["keypoints"] = [value for i, value in enumerate(one["keypoints"]) if i % 3 < 2]

    file = files.write(two)
    for code, text in (
        files.score(file),
        files.browse(file),
        files.train("x", file),
        files.test("run", file),
    ):
        assert code == 2
        told(text, "34 numbers, 51 are needed (17 names x 3)", "x, y without v?")
    code, text = files.doctor(file)
    assert code in (1, 2)
    told(text, "34 numbers, 51 are needed")


def test_one_of_two_categories_can_be_chosen(files: UserFiles) -> None:
    files.knows_the_truth()

    def two(content: Content) -> None:
        content["categories"].append({"id": 2, "name": "face", "keypoints": ["left_eye", "right_eye"]})

    file = files.write(two)
    for code, text in (files.doctor(file), files.score(file), files.draw(file)):
        assert code == 2
        told(text, "2 categories list keypoints", "--category person")
    for code, text in (files.browse(file), files.test("run", file)):
        assert code == 2
        told(text, "data.category=person")
    code, text = files.doctor(file, "--category", "person")
    told(text, "4 images, 8 people")
    assert files.browse(file, "data.category=1")[0] == 0
    assert files.draw(file, "--category", "person")[0] == 0
    code, text = files.test("run", file, "data.category=person")
    assert code == 0
    perfect_ap(text)
    code, text = files.score(file, "--category", "person")
    assert code == 0
    perfect_ap(text)
    code, text = files.score(file, "--category", "dog")
    assert code == 2
    told(text, "no category 'dog'", "'person' with 17 keypoints")


def test_a_test_without_annotations_gives_results(files: UserFiles) -> None:
    """COCO's test-dev: images and categories only."""
    files.knows_the_truth()
    file = files.write(lambda content: {k: v for k, v in content.items() if k != "annotations"})
    code, text = files.test("run", file)
    told(text, "nothing to score")
    found = json.loads(Path("exp/run/results-single.json").read_text())
    assert code == 0 and {one["image_id"] for one in found} == {1, 2, 3, 4} and len(found) == 8


# -------------------------------------------------------------------------------------------- image files


@pytest.mark.parametrize(
    "spelling",
    [
        "./{}", "pictures/{}", "/{}", "images\\{}", "C:\\Users\\me\\pictures\\{}", "/home/me/pictures/{}",
        "https://example.org/pictures/{}", "http://example.org/{}?download=1", "file:///data/{}",
    ],
)  # fmt: skip
def test_images_are_found_by_other_spellings(files: UserFiles, spelling: str) -> None:
    file = files.write(each("images", "file_name", spelling.format))
    code, text = files.doctor(file)
    assert code == 0, text
    code, text = files.browse(file)
    assert code == 0 and "no image" not in text, text


@pytest.mark.parametrize("change", [str.upper, lambda name: name.replace(".png", ".jpg")])
def test_where_an_image_lies_instead_is_told(files: UserFiles, change: Any) -> None:
    file = files.write(each("images", "file_name", change))
    code, text = files.doctor(file)
    assert code == 1
    told(text, "p00.png is there")
    code, text = files.browse(file)
    assert code == 2
    told(text, "p00.png is there")


@pytest.mark.parametrize("key", ["path", "coco_url", "url"])
def test_a_missing_file_name_may_be_elsewhere(files: UserFiles, key: str) -> None:
    def moved(content: Content) -> None:
        for one in content["images"]:
            one[key] = f"https://example.org/{one.pop('file_name')}"

    code, text = files.browse(files.write(moved))
    assert code == 0, text


def exif(files: UserFiles, turn: int, *, shown: bool) -> str:
    """The images stored so that a viewer that obeys EXIF `turn` shows them upright; annotated as shown, or
    of the size in which they are stored."""
    (files.folder / "turned").mkdir()
    back = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}[turn]
    for path in sorted((files.folder / "pictures").glob("*.png")):
        with Image.open(path) as image:
            image.getexif()[0x0112] = back
            stored = ImageOps.exif_transpose(image)
        tag = Image.Exif()
        tag[0x0112] = turn
        stored.save(files.folder / "turned" / f"{path.stem}.jpg", exif=tag, quality=95)

    def names(content: Content) -> None:
        for one in content["images"]:
            one["file_name"] = one["file_name"].replace(".png", ".jpg")
            if not shown and turn >= 5:
                one["width"], one["height"] = one["height"], one["width"]

    return files.write(names)


@pytest.mark.parametrize("turn", [5, 6, 7, 8])
def test_photos_that_were_annotated_as_shown_are_read_turned(files: UserFiles, turn: int) -> None:
    files.knows_the_truth()
    file = exif(files, turn, shown=True)
    code, text = files.doctor(file, images="turned")
    assert code == 0, text
    told(text, "4 image(s) with an EXIF turn that were annotated as shown")
    code, text = files.browse(file, images="turned")
    assert code == 0 and "pixels" not in text, text
    code, text = files.test("run", file, images="turned")
    assert code == 0, text
    perfect_ap(text)
    for i in range(4):
        seen = read_of_size(files.folder / "turned" / f"p{i:02}.jpg", (128, 160))
        meant = read_rgb(files.folder / "pictures" / f"p{i:02}.png")
        assert abs(seen.astype(int) - meant).mean() < 4


@pytest.mark.parametrize("turn", [5, 6, 7, 8])
def test_photos_that_were_annotated_as_stored_are_read_so(files: UserFiles, turn: int) -> None:
    code, text = files.browse(exif(files, turn, shown=False), images="turned")
    assert code == 0 and "pixels, its annotations" not in text, text


@pytest.mark.parametrize("turn", [2, 3, 4])
def test_a_turn_that_the_size_does_not_tell_is_doubtful(files: UserFiles, turn: int) -> None:
    file = exif(files, turn, shown=True)
    code, text = files.doctor(file, images="turned")
    assert code == 1
    told(text, "doubtful", "data.orientation=exif (--orientation exif)")
    code, text = files.doctor(file, "--orientation", "exif", images="turned")
    assert code == 0, text
    assert files.browse(file, "data.orientation=exif", images="turned")[0] == 0
    seen = read_of_size(files.folder / "turned" / "p00.jpg", (128, 160), "exif")
    meant = read_rgb(files.folder / "pictures" / "p00.png")
    assert abs(seen.astype(int) - meant).mean() < 4


def test_images_of_another_size_are_named_and_never_scored_in_silence(files: UserFiles) -> None:
    files.knows_the_truth()
    file = files.write(lambda content: content["images"][1].update(width=128, height=160))
    code, text = files.test("run", file)
    assert code == 0
    told(text, "p01.png is 160 x 128 pixels, its annotations are for 128 x 160", "pictures skipped")
    file = files.write(lambda content: each("images", "width", lambda _: 128)(content))
    code, text = files.test("run", file)
    assert code == 2
    told(text, "another size", "p00.png is 160 x 128 pixels, its annotations are for 128 x 128")


def test_heic_photos_are_named_as_such(files: UserFiles) -> None:
    heic = files.folder / "photo.heic"
    heic.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    arguments = ["-c", "run", "--device", "cpu", "-o", "demo", "--json"]
    code, text = files.run(demo.main, *arguments, str(heic))
    told(text, "HEIC", "convert it")
    shutil.copy(files.folder / "pictures" / "p00.png", files.folder / "p00.png")
    code, text = files.run(demo.main, *arguments, str(files.folder))
    told(text, "1 file(s) of kinds that are not read (.heic; first: photo.heic)")


def test_a_tilde_is_the_home_folder(files: UserFiles) -> None:
    home = files.folder.parent
    (files.folder / "home.yaml").write_text(
        "input: {size: [64, 64]}\n"
        "data:\n  root: ~/data\n  train: {annotations: base.json, images: pictures}\n"
        "  val: {annotations: base.json, images: pictures}\n  skeleton: annotations\n  workers: 0\n"
        "backbone: {name: hourglass, stacks: 1, width: 8}\nhead: {name: tags}\n"
    )
    files.patch.setenv("HOME", str(home))
    arguments = ["--config", str(files.folder / "home.yaml"), "-n", "4", "-o", "~/out"]
    code, text = files.run(browse.main, *arguments)
    assert code == 0 and (home / "out" / "samples.png").is_file(), text


# ------------------------------------------------------------------------------------------ other inputs


def test_own_data_with_a_run_of_drawn_people(files: UserFiles) -> None:
    files.knows_the_truth()
    code, text = files.test("drawn", "base.json")
    assert code == 0, text
    perfect_ap(text)


def test_a_mistyped_root_writes_nothing(files: UserFiles) -> None:
    root = files.folder.parent / "typo"
    more = [f"data.root={root}", "data.val.annotations=base.json", "data.val.images=pictures"]
    code, text = files.run(test.main, "-c", "drawn", "--device", "cpu", *more)
    assert code == 2 and not root.exists()
    told(text, f"no annotation file {root}/base.json")


@pytest.mark.parametrize("run", ["exp/run/", "exp/run", "./exp/run", "run"])
def test_a_run_may_be_named_by_its_folder(files: UserFiles, run: str) -> None:
    files.knows_the_truth()
    assert files.test(run, "base.json")[0] == 0


@pytest.mark.slow
def test_names_that_the_terminal_lacks_are_escaped(files: UserFiles) -> None:
    shutil.copy(files.folder / "pictures" / "p00.png", "人.png")
    shutil.copytree(files.folder / "pictures", "pictures 人")
    file = files.write(lambda content: content["images"][0].update(file_name="人.png"))
    commands = (
        ["pose.demo", "-c", "run", "--device", "cpu", "人.png", "-o", "out 人"],
        ["pose.tools.doctor", "--annotations", f"data/{file}", "--images", "data/pictures"],
    )
    for name, *arguments in commands:
        done = subprocess.run(
            [sys.executable, "-m", name, *arguments], capture_output=True, text=True, encoding="cp1252",
            env={**environment(), "PYTHONIOENCODING": "cp1252"},
        )  # fmt: skip
        assert done.returncode == int("doctor" in name) and "Traceback" not in done.stderr, done.stderr
        assert "\\u4eba" in done.stdout + done.stderr


def test_weights_of_a_network_of_other_widths(files: UserFiles) -> None:
    code, text = files.train("x", "base.json", "backbone.width=16", "train.weights=exp/run/last.pt")
    assert code == 2 and not Path("exp/x").exists()
    told(text, "does not match this network")
    code, text = files.train("y", "base.json", "train.weights=exp/run/last.pt", "head={name: paf}")
    assert "last.pt" in text, text


def test_what_cannot_be_validated_on_stops_before_the_first_step(files: UserFiles) -> None:
    """And leaves no run behind, which would stop at the same place again."""
    files.knows_the_truth()

    def two(content: Content) -> None:
        for one in content["annotations"]:
            one["keypoints"] = one["keypoints"][:34]

    files.write(two, "bad.json")
    code, text = files.train("x", "base.json", "data.val.annotations=bad.json")
    assert code == 2 and not Path("exp/x").exists()
    told(text, "bad.json", "34 numbers, 51 are needed")


@pytest.mark.slow
@pytest.mark.skipif(not can_mount(), reason="needs root")
def test_a_container_with_little_shared_memory(files: UserFiles) -> None:
    where = " ".join(files.where("base.json", ("train", "val")))
    line = (
        f"{sys.executable} -m pose.train -e x --config configs/coco/ae_small.yaml {where} --device cpu "
        "backbone.width=8 input.size=[256,256] train.batch_size=4 data.workers=2 train.epochs=2"
    )
    done = subprocess.run(
        mounted("/dev/shm", "2m", line.split()), capture_output=True, text=True, timeout=60, env=environment()
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    told(done.stderr, "shared memory", "lower data.workers (0 ", "--shm-size")


def test_the_base_set_is_sound(files: UserFiles) -> None:
    code, text = files.doctor("base.json")
    assert code == 0, text
    told(text, "4 images, 8 people")
    assert len(base()["annotations"]) == 8
    perfect_ap(files.score("base.json")[1])


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("image_id", str), ("image_id", float), ("image_id", "{:012}".format), ("category_id", str),
        ("category_id", float), ("score", str), ("keypoints", lambda values: [str(one) for one in values]),
    ],
)  # fmt: skip
def test_results_with_numbers_written_otherwise_are_scored(files: UserFiles, key: str, change: Any) -> None:
    entries = [{**one, key: change(one[key])} for one in results(base())]
    (files.folder / "mine.json").write_text(json.dumps(entries))
    code, text = files.score("base.json", results="mine.json")
    assert code == 0, text
    perfect_ap(text)


def test_annotations_and_results_that_changed_places_are_told(files: UserFiles) -> None:
    code, text = files.score("base_results.json", results="base.json")
    assert code == 2
    told(text, "base_results.json is a results file", "give the annotations")
    for command in (files.doctor, files.browse):
        code, text = command("base_results.json")
        assert code == 2
        told(text, "is a results file")


@pytest.mark.parametrize("change", [None, text_numbers, no_sizes, each("annotations", "area", lambda _: 0)])
def test_doctor_tells_of_a_config_what_it_tells_of_the_file(files: UserFiles, change: Any) -> None:
    file = files.write(change)
    one, text = files.doctor(file)
    config = ["--config", "configs/coco/ae_small.yaml", "--set", "train", *files.where(file)]
    other, same = files.run(doctor.main, *config)
    findings = [re.findall(r"^ *(?:serious|doubtful|note) .*", told, re.MULTILINE) for told in (text, same)]
    assert one == other and findings[0] == findings[1]
    assert bool(findings[0]) == (change is not None)
