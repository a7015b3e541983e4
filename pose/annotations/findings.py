"""What is wrong with a file of annotations, collected and told together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

Kinds = Mapping[str, tuple[str, str]]  # kind -> (level, sentence)


@dataclass(frozen=True)
class Finding:
    """Something wrong with a file: how often, and the first place."""

    kind: str
    level: str  # "fatal" stops, "repaired" warns (and stops when strict), "note" informs
    sentence: str
    count: int
    first: str

    def __str__(self) -> str:
        text = f"{self.count} {self.sentence}" if self.count else self.sentence
        return f"{text} (first: {self.first})" if self.first else text


class Findings:
    """A collection in the making; `kinds` says what can be wrong."""

    def __init__(self, kinds: Kinds) -> None:
        self.kinds = kinds
        self.counts: dict[str, int] = {}
        self.first: dict[str, str] = {}

    def add(self, kind: str, example: str = "") -> None:
        """Without an example it is about the file as a whole, and not counted."""
        self.counts[kind] = self.counts.get(kind, 0) + bool(example)
        self.first.setdefault(kind, example)

    def all(self) -> tuple[Finding, ...]:
        """In the order of `kinds`."""
        return tuple(
            Finding(kind, level, sentence, self.counts[kind], self.first[kind])
            for kind, (level, sentence) in self.kinds.items()
            if kind in self.first
        )


def report(path: Path | str, findings: Sequence[object], advice: str) -> str:
    """The text of the `UserError` that findings end in."""
    return f"{path} cannot be used:\n" + "\n".join(f"  {one}" for one in findings) + f"\n{advice}"
