"""`-c zoo:NAME`: a published network is fetched, converted and used like a run."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml

from pose import checkpoint, demo, tested, zoo
from pose.errors import user_facing
from pose.experiment import Experiment, load_config
from pose.predictor import Predictor
from pose.published.zoo_runs import run_of
from pose.test import main as pose_test
from pose.train import main as pose_train
from tests.file_server import FileServer, served
from tests.small_zoo import make_zoo, use_mirror
from tests.training_fixtures import drawn, settings

WIDTH = 4  # of an HRNet whose every other size is the published one


def published_file(folder: Path, keypoints: int = 17) -> bytes:
    """A checkpoint under MMPose's names: HigherHRNet with few channels."""
    random = ["backbone.init=kaiming", "backbone.pretrained=null"]
    config = load_config("coco/higherhrnet_w32.yaml", [f"backbone.width={WIDTH}", *random])
    torch.manual_seed(0)
    model = config.build_model()
    with torch.no_grad():
        for module in model.predictor.final:  # type: ignore[union-attr]
            module.weight.mul_(300)
            module.bias[:17].fill_(0.2)  # so that somebody is found
    state = {}
    for name, value in model.state_dict().items():
        name = name.replace("predictor.final.", "keypoint_head.final_layers.")
        if name.startswith("predictor.up.0."):
            layer, _, rest = name.removeprefix("predictor.up.0.").partition(".")
            place = f"0.{layer}" if int(layer) < 2 else f"{int(layer) - 2}.0"
            name = f"keypoint_head.deconv_layers.0.{place}.{rest}"
        state[name] = value
    torch.save({"state_dict": state, "meta": {"epoch": 300}}, folder / "small.pth")
    return (folder / "small.pth").read_bytes()


def sign(entry: Path, content: bytes) -> None:
    """The entry's file is this one."""
    changed = {**yaml.safe_load(entry.read_text()), "sha256": hashlib.sha256(content).hexdigest()[:8]}
    entry.write_text(yaml.safe_dump(changed))


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A zoo of one network, `small`, that a local server has; in an empty working folder."""
    content = published_file(tmp_path)
    make_zoo(tmp_path, monkeypatch)
    sign(tmp_path / "zoo" / "small.yaml", content)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    with served(content) as one:
        use_mirror(one, monkeypatch)
        yield one


def command(monkeypatch: pytest.MonkeyPatch, main: Callable[[], Any], *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["command", *arguments])
    return user_facing(main)() or 0


def photo(file: str, size: tuple[int, int] = (90, 120)) -> None:
    rng = np.random.default_rng(0)
    cv2.imwrite(file, cv2.resize(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8), size[::-1]))


def test_the_demo_draws_by_a_published_network(
    server: FileServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    photo("photo.jpg")
    assert command(monkeypatch, demo.main, "-c", "zoo:small", "photo.jpg", "test.input_size=[64, 64]") == 0
    assert (Path("exp/zoo-small/demo") / "photo.jpg").is_file()
    assert "HigherHRNet-W32 of MMPose" in capsys.readouterr().err
    config = Experiment.open("zoo-small").config
    assert config.test.resize == "mmpose" and config.head.decoder.preset == "mmpose"
    assert config.test.multi == (2.0, 1.0, 0.5) and config.input.pixel_center == 0
    asked = len(server.ranges_asked)
    assert command(monkeypatch, demo.main, "-c", "zoo:small", "photo.jpg", "test.input_size=[64, 64]") == 0
    assert len(server.ranges_asked) == asked  # the run is there


@pytest.mark.parametrize("size", [(1, 1), (40, 5000), (5000, 40), (63, 65)])
def test_images_of_any_size_go_through(server: FileServer, size: tuple[int, int]) -> None:
    predictor = Predictor.from_zoo("small", settings=["test.input_size=[64, 64]"])
    people = predictor(np.zeros((*size, 3), np.uint8))
    assert people.keypoints.shape[1:] == (17, 3) and np.isfinite(people.keypoints).all()
    assert not Path("exp").exists()  # only the user's cache folder is written


def test_cmyk_images_go_through(server: FileServer) -> None:
    from PIL import Image

    Image.fromarray(np.full((50, 70, 4), 90, np.uint8), "CMYK").save("print.jpg")
    predictor = Predictor.from_zoo("zoo:small", mode="multi", settings=["test.input_size=[64, 64]"])
    assert np.isfinite(predictor("print.jpg").keypoints).all()


@pytest.mark.slow
def test_testing_and_training_from_it(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = drawn(tmp_path)
    where = [
        "data.val.annotations=annotations/person_keypoints_val.json", "data.val.images=val",
        f"data.root={root}", "test.input_size=[64, 64]",
    ]  # fmt: skip
    assert command(monkeypatch, pose_test, "-c", "zoo:small", "--limit", "2", *where) == 0
    assert list(Path("exp/zoo-small").glob("results-*.json"))
    told = capsys.readouterr().out
    assert "published (MMPose, COCO, single): AP 0.677; to compare, test all of" in told
    monkeypatch.setattr(tested, "VAL2017", "person_keypoints_val.json")
    monkeypatch.setattr(tested, "VAL2017_IMAGES", 6)
    assert command(monkeypatch, pose_test, "-c", "zoo:small", "-m", "multi", *where) == 0
    line = re.search(r"AP 0.706, here (\S+), difference (\S+)", capsys.readouterr().out)
    assert line is not None and float(line[1]) - 0.706 == pytest.approx(float(line[2]), abs=2e-3)
    capsys.readouterr()
    given = [text for text in settings(root) if not text.startswith(("backbone.", "train.epochs"))]
    parts = [
        f"backbone={{name: hrnet, width: {WIDTH}}}", "predictor={name: higher_resolution}",
        "head.tag_strides=[4]", "train.epochs=1", "train.validate_every=0",
    ]  # fmt: skip
    assert command(monkeypatch, pose_train, "-e", "tuned", *given, *parts, "train.weights=zoo:small") == 0
    assert "parameters loaded" in capsys.readouterr().err


def test_two_starts_at_once_make_one_run(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other process finishes the run while this one converts."""
    from pose.published import zoo_runs

    convert = zoo_runs.convert

    def slow(*given: Any, **more: Any) -> Any:
        monkeypatch.setattr(zoo_runs, "convert", convert)
        assert run_of("zoo:small") == "zoo-small"
        return convert(*given, **more)

    monkeypatch.setattr(zoo_runs, "convert", slow)
    assert run_of("zoo:small") == "zoo-small"
    assert checkpoint.load(Path("exp/zoo-small/best.pt"))["meta"] == {"source": "zoo:small"}


