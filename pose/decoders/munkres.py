"""Cheapest assignment by Munkres' algorithm, with the choice among equal optima that munkres 1.1.4 makes.

Costs of grouping are rounded, so that many assignments are equally cheap and the people depend on which one a
solver finds.  The results of pose-ae-train, HigherHRNet and MMPose 0.x are those of the Python package
munkres, whose versions choose differently (3.0.0 otherwise than 1.1.4): this is the choice of 1.1.4, whatever
is installed.
"""

from __future__ import annotations

import numpy as np


def assign(cost: np.ndarray) -> np.ndarray:
    """cost (M, N) float64, finite -> (M,) int64: the column of each row in a cheapest assignment, -1 for the
    rows that are left over where M > N.

    The matrix is filled up with zeros to a square.  Zeros are tested exactly, as in the original: rounding
    takes part in the choice.  Raises ValueError for costs that are not finite."""
    cost = np.asarray(cost, np.float64)
    if cost.ndim != 2 or not np.isfinite(cost).all():
        raise ValueError("expected a matrix of finite costs")
    rows, columns = cost.shape
    if not rows or not columns:
        return np.full(rows, -1)
    size = max(rows, columns)
    square = np.zeros((size, size))
    square[:rows, :columns] = cost
    star = np.array(_Search(square).run()[:rows])
    return np.where(star < columns, star, -1)


class _Search:
    """One assignment.  Sets of rows or columns are integers with a bit for each: a zero is found in a few of
    Python's operations, and only the cost matrix itself is left to numpy."""

    def __init__(self, cost: np.ndarray) -> None:
        """cost (n, n) float64 is overwritten."""
        self.cost = cost
        self.size = len(cost)
        cost -= cost.min(axis=1, keepdims=True)
        self.zeros = self._zeros()
        self.star_in_row = [-1] * self.size  # the column of the star, -1 for none
        self.star_in_column = [-1] * self.size

    def run(self) -> list[int]:
        """-> the column of each row."""
        free = (1 << self.size) - 1  # columns without a star
        for row, zeros in enumerate(self.zeros):
            if zeros & free:
                column = _first(zeros & free)
                self._star(row, column)
                free &= ~(1 << column)
        while free:
            free &= ~(1 << self._improve(free))
        return self.star_in_row

    def _improve(self, free: int) -> int:
        """Adds one star; `free` are the columns without -> which of them has one now."""
        uncovered = free  # columns: those with a star are covered
        open_rows = list(range(self.size))  # not covered, ascending
        primes = [-1] * self.size
        row = column = 0
        while True:
            found = self._row_with_zero(open_rows, row, uncovered)
            if found < 0:
                self._make_zero(open_rows, uncovered)
                row = column = 0
                continue
            here = self.zeros[found] & uncovered
            row, column = found, _last((here & ((1 << column) - 1)) or here)
            primes[row] = column
            starred = self.star_in_row[row]
            if starred < 0:
                return self._swap(row, primes)
            open_rows.remove(row)
            uncovered |= 1 << starred
            column = starred

    def _row_with_zero(self, open_rows: list[int], start: int, uncovered: int) -> int:
        """The first of the rows, counted on from `start` and around, that has a zero in an `uncovered`
        column; -1 for none."""
        zeros, wrapped = self.zeros, -1
        for row in open_rows:
            if zeros[row] & uncovered:
                if row >= start:
                    return row
                if wrapped < 0:
                    wrapped = row
        return wrapped

    def _make_zero(self, open_rows: list[int], uncovered: int) -> None:
        """The smallest uncovered cost becomes 0."""
        columns = [column for column in range(self.size) if uncovered >> column & 1]
        smallest = self.cost[open_rows][:, columns].min()
        down, across = np.full((self.size, 1), smallest), np.zeros(self.size)
        down[open_rows], across[columns] = 0, smallest
        self.cost += down  # first this and then that where both happen, which may round
        self.cost -= across
        self.zeros = self._zeros()

    def _swap(self, row: int, primes: list[int]) -> int:
        """Stars the primes on the way from `row`, a row without a star, to a column without one -> that
        column."""
        while True:
            column = primes[row]
            other = self.star_in_column[column]
            self._star(row, column)
            if other < 0:
                return column
            row = other

    def _star(self, row: int, column: int) -> None:
        self.star_in_row[row] = column
        self.star_in_column[column] = row

    def _zeros(self) -> list[int]:
        """The columns of the zeros of each row."""
        packed = np.packbits(self.cost == 0, axis=1, bitorder="little")
        row, data = packed.shape[1], packed.tobytes()
        return [int.from_bytes(data[i : i + row], "little") for i in range(0, len(data), row)]


def _first(columns: int) -> int:
    return (columns & -columns).bit_length() - 1


def _last(columns: int) -> int:
    return columns.bit_length() - 1
