"""Identities and smoothing, on people that walk, cross, vanish and tremble."""

from __future__ import annotations

import numpy as np
import pytest

from pose.media.tracks import OneEuro, Tracker, TrackSettings, similarity
from pose.structures import People

SIGMAS = [0.05] * 6
SHAPE = np.array([[0, 0], [20, 25], [-20, 25], [15, 60], [-15, 60], [0, 100]], float)  # 100 pixels tall
RATE = 30.0


def person(x: float, y: float, noise: np.ndarray | float = 0.0) -> np.ndarray:
    return np.concatenate([SHAPE + (x, y) + noise, np.ones((6, 1))], axis=1).astype(np.float32)


def people(*persons: np.ndarray) -> People:
    listed = np.array(persons, np.float32).reshape(-1, 6, 3)
    return People(listed, np.ones(len(listed), np.float32))


@pytest.mark.parametrize(("speed", "apart"), [(3, 12), (12, 4), (20, 4)])
def test_two_people_who_cross_keep_their_ids(speed: int, apart: int) -> None:
    """Whatever the order in which they are found; slow ones are told by their places, fast ones by their
    ways."""
    tracker = Tracker(SIGMAS)
    rng = np.random.default_rng(0)
    seen = []
    half = 300 // speed
    for i in range(2 * half):
        walkers = [person(400 + speed * (i - half), 100), person(407 - speed * (i - half), 100 + apart)]
        order = rng.permutation(2)
        _, ids = tracker.update(people(*(walkers[k] for k in order)), i / RATE)
        seen.append([ids[list(order).index(k)] for k in range(2)])
    assert {tuple(ids) for ids in seen} == {tuple(seen[0])}
    assert sorted(seen[0]) == [1, 2]


@pytest.mark.parametrize("speed", [4, 12])
def test_who_walks_on_behind_something_for_5_frames_keeps_the_id(speed: int) -> None:
    tracker = Tracker(SIGMAS)
    for i in range(30):
        hidden = 15 <= i < 20
        _, ids = tracker.update(people() if hidden else people(person(100 + speed * i, 100)), i / RATE)
        assert ids == ([] if hidden else [1])


@pytest.mark.parametrize(("away", "same"), [(5, True), (25, True), (40, False)])
def test_who_is_away_for_a_while_comes_back_with_the_same_id(away: int, same: bool) -> None:
    tracker = Tracker(SIGMAS, TrackSettings(max_age=30))
    standing = person(500, 100)
    for i in range(10):
        _, before = tracker.update(people(person(100, 100), standing), i / RATE)
    for i in range(10, 10 + away):
        _, ids = tracker.update(people(standing), i / RATE)
        assert ids == [before[1]]
    _, after = tracker.update(people(standing, person(106, 100)), (10 + away) / RATE)
    assert after[0] == before[1]
    assert (after[1] == before[0]) == same
    assert same or after[1] == 3  # ids are not given twice


def test_somebody_else_at_another_place_is_new() -> None:
    tracker = Tracker(SIGMAS)
    assert tracker.update(people(person(100, 100)), 0.0)[1] == [1]
    assert tracker.update(people(person(300, 100)), 1 / RATE)[1] == [2]
    assert tracker.update(people(), 2 / RATE)[1] == []


def test_a_still_person_trembles_less() -> None:
    tracker = Tracker(SIGMAS)
    rng = np.random.default_rng(1)
    raw, smooth = [], []
    for i in range(150):
        one = people(person(100, 100, rng.normal(0, 1.0, (6, 2))))
        raw.append(one.keypoints[0, :, :2])
        smooth.append(tracker.update(one, i / RATE)[0].keypoints[0, :, :2])
    before, after = (np.std(np.stack(part)[30:], axis=0).mean() for part in (raw, smooth))
    assert after < 0.6 * before
    steps = [np.abs(np.diff(np.stack(part)[30:], axis=0)).mean() for part in (raw, smooth)]
    assert steps[1] < 0.4 * steps[0]  # from frame to frame, which is what one sees


def test_a_fast_move_does_not_lag() -> None:
    """A person of 100 pixels that runs 3 of its heights per second stays within 5 % of its height; with the
    filter shut it would not."""
    lags = []
    for beta in (TrackSettings().beta, 0.0):
        tracker = Tracker(SIGMAS, TrackSettings(beta=beta))
        for i in range(60):
            one = people(person(100 + 10 * i, 100))
            smooth, ids = tracker.update(one, i / RATE)
            assert ids == [1]
        lags.append(float(one.keypoints[0, 0, 0] - smooth.keypoints[0, 0, 0]))
    assert lags[0] < 5.0 < 10.0 < lags[1]


