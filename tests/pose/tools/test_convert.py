"""Published weights give their published keypoints: converted runs against a literal restatement."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from pose import checkpoint
from pose.backbones.hourglass_swish import HourglassSwishSettings
from pose.backbones.vgg19_cpm import Vgg19Cpm, Vgg19CpmSettings
from pose.errors import UserError
from pose.experiment import Experiment
from pose.predict.batches import BatchPredictor
from pose.predict.settings import Mode
from pose.published import conversion
from pose.published.ae_aic import plan_ae_aic
from pose.published.plan import named_tensors
from pose.published.rtpose import plan_rtpose, rename_rtpose, rtpose_order
from pose.registry import BACKBONES
from pose.sessions import load_model
from pose.tools import convert
from pose.training import first_model
from tests.literal.reference import (
    ae_aic_group,
    ae_aic_network,
    pose_ae_network,
    pose_ae_testing,
    rtpose_network,
)


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


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["single", "multi"])
def test_keypoints_of_pose_ae_train(published, tmp_path: Path, monkeypatch, mode: Mode):
    """The fused maps are the original's to rounding; on the same maps people and keypoints are exactly its;
    and from picture to people nearly all are: random weights give many near ties, which rounding decides."""
    monkeypatch.chdir(tmp_path)
    path, net = published
    assert convert.main(["pose-ae", str(path), "-e", "published"]) == 0
    experiment = Experiment.open("published")
    assert experiment.config.input.pixel_center == 0.0
    model, _ = load_model(experiment, "best", torch.device("cpu"))
    predictor = BatchPredictor(model, experiment.config.test, mode)
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
        order = pose_ae_testing.COCO_ORDER
        keypoints, scores = pose_ae_testing.group_and_refine(heat, tags, order, as_released=True)
        keypoints[..., :2] = pose_ae_testing.transform_points(keypoints[..., :2] * 4, to_image)
        people = predictor.decode(fields, stride, [prepared])[0][1]
        assert len(people) == len(keypoints) > 10
        for ours, theirs in zip(people.keypoints, keypoints[np.argsort(-scores, kind="stable")]):
            np.testing.assert_array_equal(ours[:, 2] > 0, theirs[:, 2] > 0)
            there = ours[:, 2] > 0
            np.testing.assert_allclose(ours[there, :2], theirs[there, :2], atol=1e-2)

        ours = predictor(image).keypoints
        for person in pose_ae_testing.multiperson(image, forward, mode, as_released=True):
            theirs = np.asarray(person["keypoints"])
            there = theirs[:, 2] > 0
            near = (np.abs(ours[:, there, :2] - theirs[there, :2]).max(-1) < 0.5) & (ours[:, there, 2] > 0)
            found += int(there.sum())
            same += int(near.sum(1).max())
    assert found > 100
    assert same > 0.9 * found


def test_settings_are_read_off_the_weights(published, tmp_path: Path):
    config, model, *_ = conversion.convert(convert.SOURCES["pose-ae"], published[0])
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
    model = conversion.convert(convert.SOURCES["pose-ae"], path).model
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
        ({0: torch.zeros(3), ("a", 1): torch.zeros(3)}, "no named weights"),
        (
            {
                "pre.0.conv.weight": torch.ones(()),
                "outs.0.conv.weight": torch.ones(68, 4, 1, 1),
                "features.0.0.low1.conv.weight": torch.ones(()),
            },
            "not pose-ae-train's",
        ),
    ],
)
def test_another_networks_file(tmp_path: Path, state, message: str):
    path = tmp_path / "other.pth"
    torch.save(state, path)
    with pytest.raises(UserError, match=message):
        conversion.convert(convert.SOURCES["pose-ae"], path)


def test_a_run_that_exists_is_kept(published, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    convert.main(["pose-ae", str(published[0]), "-e", "mine"])
    before = checkpoint.load(Path("exp/mine/best.pt"))
    with pytest.raises(UserError, match="exists already"):
        convert.main(["pose-ae", str(published[0]), "-e", "mine"])
    assert before.keys() == checkpoint.load(Path("exp/mine/best.pt")).keys()


def test_a_run_that_cannot_be_saved_leaves_no_folder(published, tmp_path: Path, monkeypatch):
    def full(*_: Any) -> None:
        raise UserError("cannot save: no space left")

    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", full)
        with pytest.raises(UserError, match="no space left"):
            convert.main(["pose-ae", str(published[0]), "-e", "mine"])
    assert not Path("exp/mine").exists()
    assert convert.main(["pose-ae", str(published[0]), "-e", "mine"]) == 0


# --------------------------------------------------------------------------------------------------- rtpose

CHANNELS = {"paf": 38, "heatmap": 19}
TRAINED_BY = {"bare": "cmu", "caffe": "cmu", "module": "rtpose", "lightning": "rtpose"}
CONFIGS = {"cmu": "coco18", "rtpose": "coco18_eyes"}  # by the skeleton that only one of them has


def anonymous(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"arg_{i}": value for i, value in enumerate(state.values())}


@pytest.mark.parametrize("form", [*rtpose_network.FORMS, "by position"])
@pytest.mark.parametrize("stages", [1, 2])
def test_every_shape_of_file_is_the_published_network(form: str, stages: int):
    """All fields of all stages, bit by bit."""
    torch.manual_seed(0)
    literal = rtpose_network.RTPose(stages=stages)
    for value in literal.parameters():
        if value.ndim > 1:
            torch.nn.init.kaiming_normal_(value)
        else:
            torch.nn.init.normal_(value)
    if form == "by position":
        state: dict[str, Any] = anonymous(literal.state_dict())
    else:
        state = rtpose_network.published_checkpoint(literal, form)
    weights = named_tensors(state, Path("file"))
    plan = plan_rtpose(weights)
    ours = Vgg19Cpm(Vgg19CpmSettings(stages=stages), CHANNELS)
    renamed = {plan.rename(name).removeprefix("backbone."): value for name, value in weights.items()}
    ours.load_state_dict(renamed)
    assert f"backbone.stages={stages}" in plan.settings and plan.outputs == CHANNELS
    x = torch.rand(1, 3, 32, 48)
    with torch.no_grad():
        expected = literal(x)[1]
        made = [maps for stage in ours(x) for maps in stage.values()]
    assert len(made) == 2 * stages
    for one, other in zip(made, expected, strict=True):
        assert torch.equal(one, other) and one.std() > 1e-3


@pytest.mark.parametrize("form", [*rtpose_network.FORMS, "by position"])
def test_all_184_tensors_of_six_stages_have_their_place(form: str):
    with torch.device("meta"):
        literal = rtpose_network.RTPose()
        ours = Vgg19Cpm(Vgg19CpmSettings(), CHANNELS).state_dict()
    bare = rtpose_network.published_checkpoint(literal)
    state = anonymous(bare) if form == "by position" else rtpose_network.published_checkpoint(literal, form)
    weights = named_tensors(state, Path("file"))
    plan = plan_rtpose(weights)
    found = {plan.rename(name).removeprefix("backbone."): value.shape for name, value in weights.items()}
    assert found == {name: value.shape for name, value in ours.items()} and len(found) == 184
    # the order of the published file, which positions stand for
    assert [plan.rename(name) for name in weights] == [rename_rtpose(name) for name in bare]
    assert plan.settings == [
        "backbone.stages=6", "backbone.trunk_width=64", "backbone.width=128",
        "backbone.first_stage_width=512", "backbone.kernel=7",
    ]  # fmt: skip


def small_rtpose(stages: int = 2, **channels: int) -> dict[str, Tensor]:
    """A narrow network under the published names, in their order."""
    torch.manual_seed(0)
    cfg = Vgg19CpmSettings(stages=stages, trunk_width=4, width=8, first_stage_width=16, kernel=3)
    state = Vgg19Cpm(cfg, {**CHANNELS, **channels}).state_dict()
    named = {}
    for name in rtpose_order(stages):
        ours = name.removeprefix("backbone.")
        part, *rest = ours.split(".")
        if part == "stages":
            stage, branch, *rest = rest
            part = f"model{int(stage) + 1}_{'1' if branch == 'paf' else '2'}"
        named[".".join([part.replace("trunk", "model0"), *rest])] = state[ours]
    return named


def in_form(state: dict[str, Tensor], form: str) -> dict[str, Any]:
    class Holder(torch.nn.Module):
        def state_dict(self, *_: Any, **__: Any) -> dict[str, Tensor]:  # type: ignore[override]
            return state

    return rtpose_network.published_checkpoint(Holder(), form)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("form", rtpose_network.FORMS)
@pytest.mark.parametrize("weights_from", [None, "cmu", "rtpose"])
def test_who_trained_the_weights_decides_the_conventions(
    folder: Path, capsys: pytest.CaptureFixture[str], form: str, weights_from: str | None
):
    """Seen from the names, or said by the user; printed in either case."""
    state = small_rtpose()
    torch.save(in_form(state, form), folder / "weights.pth")
    flag = ["--weights-from", weights_from] if weights_from else []
    assert convert.main(["rtpose", "weights.pth", "-e", "run", *flag, "test.flip=false"]) == 0
    told = capsys.readouterr().err
    expected = weights_from or TRAINED_BY[form]
    said = {"cmu": "CMU's original weights", "rtpose": "weights that rtpose (PyTorch) trained"}
    assert f"taken for {said[expected]}" in told
    assert ("else: --weights-from" in told) == (weights_from is None)
    config = Experiment.open("run").config
    assert config.skeleton.name == CONFIGS[expected] and not config.test.flip
    assert config.backbone.pretrained is None and config.backbone.stages == 2
    model, _ = load_model(Experiment.open("run"), "best", torch.device("cpu"))
    for name, value in state.items():
        assert torch.equal(model.state_dict()[rename_rtpose(name)], value)


def test_a_red_picture_as_each_of_them_takes_it(folder: Path):
    """CMU: blue, green, red / 256 - 0.5, and the border is 0; rtpose: ImageNet's mean and deviation."""
    red = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    red[:, 0] = 255
    models = {}
    for who in CONFIGS:
        torch.save(small_rtpose(1), folder / "weights.pth")
        converted = conversion.convert(convert.SOURCES["rtpose"], folder / "weights.pth", weights_from=who)
        models[who] = converted.model
    x = models["cmu"].normalize(red)[0, :, 0, 0]
    torch.testing.assert_close(x, torch.tensor([-0.5, -0.5, 255 / 256 - 0.5]), atol=1e-6, rtol=0)
    border = torch.tensor(models["cmu"].input.pad_value, dtype=torch.uint8).view(1, 3, 1, 1)
    assert models["cmu"].normalize(border).abs().max() < 1e-6
    x = models["rtpose"].normalize(red)[0, :, 0, 0]
    expected = [(1 - 0.485) / 0.229, -0.456 / 0.224, -0.406 / 0.225]
    torch.testing.assert_close(x, torch.tensor(expected), atol=1e-5, rtol=0)


