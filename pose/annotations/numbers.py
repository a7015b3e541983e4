"""Numbers of a JSON file, looked at before they are believed."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from typing import Any

LARGEST = 1e9  # coordinates and areas beyond this are no numbers


def whole(value: Any) -> int | None:
    """A whole number that fits an int64; 640.0 counts as one."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    ok = isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63
    return value if ok else None


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) < LARGEST  # neither nan nor infinite


def box_of(annotation: Mapping[str, Any]) -> list[float] | None:
    """x, y, width, height, if they are usable."""
    box = annotation.get("bbox")
    if not isinstance(box, list | array) or len(box) != 4:
        return None
    if not all(is_number(v) for v in box) or min(box[2:]) <= 0:
        return None
    return [float(v) for v in box]