def test_keypoints_that_are_not_found_feed_nothing() -> None:
    tracker = Tracker(SIGMAS)
    for i in range(20):
        one = person(100, 100)
        if 5 <= i < 15:
            one[2] = 0
        smooth, ids = tracker.update(people(one), i / RATE)
        assert ids == [1]
        if 5 <= i < 15:
            assert smooth.keypoints[0, 2].tolist() == [0, 0, 0]
        np.testing.assert_allclose(smooth.keypoints[0, 3], one[3], atol=1e-3)
    np.testing.assert_allclose(smooth.keypoints[0, 2], person(100, 100)[2], atol=1e-3)


def test_the_filter_depends_on_time_not_on_frames() -> None:
    """A step seen at 30 and at 120 frames per second has come as far after the same time."""
    reached = []
    for rate in (30, 120):
        gate = OneEuro(1, TrackSettings(beta=0.0))
        for i in range(rate // 2 + 1):
            target = np.array([[0.0 if i == 0 else 100.0, 0.0]])
            place = gate(target, np.ones(1, bool), i / rate, 100.0)
        reached.append(place[0, 0])
    assert reached[0] == pytest.approx(reached[1], abs=3.0)
    assert 90 < reached[0] < 100


def test_time_stamps_that_stand_still_are_survived() -> None:
    tracker = Tracker(SIGMAS)
    for i in range(5):
        smooth, ids = tracker.update(people(person(100 + i, 100)), 0.0, RATE)
        assert ids == [1] and np.isfinite(smooth.keypoints).all()


def test_a_fragment_does_not_take_somebodys_id() -> None:
    """Some keypoints are at times found twice, and make a person of their own at the very place."""
    tracker = Tracker(SIGMAS)
    for i in range(20):
        whole, part = person(100 + 3 * i, 100), person(100 + 3 * i, 100)
        part[2:] = 0
        trembling = whole.copy()
        trembling[:, :2] += 2 * (-1) ** i
        seen = people(part, trembling) if i % 3 else people(trembling)
        _, ids = tracker.update(seen, i / RATE)
        assert ids[-1] == 1


def test_similarity_is_oks() -> None:
    one, far = person(100, 100), person(1000, 100)
    near = person(103, 100)
    alike = similarity(one[None], np.stack([one, near, far]), np.array(SIGMAS))
    area = 0.53 * 40 * 100
    expected = [1, np.exp(-9 / (2 * area * 0.1**2)), 0]
    np.testing.assert_allclose(alike[0], expected, atol=1e-4)
    hidden = one.copy()
    hidden[:, 2] = 0
    assert similarity(one[None], hidden[None], np.array(SIGMAS))[0, 0] == 0


def test_a_fragment_on_somebody_followed_never_becomes_a_person() -> None:
    """Else its id would go to whoever comes by next."""
    tracker = Tracker(SIGMAS)
    fragment = person(101, 100)
    fragment[3:] = 0
    for i in range(10):
        walker = person(100 + 3 * i, 100)
        twin = fragment + [[3 * i, 0, 0]] * (fragment[:, 2:] > 0)
        found = People(np.array([twin, walker], np.float32), np.array([0.21, 0.9], np.float32))
        shown, ids = tracker.update(found if i % 3 != 1 else people(walker), i / RATE)
        assert ids == [1] and len(shown) == 1
        assert shown.scores[0] == pytest.approx(0.9 if i % 3 != 1 else 1.0)
    _, ids = tracker.update(people(person(130, 100), person(300, 100)), 10 / RATE)
    assert ids == [1, 2]


def test_somebody_close_beside_is_a_person() -> None:
    _, ids = Tracker(SIGMAS).update(people(person(100, 100), person(125, 100)), 0.0)
    assert ids == [1, 2]


def test_smoothing_does_not_depend_on_the_size_of_the_picture() -> None:
    """Everything five times as large: people, ways, tremble."""
    rng = np.random.default_rng(0)
    ways = [person(100 + 4 * i + 30 * np.sin(i / 3), 100, rng.normal(0, 1.5, (6, 2))) for i in range(40)]
    plain, large = Tracker(SIGMAS), Tracker(SIGMAS)
    for i, one in enumerate(ways):
        shown, _ = plain.update(people(one), i / RATE)
        larger, _ = large.update(people(one * [5, 5, 1]), i / RATE)
        np.testing.assert_allclose(larger.keypoints[0, :, :2], 5 * shown.keypoints[0, :, :2], rtol=1e-3)


def test_guesses_move_nobody() -> None:
    """Keypoints with next to no score stay where they were found, and are not part of the person."""
    tracker = Tracker(SIGMAS)
    for i in range(10):
        tracker.update(people(person(100, 100)), i / RATE)
    guess = person(100, 100)
    guess[5] = (900, 900, 0.01)
    shown, ids = tracker.update(people(guess), 10 / RATE)
    assert ids == [1] and tuple(shown.keypoints[0, 5, :2]) == (900, 900)
    back, ids = tracker.update(people(person(100, 100)), 11 / RATE)
    assert ids == [1]
    np.testing.assert_allclose(back.keypoints[0, 5, :2], person(100, 100)[5, :2], atol=0.5)


# ------------------------------------------------------------------------------------------------------------
# What a tracker still knows of people, and of their keypoints, that it does not see.


UPPER, LOWER = np.array([1, 1, 1, 0, 0, 0]), np.array([0, 0, 0, 1, 1, 1])


def seen_person(
    x: float, y: float = 100, seen: np.ndarray | int = 1, shape: np.ndarray = SHAPE
) -> np.ndarray:
    scores = np.broadcast_to(seen, 6)[:, None]
    return (np.concatenate([shape + (x, y), np.ones((6, 1))], axis=1) * scores).astype(np.float32)


@pytest.mark.parametrize(("away", "same"), [(5, True), (6, False)])
def test_who_is_away_for_max_age_frames_is_known_and_no_longer(away: int, same: bool) -> None:
    tracker = Tracker(SIGMAS, TrackSettings(max_age=5))
    tracker.update(people(seen_person(100)), 0)
    for i in range(1, 1 + away):
        tracker.update(people(), i / RATE)
    assert tracker.update(people(seen_person(100)), (1 + away) / RATE)[1] == ([1] if same else [2])


def test_who_was_there_a_moment_ago_is_likelier_than_who_left_long_ago() -> None:
    """Though somebody comes back a little nearer to the place of the other."""
    tracker = Tracker(SIGMAS)
    tracker.update(people(seen_person(100), seen_person(140)), 0)
    for i in range(1, 20):
        tracker.update(people(seen_person(140)), i / RATE)
    tracker.update(people(), 20 / RATE)
    assert tracker.update(people(seen_person(119)), 21 / RATE)[1] == [2]


@pytest.mark.parametrize(("half_seen", "same"), [(10, True), (11, False)])
def test_a_keypoint_that_is_not_found_counts_for_a_while(half_seen: int, same: bool) -> None:
    tracker = Tracker(SIGMAS, TrackSettings(memory=10))
    tracker.update(people(seen_person(100)), 0)
    for i in range(1, 1 + half_seen):
        assert tracker.update(people(seen_person(100, seen=UPPER)), i / RATE)[1] == [1]
    assert tracker.update(people(seen_person(100, seen=LOWER)), (1 + half_seen) / RATE)[1] == (
        [1] if same else [2]
    )


def test_a_keypoint_that_is_not_found_goes_with_the_person() -> None:
    tracker = Tracker(SIGMAS)
    for i in range(20):
        seen = UPPER if i >= 10 else 1
        assert tracker.update(people(seen_person(100 + 15 * i, seen=seen)), i / RATE)[1] == [1]
    assert tracker.update(people(seen_person(100 + 15 * 20, seen=LOWER)), 20 / RATE)[1] == [1]


def test_who_is_out_of_sight_is_taken_to_slow_down() -> None:
    """By 5 % a frame: after 20 frames it is where it would be after 13 at its pace."""
    tracker = Tracker(SIGMAS)
    for i in range(20):
        tracker.update(people(seen_person(100 + 15 * i)), i / RATE)
    for i in range(20, 39):
        tracker.update(people(), i / RATE)
    steps = sum(0.95**i for i in range(20))
    assert tracker.update(people(seen_person(100 + 15 * (19 + steps))), 39 / RATE)[1] == [1]


def test_a_person_seen_from_the_side_is_followed() -> None:
    """Its keypoints stand on a line, whose box has no area."""
    line = SHAPE * (0, 1)
    tracker = Tracker(SIGMAS)
    for i in range(20):
        assert tracker.update(people(seen_person(100 + 5 * i, shape=line)), i / RATE)[1] == [1]


@pytest.mark.parametrize("stamps", [[0.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.05, 0.0]])
def test_a_time_stamp_that_is_not_later_is_one_frame_later(stamps: list[float]) -> None:
    """Equal ones, too: a person would have endless speed."""
    trackers = Tracker(SIGMAS), Tracker(SIGMAS)
    for i, stamp in enumerate(stamps):
        walker = people(seen_person(100 + 4 * i))
        broken, sound = (
            tracker.update(walker, seconds, rate=10.0)[0]
            for tracker, seconds in zip(trackers, (stamp, i / 10), strict=True)
        )
        np.testing.assert_allclose(broken.keypoints, sound.keypoints)
