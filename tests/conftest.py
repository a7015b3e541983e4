"""Shared fixtures."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads starve other workers


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Small real data sets, no part of the project; tests that want them skip without."""
    folder = Path(os.environ.get("POSE_REAL_DATA", Path(__file__).parents[1] / ".." / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no real data beside the checkout (set POSE_REAL_DATA)")
    return folder.resolve()
