"""MobileNetV2 is torchvision's and MMPose's."""

from __future__ import annotations

from http.client import IncompleteRead
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import MobileNet_V2_Weights, mobilenet_v2
from torchvision.models._utils import _make_divisible

from pose.backbones.mobilenet_v2 import (
    MobilenetV2,
    MobilenetV2Settings,
    imagenet_url,
    mobilenet_tensors,
    scaled,
)
from pose.backbones.pretrained import Pretrained
from pose.errors import UserError
from tests.golden import golden, multiply_adds
from tests.literal.reference.ae_layers import DeconvLayers

WIDTH = 0.25
HUB_FILE = "mobilenet_v2-b0353104.pth"


def small(**more: Any) -> MobilenetV2:
    torch.manual_seed(0)
    return MobilenetV2(MobilenetV2Settings(**{"width": WIDTH, **more}))


def torchvisions(width: float = WIDTH) -> nn.Module:
    """With random normalisations."""
    torch.manual_seed(1)
    net = mobilenet_v2(weights=None, width_mult=width, num_classes=3)
    for value in net.state_dict().values():
        if value.ndim == 1:
            value.copy_(torch.rand(value.shape) + 0.5)
    return net


def test_it_gives_what_the_published_network_gives(real_data: Path) -> None:
    published = golden(real_data, "mmpose_mobilenetv2_ae")
    net, layers = MobilenetV2(MobilenetV2Settings()).eval(), DeconvLayers(1280).eval()
    net.load_state_dict(published.weights("backbone."))
    layers.load_state_dict(published.weights("keypoint_head."))
    for case in published.cases:
        with torch.no_grad():
            made = net(case.image)
            case.check([layers(made[-1])])
        for name, feature in zip(("layer2", "layer3", "layer5", "conv2"), made, strict=True):
            case.check_taps(f"backbone.{name}", [feature])


def test_the_published_body_has_its_number_of_weights() -> None:
    """torchvision's less its classifier of 1000 classes."""
    with torch.device("meta"):
        net = MobilenetV2(MobilenetV2Settings())
    assert sum(p.numel() for p in net.parameters()) == 3_504_872 - 1_281_000
    whole, transposed = 8_418_197_504, 16 * 256 * (1280 * 16**2 + 256 * 32**2 + 256 * 64**2)
    assert sum(multiply_adds(net, 512, 512).values()) == whole - transposed - 34 * 256 * 128**2
    assert net.feature_channels == (24, 32, 96, 1280) and net.feature_strides == (4, 8, 16, 32)


@pytest.mark.parametrize("width", [0.25, 1.4])
def test_features_are_those_of_torchvision(width: float) -> None:
    theirs = torchvisions(width).eval()
    net = small(width=width).eval()
    net.load_state_dict(mobilenet_tensors(theirs.state_dict(), net))
    x = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        features, expected = net(x), x
        for place, layer in enumerate(theirs.features):  # type: ignore[arg-type]
            expected = layer(expected)
            if place in (3, 6, 13, 18):
                assert torch.equal(features.pop(0), expected) and expected.std() > 0
    assert not features


def test_channels_are_rounded_as_torchvisions() -> None:
    cases = [(channels, width / 20) for channels in (16, 24, 32, 96, 320) for width in range(1, 60)]
    assert [scaled(*case) for case in cases] == [_make_divisible(c * width, 8) for c, width in cases]


FILES: dict[str, Any] = {
    "torchvision": lambda state, ours: state,
    "another order": lambda state, ours: dict(reversed(state.items())),
    "wrapped": lambda state, ours: {f"module.{name}": value for name, value in state.items()},
    "MMPose": lambda state, ours: {
        "state_dict": {
            **{f"backbone.{name}": value for name, value in ours.items()},
            "keypoint_head.final_layer.weight": torch.ones(3),
        },
        "meta": {"epoch": 3},
    },
    "before batches were counted": lambda state, ours: {
        name: value for name, value in state.items() if "num_batches" not in name
    },
}


@pytest.mark.parametrize("form", FILES)
@pytest.mark.parametrize("batch_norm", ["train", "frozen"])
def test_files_of_many_forms(tmp_path: Path, form: str, batch_norm: str) -> None:
    theirs = torchvisions().state_dict()
    ours = mobilenet_tensors(theirs, small())
    file = tmp_path / "mobilenet.pth"
    torch.save(FILES[form](theirs, ours), file)
    net = small(pretrained=str(file), batch_norm=batch_norm)
    assert isinstance(net, Pretrained) and net.pretrained_layers() == [net]
    assert str(file) in net.load_pretrained()
    loaded = {name: value for name, value in net.state_dict().items() if "num_batches" not in name}
    assert len(loaded) == 52 * 5 and all(torch.equal(value, ours[name]) for name, value in loaded.items())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            lambda t: {n: v for n, v in t.items() if n != "features.2.conv.2.weight"},
            "layer2.0.conv.2.conv.weight is missing",
        ),
        (
            lambda t: torchvisions(1.0).state_dict(),
            r"conv1.conv.weight is \(32, 3, 3, 3\), it should be \(8",
        ),
        (
            lambda t: {"layer8.0.conv.0.conv.weight": torch.ones(2), **mobilenet_tensors(t, small())},
            "it has no layer8.0.conv.0.conv.weight; is backbone.width",
        ),
        (lambda t: {"features.0.weight": torch.ones(4, 3, 3, 3)}, "conv1.conv.weight is missing"),
        (lambda t: {"epoch": 3}, "conv1.conv.weight is missing"),
    ],
    ids=["one less", "another width", "one more", "VGG", "nothing"],
)
def test_other_networks_files_are_refused(tmp_path: Path, content: Any, message: str) -> None:
    torch.save(content(torchvisions().state_dict()), tmp_path / "other.pth")
    net = small(pretrained=str(tmp_path / "other.pth"))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(UserError, match=rf"pretrained=.*other\.pth: .* of this MobileNetV2: .*{message}"):
        net.load_pretrained()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_imagenets_weights_are_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    tensors: dict[str, Tensor] = torchvisions().state_dict()
    asked = []

    def download(url: str, file: str, hash_prefix: str) -> None:
        asked.append((url, hash_prefix))
        torch.save(tensors, file)

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    for _ in range(2):
        net = small(pretrained="imagenet")
        assert HUB_FILE in net.load_pretrained()
        assert torch.equal(net.conv1.conv.weight, tensors["features.0.0.weight"])
    assert asked == [(MobileNet_V2_Weights.IMAGENET1K_V1.url, "b0353104")] and asked[0][0] == imagenet_url()


def test_offline_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*_: Any, **__: Any) -> None:
        raise IncompleteRead(b"1234")

    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    with pytest.raises(UserError, match=f"put that file into .* as {HUB_FILE}.*pretrained=FILE"):
        small(pretrained="imagenet").load_pretrained()


def test_gradients_are_those_of_finite_differences() -> None:
    """Nothing that a branch still needs is changed in place."""
    net = small(width=0.01).double().eval()
    x = torch.rand(1, 3, 32, 32, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda image: tuple(net(image)), x, fast_mode=True)


def test_first_weights_keep_the_signal() -> None:
    net = small(width=1.0).train()
    with torch.no_grad():
        features = net(torch.randn(2, 3, 64, 64))
    assert all(0.1 < feature.std() < 10 for feature in features)
