"""pose.published.publications: what `pose.tools.zoo export` wrote is a network like those of the zoo."""

from __future__ import annotations

import http.server
import re
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from pose import zoo
from pose.errors import UserError
from pose.experiment import Experiment, load_config
from pose.first_weights import zoo_weights
from pose.predictor import Predictor
from pose.published.publications import CARD, CONFIG, WEIGHTS, is_publication
from pose.published.zoo_runs import run_name, run_of
from pose.tools.zoo import main as command
from tests.small_networks import SMALL

safetensors = pytest.importorskip("safetensors")


def export(folder: Path, name: str, seed: int = 0, head: str = "tags") -> Path:
    """A run with random weights, exported to the folder public/NAME."""
    config = {
        "input": {"size": [64, 64]},
        "data": {"skeleton": "coco17"},
        "backbone": {"name": "hourglass", **SMALL["hourglass"]},
        "head": {"name": head},
        "test": {"single": [0.5], "flip": False},
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(config))
    loaded = load_config(folder / "run.yaml")
    torch.manual_seed(seed)
    model = loaded.build_model()
    experiment = Experiment.create(name, loaded)
    torch.save({"model": model.state_dict()}, experiment.path("best.pt"))
    public = folder / "public" / name
    assert command(["export", name, "-o", str(public), "--licence", "CC0-1.0"]) == 0
    return public


@pytest.fixture
def at_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POSE_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def server(at_work: Path) -> Iterator[tuple[str, list[str]]]:
    """Serves public/; its address, and the paths that were asked for."""
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            asked.append(self.path)

    (at_work / "public").mkdir(exist_ok=True)
    httpd = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Handler, directory=str(at_work / "public"))
    )
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}", asked
    httpd.shutdown()
    httpd.server_close()


def people(predictor: Predictor) -> Any:
    image = np.random.default_rng(0).integers(0, 256, (80, 100, 3), dtype=np.uint8)
    return predictor(image)


def same(found: Any, expected: Any) -> bool:
    return len(found) == len(expected) and bool(np.array_equal(found.keypoints, expected.keypoints))


def test_names_addresses_and_folders() -> None:
    assert all(map(is_publication, ["https://a.org/b", "http://a", "./x", "a/b", "/a", "..", "~/x"]))
    assert not any(is_publication(name) for name in zoo.names())


@pytest.mark.parametrize("head", ["tags", "paf"])
def test_a_folder_is_the_run_that_was_exported(at_work: Path, head: str) -> None:
    public = export(at_work, "mine", head=head)
    expected = people(Predictor.from_run("mine"))
    shutil.rmtree(at_work / "exp")
    name = run_of(f"zoo:{public}")
    assert name.startswith("zoo-mine-") and run_of("zoo:./public/mine") == run_name(f"zoo:{public}/") == name
    assert same(people(Predictor.from_run(f"zoo:{public}")), expected)
    assert [path.name for path in (at_work / "exp").iterdir()] == [name]
    assert same(people(Predictor.from_zoo(str(public))), expected)


def test_an_address_is_fetched_once(at_work: Path, server: tuple[str, list[str]], capsys: Any) -> None:
    address, asked = server
    export(at_work, "mine")
    expected = people(Predictor.from_run("mine"))
    shutil.rmtree(at_work / "exp")
    assert same(people(Predictor.from_run(f"zoo:{address}/mine")), expected)
    assert sorted(asked) == [f"/mine/{CONFIG}", f"/mine/{WEIGHTS}"]
    said = capsys.readouterr().err
    assert f"exported run from {address}/mine; its {CARD} states the licence" in said
    assert same(people(Predictor.from_run(f"zoo:{address}/mine/")), expected)
    assert len(asked) == 2


def test_other_weights_are_another_run(at_work: Path) -> None:
    first, second = export(at_work, "mine"), export(at_work, "other", seed=1)
    renamed = at_work / "again" / "mine"
    shutil.copytree(second, renamed)
    names = {run_of(f"zoo:{folder}") for folder in (first, second, renamed)}
    assert len(names) == 3


def test_training_starts_from_it(at_work: Path) -> None:
    public = export(at_work, "mine")
    model = load_config("run.yaml").build_model()
    found = zoo_weights(model, f"zoo:{public}")
    kept = torch.load(at_work / "exp/mine/best.pt", weights_only=True)["model"]
    assert all(torch.equal(found[name], value) for name, value in kept.items())


def test_what_is_no_export_is_one_sentence(at_work: Path, server: tuple[str, list[str]]) -> None:
    public = export(at_work, "mine")
    config = (public / CONFIG).read_text()
    with pytest.raises(UserError, match=r"no folder nowhere/at_all; zoo:DIR is one that"):
        run_of("zoo:nowhere/at_all")
    (at_work / "empty").mkdir()
    with pytest.raises(UserError, match=rf"empty has no {CONFIG}"):
        run_of("zoo:./empty")
    with pytest.raises(UserError, match=rf"cannot download {server[0]}/gone/{CONFIG}: .*404"):
        run_of(f"zoo:{server[0]}/gone")
    (public / CONFIG).write_text("\n".join(config.splitlines()[2:]))
    with pytest.raises(UserError, match=rf"does not say what {WEIGHTS} is; export the run again"):
        run_of(f"zoo:{public}")
    for hostile in (
        "base: /etc/passwd",
        "train: {weights: /etc/passwd}",
        "data: {skeleton: /etc/passwd}",
        "data: {root: /etc, skeleton: {keypoints: [a], limbs: []}}",
        "!!python/object/apply:os.getcwd []",
    ):
        section = hostile.partition(":")[0]
        kept = re.sub(rf"(?ms)^{section}:.*?(?=^\S|\Z)", "", config)
        (public / CONFIG).write_text(f"{kept}\n{hostile}\n")
        with pytest.raises(UserError, match=CONFIG):
            run_of(f"zoo:{public}")
    (public / CONFIG).write_text(config.replace("stacks: 2", "stacks: 1"))
    with pytest.raises(UserError, match=r"does not fill the network"):
        run_of(f"zoo:{public}")
    (public / CONFIG).write_text(config)
    content = bytearray((public / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (public / WEIGHTS).write_bytes(content)
    with pytest.raises(UserError, match=rf"{WEIGHTS} is not the published file"):
        run_of(f"zoo:{public}")
    (public / WEIGHTS).unlink()
    with pytest.raises(UserError, match=rf"cannot read .*{WEIGHTS}"):
        run_of(f"zoo:{public}")
    assert [path.name for path in (at_work / "exp").iterdir()] == ["mine"]
