"""The solver of assignments against its literal restatement, recorded choices of munkres 1.1.4, and SciPy."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from pose.decoders.munkres import assign
from tests.literal.reference import munkres_1_1


def costs(number: int = 300) -> Iterator[np.ndarray]:
    """Matrices of up to 20 x 30 cells: any numbers, few different ones, and costs of grouping in one and two
    dimensions, whose differences are rounded."""
    rng = np.random.default_rng(0)
    for i in range(number):
        rows, columns = int(rng.integers(1, 21)), int(rng.integers(1, 31))
        columns = rows if i % 3 == 0 else columns
        heat = rng.random((rows, 1)).astype(np.float32)
        if i % 5 == 0:
            cost = rng.random((rows, columns))
        elif i % 5 == 1:
            cost = rng.integers(0, 4, (rows, columns)).astype(float)
        else:
            dims = 1 + i % 2
            one, other = rng.normal(0, 5, (rows, 1, dims)), rng.normal(0, 5, (1, columns, dims))
            cost = np.rint(np.sqrt(((one - other) ** 2).sum(2))) * 100 - heat
        if rows > columns and i % 2:
            cost = np.pad(cost, ((0, 0), (0, rows - columns)), constant_values=1e10)
        yield cost


def pairs(column: np.ndarray) -> list[tuple[int, int]]:
    return [(row, to) for row, to in enumerate(column.tolist()) if to >= 0]


def test_equals_the_literal_version() -> None:
    different = 0
    for cost in costs():
        found = assign(cost)
        assert pairs(found) == munkres_1_1.compute(cost.tolist())
        rows, columns = linear_sum_assignment(cost)
        np.testing.assert_allclose(cost[found >= 0, found[found >= 0]].sum(), cost[rows, columns].sum())
        different += pairs(found) != list(zip(rows.tolist(), columns.tolist(), strict=True))
    assert different > 100  # there are ties, so that the order in which it looks for zeros matters


def test_makes_the_recorded_choices(real_data: Path) -> None:
    file = real_data / "golden" / "decoder" / "assignments.npz"
    if not file.is_file():
        pytest.skip(f"no {file}")
    recorded = np.load(file)
    values, chosen, first, row = recorded["values"], recorded["column_of_row"], 0, 0
    for rows, columns in zip(recorded["rows"].tolist(), recorded["columns"].tolist(), strict=True):
        cost = values[first : first + rows * columns].reshape(rows, columns)
        np.testing.assert_array_equal(assign(cost), chosen[row : row + rows])
        first, row = first + rows * columns, row + rows
    assert first == len(values) and len(recorded["rows"]) == 931


def test_equals_the_package_whose_choices_it_makes() -> None:
    package = pytest.importorskip("munkres")
    version = tuple(int(part) for part in metadata.version("munkres").split(".")[:3])
    if not (1, 0, 11) <= version <= (1, 1, 4):
        pytest.skip(f"munkres {metadata.version('munkres')} chooses otherwise")
    for cost in costs(100):
        assert pairs(assign(cost)) == package.Munkres().compute(cost.tolist())


def test_rows_that_are_left_over_have_no_column() -> None:
    np.testing.assert_array_equal(assign(np.array([[5.0], [1.0], [3.0]])), [-1, 0, -1])
    np.testing.assert_array_equal(assign(np.array([[2.0, 1.0, 3.0]])), [1])
    assert assign(np.zeros((0, 4))).shape == (0,)
    np.testing.assert_array_equal(assign(np.zeros((2, 0))), [-1, -1])


def test_the_costs_stay_as_they_are_and_are_finite() -> None:
    cost = np.array([[4.0, 1.0], [2.0, 3.0]])
    np.testing.assert_array_equal(assign(cost), [1, 0])
    np.testing.assert_array_equal(cost, [[4.0, 1.0], [2.0, 3.0]])
    for value in (np.nan, np.inf):
        with pytest.raises(ValueError, match="finite"):
            assign(np.array([[value, 1.0]]))
    with pytest.raises(ValueError, match="matrix"):
        assign(np.zeros(3))
