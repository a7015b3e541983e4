"""Numbers that are written in other ways are read where they are unambiguous."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from pose.annotations.numbers import NONE, number, number_column, truth_column, whole, whole_column


@pytest.mark.parametrize("value", [7, 7.0, "7", "7.0", " 7 ", "+7", "007", "000000000007", "7."])
def test_a_whole_number_however_it_is_written(value: Any) -> None:
    assert whole(value) == 7


@pytest.mark.parametrize(
    "value",
    [
        7.5,
        "7.5",
        "7e0",
        "seven",
        "",
        "p00",
        "0x7",
        None,
        True,
        [7],
        {},
        math.nan,
        math.inf,
        "nan",
        2**63,
        "9" * 30,
    ],
)
def test_no_whole_number(value: Any) -> None:
    assert whole(value) is None


@pytest.mark.parametrize("value", [1.5, "1.5", " 1.5 ", "+1.5", "15e-1", "1.50"])
def test_a_number_however_it_is_written(value: Any) -> None:
    assert number(value) == 1.5


@pytest.mark.parametrize(
    "value", ["1,5", "nan", "inf", "", "one", None, True, [1.5], 10**400, math.inf, "1e999"]
)
def test_no_number(value: Any) -> None:
    assert math.isnan(number(value))


def test_columns_tell_how_numbers_are_written() -> None:
    values, floats, texts = whole_column([1, 2.0, "3", "4.0", None, "five"])
    assert values.tolist() == [1, 2, 3, 4, NONE, NONE]
    assert floats.tolist() == [False, True, False, False, False, False]
    assert texts.tolist() == [False, False, True, True, False, False]
    column, texts = number_column([1, "2.5", None])
    assert np.array_equal(column, [1, 2.5, math.nan], equal_nan=True) and texts.tolist() == [
        False,
        True,
        False,
    ]


@pytest.mark.parametrize(
    "value", [0, 0.0, False, None, "0", "0.0", "false", "False", "NO", "off", "null", "n", ""]
)
def test_what_is_false(value: Any) -> None:
    truths = truth_column([value])
    assert not truths.values[0] and not truths.odd[0]


@pytest.mark.parametrize("value", [1, 1.0, True, "1", "1.0", "true", "TRUE", "yes", "on", "Y"])
def test_what_is_true(value: Any) -> None:
    truths = truth_column([value])
    assert truths.values[0] and not truths.odd[0]


@pytest.mark.parametrize(
    ("value", "counts"), [(2, True), (-1, True), ("maybe", False), ([], False), ({}, False)]
)
def test_what_is_neither_is_told(value: Any, counts: bool) -> None:
    """COCO's metric takes any number but 0 as true."""
    truths = truth_column([value])
    assert truths.odd[0] and truths.values[0] == counts


def test_any_number_but_nan_and_0_is_true() -> None:
    truths = truth_column([10**400, -(10**400), math.inf, 0.5, math.nan, 0, None])
    assert truths.values.tolist() == [True, True, True, True, False, False, False]
    assert truths.odd.tolist() == [True, True, True, True, True, False, False]
