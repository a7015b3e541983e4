"""Shared fixtures."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads starve other workers
# every machine computes as one without bf16, also in the commands that tests start: what `precision: auto`
# takes would depend on how busy it is
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE")

# several processes of tests share the cores: each, and the commands that it starts, works on one thread
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)

# `pytest &` in a script is deaf to Ctrl-C, and so would be the commands that tests start and interrupt
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Small real data sets, no part of the project; tests that want them skip without."""
    folder = Path(os.environ.get("POSE_REAL_DATA", Path(__file__).parents[1] / ".." / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no real data beside the checkout (set POSE_REAL_DATA)")
    return folder.resolve()


@pytest.fixture(scope="session")
def fake_cuda() -> None:
    """CUDA tensors without contents, on any machine; torch 2.6 fills them on a GPU."""
    try:
        with FakeTensorMode():
            torch.zeros(2, device="cuda").uniform_()
    except RuntimeError as error:
        pytest.skip(f"torch {torch.__version__} has no fake CUDA tensors here ({str(error).splitlines()[0]})")
