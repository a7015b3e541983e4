"""The order in which a decoder goes through the kinds of keypoints."""

from __future__ import annotations

from pose.errors import UserError
from pose.registry import nearest
from pose.skeleton import Skeleton


def order_index(names: tuple[str, ...], skeleton: Skeleton) -> tuple[int, ...]:
    """`names`, each of the skeleton's once, as indices; the skeleton's grouping_order if there are none.

    Raises `UserError` for other names."""
    if not names:
        return skeleton.grouping_index
    known = skeleton.keypoints
    unknown = [f"no keypoint {name!r}{nearest(name, known)}" for name in names if name not in known]
    if unknown or sorted(names) != sorted(known):
        what = "; ".join(unknown) or "every keypoint must be named once"
        raise UserError(f"head.decoder.order: {what} (skeleton {skeleton.name!r}: {', '.join(known)})")
    return tuple(known.index(name) for name in names)
