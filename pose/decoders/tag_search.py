"""The search of `TagGroups` for missing keypoints: where the heat is high and the tag fits the person."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pose.decoders.peaks import true_places
from pose.decoders.subpixel import Subpixel, quarter_cells, subpixel_offset

CELLS_AT_ONCE = 1 << 24  # of one full search on an accelerator: 128 MiB per intermediate map
# The pruned search looks at these shares of a map's cells, the hottest ones, before it takes all.
HOT_SHARES = (1 / 32, 1 / 8)
MOST_BINS = 60000  # of tags, in which cells are sorted; their numbers fit into 16 bits
PAIRS_AT_ONCE = 1 << 18  # of a person and a cell, whose tags are compared
SAMPLE_STEP = 61  # every so many cells the heat is read to tell which level such a share lies above
ROUNDS_TO_ZERO = np.nextafter(0.25, 1)  # the greatest float64 whose square root rounds to 0


def best_cells(
    heat: Tensor,
    sharp: Tensor,
    tag: Tensor,
    channel: np.ndarray,
    mean: np.ndarray,
    method: Subpixel,
    last_row: int | None = None,
    weight: float = 1.0,
) -> np.ndarray:
    """The cell of each map `channel` (R,) = b * K + k where heat - weight * round(Euclidean distance of
    the tag to `mean` (R, D)) is highest, the first one in row-major order: (R, 3) float64, x, y with the
    sub-pixel part in cells, and the heat there.

    heat, sharp (B, K, h, w), `sharp` for the sub-pixel part; tag (B, K, D, h, w); last_row see
    `subpixel_offset`.
    """
    if heat.device.type == "cpu":
        maps = heat.flatten(2).numpy()
        found = search_pruned(maps, tag.flatten(3).float().numpy(), channel, mean, weight)
        rows, index = torch.from_numpy(channel), torch.from_numpy(found)
        table = np.empty((len(channel), 3))
        table[:, :2] = positions(sharp, rows, index, method, last_row).numpy()
        table[:, 2] = maps.reshape(-1).take(channel * maps.shape[2] + found)
        return table
    packed = torch.from_numpy(np.column_stack((channel, mean))).to(heat.device)
    rows = packed[:, 0].long()
    index = search_all(heat, tag, rows, packed[:, 1:], weight)
    value = torch.take(heat, rows * heat[0, 0].numel() + index).double()
    return torch.cat((positions(sharp, rows, index, method, last_row), value[:, None]), 1).cpu().numpy()


def positions(
    sharp: Tensor, channel: Tensor, index: Tensor, method: Subpixel, last_row: int | None = None
) -> Tensor:
    """Cells (...) -> x and y in cells with the sub-pixel part, (..., 2) float64."""
    if method == "quarter" and sharp.device.type == "cpu":
        return torch.from_numpy(quarter_cells(sharp.numpy(), channel.numpy(), index.numpy(), last_row))
    width = sharp.shape[-1]
    cells = torch.stack((index % width, index.div(width, rounding_mode="floor")), -1)
    return cells.double() + subpixel_offset(sharp, channel, index, method, last_row)


def search_all(heat: Tensor, tag: Tensor, channel: Tensor, mean: Tensor, weight: float = 1.0) -> Tensor:
    """Every cell for every row, on the device of the maps, some rows at a time; see `best_cells` -> (R,)
    int64.

    In float64, as the difference of a heat and a distance must not round two heats to the same value."""
    cells = heat[0, 0].numel()
    image, kind = channel.div(heat.shape[1], rounding_mode="floor"), channel % heat.shape[1]
    rows_at_once = max(1, CELLS_AT_ONCE // cells)
    found = []
    for i in range(0, len(channel), rows_at_once):
        part = slice(i, i + rows_at_once)
        total = torch.zeros((), dtype=torch.float64, device=heat.device)
        for d in range(tag.shape[2]):
            difference = tag[image[part], kind[part], d].flatten(1) - mean[part, d, None]
            total = total + difference * difference
        merit = heat[image[part], kind[part]].flatten(1) - total.sqrt().round() * weight
        found.append(torch.nan_to_num(merit, nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf).argmax(1))
    return torch.cat(found)


def search_pruned(
    heat: np.ndarray, tag: np.ndarray, channel: np.ndarray, mean: np.ndarray, weight: float = 1.0
) -> np.ndarray:
    """The result of `search_all`, found in most cases among the hottest cells of each map.

    heat (B, K, cells); tag (B, K, D, cells) -> (R,) int64."""
    kinds, cells = heat.shape[1:]
    flat, flat_tag = heat.reshape(-1, cells), tag.reshape(-1, tag.shape[2], cells)
    hottest = flat.argmax(axis=1)
    enough = flat[np.arange(len(flat)), hottest] - np.float64(weight)
    # No cell is better than the hottest one where its distance rounds to 0.
    index = hottest[channel]
    index[~(_squared_distance(flat_tag[channel, :, index].T, mean.T) <= ROUNDS_TO_ZERO)] = -1
    rows = ((index < 0) & np.isfinite(mean[:, 0])).nonzero()[0]
    for level in _levels(heat).reshape(-1, len(HOT_SHARES)).T:
        if not len(rows):
            break
        index[rows] = _search_hottest(flat, flat_tag, channel[rows], mean[rows], level, enough)
        rows = rows[index[rows] < 0]
    for row in (index < 0).nonzero()[0]:
        image, kind = divmod(int(channel[row]), kinds)
        index[row] = _search_map(heat[image, kind], tag[image, kind], mean[row], weight)
    return index


def _levels(heat: np.ndarray) -> np.ndarray:
    """heat (B, K, cells) -> (B, K, looks): the heat above which about each of HOT_SHARES lies, 0 or more."""
    sample = np.sort(heat[..., ::SAMPLE_STEP], axis=2)
    places = [-1 - int(sample.shape[2] * share) for share in HOT_SHARES]
    return sample[..., places].clip(0)


def _search_hottest(
    heat: np.ndarray,
    tag: np.ndarray,
    channel: np.ndarray,
    mean: np.ndarray,
    level: np.ndarray,
    enough: np.ndarray,
) -> np.ndarray:
    """heat (C, cells), tag (C, D, cells), channel (R,), mean (R, D) -> the best cells (R,), -1 where this
    short look at the cells above `level` (C,) of their maps cannot tell.

    Of the cells above some level, take the hottest whose distance rounds to 0, of equal ones the first.  All
    hotter cells lose the weight of a step or more: if this one is above `enough` (C,), the highest heat of
    the map minus that weight, none of them is better."""
    index = np.full(len(channel), -1)
    maps = np.bincount(channel, minlength=len(heat)).nonzero()[0]
    own = maps.searchsorted(channel)
    some = heat if len(maps) == len(heat) else heat[maps]
    at = true_places((some > level[maps, None]).reshape(-1))
    cells, dims = heat.shape[1], tag.shape[1]
    counted = np.arange(len(maps))
    in_map = at.searchsorted((counted + 1) * cells)
    in_map[1:] -= in_map[:-1].copy()
    if len(maps) < len(heat):
        at += np.repeat((maps - counted) * cells, in_map)  # in all of `heat`
    places = at if dims == 1 else at + np.repeat(maps * ((dims - 1) * cells), in_map)
    order, start, number = _like_tags(tag.reshape(-1).take(places), in_map, own, mean[:, 0])
    lowest = np.maximum(level, enough)[channel]
    some_rows = number.nonzero()[0]
    parts = [some_rows] if len(some_rows) else []
    pairs = number[some_rows].cumsum()
    if number.sum() > PAIRS_AT_ONCE:
        full = np.arange(PAIRS_AT_ONCE, pairs[-1] + 1, PAIRS_AT_ONCE)
        parts = [part for part in np.split(some_rows, pairs.searchsorted(full)) if len(part)]
    for rows in parts:
        first = number[rows].cumsum() - number[rows]  # of each row's pairs with a cell
        row = np.repeat(np.arange(len(rows)), number[rows])
        near = order.take(np.arange(len(row)) + (start[rows] - first).take(row))
        cell = at.take(near)
        value = heat.reshape(-1).take(cell)
        # not ">": the distance of a tag that is NaN is greater than nothing
        value[~(_squared_distance_at(tag, places.take(near), mean[rows], row) <= ROUNDS_TO_ZERO)] = -np.inf
        best = np.maximum.reduceat(value, first)
        cell[value != best.take(row)] = heat.size
        decided = best > lowest[rows]
        index[rows[decided]] = np.minimum.reduceat(cell, first)[decided] % cells
    return index


def _like_tags(
    tag: np.ndarray, in_map: np.ndarray, own: np.ndarray, mean: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The first component of the tags of cells (n,), of which `in_map` (maps,) lie in each map, map by map;
    rows (R,) of the maps `own`, whose means have the first component `mean` -> an order of cells that rows
    want, and where in it those begin that lie in a row's map and whose first component may be within half a
    step of its mean, and how many there are (R,).  A few others are among them: cells are sorted into bins of
    half a step."""
    reach = 0.5 + 1e-6 * (1 + np.abs(mean))  # more than rounding takes away
    low, high = mean - reach, mean + reach
    lowest, highest = float(low.min()), float(high.max())
    maps, span = len(in_map), highest - lowest
    scale = min(2.0, max(0.0, MOST_BINS / maps - 2) / span)
    bins = int(span * scale) + 1
    # the same arithmetic for cells and rows: it keeps their order
    bounds = np.array((low, high))
    bounds -= lowest
    bounds *= scale
    low_key, high_key = bounds.astype(np.int64) + own * bins
    tag = np.fmax(tag, lowest, dtype=np.float64)  # NaN goes to an end
    np.minimum(tag, highest, out=tag)
    tag -= lowest
    tag *= scale
    key = tag.astype(np.int64)
    key += np.repeat(np.arange(maps) * bins, in_map)
    changes = np.bincount(low_key, minlength=maps * bins + 1)
    changes -= np.bincount(high_key + 1, minlength=maps * bins + 1)
    wanted = (changes.cumsum() > 0).take(key).nonzero()[0]
    key = key.take(wanted)
    order = key.astype(np.uint16 if maps * bins < 1 << 16 else np.int64).argsort(kind="stable")
    first = np.zeros(maps * bins + 1, np.int64)
    np.cumsum(np.bincount(key, minlength=maps * bins), out=first[1:])
    start = first.take(low_key)
    return wanted.take(order), start, first.take(high_key + 1) - start