@pytest.mark.parametrize(
    ("name", "says"),
    [("zoo:smal", "small"), ("zoo:", "zoo"), ("zoo:../small", "zoo"), ("nothing", "no run 'nothing'")],
)
def test_names_that_are_none(
    server: FileServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    says: str,
) -> None:
    photo("photo.jpg")
    assert command(monkeypatch, demo.main, "-c", name, "photo.jpg") == 2
    error = capsys.readouterr().err
    assert says in error and "Traceback" not in error and not Path("exp").exists()


def test_a_file_of_another_network_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"state_dict": {"conv.weight": torch.zeros(3)}}, tmp_path / "other.pth")
    content = (tmp_path / "other.pth").read_bytes()
    make_zoo(tmp_path, monkeypatch)
    sign(tmp_path / "zoo" / "small.yaml", content)
    monkeypatch.chdir(tmp_path)
    photo("photo.jpg")
    with served(content) as one:
        use_mirror(one, monkeypatch)
        assert command(monkeypatch, demo.main, "-c", "zoo:small", "photo.jpg") == 2
    assert "none of MMPose's" in capsys.readouterr().err
    assert not Path("exp").exists()


def test_every_network_of_the_zoo_has_a_config_and_a_size() -> None:
    """Of each that works, the parts that its entry names, without its file."""
    from pose.published.mmpose import DATA
    from pose.published.zoo_runs import DATA as SETS

    usable = [network for network in zoo.entries() if network.usable]
    assert len(usable) == 23
    for network in usable:
        data, udp = SETS[network.skeleton], bool(network.source_settings.get("use_udp"))
        name = "_".join(["mmpose", *(["udp"] if udp else []), *([data] if data != "coco" else [])])
        config = load_config(f"published/{name}.yaml")
        assert len(config.skeleton) == DATA[data] and config.data.skeleton is not None
        order = config.head.decoder.order
        assert order in ((), config.skeleton.keypoints)
