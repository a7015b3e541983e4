"""Standard output and error that are closed, full or read by nobody, and run folders that cannot be written:
the work goes on, or the exit code is 2 with a sentence where one can be said."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.small_machines import can_mount
from tests.training_fixtures import command, drawn, environment, settings

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a shell and a device that is full"),
]
SHORT = ("train.epochs=1", "train.steps_per_epoch=2", "train.validate_images=4", "train.panels_every=2")
BROKEN = {  # redirection -> (output lost, error lost)
    "2>&-": (False, True),
    ">&-": (True, False),
    "<&- >&- 2>&-": (True, True),
    "2>/dev/full": (False, True),
    ">/dev/full": (True, False),
    ">/dev/full 2>&1": (True, True),
    "2> >(exec true)": (False, True),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a run `good`, results, and the data."""
    folder = tmp_path_factory.mktemp("streams")
    data = drawn(folder)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        assert command(monkeypatch, "-e", "good", *settings(data, *SHORT)) == 0
    (folder / "results.json").write_text("[]")
    return folder


def shell(folder: Path, line: str, redirection: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", f"{shlex.quote(sys.executable)} -m {line} {redirection}"], cwd=folder, timeout=120,
        capture_output=True, text=True, env=environment(),
    )  # fmt: skip


def lines_of(folder: Path) -> dict[str, tuple[str, str]]:
    """Command lines, and the file that each writes."""
    image = next((folder / "tiny/val").glob("*.jpg"))
    train = shlex.join(settings(folder / "tiny", *SHORT))
    truth = folder / "tiny/annotations/person_keypoints_val.json"
    return {
        "train": (f"pose.train -e new --device cpu {train}", "exp/new/last.pt"),
        "test": ("pose.test -c good --device cpu", "exp/good/metrics-single.json"),
        "demo": (f"pose.demo -c good --device cpu {image}", f"exp/good/demo/{image.name}"),
        "list": ("pose.tools.list", ""),
        "score": (
            f"pose.tools.score coco --annotations {truth} --results results.json -o out.json",
            "out.json",
        ),
    }


EACH = [(one, name) for one in BROKEN for name in ("train", "list")]
SOME = [(one, name) for one in ("<&- >&- 2>&-", ">/dev/full") for name in ("test", "demo", "score")]


@pytest.mark.parametrize(("redirection", "name"), [*EACH, *SOME])
def test_streams_that_cannot_be_written(folder: Path, redirection: str, name: str) -> None:
    """The files are written; an output that is lost is told when the work is done.  Training writes to the
    standard error only."""
    line, file = lines_of(folder)[name]
    subprocess.run(["rm", "-rf", folder / "exp/new", *([folder / file] if file else [])], check=True)
    done = shell(folder, line, redirection)
    no_output, no_error = BROKEN[redirection]
    assert "Traceback" not in done.stderr + done.stdout
    assert done.returncode == (2 if no_output and name != "train" else 0), done
    assert not file or (folder / file).is_file()
    if no_output and not no_error and name != "train":
        assert "error: cannot write to the standard output: " in done.stderr


@pytest.mark.parametrize("name", ["test", "list", "score"])
def test_a_pipe_that_nobody_reads_ends_a_command_quietly(folder: Path, name: str) -> None:
    done = shell(folder, lines_of(folder)[name][0], "> >(exec true)")
    assert done.returncode in (0, 141) and "rror" not in done.stderr, done


def test_help_for_a_full_device(folder: Path) -> None:
    done = shell(folder, "pose.train --help", ">/dev/full")
    assert done.returncode == 2 and done.stderr.startswith("error: cannot write to the standard output"), done
    assert shell(folder, "pose.train --nonsense", "2>/dev/full").returncode == 2


@pytest.mark.skipif(not can_mount(), reason="needs root")
@pytest.mark.parametrize("name", ["train", "continue", "test", "demo"])
def test_run_folders_that_cannot_be_written(folder: Path, name: str) -> None:
    line = lines_of(folder)[name][0] if name != "continue" else "pose.train -c good --device cpu"
    runs = shlex.quote(str(folder / "exp"))
    text = (
        f"mount --bind {runs} {runs} && mount -o remount,ro,bind {runs} && "
        f"exec {shlex.quote(sys.executable)} -m {line}"
    )
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", text], cwd=folder, timeout=120, capture_output=True, text=True,
        env=environment(),
    )  # fmt: skip
    told = done.stderr
    assert "Traceback" not in told, told
    if name == "demo":  # not written at all: the drawing is listed
        assert done.returncode in (1, 2) and "Read-only file system" in told + done.stdout, done
    else:
        assert done.returncode == 2 and told.count("error: ") == 1, told
        assert "Read-only file system" in told and "exp/" in told, told