@pytest.mark.parametrize("who", ["cmu", "rtpose"])
def test_a_converted_network_finds_people_on_pictures_of_any_shape(folder: Path, who: str):
    """It need not make sense with random weights, but must run, with the shorter side at 368 pixels."""
    torch.save(small_rtpose(1), folder / "weights.pth")
    convert.main(["rtpose", "weights.pth", "-e", "run", "--weights-from", who])
    experiment = Experiment.open("run")
    model, _ = load_model(experiment, "best", torch.device("cpu"))
    predictor = BatchPredictor(model, experiment.config.test)
    image = picture(0, (240, 313))
    prepared = predictor.prepare(image)
    assert [tuple(canvas.shape) for canvas in prepared.canvases] == [(3, 368, 480)]
    people = predictor(image)
    assert people.keypoints.shape[1:] == (18, 3)


def resnet() -> dict[str, Tensor]:
    return {"conv1.weight": torch.ones(64, 3, 7, 7), "fc.bias": torch.ones(9)}


def vgg() -> dict[str, Tensor]:
    return {f"features.{i}.weight": torch.ones(3) for i in range(38)}


def shuffled(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """As many tensors, in another order and without known names."""
    return anonymous(dict(reversed(state.items())))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda s: resnet(), "not rtpose's: it has 2 tensors .conv1.weight"),
        (lambda s: vgg(), "not rtpose's: it has 38 tensors"),
        (lambda s: {"state_dict": {"model.module.pre.0.conv.weight": torch.ones(3)}}, "not rtpose's"),
        (lambda s: {"epoch": 3}, "no named weights"),
        (lambda s: {"model0.1.weight": torch.ones(3)}, "only a part .* 44 of 44 tensors are missing; copy"),
        (lambda s: dict(list(s.items())[:50]), "only a part .* 22 of 72 tensors .*model1_2.0.bias"),
        (lambda s: {k: v for k, v in s.items() if "model0" in k}, "only a part .* 20 of 44 tensors"),
        (lambda s: {k: v for k, v in s.items() if k != "model2_1.4.bias"}, "1 of 72 tensors"),
        (lambda s: small_rtpose(heatmap=18), "18 channels of the field 'heatmap'.*coco18' has 19"),
        (lambda s: small_rtpose(paf=28), "28 channels of the field 'paf'.*coco18' has 38"),
        (lambda s: {**s, "model1_1.2.weight": torch.ones(8, 7, 3, 3)}, "does not fill .*other shape"),
        (lambda s: {**s, "model1_1.2.weight": torch.tensor(1.0)}, r"the shape \(\) of model1_1.2.weight"),
        (shuffled, r"not rtpose's: .* the shape \(19,\) of arg_0"),
    ],
)
def test_a_file_of_another_network_is_told_in_one_sentence(
    folder: Path, spoil: Callable[[dict[str, Tensor]], Any], message: str
):
    torch.save(spoil(small_rtpose()), folder / "other.pth")
    with pytest.raises(UserError, match=message) as caught:
        convert.main(["rtpose", "other.pth", "-e", "run"])
    assert "\n" not in str(caught.value)
    assert not (folder / "exp").exists()


