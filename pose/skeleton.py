"""A skeleton is data: keypoint names, limbs, sigmas, grouping order.  Left and right are derived from the
names."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from pose.errors import UserError
from pose.registry import nearest

SIDES = {"left": "right", "right": "left", "l": "r", "r": "l"}
DEFAULT_SIGMA = 0.05  # near the middle of COCO's 17 values (0.025 .. 0.107)
# One sigma for all keypoints, as tools for animals have it (DeepLabCut, SLEAP).  Both take as area that of
# the rectangle round the labelled keypoints.
RULES = {"dlc": 0.1, "sleap": 0.025}
RULE_NAMES = f"{', '.join(RULES)}, ultralytics (1 / number of keypoints), uniform:NUMBER"


def is_rule(text: str) -> bool:
    """Whether it is meant as one."""
    return text in RULES or text == "ultralytics" or text.startswith("uniform:")


def rule_sigma(rule: str, count: int) -> float:
    """The sigma that a rule gives each of `count` keypoints.  Raises `UserError` for an unknown one."""
    kind, _, number = rule.partition(":")
    try:
        sigma = float(number) if kind == "uniform" else RULES.get(rule)
    except ValueError:
        sigma = None
    sigma = 1 / max(1, count) if rule == "ultralytics" else sigma
    if sigma is None or not 0 < sigma < math.inf:
        raise UserError(f"sigmas: no rule {rule!r}{nearest(rule, RULES)} (known: {RULE_NAMES})")
    return sigma


def mirrored_name(name: str, names: Sequence[str]) -> str:
    """`left_knee` -> `right_knee`, `kneeR` -> `kneeL`; a name without a side is its own mirror."""
    tokens = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+|[^A-Za-z\d]+", name)
    for i, token in enumerate(tokens):
        other = SIDES.get(token.lower())
        if other is None:
            continue
        cased = other.upper() if token.isupper() else other.capitalize() if token[0].isupper() else other
        candidate = "".join([*tokens[:i], cased, *tokens[i + 1 :]])
        if candidate in names or len(token) > 1:  # a lone "l" counts only where its partner exists
            return candidate
    for i in (0, -1):  # "lhip", "hipl": no boundary after the letter, so its partner must exist
        other = SIDES.get(name[i : i + 1 or None].lower())
        if other is not None:
            cased = other.upper() if name[i].isupper() else other
            candidate = cased + name[1:] if i == 0 else name[:-1] + cased
            if candidate in names:
                return candidate
    return name


@dataclass(frozen=True)
class Derived:
    """A keypoint that nobody annotates: the middle of others, labelled where all of them are.

    It is visible (v = 2) where any of them or where all of them are, else occluded (v = 1).  `rounded`: to
    whole pixels, halves to the even one, as rtpose does."""

    middle_of: tuple[str, ...]
    visible: Literal["any", "all"] = "any"
    rounded: bool = False


@dataclass(frozen=True)
class Skeleton:
    """keypoints: K names; limbs: L pairs of names, from the first to the second; sigmas: COCO fall-off per
    keypoint; grouping_order: the order in which keypoints are grouped to people, most reliable first;
    limb_order: the same for limbs; pairs: whose offsets tell that two keypoints are of one person
    (DeeperCut's sparse graph); derived: the keypoints that no annotation has.  Indices and the mirror are
    worked out from the names."""

    name: str
    keypoints: tuple[str, ...]
    limbs: tuple[tuple[str, str], ...] = ()
    sigmas: tuple[float, ...] = ()
    grouping_order: tuple[str, ...] = ()
    mirror: Mapping[str, str] = field(default_factory=dict)
    derived: Mapping[str, Derived] = field(default_factory=dict)
    limb_order: tuple[tuple[str, str], ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()
    no_limbs: str = ""  # why there are none, for messages
    sigma_rule: str = ""  # what `sigmas` are by, see `rule_sigma`

    def __post_init__(self) -> None:
        if self.sigma_rule:
            sigma = rule_sigma(self.sigma_rule, len(self.keypoints))
            object.__setattr__(self, "sigmas", (sigma,) * len(self.keypoints))
        if not self.sigmas:
            object.__setattr__(self, "sigmas", (DEFAULT_SIGMA,) * len(self.keypoints))
        if not self.grouping_order:
            object.__setattr__(self, "grouping_order", self._breadth_first())
        if not self.limb_order:
            object.__setattr__(self, "limb_order", self._tree_first())
        if not self.pairs:
            object.__setattr__(self, "pairs", self._near_pairs())
        problems = self._problems()
        if problems:
            raise UserError(f"skeleton {self.name!r}: " + "; ".join(problems))

    def _breadth_first(self) -> tuple[str, ...]:
        """Keypoints by distance along the limbs from the first keypoint: neighbours follow each other."""
        order: list[str] = []
        for root in self.keypoints:
            queue = [root] if root not in order else []
            while queue:
                name = queue.pop(0)
                if name in order:
                    continue
                order.append(name)
                queue += [b if a == name else a for a, b in self.limbs if name in (a, b)]
        return tuple(name for name in order if name in self.keypoints)

    def _tree_first(self) -> tuple[tuple[str, str], ...]:
        """Limbs along `grouping_order`: those that reach a new keypoint, then those between known ones."""
        tree: list[tuple[str, str]] = []
        reached: set[str] = set()
        for root in self.grouping_order:
            queue = [root] if root not in reached else []
            reached.add(root)
            for name in queue:  # it grows while it is walked
                for a, b in self.limbs:
                    other = {a: b, b: a}.get(name)
                    if other is not None and other not in reached:
                        reached.add(other)
                        queue.append(other)
                        tree.append((a, b))
        return (*tree, *(limb for limb in self.limbs if limb not in tree))

    def _near_pairs(self) -> tuple[tuple[str, str], ...]:
        """Keypoints one or two limbs apart; without limbs, all."""
        names = self.keypoints
        beside = {name: {b if a == name else a for a, b in self.limbs if name in (a, b)} for name in names}
        return tuple(
            (a, b)
            for i, a in enumerate(names)
            for b in names[i + 1 :]
            if not self.limbs or b in beside[a] or beside[a] & beside[b]
        )

    def _mirror_of(self, name: str) -> str:
        pairs = {**self.mirror, **{b: a for a, b in self.mirror.items()}}
        return pairs.get(name) or mirrored_name(name, self.keypoints)

    def _problems(self) -> list[str]:
        names = self.keypoints
        known = set(names)
        problems = []
        if not names:
            problems.append("no keypoints")
        if len(known) != len(names):
            problems.append(f"keypoint {next(n for n in names if names.count(n) > 1)!r} is named twice")
        mentioned = [("limbs", n) for limb in self.limbs for n in limb]
        mentioned += [("grouping_order", n) for n in self.grouping_order]
        mentioned += [("mirror", n) for pair in self.mirror.items() for n in pair]
        mentioned += [("limb_order", n) for limb in self.limb_order for n in limb]
        mentioned += [("pairs", n) for pair in self.pairs for n in pair]
        mentioned += [("derived", n) for name, one in self.derived.items() for n in (name, *one.middle_of)]
        problems += [
            f"{where}: no keypoint {n!r}{nearest(n, names)}" for where, n in mentioned if n not in known
        ]
        if len(self.sigmas) != len(names):
            problems.append(f"{len(names)} keypoints but {len(self.sigmas)} sigmas")
        if not all(0 < sigma < math.inf for sigma in self.sigmas):
            problems.append("sigmas must be positive")
        if sorted(self.grouping_order) != sorted(names) and not problems:
            problems.append("grouping_order must name every keypoint once")
        if sorted(self.limb_order) != sorted(self.limbs) and not problems:
            problems.append("limb_order must list every limb once, written as in limbs")
        for name, one in self.derived.items():
            if not one.middle_of or set(one.middle_of) & set(self.derived):
                problems.append(f"derived: {name!r} must be the middle of annotated keypoints")
        if problems:
            return problems
        if any(a == b for a, b in self.pairs) or len({frozenset(p) for p in self.pairs}) != len(self.pairs):
            problems.append("pairs: a pair is of two different keypoints and is listed once")
        limbs = {frozenset(limb) for limb in self.limbs}
        if any(a == b for a, b in self.limbs) or len(limbs) != len(self.limbs):
            problems.append("a limb joins two different keypoints and is listed once")
        for name in names:
            other = self._mirror_of(name)
            if other not in known:
                problems.append(f"{name!r} would mirror to {other!r}, which is no keypoint; set `mirror`")
            elif self._mirror_of(other) != name:
                problems.append(f"{name!r} mirrors to {other!r}, which mirrors to {self._mirror_of(other)!r}")
        if not problems:
            for a, b in self.limbs:
                if frozenset((self._mirror_of(a), self._mirror_of(b))) not in limbs:
                    problems.append(f"limb {a}-{b} has no mirror image among the limbs")
        return problems

    @property
    def has_default_sigmas(self) -> bool:
        """Whether nothing is known of how exactly each keypoint can be found."""
        return not self.sigma_rule and set(self.sigmas) == {DEFAULT_SIGMA}

    @property
    def sigma_label(self) -> str:
        """How headers name its sigmas."""
        for_all = f"{self.sigmas[0]:g} for all"
        if self.sigma_rule:
            return f"{self.sigma_rule} ({for_all})"
        return for_all if self.has_default_sigmas else self.name

    @cached_property
    def flip_index(self) -> tuple[int, ...]:
        """Permutation of K: keypoint k of a mirrored picture is keypoint flip_index[k]."""
        return tuple(self.keypoints.index(self._mirror_of(name)) for name in self.keypoints)

    @cached_property
    def sides(self) -> tuple[Literal["left", "right", "middle"], ...]:
        """Of each keypoint: a name and its mirror image differ first in the l of left and the r of right."""
        found: list[Literal["left", "right", "middle"]] = []
        for name, other in zip(self.keypoints, (self.keypoints[k] for k in self.flip_index)):
            letter = next((a for a, b in zip(name.lower(), other.lower()) if a != b), "")
            found.append("left" if letter == "l" else "right" if letter == "r" else "middle")
        return tuple(found)

    @property
    def tells_sides(self) -> bool:
        """Whether a name tells left from right, or the skeleton says that none does (`mirror`); one keypoint
        alone has no sides."""
        return len(self) == 1 or bool(self.mirror) or any(side != "middle" for side in self.sides)

    @cached_property
    def limb_index(self) -> tuple[tuple[int, int], ...]:
        return tuple((self.keypoints.index(a), self.keypoints.index(b)) for a, b in self.limbs)

    @cached_property
    def grouping_index(self) -> tuple[int, ...]:
        return tuple(self.keypoints.index(name) for name in self.grouping_order)

    @cached_property
    def limb_order_index(self) -> tuple[int, ...]:
        """Indices of `limb_order` into `limbs`."""
        return tuple(self.limbs.index(limb) for limb in self.limb_order)

    @cached_property
    def pair_index(self) -> tuple[tuple[int, int], ...]:
        """`pairs` as indices (a, b), a < b."""
        indices = [sorted((self.keypoints.index(a), self.keypoints.index(b))) for a, b in self.pairs]
        return tuple((a, b) for a, b in indices)

    @cached_property
    def limb_flip(self) -> tuple[tuple[int, bool], ...]:
        """For each limb: which limb of a mirrored picture it is, and whether it runs the other way there."""
        mirrored = [(self.flip_index[a], self.flip_index[b]) for a, b in self.limb_index]
        return tuple(
            (self.limb_index.index((a, b)), False)
            if (a, b) in self.limb_index
            else (self.limb_index.index((b, a)), True)
            for a, b in mirrored
        )

    @cached_property
    def tree_limbs(self) -> tuple[bool, ...]:
        """For each limb: whether it joins what the limbs before it in `limb_order` do not join already."""
        group = list(range(len(self.keypoints)))
        joins = [False] * len(self.limbs)
        for limb in self.limb_order_index:
            a, b = (group[k] for k in self.limb_index[limb])
            joins[limb] = a != b
            group = [a if g == b else g for g in group]
        return tuple(joins)

    @cached_property
    def annotated(self) -> tuple[str, ...]:
        """The keypoints that annotations have, in the order of `keypoints`."""
        return tuple(name for name in self.keypoints if name not in self.derived)

    @cached_property
    def annotated_index(self) -> tuple[int, ...]:
        """Indices of `annotated` into `keypoints`."""
        return tuple(self.keypoints.index(name) for name in self.annotated)

    def __len__(self) -> int:
        return len(self.keypoints)


def from_dict(data: Mapping[str, Any]) -> Skeleton:
    """The skeleton of a YAML file's mapping.  `sigmas` is a list, a mapping from names or a rule (`dlc`)."""
    _check_types(data)
    sigmas = data.get("sigmas") or ()
    rule = sigmas if isinstance(sigmas, str) else ""
    sigmas = () if rule else sigmas
    if isinstance(sigmas, Mapping):
        missing = [name for name in data["keypoints"] if name not in sigmas]
        if missing:
            raise UserError(f"skeleton {data.get('name')!r}: sigmas: nothing for {', '.join(missing)}")
        sigmas = [sigmas[name] for name in data["keypoints"]]
    return Skeleton(
        name=data.get("name", "custom"),
        keypoints=tuple(data["keypoints"]),
        limbs=tuple((a, b) for a, b in data.get("limbs") or ()),
        sigmas=tuple(float(s) for s in sigmas),
        grouping_order=tuple(data.get("grouping_order") or ()),
        mirror=dict(data.get("mirror") or {}),
        derived={name: _derived(one) for name, one in (data.get("derived") or {}).items()},
        limb_order=tuple((a, b) for a, b in data.get("limb_order") or ()),
        pairs=tuple((a, b) for a, b in data.get("pairs") or ()),
        no_limbs=str(data.get("no_limbs") or ""),
        sigma_rule=rule,
    )


def _derived(data: Mapping[str, Any]) -> Derived:
    return Derived(
        tuple(data["middle_of"]), visible=data.get("visible", "any"), rounded=data.get("rounded", False)
    )


def _check_types(data: Mapping[str, Any]) -> None:
    def texts(value: Any) -> bool:
        listed = isinstance(value, Sequence) and not isinstance(value, str)
        return listed and all(isinstance(v, str) for v in value)

    def numbers(value: Any) -> bool:
        return not isinstance(value, str) and all(
            isinstance(v, (int, float)) and not isinstance(v, bool) for v in value
        )

    def pairs(value: Any) -> bool:
        return isinstance(value, Sequence) and all(texts(limb) and len(limb) == 2 for limb in value)

    def middles(value: Any) -> bool:
        return isinstance(value, Mapping) and all(
            isinstance(one, Mapping)
            and texts(one.get("middle_of"))
            and one.get("visible", "any") in ("any", "all")
            and isinstance(one.get("rounded", False), bool)
            and not set(one) - {"middle_of", "visible", "rounded"}
            for one in value.values()
        )

    sigmas, mirror = data.get("sigmas") or (), data.get("mirror") or {}
    wanted = {
        "keypoints: expected a list of names": texts(data.get("keypoints")),
        "limbs: expected a list of pairs of names": pairs(data.get("limbs") or ()),
        "limb_order: expected a list of pairs of names": pairs(data.get("limb_order") or ()),
        "pairs: expected a list of pairs of names": pairs(data.get("pairs") or ()),
        "derived: expected {name: {middle_of: [names], visible: any or all, rounded: true}}": middles(
            data.get("derived") or {}
        ),
        f"sigmas: expected numbers, as a list or by name, or a rule ({RULE_NAMES})": isinstance(sigmas, str)
        or (isinstance(sigmas, (Sequence, Mapping)))
        and numbers(sigmas.values() if isinstance(sigmas, Mapping) else sigmas),
        "no_limbs: expected a sentence": isinstance(data.get("no_limbs") or "", str),
        "grouping_order: expected a list of names": texts(data.get("grouping_order") or ()),
        "mirror: expected names by name": isinstance(mirror, Mapping) and texts([*mirror, *mirror.values()]),
    }
    wrong = [text for text, fine in wanted.items() if not fine]
    if wrong:
        raise UserError(f"skeleton {data.get('name', 'custom')!r}: " + "; ".join(wrong))


def from_coco_category(category: Mapping[str, Any]) -> Skeleton:
    """The skeleton of a COCO file's category: `keypoints` (names) and `skeleton` (pairs counted from 1).
    `sigmas` and `grouping_order` are taken where the file has them; COCO itself has not."""
    names = category.get("keypoints")
    if not names:
        raise UserError(f"category {category.get('name')!r} lists no keypoints, so it is no skeleton")
    if not isinstance(names, Sequence):
        raise UserError(f"category {category.get('name')!r}: keypoints: expected a list of names")
    pairs = category.get("skeleton") or ()
    if not isinstance(pairs, Sequence) or not all(_is_pair(pair, len(names)) for pair in pairs):
        raise UserError(
            f"category {category.get('name')!r}: skeleton pairs count keypoints from 1 to {len(names)}"
        )
    return from_dict(
        {
            "name": str(category.get("name", "custom")),
            "keypoints": names,
            "limbs": [(names[a - 1], names[b - 1]) for a, b in pairs],
            "sigmas": category.get("sigmas"),
            "grouping_order": category.get("grouping_order"),
        }
    )


def _is_pair(pair: Any, largest: int) -> bool:
    """Two integers from 1 on."""
    return (
        isinstance(pair, Sequence)
        and len(pair) == 2
        and all(isinstance(i, int) and 1 <= i <= largest for i in pair)
    )


def to_dict(skeleton: Skeleton) -> dict[str, Any]:
    """The mapping that `from_dict` reads back to an equal skeleton."""
    return {
        "name": skeleton.name,
        "keypoints": list(skeleton.keypoints),
        "limbs": [list(limb) for limb in skeleton.limbs],
        "sigmas": skeleton.sigma_rule or list(skeleton.sigmas),
        "grouping_order": list(skeleton.grouping_order),
        "mirror": dict(skeleton.mirror),
        "derived": {
            name: {"middle_of": list(one.middle_of), "visible": one.visible, "rounded": one.rounded}
            for name, one in skeleton.derived.items()
        },
        "limb_order": [list(limb) for limb in skeleton.limb_order],
        "pairs": [list(pair) for pair in skeleton.pairs],
        **({"no_limbs": skeleton.no_limbs} if skeleton.no_limbs else {}),
    }
