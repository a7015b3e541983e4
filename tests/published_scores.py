"""What published evaluators say of drawn people: files beside the checkout, no part of the project."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pose.metrics.base import Metric, settings_of
from pose.registry import METRICS


class Published:
    """Cases by name: files, and the numbers of each evaluator."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cases: dict[str, Any] = json.loads((folder / "expected.json").read_text())
        sets = json.loads((folder / "skeletons_and_sigmas.json").read_text())
        self.sigmas = {name: tuple(one["sigmas"]) for name, one in sets.items() if one.get("sigmas")}

    def metric(self, name: str, file: str, **options: Any) -> Metric:
        return METRICS[name].component.open(settings_of(name, options), self.folder / file)


def published(real_data: Path) -> Published:
    folder = real_data / "golden" / "evaluators"
    if not folder.is_dir():
        pytest.skip("no published scores beside the checkout")
    return Published(folder)


def same(numbers: Mapping[str, float], expected: Mapping[str, float]) -> bool:
    """expected: keys such as `AP_M`."""
    short = {"AP_M": "APM", "AP_L": "APL", "AR_M": "ARM", "AR_L": "ARL"}
    return {short.get(k, k): numbers[short.get(k, k)] for k in expected} == pytest.approx(
        {short.get(k, k): value for k, value in expected.items()}, rel=0, abs=1e-9
    )
