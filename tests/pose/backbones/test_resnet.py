"""The residual network is torchvision's and, with other strides and padding, that of DeeperCut's weights; at
an output stride of 32 it is the body of MMPose's associative embedding."""

from __future__ import annotations

from http.client import IncompleteRead
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.models import ResNet50_Weights, ResNet101_Weights, ResNet152_Weights
from torchvision.models.resnet import Bottleneck, ResNet

from pose.backbones.batch_norm import FrozenBatchNorm2d
from pose.backbones.pretrained import Pretrained
from pose.backbones.resnet import (
    Resnet,
    ResnetFeatures,
    ResnetSettings,
    Upsample,
    imagenet_url,
    pool,
    resnet,
    resnet_tensors,
)
from pose.errors import UserError
from pose.published import deepercut
from tests.golden import golden, multiply_adds
from tests.literal.reference import deepercut_network as literal
from tests.literal.reference.ae_layers import DeconvLayers

CHANNELS = {"heatmap": 3, "locref": 6, "pairwise": 12}
PREDICTIONS = dict(zip(CHANNELS, literal.PREDICTIONS))
PUBLISHED: dict[str, Any] = {"stride_style": "msra", "padding": "same"}
HUB_FILES = {50: "resnet50-0676ba61.pth", 101: "resnet101-63fe2227.pth", 152: "resnet152-394f9c45.pth"}


def small(**more: Any) -> Resnet:
    torch.manual_seed(0)
    return Resnet(ResnetSettings(**{"blocks": (1, 2, 2, 2), "width": 4, **more}), CHANNELS)


def with_statistics(net: nn.Module, seed: int = 1) -> dict[str, Tensor]:
    """The network's tensors, with random normalisations."""
    generator = torch.Generator().manual_seed(seed)
    state = net.state_dict()
    for name, value in state.items():
        if value.ndim == 1:
            value.copy_(torch.rand(value.shape, generator=generator) + (0.5 if "var" in name else 0.0))
    return state


# --------------------------------------------------------------------------------------- DeeperCut's weights


def under_our_names(variables: literal.Variables) -> dict[str, Tensor]:
    weights = deepercut.tensors(variables)
    return {deepercut.our_name(name).removeprefix("backbone."): value for name, value in weights.items()}


Depth = Literal[50, 101, 152]


