"""Who is who in a video: people are matched from frame to frame by OKS, and their keypoints smoothed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pose.annotations.regions import BOX_TO_AREA
from pose.structures import People

SLOWER = 0.95  # per frame: who is out of sight
FADING = 0.97  # per frame out of sight: who was there a moment ago is likelier to be here


@dataclass(frozen=True)
class TrackSettings:
    """How people are followed and smoothed."""

    min_oks: float = 0.15  # people less alike than this are different ones
    spread: float = 3.0  # times the fall-offs of OKS: people move more than annotators differ
    twin_oks: float = (
        0.5  # who is that much like a person followed is a second sight of it, by COCO's fall-offs
    )
    max_age: int = 30  # frames for which a person may be out of sight
    min_keypoint: float = 0.05  # keypoints below are guesses, by which nobody is known or smoothed
    memory: int = 10  # frames for which a keypoint that is not found still counts
    min_cutoff: float = 1.5  # Hz: what trembles faster than this in a person at rest is smoothed away
    beta: float = 5.0  # Hz more per (person's size / second): a person that moves is followed closely
    speed_cutoff: float = 1.5  # Hz, for the speed itself


class OneEuro:
    """A low-pass filter for points that opens with their speed: still ones do not tremble, fast ones do not
    lag (Casiez, Roussel and Vogel, 1 Euro Filter, CHI 2012)."""

    def __init__(self, count: int, settings: TrackSettings) -> None:
        self.settings = settings
        self.position = np.zeros((count, 2))
        self.speed = np.zeros((count, 2))  # pixels / second
        self.time = np.full(count, -np.inf)  # seconds, of the last value; -inf: none yet

    def __call__(self, points: np.ndarray, found: np.ndarray, seconds: float, size: float) -> np.ndarray:
        """points (K, 2) -> smoothed (K, 2); those not `found` (K,) feed nothing.  size: of the person, in
        pixels."""
        settings = self.settings
        known = np.isfinite(self.time)
        step = np.maximum(np.where(known, seconds - self.time, 1.0), 1e-6)[:, None]
        moved = (points - self.position) / step
        speed = self.speed + _weight(settings.speed_cutoff, step) * (moved - self.speed)
        fast = np.linalg.norm(speed, axis=1, keepdims=True) / max(size, 1.0)
        weight = _weight(settings.min_cutoff + settings.beta * fast, step)
        smooth = np.where(known[:, None], self.position + weight * (points - self.position), points)
        self.position[found] = smooth[found]
        self.speed[found] = np.where(known[:, None], speed, 0.0)[found]
        self.time[found] = seconds
        return np.where(found[:, None], smooth, points)


def _weight(cutoff: float | np.ndarray, step: np.ndarray) -> np.ndarray:
    """Of the new value in an exponential mean with this cutoff (Hz) and time step (seconds)."""
    turn = 2 * math.pi * cutoff * step
    return turn / (turn + 1)


@dataclass
class Track:
    """One person through time."""

    id: int
    keypoints: np.ndarray  # (K, 3) as last seen, keypoint by keypoint
    seconds: float
    filter: OneEuro
    hidden: np.ndarray  # (K,) sightings of the person since the keypoint was seen
    velocity: np.ndarray = field(default_factory=lambda: np.zeros(2))  # pixels / second of the whole person
    age: int = 0  # frames since it was seen, the one that is looked at among them

    def expected(self, seconds: float) -> np.ndarray:
        """(K, 3) where the person should be now; who is out of sight slows down."""
        ahead = self.keypoints.copy()
        steps = (1 - SLOWER**self.age) / (1 - SLOWER)  # frames' worth of way
        ahead[:, :2] += self.velocity * (seconds - self.seconds) / max(self.age, 1) * steps
        return ahead


class Tracker:
    """Gives each person of a video an id, from 1 on and never to two people, and smooths its keypoints.

    Fragments that lie on a person who is followed are left out: they would become the track of whoever comes
    by next."""

    def __init__(self, sigmas: Sequence[float], settings: TrackSettings | None = None) -> None:
        self.settings = settings or TrackSettings()
        self.sigmas = np.asarray(sigmas, np.float64)
        self.tracks: list[Track] = []
        self._given = 0
        self._time = -math.inf

    def update(self, people: People, seconds: float, rate: float = 30.0) -> tuple[People, list[int]]:
        """The people of the next frame -> those who are followed, smoothed, and their ids.

        A time stamp (in seconds) that is not after the last one is taken as one frame after it, by the rate
        (frames per second)."""
        seconds = self._time = seconds if seconds > self._time else self._time + 1 / rate
        found = people.keypoints.astype(np.float64)
        ids = [0] * len(people)
        smooth = found.copy()
        found[found[..., 2] < self.settings.min_keypoint] = 0
        for track in self.tracks:
            track.age += 1
        for t, n in self._match(found, seconds):
            ids[n], points = self.tracks[t].id, self._follow(self.tracks[t], found[n], seconds)
            seen = found[n, :, 2] > 0
            smooth[n, seen, :2] = points[seen]
        for n in np.argsort(-people.scores, kind="stable"):
            if not ids[n] and not self._is_twin(found, ids, int(n)):
                ids[n] = self._begin(found[n], seconds)
        self.tracks = [track for track in self.tracks if track.age <= self.settings.max_age]
        kept = np.flatnonzero(ids)
        return People(smooth[kept].astype(np.float32), people.scores[kept]), [ids[n] for n in kept]

    def _is_twin(self, found: np.ndarray, ids: Sequence[int], n: int) -> bool:
        """Whether the keypoints of person n (N, K, 3) lie on those of somebody followed in the same frame."""
        own = found[n]
        there = own[:, 2] > 0
        for other in (found[i] for i, number in enumerate(ids) if number):
            area = _areas(other[None])[0]
            apart = ((own[:, :2] - other[:, :2]) ** 2).sum(-1)
            near = np.exp(-apart / (2 * area * (2 * self.sigmas) ** 2)) * (other[:, 2] > 0)
            if there.any() and near[there].mean() >= self.settings.twin_oks:
                return True
        return False

    def _match(self, found: np.ndarray, seconds: float) -> list[tuple[int, int]]:
        """(place in `tracks`, place in `found`) of the pairs with the highest sum of OKS."""
        from scipy.optimize import linear_sum_assignment  # slow to import, and only --tracks needs it

        if not self.tracks or not len(found):
            return []
        expected = np.stack([track.expected(seconds) for track in self.tracks])
        alike = similarity(expected, found, self.sigmas * self.settings.spread)
        alike *= np.array([[FADING ** (track.age - 1)] for track in self.tracks])
        alike[alike < self.settings.min_oks] = 0
        pairs = zip(*linear_sum_assignment(alike, maximize=True), strict=True)
        return [(int(t), int(n)) for t, n in pairs if alike[t, n] > 0]

    def _follow(self, track: Track, person: np.ndarray, seconds: float) -> np.ndarray:
        """(K, 2) the person's keypoints, smoothed."""
        seen = person[:, 2] > 0
        both = seen & (track.keypoints[:, 2] > 0)
        step = max(seconds - track.seconds, 1e-6)
        moved = np.median(person[both, :2] - track.keypoints[both, :2], axis=0) / step
        track.velocity += 0.5 * (moved - track.velocity)
        shift = track.velocity * step  # what is not seen is taken along
        track.keypoints[:, :2] = np.where(seen[:, None], person[:, :2], track.keypoints[:, :2] + shift)
        track.hidden = np.where(seen, 0, track.hidden + 1)
        remembered = track.keypoints[:, 2] * (track.hidden <= self.settings.memory)
        track.keypoints[:, 2] = np.where(seen, person[:, 2], remembered)
        track.seconds, track.age = seconds, 0
        return self._smooth(track, person, seconds)

    def _begin(self, person: np.ndarray, seconds: float) -> int:
        self._given += 1
        gate = OneEuro(len(person), self.settings)
        track = Track(self._given, person.copy(), seconds, gate, np.zeros(len(person), int))
        self.tracks.append(track)
        self._smooth(track, person, seconds)
        return track.id

    def _smooth(self, track: Track, person: np.ndarray, seconds: float) -> np.ndarray:
        size = math.sqrt(_areas(track.keypoints[None])[0])
        return track.filter(person[:, :2], person[:, 2] > 0, seconds, size)


def similarity(one: np.ndarray, other: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    """OKS (M, N) of people (M, K, 3) and (N, K, 3) over the keypoints that either has: a fragment of somebody
    is less alike than somebody.  The area is the mean of both."""
    area = (_areas(one)[:, None] + _areas(other)) / 2
    apart = ((one[:, None, :, :2] - other[None, :, :, :2]) ** 2).sum(-1)
    here, there = one[:, None, :, 2] > 0, other[None, :, :, 2] > 0
    near = np.exp(-apart / (2 * area[..., None] * (2 * sigmas) ** 2)) * (here & there)
    return near.sum(-1) / np.maximum((here | there).sum(-1), 1)


def _areas(people: np.ndarray) -> np.ndarray:
    """(N,) pixels squared, from the boxes of people (N, K, 3): at least those of a third of the longer side,
    for people seen from the side."""
    areas = np.ones(len(people))
    for i, person in enumerate(people):
        spots = person[person[:, 2] > 0, :2]
        if len(spots):
            long, short = sorted(np.ptp(spots, axis=0).tolist(), reverse=True)
            areas[i] = max(1.0, BOX_TO_AREA * long * max(short, long / 3))
    return areas