def _squared_distance_at(
    tag: np.ndarray, places: np.ndarray, mean: np.ndarray, row: np.ndarray
) -> np.ndarray:
    """tag (C, D, cells), where the first components of the tags of cells lie in it (P,); mean (R, D), of
    which row (P,) -> (P,) float64."""
    tags, total = tag.reshape(-1), np.zeros(len(row))
    for d in range(tag.shape[1]):
        difference = tags.take(places + d * tag.shape[2]) - mean[:, d].take(row)
        difference *= difference
        total += difference
    return total


def _search_map(heat: np.ndarray, tag: np.ndarray, mean: np.ndarray, weight: float = 1.0) -> int:
    """`search_all` for one row: heat (cells,), tag (D, cells), mean (D,)."""
    distance = _squared_distance(tag, mean)
    np.sqrt(distance, out=distance)
    np.rint(distance, out=distance)
    distance *= weight
    with np.errstate(invalid="ignore"):  # both may be infinite
        merit = np.subtract(heat, distance, out=distance)
    best = int(merit.argmax())
    if np.isnan(merit[best]):  # argmax takes NaN for the highest
        best = int(np.where(np.isnan(merit), -np.inf, merit).argmax())
    return best


def _squared_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a, b (D, ...) that broadcast -> (...), summed over D."""
    total = a[0] - b[0]
    total *= total
    for one, other in zip(a[1:], b[1:], strict=True):
        difference = one - other
        difference *= difference
        total += difference
    return total
