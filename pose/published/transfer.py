"""Weights of a network with other keypoints: what belongs to a keypoint is taken by its name."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from pose.model import PoseModel
from pose.predictors.conv import Conv
from pose.predictors.higher_resolution import HigherResolution
from pose.skeleton import Skeleton
from pose.structures import FieldSpec

Rows = tuple[list[int], list[int]]  # channels of the target, and of the source that they are taken from


def by_keypoint_name(
    state: Mapping[str, Tensor],
    source: PoseModel,
    target: PoseModel,
    skeletons: tuple[Skeleton, Skeleton],
) -> dict[str, Tensor]:
    """`state` of the network `source` (its structure only) with the predictor's channels in the order of the
    keypoints of `target`; those of keypoints that the source does not have are the target's own.

    skeletons: of source and target.  Fields that are not a number of channels for every keypoint, and
    predictors of another kind, are left as they are."""
    changed = dict(state)
    one, other = source.predictor, target.predictor
    own = target.state_dict()
    if type(one) is not type(other) or skeletons[0].keypoints == skeletons[1].keypoints:
        return changed
    if isinstance(one, Conv) and isinstance(other, Conv):
        layers, levels = "predictor.layers", zip(one.fields, other.fields)
    elif isinstance(one, HigherResolution) and isinstance(other, HigherResolution):
        layers, levels = "predictor.final", zip(one.fields, other.fields)
    else:
        return changed
    for level, fields in enumerate(levels):
        if [*fields[0]] != [*fields[1]]:
            continue
        rows = channel_rows(fields[0], fields[1], source.head.fields, skeletons)
        if rows is None:
            continue
        for kind in ("weight", "bias"):
            name = f"{layers}.{level}.{kind}"
            changed[name] = placed(own[name], state[name], rows, first=0)
        seen = f"predictor.up.{level}.0.weight"  # the next level sees the fields behind its features
        if seen in own and isinstance(other, HigherResolution) and other.cat_output:
            first = own[seen].shape[0] - sum(fields[1].values())
            changed[seen] = placed(own[seen], state[seen], rows, first=first)
    return changed


def channel_rows(
    of_source: Mapping[str, int],
    of_target: Mapping[str, int],
    specs: Mapping[str, FieldSpec],
    skeletons: tuple[Skeleton, Skeleton],
) -> Rows | None:
    """Where each channel of a level comes from; None where a field is not of single keypoints."""
    old, new = (skeleton.keypoints for skeleton in skeletons)
    rows: Rows = ([], [])
    start_old = start_new = 0
    for name in of_source:
        each, rest = divmod(of_source[name], len(old))
        if rest or of_target[name] != each * len(new) or specs[name].in_pixels:
            return None
        for k, keypoint in enumerate(new):
            if keypoint in old:
                rows[0].extend(start_new + each * k + d for d in range(each))
                rows[1].extend(start_old + each * old.index(keypoint) + d for d in range(each))
        start_old, start_new = start_old + of_source[name], start_new + of_target[name]
    return rows


def placed(own: Tensor, given: Tensor, rows: Rows, *, first: int) -> Tensor:
    """`own` with what `given` has for the same channels, of dimension 0 from `first` on; those before it are
    the features', which are taken as they are where their number fits."""
    result = own.clone()
    if result.shape[1:] != given.shape[1:]:
        return result
    result[:first] = given[:first]
    target, source = (torch.tensor(part, dtype=torch.long) + first for part in rows)
    result[target] = given[source]
    return result
