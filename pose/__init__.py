"""Bottom-up multi-person pose estimation: train, test and compare methods from YAML."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pose.predictor import Predictor as Predictor

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`pose.Predictor`, imported when it is first asked for: the commands start without what it needs."""
    if name != "Predictor":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pose.predictor import Predictor

    return Predictor
