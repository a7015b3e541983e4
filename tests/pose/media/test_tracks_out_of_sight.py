"""What a tracker still knows of people, and of their keypoints, that it does not see."""

from __future__ import annotations

import numpy as np
import pytest

from pose.media.tracks import Tracker, TrackSettings
from pose.structures import People

SIGMAS = [0.05] * 6
SHAPE = np.array([[0, 0], [20, 25], [-20, 25], [15, 60], [-15, 60], [0, 100]], float)  # 100 pixels tall
UPPER, LOWER = np.array([1, 1, 1, 0, 0, 0]), np.array([0, 0, 0, 1, 1, 1])
RATE = 30.0


def person(x: float, y: float = 100, seen: np.ndarray | int = 1, shape: np.ndarray = SHAPE) -> np.ndarray:
    scores = np.broadcast_to(seen, 6)[:, None]
    return (np.concatenate([shape + (x, y), np.ones((6, 1))], axis=1) * scores).astype(np.float32)


def people(*persons: np.ndarray) -> People:
    listed = np.array(persons, np.float32).reshape(-1, 6, 3)
    return People(listed, np.ones(len(listed), np.float32))


@pytest.mark.parametrize(("away", "same"), [(5, True), (6, False)])
def test_who_is_away_for_max_age_frames_is_known_and_no_longer(away: int, same: bool) -> None:
    tracker = Tracker(SIGMAS, TrackSettings(max_age=5))
    tracker.update(people(person(100)), 0)
    for i in range(1, 1 + away):
        tracker.update(people(), i / RATE)
    assert tracker.update(people(person(100)), (1 + away) / RATE)[1] == ([1] if same else [2])


def test_who_was_there_a_moment_ago_is_likelier_than_who_left_long_ago() -> None:
    """Though somebody comes back a little nearer to the place of the other."""
    tracker = Tracker(SIGMAS)
    tracker.update(people(person(100), person(140)), 0)
    for i in range(1, 20):
        tracker.update(people(person(140)), i / RATE)
    tracker.update(people(), 20 / RATE)
    assert tracker.update(people(person(119)), 21 / RATE)[1] == [2]


@pytest.mark.parametrize(("half_seen", "same"), [(10, True), (11, False)])
def test_a_keypoint_that_is_not_found_counts_for_a_while(half_seen: int, same: bool) -> None:
    tracker = Tracker(SIGMAS, TrackSettings(memory=10))
    tracker.update(people(person(100)), 0)
    for i in range(1, 1 + half_seen):
        assert tracker.update(people(person(100, seen=UPPER)), i / RATE)[1] == [1]
    assert tracker.update(people(person(100, seen=LOWER)), (1 + half_seen) / RATE)[1] == (
        [1] if same else [2]
    )


def test_a_keypoint_that_is_not_found_goes_with_the_person() -> None:
    tracker = Tracker(SIGMAS)
    for i in range(20):
        seen = UPPER if i >= 10 else 1
        assert tracker.update(people(person(100 + 15 * i, seen=seen)), i / RATE)[1] == [1]
    assert tracker.update(people(person(100 + 15 * 20, seen=LOWER)), 20 / RATE)[1] == [1]


def test_who_is_out_of_sight_is_taken_to_slow_down() -> None:
    """By 5 % a frame: after 20 frames it is where it would be after 13 at its pace."""
    tracker = Tracker(SIGMAS)
    for i in range(20):
        tracker.update(people(person(100 + 15 * i)), i / RATE)
    for i in range(20, 39):
        tracker.update(people(), i / RATE)
    steps = sum(0.95**i for i in range(20))
    assert tracker.update(people(person(100 + 15 * (19 + steps))), 39 / RATE)[1] == [1]


def test_a_person_seen_from_the_side_is_followed() -> None:
    """Its keypoints stand on a line, whose box has no area."""
    line = SHAPE * (0, 1)
    tracker = Tracker(SIGMAS)
    for i in range(20):
        assert tracker.update(people(person(100 + 5 * i, shape=line)), i / RATE)[1] == [1]


@pytest.mark.parametrize("stamps", [[0.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.05, 0.0]])
def test_a_time_stamp_that_is_not_later_is_one_frame_later(stamps: list[float]) -> None:
    """Equal ones, too: a person would have endless speed."""
    trackers = Tracker(SIGMAS), Tracker(SIGMAS)
    for i, stamp in enumerate(stamps):
        walker = people(person(100 + 4 * i))
        broken, sound = (
            tracker.update(walker, seconds, rate=10.0)[0]
            for tracker, seconds in zip(trackers, (stamp, i / 10), strict=True)
        )
        np.testing.assert_allclose(broken.keypoints, sound.keypoints)
