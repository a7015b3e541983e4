"""Numbers of a JSON file, whatever stands in their place."""

from __future__ import annotations

import math

from pose.annotations.numbers import truth_column


def test_any_number_but_nan_and_0_is_true() -> None:
    truths = truth_column([10**400, -(10**400), math.inf, 0.5, math.nan, 0, None])
    assert truths.values.tolist() == [True, True, True, True, False, False, False]
    assert truths.odd.tolist() == [True, True, True, True, True, False, False]
