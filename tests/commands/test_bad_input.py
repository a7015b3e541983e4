"""What goes wrong gets one sentence (what, where, what to do) and exit code 2; nothing is lost, and nothing
is left behind that is in the way of the next attempt."""

from __future__ import annotations

import errno
import json
import logging
import os
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pose import checkpoint
from pose.config_files import config_folder
from pose.engine import log as log_module
from pose.engine.update import Updater
from pose.model import TrainStep
from tests.training_fixtures import command, drawn, environment, lines, settings

SHORT = ("train.epochs=1", "train.steps_per_epoch=4", "train.validate_every=0")
TRAIN_JSON = "annotations/person_keypoints_train.json"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drawn(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder exp/ with a short run `good`."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        assert command(monkeypatch, "-e", "good", *settings(data, *SHORT)) == 0
    return folder / "exp"


class Shell:
    """The command in a folder of its own."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], data: Path
    ) -> None:
        self.monkeypatch, self.capsys, self.data = monkeypatch, capsys, data
        self.runs = Path("exp").resolve()

    def new(self, *more: str) -> list[str]:
        return ["-e", "run", *settings(self.data, *SHORT, *more)]

    def fails(self, *arguments: str, says: tuple[str, ...]) -> str:
        """Exit code 2 and one message that holds all of `says`."""
        self.capsys.readouterr()
        assert command(self.monkeypatch, *arguments) == 2
        told = self.capsys.readouterr().err
        assert told.count("error: ") == 1 and "Traceback" not in told
        for part in says:
            assert part in told, told
        return told

    def works(self, *arguments: str) -> str:
        self.capsys.readouterr()
        assert command(self.monkeypatch, *arguments) == 0
        return self.capsys.readouterr().err


@pytest.fixture
def shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], data: Path
) -> Shell:
    monkeypatch.chdir(tmp_path)
    return Shell(monkeypatch, capsys, data)


# -------------------------------------------------------------------------------------------- config, names


@pytest.mark.slow
def test_the_message_and_the_exit_code_of_the_real_command(data: Path, tmp_path: Path) -> None:
    arguments = ["-e", "run", "--config", "no/such.yaml", *settings(data)]
    result = subprocess.run(
        [sys.executable, "-m", "pose.train", *arguments],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert result.returncode == 2 and result.stdout == "" and list(tmp_path.iterdir()) == []
    assert result.stderr.startswith("error: no config file no/such.yaml")


@pytest.mark.parametrize(
    "setting, says",
    [
        ("train.bach_size=4", ("train.bach_size: unknown key, did you mean 'batch_size'?", "command line")),
        ("train.batch_size=many", ("train.batch_size: expected int, got 'many'",)),
        ("train.batch_size=true", ("train.batch_size: expected int, got True",)),
        ("train.optimizer.lr=-1", ("train.optimizer.lr",)),
        ("train.lr=-1", ("train.optimizer.lr",)),
        ("backbone.name=hourglas", ("did you mean 'hourglass'?",)),
        ("train.seed", ("cannot read the setting 'train.seed'; write it as key.sub=value",)),
        ("train.accumulate=5", ("train.batch_size=4", "choose a multiple of 5")),
        ("train.weights=no.pt", ("no checkpoint no.pt",)),
        ("data.root=nowhere/at/all", ("nowhere/at/all",)),
        ("data.train.annotations=gone.json", ("gone.json",)),
        ("data.val.annotations=gone.json", ("gone.json",)),
        ("data.train.images=gone", ("folder of images", "gone", "data.root")),
        ("data.val.images=gone", ("validation", "gone", "data.val.images")),
        (
            "data.augment.crop=people",
            ("data.augment.crop: expected 'image', 'person' or 'whole', got 'people'",),
        ),
        (
            "data.augment={crop: whole, whole_multiple: 24}",
            ("data.augment.whole_multiple=24: pictures go through the hourglass", "such as 32"),
        ),
        ("data.augment.person_scale=[1.1, 0.5]", ("data.augment.person_scale", "the smaller factor first")),
        ("input.pad_value=[0, 0, 256]", ("input.pad_value.2", "less than or equal to 255")),
        ("input.normalization=imagenet", ("input: normalization 'imagenet' has mean", "leave mean out")),
    ],
)
def test_a_mistake_in_the_settings_leaves_no_run_behind(
    shell: Shell, setting: str, says: tuple[str, ...]
) -> None:
    """The same name works once the mistake is mended."""
    real = [] if "synthetic" in setting else ["data.synthetic=null"]  # else missing data would be drawn
    more = [*real, setting, "train.validate_every=1"]
    shell.fails(*shell.new(*more), says=says)
    assert not shell.runs.exists()


@pytest.mark.parametrize(
    "change, says",
    [
        (
            {"limbs": [["nose", "left_hnd"], ["nose", "right_hand"]]},
            "limbs: no keypoint 'left_hnd', did you mean 'left_hand'?",
        ),
        ({"limbs": [["nose", "left_hand"]]}, "limb nose-left_hand has no mirror image among the limbs"),
        ({"mirror": {"nose": "left_hand"}}, "mirrors to 'left_hand', which mirrors to 'nose'"),
        ({"limb_order": [["nose", "left_hand"]]}, "limb_order must list every limb once"),
        ({"derived": {"nose": {"middle_of": ["left_hand", "hand"]}}}, "derived: no keypoint 'hand'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_a_skeleton_with_a_mistake(shell: Shell, change: dict[str, Any], says: str) -> None:
    """From a file and within the settings."""
    limbs = [["nose", "left_hand"], ["nose", "right_hand"]]
    good = {"name": "three", "keypoints": ["nose", "left_hand", "right_hand"], "limbs": limbs}
    Path("three.yaml").write_text(json.dumps({**good, **change}))
    # the good one only fails at the data, which are of others
    Path("good.yaml").write_text(json.dumps(good))
    shell.fails(*shell.new("data.skeleton=good.yaml"), says=("other keypoints than the skeleton 'three'",))
    inside = f"data.skeleton={json.dumps({**good, **change})}"
    for setting in ("data.skeleton=three.yaml", inside):
        told = shell.fails(*shell.new(setting), says=("data.skeleton: skeleton 'three': ", says))
        assert told.count("data.skeleton:") == 1 and len(told.strip().splitlines()) == 3
    assert not shell.runs.exists()


def test_derived_keypoints_of_other_annotations(shell: Shell) -> None:
    """The skeleton's neck comes from shoulders that this file calls otherwise."""
    file = config_folder() / "_skeletons/coco18.yaml"
    Path("other.yaml").write_text(file.read_text().replace("nose", "snout"))
    says = (
        TRAIN_JSON,
        "other keypoints than the skeleton 'coco18'",
        "neck can be worked out",
        "data.skeleton",
    )
    shell.fails(*shell.new("data.skeleton=other.yaml"), says=says)
    assert not shell.runs.exists()


def test_mistakes_are_told_together(shell: Shell) -> None:
    says = ("train.bach_size: unknown key", "train.optimizer.lr: expected float", "head.sigma")
    shell.fails(*shell.new("train.bach_size=4", "train.optimizer.lr=fast", "head.sigma=-2"), says=says)


@pytest.mark.parametrize("name", ["../run", "a/b", "", ".hidden", "a b"])
def test_names_that_are_no_run_names(shell: Shell, name: str) -> None:
    for option in ("-e", "-c"):
        more = shell.new()[2:] if option == "-e" else []
        shell.fails(option, name, *more, says=(f"{name!r} is no run name",))
    assert not shell.runs.exists()


def test_a_new_run_does_not_touch_an_old_one(shell: Shell, finished: Path) -> None:
    shutil.copytree(finished, shell.runs)
    before = {path: path.read_bytes() for path in shell.runs.rglob("*") if path.is_file()}
    says = ("exp/good exists already", "continue it with -c good")
    shell.fails("-e", "good", *settings(shell.data), says=says)
    shell.fails("-c", "godo", says=("no run 'godo'", "did you mean 'good'?"))
    shell.fails(
        "-c", "good", "train.optimizer.lr=1", says=("exp/good/config.yaml", "without other settings", "-e")
    )
    shell.fails("-c", "good", "--limit", "3", says=("without other settings",))
    assert before == {path: path.read_bytes() for path in shell.runs.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["gpu", "cuda:x"])
def test_a_device_that_is_none(shell: Shell, name: str) -> None:
    shell.fails(*shell.new(), "--device", name, says=(f"unknown device {name!r}; use auto, cpu, cuda",))
    assert not shell.runs.exists()


def test_no_gpu(shell: Shell) -> None:
    shell.monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    shell.fails(*shell.new(), "--device", "cuda", says=("no GPU is visible here; use --device cpu",))
    assert not shell.runs.exists()


def test_a_run_folder_that_cannot_be_made(shell: Shell) -> None:
    shell.runs.write_text("a file")
    shell.fails(*shell.new(), says=("cannot make the run folder exp/run",))


def test_half_a_run_folder_is_taken_away_again(shell: Shell) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with shell.monkeypatch.context() as patch:
        patch.setattr("pose.experiment.environment", full)
        shell.fails(*shell.new(), says=("cannot write to the run folder exp/run: No space left",))
    assert not (shell.runs / "run").exists()
    shell.works(*shell.new())


# --------------------------------------------------------------------------------------------- data


@pytest.fixture
def own_data(shell: Shell, tmp_path: Path) -> Path:
    """A copy of the data to spoil; the shell uses it."""
    root = tmp_path / "own"
    shutil.copytree(shell.data, root, ignore=shutil.ignore_patterns(".cache"))
    shell.data = root
    return root


def changed(root: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    file = root / TRAIN_JSON
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def no_image(content: dict[str, Any]) -> None:
    content["annotations"][0]["image_id"] = 987654


def short_keypoints(content: dict[str, Any]) -> None:
    content["annotations"][0]["keypoints"] = content["annotations"][0]["keypoints"][:30]


def twice_the_id(content: dict[str, Any]) -> None:
    content["images"][1]["id"] = content["images"][0]["id"]


@pytest.mark.parametrize("change, says", [(short_keypoints, "30"), (twice_the_id, "id")])
def test_wrong_annotations(
    shell: Shell, own_data: Path, change: Callable[[dict[str, Any]], Any], says: str
) -> None:
    """What no guess can repair."""
    changed(own_data, change)
    shell.fails(*shell.new(), says=(f"{TRAIN_JSON} cannot be used", says))
    assert not shell.runs.exists()


@pytest.mark.slow
def test_a_person_on_an_absent_picture(shell: Shell, own_data: Path) -> None:
    """Is left out, or ends a strict run."""
    changed(own_data, no_image)
    shell.fails(*shell.new("data.strict=true"), says=(TRAIN_JSON, "987654"))
    assert not shell.runs.exists()
    shell.works(*shell.new())


def test_truncated_annotations(shell: Shell, own_data: Path) -> None:
    file = own_data / TRAIN_JSON
    file.write_text(file.read_text()[:5000])
    shell.fails(*shell.new(), says=(TRAIN_JSON,))
    assert not shell.runs.exists()


def test_a_data_set_without_people(shell: Shell, own_data: Path) -> None:
    changed(own_data, lambda content: content["annotations"].clear())
    shell.fails(*shell.new(), says=(TRAIN_JSON, "no image with labelled keypoints"))
    changed(own_data, lambda content: content["images"].clear())
    shell.fails(*shell.new(), says=(TRAIN_JSON,))
    assert not shell.runs.exists()


@pytest.mark.slow
def test_an_unreadable_picture(shell: Shell, own_data: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Named once and counted; a strict run stops, and what it learned so far is not lost."""
    pictures = sorted((own_data / "train").iterdir())
    pictures[0].write_bytes(pictures[0].read_bytes()[:500])
    pictures[1].unlink()
    with caplog.at_level(logging.WARNING):
        told = shell.works(*shell.new("train.steps_per_epoch=12"))
    for picture in pictures[:2]:
        assert sum(picture.name in record.getMessage() for record in caplog.records) == 1
    count = checkpoint.load(shell.runs / "run" / "last.pt")["progress"]["unreadable"]
    assert 2 <= count <= 4  # two passes over the data
    assert f"{count} times a picture that could not be read" in told
    strict = shell.new("data.strict=true", "train.save_steps=1", "train.steps_per_epoch=12")
    shell.fails(
        "-e", "strict", *strict[2:], says=(str(own_data / "train"), "mend the picture or unset data.strict")
    )


# --------------------------------------------------------------------------------------------- checkpoints


class Hostile:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch hacked",)


def truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def hostile(file: Path) -> None:
    file.write_bytes(pickle.dumps({"model": Hostile()}))


def hostile_zip(file: Path) -> None:
    torch.save({"model": Hostile()}, file)


def of_another_network(file: Path) -> None:
    state = checkpoint.load(file)
    name = next(iter(state["model"]))
    state["model"][name] = torch.zeros(1, 2, 3)
    checkpoint.save(state, file)


def a_list(file: Path) -> None:
    torch.save([1, 2], file)


@pytest.mark.parametrize("spoil", [truncated, empty, hostile, hostile_zip, of_another_network, a_list])
def test_a_bad_checkpoint(shell: Shell, finished: Path, spoil: Callable[[Path], None]) -> None:
    """As the state of a run and as first weights; it is not executed, not overwritten."""
    shutil.copytree(finished, shell.runs)
    file = shell.runs / "good" / "last.pt"
    spoil(file)
    before = file.read_bytes()
    shell.fails("-c", "good", says=("exp/good/last.pt",))
    assert file.read_bytes() == before
    if spoil is not of_another_network:  # of which the other tensors could be used
        shell.fails(*shell.new(f"train.weights={file}"), says=("exp/good/last.pt",))
        assert not (shell.runs / "run").exists()
    assert not Path("hacked").exists()


def test_weights_of_another_network(shell: Shell) -> None:
    torch.save({"features.0.weight": torch.zeros(64, 3, 3, 3)}, "vgg.pt")
    says = ("train.weights=vgg.pt", "another network", "features.0.weight")
    shell.fails(*shell.new("train.weights=vgg.pt"), says=says)
    assert not shell.runs.exists()


# --------------------------------------------------------------------------------------------- a full disk


@pytest.mark.slow
def test_a_disk_that_fills_while_saving(shell: Shell) -> None:
    """The older checkpoint survives, and the run goes on from it when there is space again."""
    real = torch.save

    def save(state: Any, file: Any) -> None:
        if state["progress"]["step"] >= 3:
            file.write(b"half of it")
            raise OSError(errno.ENOSPC, "No space left on device")
        real(state, file)

    with shell.monkeypatch.context() as patch:
        patch.setattr(torch, "save", save)
        says = ("cannot save exp/run/last.pt: No space left on device", "older last.pt is untouched")
        shell.fails(*shell.new("train.save_steps=1"), says=says)
    assert checkpoint.load(shell.runs / "run" / "last.pt")["progress"]["step"] == 2
    assert not list((shell.runs / "run").glob(".*"))
    assert "continuing at step 2 of 4" in shell.works("-c", "run")
    assert [record["step"] for record in lines(shell.runs / "run")] == [1, 2, 3, 4]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("write_whole", "exp/run/log.jsonl"),
        ("draw_curves", "exp/run/curves.png"),
        ("events", "TensorBoard's events"),
    ],
)
def test_a_disk_that_fills_elsewhere(shell: Shell, what: str, says: str) -> None:
    """It is said once, and no ornament ends the training."""

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with shell.monkeypatch.context() as patch:
        if what == "events":
            patch.setattr("torch.utils.tensorboard.SummaryWriter.add_scalar", full)
        else:
            patch.setattr(log_module, what, full)
        told = shell.works(*shell.new())
    assert told.count(f"cannot write {says}: No space left on device; the training goes on") == 1
    assert ("4 lines of exp/run/log.jsonl could not be written" in told) == (what == "write_whole")
    assert checkpoint.load(shell.runs / "run" / "last.pt")["progress"]["step"] == 4


@pytest.mark.slow
def test_a_run_folder_that_is_moved_while_it_is_trained(shell: Shell) -> None:
    real = Updater.update

    def update(self: Updater, batch: Any) -> Any:
        if self.steps == 2:
            (shell.runs / "run").rename(shell.runs / "moved")
        return real(self, batch)

    with shell.monkeypatch.context() as patch:
        patch.setattr(Updater, "update", update)
        told = shell.fails(*shell.new("train.save_steps=1"), says=("exp/run is gone", "the state of step 3"))
    saved = Path(re.findall(r"is saved as (\S+):", told)[0])
    assert saved == Path("exp/run-step-3.pt")
    # as the message says
    (shell.runs / "moved").rename(shell.runs / "run")
    (shell.runs / "run" / "lock.json").unlink()  # of a process that would be gone by now
    saved.rename(shell.runs / "run" / "last.pt")
    assert "continuing at step 3 of 4" in shell.works("-c", "run")


# ------------------------------------------------------------------------------------------ training itself


@pytest.mark.slow
def test_a_loss_that_stays_bad(shell: Shell) -> None:
    """Ends with a sentence; the last good checkpoint stays, and its run goes on with a lower rate."""
    real = Updater.update

    def update(self: Updater, batch: Any) -> Any:
        if self.steps >= 2:
            with torch.no_grad():
                batch.areas.fill_(torch.nan)
        return real(self, batch)

    def forward(self: Any, batch: Any) -> Any:
        terms = forward_of_step(self, batch)
        return {name: term * (1 + 0 * batch.areas.sum()) for name, term in terms.items()}

    forward_of_step = TrainStep.forward
    more = shell.new("train.save_steps=1", "train.max_nonfinite=3", "train.steps_per_epoch=9")
    with shell.monkeypatch.context() as patch:
        patch.setattr(Updater, "update", update)
        patch.setattr(TrainStep, "forward", forward)
        told = shell.fails(*more, says=("not finite in 3 steps in a row", "exp/run/config.yaml", "-c run"))
    assert "step 3: the loss is not finite, step skipped (image ids " in told
    state = checkpoint.load(shell.runs / "run" / "last.pt")
    assert all(value.isfinite().all() for value in state["model"].values())
    assert "continuing at step" in shell.works("-c", "run")
    assert checkpoint.load(shell.runs / "run" / "last.pt")["progress"]["step"] == 9


def test_ctrl_c_before_the_training_starts(shell: Shell) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with shell.monkeypatch.context() as patch:
        patch.setattr("pose.training.prepare_data", interrupted)
        assert command(patch, *shell.new()) == 130
    assert "Traceback" not in shell.capsys.readouterr().err and not shell.runs.exists()
