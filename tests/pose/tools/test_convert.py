"""Published weights give their published keypoints: converted runs against a literal restatement."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from benchmarks.literal import pose_ae_network, pose_ae_testing
from pose import checkpoint
from pose.errors import UserError
from pose.evaluate.predict import Predictor
from pose.experiment import Experiment
from pose.sessions import load_model
from pose.tools import convert


@pytest.fixture
def published(tmp_path: Path) -> tuple[Path, pose_ae_network.PoseNet]:
    """A small network in the published shape and key names, with random weights that give many peaks."""
    torch.manual_seed(0)
    net = pose_ae_network.PoseNet(stacks=2, width=16, growth=8, depth=4, channels=68)
    with torch.no_grad():
        for name, value in net.named_parameters():
            if name.startswith(("pre", "features")) and name.endswith("weight"):
                value.mul_(2.2)  # keeps the signal up through many layers
            if name.startswith("outs.1") and name.endswith("weight"):
                value[:17] *= 12
                value[17:34] *= 40
            if name.startswith("outs.1") and name.endswith("bias"):
                value.zero_()
    path = tmp_path / "checkpoint.pth.tar"
    torch.save(pose_ae_network.published_checkpoint(net, epoch=7), path)
    return path, net.eval()


def picture(seed: int, size: tuple[int, int]) -> np.ndarray:
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 255, (size[0] // 12, size[1] // 12, 3), np.uint8)
    return cv2.resize(small, size[::-1], interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize("mode", ["single", "multi"])
def test_keypoints_of_pose_ae_train(published, tmp_path: Path, monkeypatch, mode: str):
    """The fused maps are the original's to rounding; on the same maps people and keypoints are exactly its;
    and from picture to people nearly all are: random weights give many near ties, which rounding decides."""
    monkeypatch.chdir(tmp_path)
    path, net = published
    assert convert.main(["pose-ae", str(path), "-e", "published"]) == 0
    experiment = Experiment.open("published")
    assert experiment.config.input.pixel_center == 0.0
    model, _ = load_model(experiment, "best", torch.device("cpu"))
    predictor = Predictor(model, experiment.config.test, mode)
    forward = pose_ae_network.last_stack(net)
    found = same = 0
    for seed, size in enumerate([(425, 640), (333, 250)]):
        image = picture(seed, size)
        prepared = predictor.prepare(image)
        fields, stride = predictor.fields([prepared.canvases])
        heat = fields["heatmap"][0].clamp(max=1).numpy()
        tags = fields["tag"][0].movedim(0, -1).numpy()  # (K, h, w, T)
        maps = pose_ae_testing.fused_maps(image, forward, pose_ae_testing.SCALES[mode])
        assert maps is not None
        np.testing.assert_allclose(heat, maps[0], atol=1e-4)
        np.testing.assert_allclose(tags, maps[1], atol=1e-4 * float(np.abs(maps[1]).max()))

        to_image = pose_ae_testing.invert_transform(maps[2])
        keypoints, scores = pose_ae_testing.group_and_refine(heat, tags, pose_ae_testing.COCO_ORDER)
        keypoints[..., :2] = pose_ae_testing.transform_points(keypoints[..., :2] * 4, to_image)
        people = predictor._decode(fields, stride, [prepared])[0][1]
        assert len(people) == len(keypoints) > 10
        for ours, theirs in zip(people.keypoints, keypoints[np.argsort(-scores, kind="stable")]):
            np.testing.assert_array_equal(ours[:, 2] > 0, theirs[:, 2] > 0)
            there = ours[:, 2] > 0
            np.testing.assert_allclose(ours[there, :2], theirs[there, :2], atol=1e-2)

        ours = predictor(image).keypoints
        for person in pose_ae_testing.multiperson(image, forward, mode):
            theirs = np.asarray(person["keypoints"])
            there = theirs[:, 2] > 0
            near = (np.abs(ours[:, there, :2] - theirs[there, :2]).max(-1) < 0.5) & (ours[:, there, 2] > 0)
            found += int(there.sum())
            same += int(near.sum(1).max())
    assert found > 100
    assert same > 0.9 * found


def test_settings_are_read_off_the_weights(published, tmp_path: Path):
    config, model, report = convert.convert(convert.SOURCES["pose-ae"], published[0])
    backbone = config.backbone
    assert (backbone.stacks, backbone.width, backbone.growth, backbone.depth) == (2, 16, 8, 4)
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in published[1].parameters())


def test_batch_norm_is_converted(tmp_path: Path):
    torch.manual_seed(1)
    net = pose_ae_network.PoseNet(stacks=1, width=8, growth=4, depth=4, channels=68, batch_norm=True).train()
    x = torch.rand(2, 3, 64, 64)
    net(x)  # moves the running statistics
    path = tmp_path / "bn.pth"
    torch.save(pose_ae_network.published_checkpoint(net, epoch=1), path)
    _, model, _ = convert.convert(convert.SOURCES["pose-ae"], path)
    ours = model.eval()(x)[-1]
    theirs = net.eval()(x)[:, -1]
    torch.testing.assert_close(
        torch.cat([ours["heatmap"], ours["tag"]], 1), theirs[:, :34], atol=1e-5, rtol=1e-4
    )


@pytest.mark.parametrize(
    "state, message",
    [
        ({"state_dict": {"model.module.conv.weight": torch.zeros(3)}}, "not pose-ae-train's"),
        ({"epoch": 3}, "no named weights"),
    ],
)
def test_another_networks_file(tmp_path: Path, state, message: str):
    path = tmp_path / "other.pth"
    torch.save(state, path)
    with pytest.raises(UserError, match=message):
        convert.convert(convert.SOURCES["pose-ae"], path)


def test_a_run_that_exists_is_kept(published, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    convert.main(["pose-ae", str(published[0]), "-e", "mine"])
    before = checkpoint.load(Path("exp/mine/best.pt"))
    with pytest.raises(UserError, match="exists already"):
        convert.main(["pose-ae", str(published[0]), "-e", "mine"])
    assert before.keys() == checkpoint.load(Path("exp/mine/best.pt")).keys()
