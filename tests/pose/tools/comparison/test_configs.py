"""How values of configs are shown beside each other."""

from __future__ import annotations

from pose.tools.comparison.configs import LONGEST, flat, shown


def test_long_lists_that_differ_do_not_look_the_same() -> None:
    long = [[a, a + 1] for a in range(40)]
    assert shown(long) != shown([*long[:-1], [0, 0]])
    assert len(shown(long)) <= LONGEST and shown([1, 2]) == "[1, 2]"


def test_sections_become_dotted_keys_and_lists_stay_values() -> None:
    plain = {"a": {"b": {"c": 1}, "d": [{"e": 2}]}, "f": {}}
    assert flat(plain) == {"a.b.c": 1, "a.d": [{"e": 2}], "f": {}}