def test_a_truncated_file_and_another_head(folder: Path):
    torch.save(small_rtpose(), folder / "whole.pth")
    data = (folder / "whole.pth").read_bytes()
    (folder / "half.pth").write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match="half.pth: it is cut off or not a checkpoint"):
        convert.main(["rtpose", "half.pth", "-e", "run"])
    with pytest.raises(UserError, match="38 channels of the field 'paf', and the head 'tags'.*has 0"):
        convert.main(["rtpose", "whole.pth", "-e", "run", "head={name: tags}"])


def test_without_background_where_the_user_says_so(folder: Path):
    """An 18-channel network is another one, but not an impossible one."""
    torch.save(small_rtpose(heatmap=18), folder / "weights.pth")
    assert convert.main(["rtpose", "weights.pth", "-e", "run", "head.background=false"]) == 0


def test_settings_may_stand_before_and_behind_the_options(capsys: pytest.CaptureFixture[str]):
    for words in (["a.b=1", "-e", "n"], ["-e", "n", "a.b=1"], ["-e", "n", "--weights-from", "cmu", "a.b=1"]):
        assert convert.parse(["rtpose", "file", *words]).settings == ["a.b=1"]
    for wrong in (["-e", "n", "typo"], ["-e", "n", "--scale=2"]):
        with pytest.raises(SystemExit):
            convert.parse(["rtpose", "file", *wrong])
        assert "unrecognized arguments" in capsys.readouterr().err


