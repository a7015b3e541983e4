"""Keypoint lists of annotations -> one array: flat or nested, with text or true and false in them, and
COCO-WholeBody's further lists."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pose.annotations.categories import plain_name
from pose.annotations.json_file import LISTS
from pose.annotations.keypoint_file import Category
from pose.annotations.numbers import number
from pose.annotations.parts import PARTS, part_names

AT_ONCE = 1 << 15  # keypoint lists that are looked at together


def with_flat_list(record: dict[str, Any]) -> dict[str, Any]:
    """The annotation itself, or with one list of numbers for [[x, y, v], ...]."""
    values = record.get("keypoints")
    numbers = flat(values)
    return record if numbers is values else {**record, "keypoints": numbers}


def flat(values: Any) -> Any:
    """One list of numbers for [[x, y, v], ...]; anything else as it is."""
    if not isinstance(values, list) or not values or not isinstance(values[0], list):
        return values
    if any(not isinstance(one, list) or len(one) != len(values[0]) for one in values):
        return values
    return [number for one in values for number in one]


def list_length(values: Any) -> int:
    """Length of a keypoint list; 0 for none, -1 for what is no list."""
    if type(values) is array or isinstance(values, list | array | tuple | np.ndarray):
        return len(values)
    return 0 if values is None else -1


def keypoint_names(chosen: Sequence[Category], records: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Names of the category and, in COCO-WholeBody's files, of the lists beside `keypoints`."""
    if not chosen:
        return ()
    names, more = chosen[0].keypoints, part_names()
    beside = any(key in one for one in records for key in PARTS)
    return (*names, *more) if beside and not set(map(plain_name, names)) & set(more) else names


def wrong_length(record: Mapping[str, Any], length: int, count: int, named: bool) -> str:
    values = record.get("keypoints")
    has = f"{length} numbers" if length >= 0 else f"a {type(values).__name__}"
    per_name = f"{count} names x 3" if named else "as the first"
    fitting = fitting_key(record, count)
    hint = f"; its {fitting!r} would fit" if fitting else ""
    if isinstance(values, dict):
        hint = "; write one list x, y, v, x, y, v, ... in the order of the category's keypoints"
    if length == 2 * count:
        hint = "; x, y without v? write x, y, v for each keypoint, v = 2 where it is labelled"
    return f"{has}, {3 * count} are needed ({per_name}){hint}"


def fitting_key(record: Mapping[str, Any], count: int) -> str:
    """The key of another list with as many numbers as are needed; "" where there is none."""
    lists = record.get(LISTS) or {}
    return next((key for key, length in lists.items() if count and length == 3 * count), "")


def keypoint_array(
    records: Sequence[Mapping[str, Any]], length: np.ndarray, count: int, named: int, body: int
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """(N, count, 3), and which rows have a number as text, a v that is true or false.

    named: how many keypoints have names; body: of them those of the list `keypoints`, the rest being of
    COCO-WholeBody's lists.  `length` is changed to that of all lists together."""
    total = len(records)
    odd = {"text": np.zeros(total, bool), "truth": np.zeros(total, bool)}
    parts = named > body
    rows = np.zeros((total, 3 * count), np.float32)
    for first in range(0, total, AT_ONCE):
        many = min(AT_ONCE, total - first)
        others: dict[int, list[float]] = {}  # rows of the chunk whose numbers are looked at one by one
        arrays: dict[str, list[tuple[int, array[Any]]]] = {}  # by kind: rows of the chunk, and their numbers
        lengths = length[first : first + AT_ONCE].tolist()
        for i, record in enumerate(records[first : first + AT_ONCE]):
            if parts:
                values = _with_parts(record, body)
                length[first + i] = lengths[i] = -1 if values is None else len(values)
            else:
                values = record.get("keypoints")
            if lengths[i] != 3 * count or values is None:
                continue
            if isinstance(values, array):
                arrays.setdefault(values.typecode, []).append((i, values))
            else:
                others[i] = _numbers(values, odd, first + i)
        exact = not others and arrays.keys() <= {"h"}  # 16 bits fit into a float32
        chunk = np.zeros((many, 3 * count), rows.dtype if exact else np.float64)
        for kind, some in arrays.items():
            numbers = np.frombuffer(b"".join([values for _, values in some]), kind)
            chunk[[i for i, _ in some]] = numbers.reshape(len(some), -1)
        for i, found in others.items():
            chunk[i] = found
        if exact:
            rows[first : first + many] = chunk
            continue
        with np.errstate(over="ignore"):
            small = chunk.astype(np.float32)
        if rows.dtype == np.float32 and not np.array_equal(small, chunk, equal_nan=True):
            rows = rows.astype(np.float64)
        rows[first : first + len(chunk)] = small if rows.dtype == np.float32 else chunk
    return rows.reshape(total, count, 3), odd


def _with_parts(record: Mapping[str, Any], body: int) -> list[Any] | None:
    """The numbers of all of COCO-WholeBody's lists; what is missing is not labelled.  None where one is no
    list."""
    values: list[Any] = []
    for key, count in {"keypoints": body, **{key: len(names) for key, names in PARTS.items()}}.items():
        own = record.get(key)
        if not isinstance(own, list | tuple | array | np.ndarray | None):
            return None
        values += list(own) if own is not None and len(own) else [0] * (3 * count)
    return values


def _numbers(values: Sequence[Any], odd: Mapping[str, np.ndarray], row: int) -> list[float]:
    """One by one; true and false count as 1 and 0 in the place of v."""
    found = []
    for i, value in enumerate(values):
        if isinstance(value, bool) and i % 3 == 2:
            odd["truth"][row] = True
            value = int(value)
        result = number(value)
        odd["text"][row] |= isinstance(value, str) and result == result
        found.append(result)
    return found