@pytest.mark.parametrize(
    ("depth", "units", "middle"), [(101, (2, 3, 5, 3), 3), (50, (1, 1, 1, 1), 1), (152, (3, 1, 6, 2), 3)]
)
@pytest.mark.parametrize("size", [(97, 100), (64, 96), (81, 65), (34, 47), (16, 1)])
def test_the_network_is_that_of_deepercut(
    depth: Depth, units: tuple[int, int, int, int], middle: int, size: tuple[int, int]
) -> None:
    """Under slim's names, with its way of laying strides; whatever the size of the picture."""
    values = literal.random_variables(literal.variable_shapes(3, depth, units, width=4), seed=depth)
    net = Resnet(ResnetSettings(depth=depth, blocks=units, width=4, **PUBLISHED), CHANNELS)
    net.load_state_dict(under_our_names(literal.published_checkpoint(values)))
    image = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        first, last = net.train()(image)  # normalisation stands still in training too
        expected = literal.pose_net(values, image, depth, units, middle)
    cells = tuple(2 * -(-side // 16) for side in size)
    assert [*first] == ["heatmap"] and [*last] == [*CHANNELS]
    pairs = [(first["heatmap"], "intermediate_supervision")]
    for made, name in [*pairs, *((last[field], name) for field, name in PREDICTIONS.items())]:
        assert tuple(made.shape[2:]) == cells
        torch.testing.assert_close(made, expected[name], atol=1e-5, rtol=1e-5)
        assert expected[name].std() > 0.05


def test_sizes_of_97_by_100() -> None:
    net = small(**PUBLISHED)
    sizes = []
    for layer in (net.trunk.layer1, net.trunk.layer4):
        layer.register_forward_hook(lambda _, __, made: sizes.append(tuple(made.shape[2:])))
    stages = net(torch.rand(1, 3, 97, 100))
    assert sizes == [(13, 13), (7, 7)]
    assert {tuple(maps.shape[2:]) for stage in stages for maps in stage.values()} == {(14, 14)}


def test_same_pooling_pads_even_sizes_at_their_end() -> None:
    row = torch.arange(8.0).expand(1, 1, 8, 8)
    assert pool(row, "same")[0, 0, 0].tolist() == [2, 4, 6, 7]
    assert pool(row, "torch")[0, 0, 0].tolist() == [1, 3, 5, 7]
    generator = torch.Generator().manual_seed(0)
    for size in [(1, 1), (2, 3), (5, 4), (6, 8), (7, 9)]:
        x = torch.randn(1, 2, *size, generator=generator)
        assert torch.equal(pool(x, "same"), literal.max_pool_same(x))


def test_same_upsampling_starts_at_the_cells_own_place() -> None:
    a, b, kernel = 2.0, 3.0, torch.tensor([1.0, 10.0, 100.0])
    expected = {"same": [a, 10 * a, 100 * a + b, 10 * b], "torch": [10 * a, 100 * a + b, 10 * b, 100 * b]}
    for padding, values in expected.items():
        up = Upsample(1, 1, padding)  # type: ignore[arg-type]
        assert up.bias is not None
        with torch.no_grad():
            up.weight.zero_()[0, 0, 1 if padding == "torch" else 0] = kernel
            up.bias.fill_(0.5)
            made = up(torch.tensor([[[[a, b]]]]))
        assert made.shape == (1, 1, 2, 4)
        assert made[0, 0, 0].tolist() == [value + 0.5 for value in values]
        assert made[0, 0, 1].tolist() == [0.5] * 4


def test_the_published_network_has_its_number_of_weights() -> None:
    with torch.device("meta"):
        counts: dict[Depth, int] = {50: 23_508_032, 101: literal.TRUNK_101, 152: 58_143_808}
        for depth, count in counts.items():
            net = Resnet(ResnetSettings(depth=depth), {"heatmap": 17, "locref": 34, "pairwise": 544})
            assert sum(p.numel() for p in net.trunk.parameters()) == count
            assert net.trunk.middle == {50: 3, 101: 12, 152: 18}[depth]
            assert net.strides == (8, 8) and net.size_multiple == 16
    shapes = literal.variable_shapes(17, 152)
    nothing = {name: np.broadcast_to(np.float32(0), shape) for name, shape in shapes.items()}
    found = {name: value.shape for name, value in under_our_names(nothing).items()}
    assert found == {name: value.shape for name, value in net.state_dict().items()}


# ------------------------------------------------------------------------------------ torchvision's weights


def test_the_trunk_computes_what_torchvision_does() -> None:
    torch.manual_seed(0)
    theirs = ResNet(Bottleneck, [1, 2, 2, 3], replace_stride_with_dilation=[False, False, True]).eval()
    with_statistics(theirs)
    cfg = ResnetSettings(blocks=(1, 2, 2, 3))
    net = Resnet(cfg, {"heatmap": 1})
    net.trunk.load_state_dict(resnet_tensors(theirs.state_dict(), net.trunk))
    x = torch.rand(1, 3, 64, 80)
    with torch.no_grad():
        expected = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(x))))
        expected = theirs.layer3[:1](theirs.layer2(theirs.layer1(expected)))
        middle, last = net.trunk(x)
        assert torch.equal(middle, expected)
        expected = theirs.layer4(theirs.layer3[1:](expected))
    assert torch.equal(last, expected) and last.shape == (1, 2048, 4, 5) and last.std() > 0


