"""Shared fixtures."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

    """Small real data sets, no part of the project; tests that want them skip without."""


@pytest.fixture(scope="session")
def real_data() -> Path:
    """A folder with small real data sets (not part of the project); tests that want it skip without it."""
    folder = Path(os.environ.get("POSE_REAL_DATA", Path(__file__).parents[1] / ".." / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no real data beside the checkout (set POSE_REAL_DATA)")
    return folder.resolve()
