"""scripts/slurm.sbatch with a fake cluster: what it starts, and what it does near the time limit."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pose.train import parse

SCRIPT = Path(__file__).parents[2] / "scripts" / "slurm.sbatch"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a bash script")

SCONTROL = """#!/bin/sh
if [ "$1" = show ]; then echo node-a; echo node-b; else echo "$@" >> calls.txt; fi
"""
# as srun: notes what it is to start, and ends when it is told to
SRUN = """#!/bin/bash
trap 'echo saved >> calls.txt; exit 143' TERM
echo "$@" > started.txt
[[ -n "$FAKE_DONE" ]] && exit "$FAKE_DONE"
while true; do sleep 0.05; done
"""


@pytest.fixture
def cluster(tmp_path: Path) -> dict[str, str]:
    """The environment of a job; the current folder is tmp_path."""
    for name, text in (("scontrol", SCONTROL), ("srun", SRUN)):
        file = tmp_path / "bin" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        file.chmod(0o755)
    activate = tmp_path / ".venv" / "bin" / "activate"
    activate.parent.mkdir(parents=True)
    activate.write_text("")
    return {
        "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "SLURM_JOB_NODELIST": "node-[a-b]",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_JOB_ID": "4711",
        "SLURM_GPUS_ON_NODE": "8",
    }


def start(folder: Path, environment: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["bash", SCRIPT, *arguments], cwd=folder, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def test_it_is_valid(tmp_path: Path) -> None:
    subprocess.run(["bash", "-n", SCRIPT], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", SCRIPT], check=True)


def test_what_it_starts(tmp_path: Path, cluster: dict[str, str]) -> None:
    more = ["--config", "configs/coco/ae_small.yaml", "train.epochs=3"]
    job = start(tmp_path, {**cluster, "FAKE_DONE": "0"}, "mine", *more)
    assert job.wait(30) == 0
    words = (tmp_path / "started.txt").read_text().split()
    launcher, training = words[: words.index("-m")], words[words.index("-m") + 1 :]
    for option, value in (
        ("--nnodes", "2"), ("--nproc-per-node", "8"),
        ("--rdzv-endpoint", "node-a:30211"), ("--rdzv-id", "4711"),
    ):  # fmt: skip
        assert launcher[launcher.index(option) + 1] == value
    assert training[0] == "pose.train"
    options = parse(training[1:])
    assert (options.experiment, options.config, options.settings) == ("mine", more[1], more[2:])
    assert not (tmp_path / "calls.txt").exists()


def test_near_the_time_limit_it_saves_and_is_queued_again(tmp_path: Path, cluster: dict[str, str]) -> None:
    job = start(tmp_path, cluster, "mine")
    deadline = time.monotonic() + 30
    while not (tmp_path / "started.txt").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    job.send_signal(signal.SIGUSR1)
    assert job.wait(30) == 0
    assert (tmp_path / "calls.txt").read_text().splitlines() == ["saved", "requeue 4711"]


def test_a_failure_is_the_jobs_failure(tmp_path: Path, cluster: dict[str, str]) -> None:
    job = start(tmp_path, {**cluster, "FAKE_DONE": "2"}, "mine")
    assert job.wait(30) == 2 and not (tmp_path / "calls.txt").exists()
    job = start(tmp_path, cluster)
    assert job.wait(30) == 2
    assert job.stdout is not None and job.stdout.read().startswith("usage: sbatch scripts/slurm.sbatch NAME")
