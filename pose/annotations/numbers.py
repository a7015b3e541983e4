"""Numbers of a JSON file, looked at before they are believed; columns of them as arrays.

Numbers are accepted where they are unambiguous: 1.0 and "1" are the whole number 1, "false" is false.
"""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

LARGEST = 1e9  # coordinates beyond this are no numbers
NONE = -(2**63)  # stands for a whole number that is missing
WHOLE_TEXT = re.compile(r"\s*[+-]?\d{1,19}(\.0*)?\s*")
NUMBER_TEXT = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*")
FALSE = ("0", "false", "f", "no", "n", "off", "none", "null", "nan", "")
TRUTHS = {**dict.fromkeys(FALSE, False), **dict.fromkeys(("1", "true", "t", "yes", "y", "on"), True)}


class Whole(NamedTuple):
    """A column of whole numbers."""

    values: np.ndarray  # (N,) int64, NONE where there is none
    floats: np.ndarray  # (N,) bool: written as 1.0
    texts: np.ndarray  # (N,) bool: written as text


def whole(value: Any) -> int | None:
    """A whole number that fits an int64, also written as 640.0 or "640"."""
    if isinstance(value, str) and len(value) < 64 and WHOLE_TEXT.fullmatch(value):
        value = int(value.strip().partition(".")[0])
    elif isinstance(value, float) and value.is_integer():
        value = int(value)
    ok = isinstance(value, int) and not isinstance(value, bool) and -(2**63) < value < 2**63
    return int(value) if ok else None


def whole_column(values: Sequence[Any]) -> Whole:
    none = np.zeros(len(values), bool)
    if set(map(type, values)) == {int}:  # nearly always
        try:
            return Whole(np.array(values, np.int64), none, none)
        except OverflowError:
            pass
    found = [whole(value) for value in values]
    return Whole(
        np.array([NONE if number is None else number for number in found], np.int64),
        np.array([isinstance(v, float) and n is not None for v, n in zip(values, found)], bool),
        np.array([isinstance(v, str) and n is not None for v, n in zip(values, found)], bool),
    )


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) < LARGEST  # neither nan nor infinite


def number(value: Any) -> float:
    """NaN for what is no finite number; a number may be written as text.  JSON has integers of any length."""
    if isinstance(value, str) and len(value) < 64 and NUMBER_TEXT.fullmatch(value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        return math.nan
    try:
        result = float(value)
    except OverflowError:
        return math.nan
    return result if math.isfinite(result) else math.nan


def number_column(values: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    """(N,) float64, NaN for what is none, and (N,) bool: written as text."""
    if set(map(type, values)) <= {int, float}:  # nearly always
        try:
            column = np.array(values, np.float64)
        except OverflowError:  # a whole number beyond 1e308
            pass
        else:
            column[~np.isfinite(column)] = np.nan
            return column, np.zeros(len(values), bool)
    column = np.array([number(value) for value in values], np.float64)
    texts = np.array([isinstance(value, str) for value in values], bool) & ~np.isnan(column)
    return column, texts


class Truths(NamedTuple):
    """A column of true and false."""

    values: np.ndarray  # (N,) bool
    texts: np.ndarray  # (N,) bool: written as text
    odd: np.ndarray  # (N,) bool: neither; another number is true, anything else false


def truth_column(values: Sequence[Any]) -> Truths:
    """Reads 0, 1, true, false, also as text; what is missing is false."""
    truths, texts, odd = (np.zeros(len(values), bool) for _ in range(3))
    for i, value in enumerate(values):
        if value is None or (isinstance(value, int | float) and value == 0):
            continue
        if isinstance(value, str):
            known = TRUTHS.get(value.strip().lower().removesuffix(".0"))
            truths[i], texts[i], odd[i] = bool(known), known is not None, known is None
        else:
            truths[i] = isinstance(value, int | float) and value == value  # NaN is not itself
            odd[i] = not (isinstance(value, int | float) and value == 1)
    return Truths(truths, texts, odd)


class Columns:
    """N records by their keys, as arrays.  `floats` (N,) bool: where one of the whole numbers asked for is
    written as 1.0; `texts`: where any number is written as text."""

    def __init__(self, records: Sequence[Mapping[str, Any]]) -> None:
        self.records = records
        self.floats, self.texts = (np.zeros(len(records), bool) for _ in range(2))

    def given(self, key: str) -> list[Any]:
        return [record.get(key) for record in self.records]

    def whole(self, key: str, other: str = "") -> np.ndarray:
        """(N,) int64, NONE where there is none.  other: the key where `key` is absent."""
        values, floats, texts = whole_column(
            [record.get(key, record.get(other)) for record in self.records] if other else self.given(key)
        )
        self.floats, self.texts = self.floats | floats, self.texts | texts
        return values

    def numbers(self, key: str) -> np.ndarray:
        """(N,) float64, NaN where there is none."""
        values, texts = number_column(self.given(key))
        self.texts = self.texts | texts
        return values

    def boxes(self, key: str) -> np.ndarray:
        """(N, 4) float64, NaN where one is missing or has a number that is none."""
        given = self.given(key)
        if all(type(box) is array and len(box) == 4 for box in given):  # nearly always
            values = b"".join([box if box.typecode == "d" else array("d", box) for box in given])
            boxes = np.frombuffer(values, np.float64).reshape(-1, 4).copy()
            boxes[~np.isfinite(boxes).all(1)] = np.nan
            return boxes
        boxes = np.full((len(given), 4), np.nan)
        for i, box in enumerate(given):
            if isinstance(box, array) and len(box) == 4:
                boxes[i] = box
            elif isinstance(box, list | tuple | np.ndarray) and len(box) == 4:
                boxes[i], texts = number_column(list(box))
                self.texts[i] |= texts.any()
        boxes[~np.isfinite(boxes).all(1)] = np.nan
        return boxes

    def has(self, key: str) -> np.ndarray:
        """(N,) bool: there, and not null."""
        return np.array([value is not None for value in self.given(key)], bool)


def rows_of(known: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The first row of each wanted id among the known ones, -1 where it is not there."""
    if not len(known):
        return np.full(len(wanted), -1, np.int64)
    order = np.argsort(known, kind="stable")
    row = order[np.searchsorted(known[order], wanted).clip(max=len(known) - 1)]
    return np.where((known[row] == wanted) & (wanted != NONE), row, -1)


def first_of(ids: np.ndarray) -> np.ndarray:
    """(N,) the row of the first one with the same id; -1 for a first one, and where there is none."""
    first = rows_of(ids, ids)
    return np.where(first == np.arange(len(ids)), -1, first)