def test_strides_and_padding_of_the_two_styles_differ() -> None:
    """The settings are no ornament: the same weights give other maps."""
    image = torch.rand(1, 3, 64, 64)
    nets = [small(), small(stride_style="msra"), small(padding="same")]
    state = with_statistics(nets[0])
    made = []
    for net in nets:
        net.load_state_dict(state)
        made.append(net(image)[-1]["heatmap"])
    assert all(not torch.allclose(one, other) for one, other in [made[:2], made[1:], made[::2]])


# ---------------------------------------------------------------------------------------- output stride of 32


def features(**more: Any) -> ResnetFeatures:
    torch.manual_seed(0)
    cfg = ResnetSettings(**{"output_stride": 32, "blocks": (1, 2, 2, 2), "width": 4, **more})
    net = resnet(cfg)
    assert isinstance(net, ResnetFeatures)
    return net


@pytest.mark.parametrize(
    "depth",
    [50, pytest.param(101, marks=pytest.mark.slow), pytest.param(152, marks=pytest.mark.slow)],
)
def test_it_gives_what_the_published_network_gives(real_data: Path, depth: int) -> None:
    published = golden(real_data, f"mmpose_resnet{depth}_ae")
    net = features(depth=depth, blocks=None, width=64, batch_norm="train").eval()
    layers = DeconvLayers(2048).eval()
    net.load_state_dict(published.weights("backbone."))
    layers.load_state_dict(published.weights("keypoint_head."))
    for case in published.cases:
        with torch.no_grad():
            made = net(case.image)
            case.check([layers(made[-1])])
        for number, feature in enumerate(made, 1):
            case.check_taps(f"backbone.layer{number}", [feature])


def test_features_are_those_of_torchvision() -> None:
    torch.manual_seed(0)
    theirs = ResNet(Bottleneck, [1, 2, 2, 3], width_per_group=64).eval()
    with_statistics(theirs)
    net = features(blocks=(1, 2, 2, 3), width=64)
    net.load_state_dict(resnet_tensors(theirs.state_dict(), net))
    x = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        expected = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(x))))
        for feature, block in zip(net(x), (theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4)):
            expected = block(expected)
            assert torch.equal(feature, expected) and feature.std() > 0
    assert feature.shape == (1, 2048, 2, 3)


def test_the_published_bodies_have_their_number_of_weights() -> None:
    """Parameters, and multiply-adds of 512 x 512: the whole networks' less those after the body."""
    whole = {50: 29_012_000_768, 101: 48_406_462_464, 152: 67_800_924_160}
    parameters = {50: 23_508_032, 101: literal.TRUNK_101, 152: 58_143_808}
    deconv = 16 * 256 * (2048 * 16**2 + 256 * 32**2 + 256 * 64**2) + 34 * 256 * 128**2
    with torch.device("meta"):
        for depth in whole:
            net = features(depth=depth, blocks=None, width=64)
            assert sum(p.numel() for p in net.parameters()) == parameters[depth]
            assert sum(multiply_adds(net, 512, 512).values()) == whole[depth] - deconv
    assert net.feature_channels == (256, 512, 1024, 2048)


@pytest.mark.parametrize(
    "bad", [{"padding": "same"}, {"stride_style": "msra"}, {"intermediate": False}], ids=lambda one: [*one][0]
)
def test_settings_of_the_part_detector_are_refused(bad: dict[str, Any]) -> None:
    (key,) = bad
    with pytest.raises(ValueError, match=f"{key} is a setting of output_stride 16; leave it out"):
        ResnetSettings(output_stride=32, **bad)
    ResnetSettings(output_stride=32, padding="torch", stride_style="torchvision", intermediate=True)


