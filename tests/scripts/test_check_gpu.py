"""scripts/check_gpu.sh: a sentence without a GPU, and the whole way on a CPU at the smallest sizes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import Report, markdown

ROOT = Path(__file__).parents[2]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """With a virtual environment whose Python is this one and whose pip does nothing."""
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nif [ "$2" = pip ]; then exit 0; fi\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return {
        **os.environ,
        "POSE_VENV": str(tmp_path / "venv"),
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
    }


def check(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(ROOT / "scripts" / "check_gpu.sh"), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@pytest.mark.skipif(sys.platform == "win32", reason="a bash script")
def test_without_a_gpu_it_says_so(environment: dict[str, str]) -> None:
    done = check(environment)
    assert done.returncode == 2
    (told,) = done.stderr.strip().splitlines()
    assert told.startswith("error: no GPU is visible here") and "--device cpu --smallest" in told


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="a bash script")
def test_everything_runs_on_a_cpu(environment: dict[str, str], tmp_path: Path) -> None:
    done = check(environment, "--device", "cpu", "--smallest", "--output", str(tmp_path / "out"))
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    found = json.loads((tmp_path / "out" / "gpu.json").read_text())
    assert found["left_out"] == []
    assert {"with the loader", "DDP of one process", "test, multi", "quickstart in bf16"} <= {*found["found"]}
    assert found["found"]["hourglass-1 64: fp32"]["images/s"] > 0
    assert "| hourglass-1 64 | fp32 |" in (tmp_path / "out" / "gpu.md").read_text()


def test_what_has_no_time_or_memory_is_left_out_by_name() -> None:
    report = Report(time.monotonic() + 60)

    def too_large() -> None:
        raise torch.cuda.OutOfMemoryError("")

    report.part("net: fp32", lambda: {"images/s": 2.0})
    report.part("net: bf16", too_large)
    report.part("net: compiled", lambda: 1, seconds=100)
    assert report.found == {"net: fp32": {"images/s": 2.0}}
    text = markdown(report, "card")
    assert "| net | fp32 | 2.0 | - | - |" in text
    assert "- net: bf16: the device has too little memory" in text and "- net: compiled: no time left" in text
