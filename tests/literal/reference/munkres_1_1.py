"""Munkres' algorithm as the Python package munkres goes through it from 1.0.11 to 1.1.4, cell by cell.

Which of several equally cheap assignments it finds follows from the order in which it looks for zeros, and
from rounding, as zeros are tested exactly.  Versions before and after choose otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence


class Munkres:
    """One assignment; `cost` is n x n."""

    def __init__(self, cost: Sequence[Sequence[float]]) -> None:
        self.size = len(cost)
        smallest = [min(row) for row in cost]
        self.cost = [[value - least for value in row] for row, least in zip(cost, smallest, strict=True)]
        self.star_of_row: list[int | None] = [None] * self.size
        self.star_of_column: list[int | None] = [None] * self.size
        self.uncover()

    def uncover(self) -> None:
        self.prime_of_row: list[int | None] = [None] * self.size
        self.row_covered = [False] * self.size
        self.column_covered = [False] * self.size

    def solve(self) -> list[int]:
        """-> the column of each row."""
        for row in range(self.size):
            for column in range(self.size):
                if self.cost[row][column] == 0 and self.star_of_column[column] is None:
                    self.set_star(row, column)
                    break
        while None in self.star_of_column:
            self.uncover()
            self.column_covered = [star is not None for star in self.star_of_column]
            self.move_stars(self.find_start())
        return [column for column in self.star_of_row if column is not None]

    def set_star(self, row: int, column: int) -> None:
        self.star_of_row[row], self.star_of_column[column] = column, row

    def find_start(self) -> int:
        """Primes zeros until one is in a row without a star -> that row."""
        row = column = 0
        while True:
            found = self.find_zero(row, column)
            if found is None:
                self.make_zero()
                row = column = 0
                continue
            row, column = found
            self.prime_of_row[row] = column
            star = self.star_of_row[row]
            if star is None:
                return row
            self.row_covered[row], self.column_covered[star] = True, False
            column = star

    def find_zero(self, row: int, column: int) -> tuple[int, int] | None:
        """From `row` on and around, the first row with an uncovered zero; of these, from `column` on and
        around, the last."""
        for i in range(self.size):
            here = (row + i) % self.size
            last = None
            for j in range(self.size):
                there = (column + j) % self.size
                covered = self.row_covered[here] or self.column_covered[there]
                if self.cost[here][there] == 0 and not covered:
                    last = there
            if last is not None:
                return here, last
        return None

    def make_zero(self) -> None:
        cells = [(i, j) for i in range(self.size) for j in range(self.size)]
        open_cells = [(i, j) for i, j in cells if not self.row_covered[i] and not self.column_covered[j]]
        smallest = min(self.cost[i][j] for i, j in open_cells)
        for i, j in cells:
            if self.row_covered[i]:
                self.cost[i][j] += smallest
            if not self.column_covered[j]:
                self.cost[i][j] -= smallest

    def move_stars(self, row: int | None) -> None:
        """Along primes and stars by turns: every prime on the way becomes a star."""
        while row is not None:
            column = self.prime_of_row[row]
            assert column is not None
            other = self.star_of_column[column]
            self.set_star(row, column)
            row = other


def compute(cost: Sequence[Sequence[float]]) -> list[tuple[int, int]]:
    """cost M x N -> pairs of row and column, row by row, min(M, N) of them."""
    rows, columns = len(cost), len(cost[0])
    size = max(rows, columns)
    square = [[*map(float, row), *[0.0] * (size - columns)] for row in cost]
    square += [[0.0] * size for _ in range(size - rows)]
    solution = Munkres(square).solve()[:rows]
    return [(row, column) for row, column in enumerate(solution) if column < columns]