def test_training_goes_on_from_the_converted_weights(published, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert convert.main(["pose-ae", str(published[0]), "-e", "on"]) == 0
    experiment = Experiment.open("on")
    first = first_model(experiment.config, weights=True, tell=False)[0].state_dict()
    converted = load_model(experiment, "best", torch.device("cpu"))[0].state_dict()
    assert all(torch.equal(first[name], value) for name, value in converted.items())
    assert Path("exp/on/published.pt").read_bytes() == Path("exp/on/best.pt").read_bytes()


# --------------------------------------------------------------------------------------------------- ae-aic


def ae_aic_forward(net: ae_aic_network.HG) -> ae_aic_group.Forward:
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (ae_aic_network.MEAN, ae_aic_network.STD))

    @torch.no_grad()
    def forward(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x = (torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 255 - mean) / std
        score, embedding = net(x[None])[-1]
        return score[0].numpy(), embedding[0].numpy()

    return forward


@pytest.fixture
def ae_aic(folder: Path) -> ae_aic_network.HG:
    """A small network in weights.pth, with random weights that find many people."""
    torch.manual_seed(0)
    net = ae_aic_network.HG(f=8, num_stacks=2, growth=4, depth=2).eval()
    with torch.no_grad():
        for value in net.parameters():
            torch.nn.init.kaiming_normal_(value) if value.ndim > 1 else value.zero_()
        maps = ae_aic_forward(net)(ae_aic_group.canvas(picture(9, (400, 500)), 512))
        for head, values, deviation in zip((net.score, net.embedding), maps, (0.25, 0.4), strict=True):
            factor = torch.from_numpy(deviation / values.std((1, 2))).view(-1, 1, 1, 1)
            head[-1][0].conv.weight.mul_(factor)  # type: ignore[index, union-attr, operator]
    torch.save(ae_aic_network.published_checkpoint(net), folder / "weights.pth")
    return net


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["single", "multi"])
def test_people_of_the_ai_challenger_entry(ae_aic: ae_aic_network.HG, mode: Mode):
    """From picture to people, whatever the aspect: the same keypoints, at the same whole pixels."""
    assert convert.main(["ae-aic", "weights.pth", "-e", "published"]) == 0
    experiment = Experiment.open("published")
    model, _ = load_model(experiment, "best", torch.device("cpu"))
    predictor = BatchPredictor(model, experiment.config.test, mode)
    forward = ae_aic_forward(ae_aic)
    for seed, size in enumerate([(425, 640), (333, 250), (300, 1100)]):
        image = picture(seed, size)
        score, tags = ae_aic_group.fused_maps(image, forward, ae_aic_group.SIZES[mode])
        fields, stride = predictor.fields([predictor.prepare(image).canvases])
        assert stride == 8
        np.testing.assert_allclose(fields["heatmap"][0], score, atol=1e-4)
        np.testing.assert_allclose(fields["tag"][0].movedim(0, -1), tags, atol=1e-4)
        ours = predictor(image).keypoints
        ours[..., 2] = ours[..., 2] > 0
        theirs = ae_aic_group.people_of(image, forward, ae_aic_group.SIZES[mode])
        assert sorted(ours.astype(int).tolist()) == sorted(one.tolist() for one in theirs)
        assert len(ours) >= 10 and ours[..., 2].sum(1).max() >= 12 and (ours == ours.round()).all()


