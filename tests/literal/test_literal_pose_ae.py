"""The literal restatement of pose-ae-train: its own sanity, by properties and by hand-computed numbers."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.testing import assert_close

from tests.literal.reference import pose_ae_network as network
from tests.literal.reference import pose_ae_testing as testing
from tests.literal.reference import pose_ae_training as training

FLIP = list(training.COCO_FLIP_INDEX)


# ---- network ----


def tiny_net(**settings: object) -> network.PoseNet:
    return network.PoseNet(**{"stacks": 2, "width": 8, "growth": 4, "depth": 2, **settings})  # type: ignore[arg-type]


def test_published_settings_have_the_published_size() -> None:
    with torch.device("meta"):
        net = network.PoseNet()
        output = net(torch.empty(1, 3, 512, 512))
    assert sum(p.numel() for p in net.parameters()) == 138_893_840
    assert output.shape == (1, 4, 68, 128, 128)


def test_key_names_are_those_of_the_checkpoints() -> None:
    with torch.device("meta"):
        keys = {key.removesuffix(".weight").removesuffix(".bias") for key in network.PoseNet().state_dict()}
    levels = [".".join(["low2"] * level + [name]) for level in range(4) for name in ("up1", "low1", "low3")]
    levels.append("low2.low2.low2.low2")
    expected = {f"pre.{i}.conv" for i in (0, 1, 3, 4)}
    for s in range(4):
        expected |= {f"features.{s}.0.{level}.conv" for level in levels}
        expected |= {f"features.{s}.1.conv", f"features.{s}.2.conv", f"outs.{s}.conv"}
    for s in range(3):
        expected |= {f"merge_features.{s}.conv.conv", f"merge_preds.{s}.conv.conv"}
    assert keys == expected


def test_later_stacks_see_earlier_predictions_through_the_merge_layers() -> None:
    net = tiny_net().eval()
    image = torch.rand(1, 3, 32, 48)
    before = net(image)
    with torch.no_grad():
        net.get_parameter("merge_preds.0.conv.conv.bias").add_(1)
    after = net(image)
    assert before.shape == (1, 2, 68, 8, 12)
    assert_close(after[:, 0], before[:, 0])
    assert not torch.allclose(after[:, 1], before[:, 1])


def test_batch_norm_comes_after_the_relu_and_only_there() -> None:
    net = tiny_net(batch_norm=True)
    with torch.no_grad():
        net.get_parameter("pre.0.conv.bias").sub_(
            100
        )  # nothing survives the ReLU: only the norm's bias is left
        net.get_parameter("pre.0.bn.bias").add_(3)
    assert_close(net.pre[0](torch.rand(1, 3, 8, 8)), torch.full((1, 2, 4, 4), 3.0))
    assert not any("bn" in key for key in net.state_dict() if key.startswith(("outs", "merge")))


def test_published_checkpoint_holds_the_same_weights_under_the_prefix() -> None:
    net, other = tiny_net(), tiny_net()
    checkpoint = network.published_checkpoint(net, epoch=7)
    prefix = network.CHECKPOINT_PREFIX
    assert set(checkpoint) == {"state_dict", "optimizer", "epoch"} and checkpoint["epoch"] == 7
    assert all(key.startswith("model.module.") for key in checkpoint["state_dict"])
    other.load_state_dict(
        {key.removeprefix(prefix): value for key, value in checkpoint["state_dict"].items()}
    )
    image = torch.rand(2, 3, 32, 32)
    assert_close(other(image), net(image))


def test_last_stack_gives_heatmaps_and_tags_of_the_last_stack() -> None:
    net = tiny_net()
    image = np.random.default_rng(0).random((32, 48, 3), np.float32)
    det, tag = network.last_stack(net)(image)
    output = net(torch.from_numpy(image.transpose(2, 0, 1))[None])[0, 1].detach().numpy()
    np.testing.assert_array_equal(det, output[:17])
    np.testing.assert_array_equal(tag, output[17:34])


# ---- geometry and samples ----


def test_transform_without_half_pixel_terms() -> None:
    matrix = training.get_transform((320, 240), 3.2, 512)
    points = np.array([[320.0, 240.0], [0.0, 240.0], [640.0, 560.0]])
    np.testing.assert_allclose(training.transform_points(points, matrix), [[256, 256], [0, 256], [512, 512]])


def test_transform_and_its_inverse_cancel() -> None:
    matrix = training.get_transform((123, 45), 1.7, 128, rot=25)
    points = np.random.default_rng(0).uniform(-50, 300, (20, 2))
    back = training.transform_points(
        training.transform_points(points, matrix), training.invert_transform(matrix)
    )
    np.testing.assert_allclose(back, points)


def test_neutral_augmentation_of_a_square_image_changes_nothing() -> None:
    image = np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)
    keypoints = np.random.default_rng(1).uniform(0, 512, (2, 17, 3))
    sample = training.apply_augmentation(image, keypoints, None, training.Augmentation())
    np.testing.assert_allclose(sample["image"], image / 255, atol=1e-4)  # to HSV and back
    np.testing.assert_allclose(sample["keypoints"][..., :2], keypoints[..., :2] / 4)
    assert sample["mask"].min() == 1


@pytest.mark.parametrize("flip", [False, True])
def test_keypoints_move_with_the_pixels(flip: bool) -> None:
    image = np.zeros((300, 400, 3), np.uint8)
    image[90:97, 250:257] = 255
    keypoints = np.zeros((1, 17, 3))
    keypoints[0, 5] = (253, 93, 2)
    augmentation = training.Augmentation(0.9, 20, 11, -7, flip)
    sample = training.apply_augmentation(image, keypoints, None, augmentation)
    rows, columns = np.nonzero(sample["image"][..., 0] > 0.5)
    x, y, v = sample["keypoints"][0, 6 if flip else 5]
    assert v == 2
    assert (
        abs(columns.mean() - 4 * x) < 1.5 and abs(rows.mean() - 4 * y) < 1.5
    )  # `W - x` is off by one on pixels


def test_mask_ignores_crowds_only() -> None:
    crowd = np.zeros((256, 512), bool)
    crowd[:, :256] = True
    image, nobody = np.zeros((256, 512, 3), np.uint8), np.zeros((0, 17, 3))
    mask = training.apply_augmentation(image, nobody, crowd, training.Augmentation())["mask"]
    assert mask[33:95, :63].max() == 0 and mask[:, 65:].min() == 1
    assert mask[:31].min() == 1 and mask[97:].min() == 1  # above and below the picture
    inside_only = training.apply_augmentation(
        image, nobody, crowd, training.Augmentation(), supervise_outside=False
    )["mask"]
    assert inside_only[:31].max() == 0


def test_color_jitter_on_known_colors() -> None:
    red = np.zeros((1, 1, 3), np.float32)
    red[..., 0] = 1
    turned = training.jitter_colors(red, training.Augmentation(hue=1 / 3))
    np.testing.assert_allclose(turned[0, 0], [0, 1, 0], atol=1e-5)
    pale = training.jitter_colors(red, training.Augmentation(saturation=0.5))
    np.testing.assert_allclose(pale[0, 0], [1, 0.5, 0.5], atol=1e-5)
    dark = training.jitter_colors(red, training.Augmentation(brightness=-0.25))
    np.testing.assert_allclose(dark[0, 0], [0.75, 0, 0], atol=1e-5)
    flat = training.jitter_colors(red, training.Augmentation(contrast=0.5))
    np.testing.assert_allclose(flat[0, 0], [2 / 3, 1 / 6, 1 / 6], atol=1e-5)


def test_heatmap_is_a_square_cut_gaussian_at_the_truncated_cell() -> None:
    keypoints = np.zeros((1, 17, 3))
    keypoints[0, 0] = (40.9, 60.9, 1)
    heatmap = training.draw_heatmaps(keypoints)[0]
    assert heatmap[60, 40] == 1
    np.testing.assert_allclose(heatmap[60, 41:44], [math.exp(-d * d / 8) for d in (1, 2, 3)], rtol=1e-6)
    assert heatmap[67, 47] > 0  # the corner of the patch (15 x 15)
    assert heatmap[68].max() == 0 and heatmap[:, 48].max() == 0


def test_heatmaps_combine_people_by_maximum_and_only_labelled_keypoints_inside() -> None:
    keypoints = np.zeros((4, 17, 3))
    keypoints[0, 0] = (40, 60, 2)
    keypoints[1, 0] = (43, 60, 1)
    keypoints[2, 0] = (90, 60, 0)  # not labelled
    keypoints[3, 0] = (128, 60, 2)  # one cell outside
    both = training.draw_heatmaps(keypoints)
    alone = [training.draw_heatmaps(keypoints[i : i + 1]) for i in (0, 1)]
    np.testing.assert_array_equal(both, np.maximum(*alone))


def test_references_point_at_the_cells_where_keypoints_are_drawn() -> None:
    keypoints = np.random.default_rng(0).uniform(-20, 150, (35, 17, 3))
    keypoints[..., 2] = np.random.default_rng(1).integers(0, 3, (35, 17))
    references = training.keypoint_references(keypoints)
    heatmaps = training.draw_heatmaps(keypoints).ravel()
    assert references.shape == (30, 17, 2)
    index = references[references[..., 1] == 1][:, 0]
    assert len(index) > 50 and (heatmaps[index] == 1).all()
    assert (references[..., 1] <= (keypoints[:30, :, 2] > 0)).all()


def test_random_numbers_stay_in_their_ranges_and_repeat() -> None:
    drawn = [training.draw_augmentation(np.random.default_rng(seed)) for seed in range(200)]
    assert drawn[3] == training.draw_augmentation(np.random.default_rng(3))
    assert all(0.75 <= a.scale_factor <= 1.25 and abs(a.rotation) <= 30 and abs(a.hue) <= 0.2 for a in drawn)
    assert 60 < sum(a.flip for a in drawn) < 140


def test_sample_from_file_equals_sample_from_pixels(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    path = tmp_path / "image.png"
    cv2.imwrite(str(path), image[:, :, ::-1])
    keypoints = np.full((1, 17, 3), 30.0)
    one = training.sample_from_file(str(path), keypoints, None, np.random.default_rng(5))
    other = training.sample(image, keypoints, None, np.random.default_rng(5))
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])
    assert training.collate([one, other])["image"].shape == (2, 3, 512, 512)


# ---- losses ----


def people_of(*people: list[int]) -> np.ndarray:
    """People given by the flat indices at which their tags are read -> references (1, 30, 4, 2)."""
    references = np.zeros((1, 30, 4, 2), np.int64)
    for p, person in enumerate(people):
        for k, index in enumerate(person):
            references[0, p, k] = (index, 1)
    return references


def test_heatmap_loss_by_hand() -> None:
    prediction, target = torch.zeros(2, 3, 2, 2), torch.zeros(2, 3, 2, 2)
    prediction[0, 0, 0, 0] = 3
    prediction[1, 1, 1, 1] = 3
    mask = torch.ones(2, 2, 2)
    mask[1, 1, 1] = 0
    assert_close(training.heatmap_loss(prediction, target, mask), torch.tensor([9 / 12, 0.0]))


@pytest.mark.parametrize(("push", "expected"), [("exp", 0.5 * math.exp(-0.25)), ("hinge", 0.25)])
def test_tag_loss_by_hand(push: str, expected: float) -> None:
    tags = torch.tensor([[1.0, 3.0, 2.5, 99.0]])
    pull, push_value = training.tag_loss(tags, people_of([0, 1], [2]), push)
    assert_close(pull, torch.tensor([0.5]))  # mean of 1 (tags 1 and 3) and 0
    assert_close(push_value, torch.tensor([expected]))


def test_push_averages_over_all_ordered_pairs() -> None:
    tags = torch.tensor([[0.0, 0.5, 1.25]], dtype=torch.float64)
    _, push = training.tag_loss(tags, people_of([0], [1], [2]), "hinge")
    assert_close(push, torch.tensor([0.5 * (0.5 + 0.25 + 0.0) / 3], dtype=torch.float64))


@pytest.mark.parametrize("push", ["exp", "hinge"])
def test_nobody_and_one_person(push: str) -> None:
    tags = torch.tensor([[1.0, 3.0]], requires_grad=True)
    pull, push_value = training.tag_loss(tags, people_of(), push)
    assert pull.item() == push_value.item() == 0
    (pull + push_value).sum().backward()
    assert tags.grad is not None and tags.grad.abs().max() == 0
    pull, push_value = training.tag_loss(tags, people_of([0, 1]), push)
    assert pull.item() == 1 and push_value.item() == 0


@pytest.mark.parametrize("push", ["exp", "hinge"])
def test_repeated_tag_dimensions_change_nothing(push: str) -> None:
    generator = torch.Generator().manual_seed(0)
    tags = torch.randn(1, 4, 5, 5, generator=generator, dtype=torch.float64)
    people = people_of([0, 26, 55], [3, 30], [70, 99])
    once = training.tag_loss(tags, people, push)
    assert_close(training.tag_loss(tags.flatten(1), people, push), once)
    assert_close(training.tag_loss(tags[..., None].expand(-1, -1, -1, -1, 3), people, push), once)


@pytest.mark.parametrize("push", ["exp", "hinge"])
def test_order_of_people_does_not_matter(push: str) -> None:
    tags = torch.randn(1, 50, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    one = training.tag_loss(tags, people_of([0, 7], [3], [20, 30, 40]), push)
    other = training.tag_loss(tags, people_of([40, 20, 30], [], [7, 0], [3]), push)
    assert_close(one, other)


@pytest.mark.parametrize("push", ["exp", "hinge"])
def test_gradients_are_those_of_finite_differences(push: str) -> None:
    tags = torch.randn(1, 6, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    people = people_of([0, 1], [2, 3], [4])
    assert torch.autograd.gradcheck(lambda t: training.tag_loss(t, people, push), tags.requires_grad_())


def test_equal_hinge_means_have_finite_gradients() -> None:
    tags = torch.ones(1, 2, requires_grad=True)
    _, push = training.tag_loss(tags, people_of([0], [1]), "hinge")
    push.sum().backward()
    assert push.item() == 0.5 and tags.grad is not None and torch.isfinite(tags.grad).all()


def test_total_loss_weighs_terms_and_averages_stacks_and_images() -> None:
    generator = torch.Generator().manual_seed(3)
    outputs = torch.randn(2, 3, 68, 8, 8, generator=generator)
    heatmaps, mask = torch.rand(2, 17, 8, 8, generator=generator), torch.ones(2, 8, 8)
    people = np.concatenate([people_of([0, 70], [5, 300]), people_of([9])])
    terms = training.loss(outputs, heatmaps, mask, people)
    single = [
        training.loss(outputs[b : b + 1, s : s + 1], heatmaps[b : b + 1], mask[b : b + 1], people[b : b + 1])
        for b in range(2)
        for s in range(3)
    ]
    for name, value in terms.items():
        assert_close(value, torch.stack([one[name] for one in single]).mean())
    assert_close(terms["total"], terms["heatmap"] + 1e-3 * (terms["pull"] + terms["push"]))


# ---- grouping ----


def draw_people(
    people: np.ndarray, person_tags: list[float], size: int = 64, tag_dim: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """people (P, K, 3) in cells (v = 0: not drawn) -> det (K, size, size), tag (K, size, size, tag_dim).
    Peaks are sub-cell, so that no two neighbours are equal."""
    grid = np.arange(size) + 0.5
    det = np.zeros((people.shape[1], size, size), np.float32)
    tag = np.full((people.shape[1], size, size, tag_dim), 50, np.float32)
    for person, value in zip(people, person_tags, strict=True):
        for k, (x, y, v) in enumerate(person):
            if v > 0:
                blob = 0.9 * np.exp(-((grid[None] - x) ** 2 + (grid[:, None] - y) ** 2) / 4)
                det[k] = np.maximum(det[k], blob)
                tag[k, int(y) - 2 : int(y) + 3, int(x) - 2 : int(x) + 3] = value
    return det, tag


def three_people(size: int = 64) -> np.ndarray:
    rng = np.random.default_rng(0)
    people = np.full((3, 17, 3), 2.0)
    for p in range(3):  # a column of the map for each, so that peaks keep apart
        people[p, :, 0] = rng.uniform(5, size / 3 - 5, 17) + p * size / 3
        people[p, :, 1] = rng.uniform(5, size - 5, 17)
    people[..., :2] = np.floor(people[..., :2]) + rng.choice([0.25, 0.75], (3, 17, 2)) + 0.01
    return people


def by_place(keypoints: np.ndarray) -> np.ndarray:
    return keypoints[np.argsort(keypoints[:, 0, 0])]


@pytest.mark.parametrize("matcher", ["munkres", "scipy"])
@pytest.mark.parametrize("tag_dim", [1, 2])
def test_drawn_people_are_recovered(matcher: str, tag_dim: int) -> None:
    truth = three_people()
    det, tag = draw_people(truth, [0.0, 3.0, -4.0], tag_dim=tag_dim)
    keypoints, scores = testing.group_and_refine(det, tag, matcher=matcher)
    assert keypoints.shape == (3, 17, 3) and (scores > 0.7).all()
    assert np.abs(by_place(keypoints)[..., :2] - truth[..., :2]).max() < 0.02


def test_people_who_start_with_equal_tags_do_not_overwrite_each_other() -> None:
    truth = three_people()[:2]
    det, tag = draw_people(truth, [1.0, 1.0])
    people = testing.parse(det, tag)
    assert len(people) == 2 and all(person.found.all() for person in people)  # a list keeps both


def test_result_does_not_depend_on_who_was_drawn_first() -> None:
    truth = three_people()
    one, _ = testing.group_and_refine(*draw_people(truth, [0.0, 3.0, -4.0]))
    other, _ = testing.group_and_refine(*draw_people(truth[::-1], [-4.0, 3.0, 0.0]))
    np.testing.assert_array_equal(by_place(one), by_place(other))


def test_mirrored_maps_give_the_mirrored_people() -> None:
    det, tag = draw_people(three_people(), [0.0, 3.0, -4.0])
    keypoints, scores = testing.group_and_refine(det, tag)
    mirrored, mirrored_scores = testing.group_and_refine(det[FLIP][:, :, ::-1], tag[FLIP][:, :, ::-1])
    mirrored = mirrored[:, FLIP]
    mirrored[..., 0] = 64 - mirrored[..., 0]
    np.testing.assert_allclose(by_place(mirrored), by_place(keypoints), atol=1e-6)
    np.testing.assert_allclose(np.sort(mirrored_scores), np.sort(scores))


def test_only_peaks_survive_suppression_and_plateaus_stay_whole() -> None:
    det = np.zeros((1, 5, 6), np.float32)
    det[0, 2] = [0.5, 0.5, 0.2, 0.9, 0.3, 0.1]
    np.testing.assert_allclose(testing.suppress(det)[0, 2], [0.5, 0.5, 0, 0.9, 0, 0], atol=1e-7)


def test_at_most_thirty_candidates_highest_first() -> None:
    det = np.zeros((1, 30, 30), np.float32)
    det[0, ::3, ::3] = np.random.default_rng(0).random((10, 10)) + 0.2
    [candidates] = testing.find_candidates(det, np.zeros((1, 30, 30, 1), np.float32))
    values = [c.value for c in candidates]
    assert len(values) == 30 and values == sorted(values, reverse=True)
    np.testing.assert_allclose(values, np.sort(det.ravel())[::-1][:30])


def test_a_distance_of_the_threshold_starts_a_new_person() -> None:
    det = np.zeros((2, 9, 9), np.float32)
    det[:, 4, 4] = 0.9
    tag = np.zeros((2, 9, 9, 2), np.float32)
    tag[1] = 1.0  # RMS distance exactly 1
    assert len(testing.parse(det, tag, (0, 1))) == 2
    tag[1] = 0.99
    assert len(testing.parse(det, tag, (0, 1))) == 1
    tag[1, ..., 0] = 1.4  # RMS over two dimensions below 1, Euclidean above
    tag[1, ..., 1] = 0
    assert len(testing.parse(det, tag, (0, 1))) == 1


def test_a_near_tag_is_worth_more_than_a_high_peak() -> None:
    det = np.zeros((2, 9, 9), np.float32)
    det[0, 4, 1], det[1, 4, 1], det[1, 4, 6] = 0.9, 0.2, 0.9
    tag = np.zeros((2, 9, 9, 1), np.float32)
    tag[1, 4, 6] = 0.8  # acceptable, but rounds to one
    first = testing.parse(det, tag, (0, 1))[0]
    assert tuple(first.cells[1]) == (1, 4)
    tag[1, 4, 6] = 0.4  # rounds to zero: now the higher peak wins
    first = testing.parse(det, tag, (0, 1))[0]
    assert tuple(first.cells[1]) == (6, 4)


@pytest.mark.parametrize("shape", [(2, 5), (5, 2), (4, 4), (1, 1)])
def test_every_candidate_is_assigned_and_people_first(shape: tuple[int, int]) -> None:
    cost = np.random.default_rng(0).random(shape)
    for matcher in ("munkres", "scipy"):
        pairs = testing.assign(cost, matcher)
        assert [i for i, _ in pairs] == list(range(shape[0]))
        assert sum(j < shape[1] for _, j in pairs) == min(shape)


def test_keypoint_kinds_are_skipped_once_there_are_too_many_people() -> None:
    det = np.zeros((3, 30, 30), np.float32)
    tag = np.zeros((3, 30, 30, 1), np.float32)
    for n in range(5):
        det[:, 3 * n, 3] = 0.5
        tag[:, 3 * n, 3] = 10 * n
    tag[1] += 100  # nobody of the first kind matches
    assert len(testing.parse(det, tag, (0, 1), max_people=5)) == 5
    assert len(testing.parse(det, tag, (0, 1), max_people=6)) == 10  # looked at before the kind, not within
    assert not any(p.found[1] for p in testing.parse(det, tag, (0, 1), max_people=5))


def test_quarter_shift_towards_the_larger_neighbour() -> None:
    heatmap = np.zeros((5, 5), np.float32)
    heatmap[2, 2], heatmap[2, 3], heatmap[1, 2] = 1, 0.5, 0.5
    assert testing.adjust(heatmap, 2, 2) == (2.75, 2.25)
    assert testing.adjust(np.zeros((5, 5)), 2, 2) == (2.25, 2.25)  # a tie goes down
    heatmap[0, 0] = 1
    assert testing.adjust(heatmap, 0, 0) == (0.25, 0.25)  # the edge itself is the larger "neighbour"


def test_refine_fills_missing_keypoints_by_heat_and_tag_and_leaves_the_score() -> None:
    truth = three_people()
    det, tag = draw_people(truth, [0.0, 3.0, -4.0])
    det[9] *= 0.1  # too weak for grouping
    person = next(p for p in testing.parse(det, tag) if abs(p.mean_tag[0] - 3) < 0.5)
    assert not person.found[9] and person.found.sum() == 16
    score = person.score
    keypoints = testing.refine(person, det, tag)
    assert np.abs(keypoints[9, :2] - truth[1, 9, :2]).max() < 0.02 and 0 < keypoints[9, 2] < 0.1
    assert person.score == score == pytest.approx(person.values.sum() / 17)
    det[9] = 0
    assert (testing.refine(person, det, tag)[9] == 0).all()


def test_empty_maps_have_nobody() -> None:
    keypoints, scores = testing.group_and_refine(
        np.zeros((17, 16, 16), np.float32), np.zeros((17, 16, 16, 2))
    )
    assert keypoints.shape == (0, 17, 3) and scores.shape == (0,)


# ---- from image to people ----


def fake_forward(truth: np.ndarray) -> testing.Forward:
    """A mirror-equivariant "network" for images that are brighter on the left than on the right: it draws
    people (3, 17, 3), given in fractions of the square, at any size."""

    def forward(square: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        assert square.dtype == np.float32 and square.max() <= 1
        size = square.shape[0] // 4
        people = truth * (size, size, 1)
        det, tag = draw_people(people, [0.0, 3.0, -4.0], size)
        half = square.shape[1] // 2
        if square[:, :half].mean() < square[:, half:].mean():
            return det[FLIP][:, :, ::-1], tag[FLIP][:, :, ::-1, 0]
        return det, tag[..., 0]

    return forward


def bright_left(height: int, width: int) -> np.ndarray:
    image = np.zeros((height, width, 3), np.uint8)
    image[:, : width // 2] = 200
    return image


@pytest.mark.parametrize("mode", ["single", "multi"])
def test_people_come_back_in_image_pixels(mode: str) -> None:
    truth = three_people(128) / (128, 128, 1)
    people = testing.multiperson(bright_left(300, 400), fake_forward(truth), mode)
    keypoints = by_place(np.array([person["keypoints"] for person in people]))
    expected = truth[..., :2] * 400 - (0, 50)  # the square is 400 wide, the picture centred in it
    assert keypoints.shape == (3, 17, 3)
    assert np.abs(keypoints[..., :2] - expected).max() < 400 / 128


def test_mirrored_image_gives_the_mirrored_people() -> None:
    forward = fake_forward(three_people(128) / (128, 128, 1))
    image = bright_left(300, 400)
    plain = np.array([p["keypoints"] for p in testing.multiperson(image, forward)])
    mirrored = np.array([p["keypoints"] for p in testing.multiperson(image[:, ::-1].copy(), forward)])[
        :, :, :
    ]
    mirrored = mirrored[:, FLIP]
    mirrored[..., 0] = 400 - mirrored[..., 0]
    np.testing.assert_allclose(by_place(mirrored), by_place(plain), atol=1e-3)


def test_an_equivariant_network_makes_the_two_passes_equal() -> None:
    truth = three_people(128) / (128, 128, 1)
    forward = fake_forward(truth)
    image = bright_left(256, 256)
    maps = testing.fused_maps(image, forward, testing.SCALES["single"])
    assert maps is not None
    det, tag, _ = maps
    square = np.repeat(np.repeat(image, 2, 0), 2, 1).astype(np.float32) / 255
    np.testing.assert_allclose(det, forward(square)[0], atol=1e-6)
    assert tag.shape == (17, 128, 128, 2)
    np.testing.assert_array_equal(tag[..., 0], tag[..., 1])


def test_multi_scale_keeps_the_first_map_and_only_the_tags_of_scale_one() -> None:
    truth = three_people(128) / (128, 128, 1)
    maps = testing.fused_maps(bright_left(200, 100), fake_forward(truth), testing.SCALES["multi"])
    assert maps is not None
    assert maps[0].shape == (17, 256, 256) and maps[1].shape == (17, 256, 256, 2)
    assert [testing.scale_side(s) for s in testing.SCALES["multi"]] == [1024, 512, 256]


def test_a_scale_that_explodes_is_skipped_and_heat_is_clipped() -> None:
    def forward(square: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        size = square.shape[0] // 4
        value = {256: 6.0, 128: 3.0, 64: 3.0}[size]
        return np.full((17, size, size), value, np.float32), np.zeros((17, size, size), np.float32)

    image = bright_left(100, 100)
    maps = testing.fused_maps(image, forward, testing.SCALES["multi"])
    assert maps is not None
    assert maps[0].shape == (17, 128, 128)  # 6 + 6 exceeds 10
    assert (maps[0] == 1).all()  # (6 + 6) / 6 = 2, clipped
    assert testing.fused_maps(image, lambda s: (forward(s)[0] * 10, forward(s)[1]), (1.0,)) is None
    assert testing.multiperson(image, lambda s: (forward(s)[0] * 10, forward(s)[1])) == []


def test_results_place_missing_keypoints_at_the_mean_of_the_found() -> None:
    keypoints = np.zeros((17, 3))
    keypoints[0], keypoints[1] = (10, 20, 0.5), (30, 60, 0.7)
    [entry] = testing.results([{"keypoints": keypoints, "score": 0.07}], image_id=42)
    written = np.array(entry["keypoints"]).reshape(17, 3)
    assert entry["image_id"] == 42 and entry["category_id"] == 1 and entry["score"] == 0.07
    np.testing.assert_array_equal(written[:2], keypoints[:2])
    np.testing.assert_array_equal(written[2:], np.tile([20.0, 40.0, 0.0], (15, 1)))
    assert (keypoints[2:] == 0).all()  # what was handed in is left alone
