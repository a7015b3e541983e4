"""Bottom-up multi-person pose estimation: train, test and compare methods from YAML."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

# before torch is loaded: its idle threads would spin on cores that read, draw or feed the network
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if TYPE_CHECKING:
    from pose.predictor import Predictor as Predictor

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`pose.Predictor`, imported when it is first asked for: the commands start without what it needs."""
    if name != "Predictor":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pose.predictor import Predictor

    return Predictor