@pytest.mark.parametrize("prefix", ["", "module."])
def test_maps_of_the_ai_challenger_entry_bit_by_bit(ae_aic: ae_aic_network.HG, prefix: str):
    state = {prefix + name: value for name, value in ae_aic.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3}, "other.pth")
    config, model, *_ = conversion.convert(convert.SOURCES["ae-aic"], Path("other.pth"))
    backbone = config.backbone
    assert backbone.name == "hourglass_swish"
    assert (backbone.stacks, backbone.width, backbone.growth, backbone.depth, backbone.stem_width) == (
        2, 8, 4, 2, 2,
    )  # fmt: skip
    x = torch.rand(2, 3, 96, 64)
    with torch.no_grad():
        for (score, embedding), fields in zip(ae_aic(x), model.backbone(x), strict=True):
            assert torch.equal(fields["heatmap"], score) and torch.equal(fields["tag"], embedding)


def test_all_tensors_of_the_published_size_have_their_place():
    with torch.device("meta"):
        weights = ae_aic_network.published_checkpoint(ae_aic_network.HG())["state_dict"]
        ours = BACKBONES.build(HourglassSwishSettings(), {"heatmap": 14, "tag": 14}).state_dict()
    plan = plan_ae_aic(weights)
    found = {plan.rename(name).removeprefix("backbone."): value.shape for name, value in weights.items()}
    assert found == {name: value.shape for name, value in ours.items()}
    assert plan.outputs == {"heatmap": 14, "tag": 14} and plan.settings == [
        "backbone.stacks=3", "backbone.width=256", "backbone.growth=128", "backbone.depth=4",
        "backbone.stem_width=64",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda s: resnet(), "not that of the associative-embedding entry to AI Challenger"),
        (lambda s: {"module.stage_base.0.conv1.0.conv.weight": torch.ones(())}, "not that of the assoc"),
        (lambda s: {k: v for k, v in s.items() if ".fc1.1." not in k}, "does not fill the network"),
        (lambda s: {k: v[:13] if ".score." in k else v for k, v in s.items()}, "13 channels of the field"),
    ],
)
def test_what_is_not_the_ai_challenger_entry_is_told(ae_aic: ae_aic_network.HG, spoil: Any, message: str):
    torch.save({"state_dict": spoil(ae_aic_network.published_checkpoint(ae_aic)["state_dict"])}, "bad.pth")
    with pytest.raises(UserError, match=message):
        convert.main(["ae-aic", "bad.pth", "-e", "run"])
    assert not Path("exp/run").exists()