@pytest.mark.parametrize("batch_norm", ["frozen", "train"])
def test_features_take_the_same_files(tmp_path: Path, batch_norm: str) -> None:
    tensors = with_statistics(small().trunk)
    file = tmp_path / "resnet.pth"
    rest = {"keypoint_head.final_layer.weight": torch.ones(3)}
    torch.save({"state_dict": {**{f"backbone.{n}": v for n, v in tensors.items()}, **rest}}, file)
    net = features(pretrained=str(file), batch_norm=batch_norm)
    assert isinstance(net, Pretrained) and net.pretrained_layers() == [net]
    assert str(file) in net.load_pretrained()
    loaded = {n: v for n, v in net.state_dict().items() if "num_batches" not in n}
    assert loaded and all(torch.equal(value, tensors[name]) for name, value in loaded.items())


def test_the_factory_chooses_by_the_output_stride() -> None:
    cfg = ResnetSettings(blocks=(1, 1, 1, 1), width=2)
    assert type(resnet(cfg, CHANNELS)) is Resnet
    assert type(resnet(cfg.model_copy(update={"output_stride": 32}), CHANNELS)) is ResnetFeatures


# ------------------------------------------------------------------------------------ files of the weights


SHAPES: dict[str, Any] = {
    "torchvision": lambda t: {**t, "fc.weight": torch.ones(9, 128), "fc.bias": torch.ones(9)},
    "wrapped": lambda t: {f"module.{name}": value for name, value in t.items()},
    "nested": lambda t: {"state_dict": {f"backbone.{n}": v for n, v in t.items()}, "epoch": 3},
    "before batches were counted": lambda t: {n: v for n, v in t.items() if "num_batches" not in n},
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("batch_norm", ["frozen", "train"])
def test_files_of_many_shapes(tmp_path: Path, shape: str, batch_norm: str) -> None:
    tensors = with_statistics(small().trunk)
    torch.save(SHAPES[shape](tensors), tmp_path / "resnet.pth")
    net = small(pretrained=str(tmp_path / "resnet.pth"), batch_norm=batch_norm)
    heads = {name: value.clone() for name, value in net.heads.state_dict().items()}
    assert isinstance(net, Pretrained) and net.pretrained_layers() == [net.trunk]
    assert str(tmp_path / "resnet.pth") in net.load_pretrained()
    loaded = {n: v for n, v in net.trunk.state_dict().items() if "num_batches" not in n}
    assert all(torch.equal(value, tensors[name]) for name, value in loaded.items())
    assert all(torch.equal(value, heads[name]) for name, value in net.heads.state_dict().items())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda t: {n: v for n, v in t.items() if n != "layer3.0.bn2.bias"}, "layer3.0.bn2.bias is missing"),
        (lambda t: small(width=8).trunk.state_dict(), r"conv1.weight is \(8, 3, 7, 7\), it should be \(4"),
        (
            lambda t: small(blocks=(1, 2, 4, 2)).trunk.state_dict(),
            "no layer3.2.conv1.weight; is ba",
        ),
        (lambda t: {"features.0.weight": torch.ones(4, 3, 3, 3)}, "conv1.weight is missing"),
        (lambda t: {"epoch": 3}, "conv1.weight is missing"),
    ],
)
def test_other_networks_files_are_refused(tmp_path: Path, content: Any, message: str) -> None:
    file = tmp_path / "other.pth"
    torch.save(content(small().trunk.state_dict()), file)
    net = small(pretrained=str(file))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(UserError, match=rf"pretrained=.*other.pth.*this ResNet: .*{message}"):
        net.load_pretrained()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"backbone\.pretrained=.*gone\.pth: .*checkpoint"):
        small(pretrained=str(tmp_path / "gone.pth")).load_pretrained()


def test_imagenets_weights_are_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    tensors, asked = with_statistics(small().trunk), []

    def download(url: str, file: str, hash_prefix: str) -> None:
        asked.append((url, hash_prefix))
        torch.save(tensors, file)

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    for _ in range(2):
        net = small(pretrained="imagenet")
        assert HUB_FILES[101] in net.load_pretrained()
        assert torch.equal(net.trunk.conv1.weight, tensors["conv1.weight"])
    assert asked == [(ResNet101_Weights.IMAGENET1K_V1.url, "63fe2227")]


def test_every_depth_has_its_own_file_of_torchvision() -> None:
    weights = {50: ResNet50_Weights, 101: ResNet101_Weights, 152: ResNet152_Weights}
    for depth, one in weights.items():
        assert imagenet_url(depth) == one.IMAGENET1K_V1.url
        assert imagenet_url(depth).endswith(f"/{HUB_FILES[depth]}")


def test_offline_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*_: Any, **__: Any) -> None:
        raise IncompleteRead(b"1234")

    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    with pytest.raises(UserError) as caught:
        small(pretrained="imagenet", depth=50).load_pretrained()
    for part in (f"put that file into {tmp_path / 'checkpoints'} as {HUB_FILES[50]}", "pretrained=FILE"):
        assert part in str(caught.value)


# ------------------------------------------------------------------------------------------------- training


def statistics(net: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in net.named_buffers()}


@pytest.mark.parametrize("batch_norm", ["frozen", "train"])
def test_frozen_statistics_stand_still_while_scale_and_shift_learn(batch_norm: str) -> None:
    net = small(batch_norm=batch_norm).train()
    before, weights = statistics(net), {n: p.detach().clone() for n, p in net.named_parameters()}
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    for _ in range(2):  # the first step only wakes the units, which start as identities
        optimizer.zero_grad()
        stages = net(torch.rand(2, 3, 64, 64))
        torch.stack([maps.square().mean() for stage in stages for maps in stage.values()]).sum().backward()
        optimizer.step()
    assert all(torch.equal(v, before[n]) for n, v in net.named_buffers()) == (batch_norm == "frozen")
    moved = [name for name, value in net.named_parameters() if not torch.equal(value, weights[name])]
    assert all(name in moved for name in weights if name.endswith(("bn1.bias", "bn3.weight", "bn3.bias")))


def test_frozen_is_what_batch_norm_does_when_it_does_not_train() -> None:
    torch.manual_seed(0)
    theirs = nn.BatchNorm2d(4)
    ours = FrozenBatchNorm2d(4)
    state = with_statistics(theirs)
    ours.load_state_dict({name: value for name, value in state.items() if name != "num_batches_tracked"})
    x = torch.randn(2, 4, 3, 3)
    assert torch.equal(ours.train()(x), theirs.eval()(x))
    kept = nn.SyncBatchNorm.convert_sync_batchnorm(small())
    assert not any(isinstance(layer, nn.SyncBatchNorm) for layer in kept.modules())


@pytest.mark.parametrize("form", [{}, PUBLISHED], ids=["torch", "published"])
def test_gradients_are_those_of_finite_differences(form: dict[str, Any]) -> None:
    """Nothing that a branch still needs is changed in place."""
    net = small(blocks=(2, 2, 2, 2), width=2, **form).double()
    with_statistics(net)
    x = torch.rand(1, 3, 17, 20, dtype=torch.float64, requires_grad=True)
    outputs = lambda image: [maps for stage in net(image) for maps in stage.values()]  # noqa: E731
    assert torch.autograd.gradcheck(outputs, x, fast_mode=True)


def test_without_intermediate_supervision_there_is_one_stage() -> None:
    net = small(intermediate=False)
    assert net.strides == (8,) and [[*stage] for stage in net(torch.rand(1, 3, 32, 32))] == [[*CHANNELS]]


def test_random_weights_give_maps_of_ordinary_size_however_deep() -> None:
    net = small(blocks=None, depth=152)
    with torch.no_grad():
        last = net.trunk(torch.randn(1, 3, 64, 64))[1]
    assert 0.01 < last.std() < 100


@pytest.mark.parametrize(
    "bad", [{"depth": 18}, {"blocks": (1, 1, 1)}, {"blocks": (1, 1, 0, 1)}, {"width": 0}]
)
def test_settings_out_of_range(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        ResnetSettings(**bad)
