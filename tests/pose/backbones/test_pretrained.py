"""VGG-19's weights come from torchvision's file or any other with the same tensors, and nobody needs them but
a new run."""

from __future__ import annotations

from http.client import IncompleteRead
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import VGG19_Weights, vgg19
from torchvision.models.vgg import cfgs, make_layers

from pose.backbones.pretrained import FEATURES, Pretrained, read_weights, vgg19_tensors, without_prefix
from pose.backbones.vgg19_cpm import Vgg19Cpm, Vgg19CpmSettings
from pose.errors import UserError

CHANNELS = {"paf": 4, "heatmap": 3}
HUB_FILE = "vgg19-dcbb9e9d.pth"


def small(pretrained: str | None, trunk_width: int = 4) -> Vgg19Cpm:
    torch.manual_seed(0)
    cfg = Vgg19CpmSettings(
        stages=2, trunk_width=trunk_width, width=8, first_stage_width=8, kernel=3, pretrained=pretrained
    )
    return Vgg19Cpm(cfg, CHANNELS)


def fake_features(trunk_width: int = 4) -> dict[str, Tensor]:
    """A narrow VGG-19 in torchvision's layout: all of its features and a classifier."""
    torch.manual_seed(1)
    plan = [w if isinstance(w, str) else w * trunk_width // 64 for w in cfgs["E"]]
    features = make_layers(plan).state_dict()
    named = {f"features.{name}": value for name, value in features.items()}
    return {**named, "classifier.0.weight": torch.ones(2)}


def loaded_as(net: Vgg19Cpm, tensors: dict[str, Tensor]) -> bool:
    return all(
        torch.equal(getattr(net.trunk[number], kind), tensors[f"features.{number}.{kind}"])
        for number in FEATURES.values()
        for kind in ("weight", "bias")
    )


SHAPES: dict[str, Any] = {
    "torchvision": lambda t: t,
    "wrapped": lambda t: {f"module.{name}": value for name, value in t.items()},
    "nested": lambda t: {"state_dict": t, "epoch": 3},
    "features alone": lambda t: {n.removeprefix("features."): v for n, v in t.items() if "features" in n},
    "other names": lambda t: {f"layer_{i}": value for i, value in enumerate(t.values())},
    "only what is needed": lambda t: dict(list(t.items())[:20]),
    "another order": lambda t: dict(reversed(t.items())),  # names, not places, where there are names
}


@pytest.mark.parametrize("shape", SHAPES)
def test_files_of_many_shapes(tmp_path: Path, shape: str) -> None:
    tensors = fake_features()
    file = tmp_path / "vgg.pth"
    torch.save(SHAPES[shape](tensors), file)
    net = small(str(file))
    other = {name: value.clone() for name, value in net.state_dict().items()}
    assert not loaded_as(net, tensors)
    assert str(file) in net.load_pretrained()
    assert loaded_as(net, tensors)
    beyond = [name for name in other if not name.startswith("trunk.") or int(name.split(".")[1]) > 21]
    assert len(beyond) == 2 * (2 + 2 * 5 + 2 * 7)
    assert all(torch.equal(other[name], net.state_dict()[name]) for name in beyond)


def test_the_trunk_computes_what_torchvision_does(tmp_path: Path) -> None:
    tensors = fake_features()
    torch.save(tensors, tmp_path / "vgg.pth")
    net = small(str(tmp_path / "vgg.pth"))
    net.load_pretrained()
    theirs = make_layers([w if isinstance(w, str) else w // 16 for w in cfgs["E"]])
    theirs.load_state_dict({n.removeprefix("features."): v for n, v in tensors.items() if "features" in n})
    x = torch.rand(2, 3, 32, 40)
    assert torch.equal(net.trunk[:23](x), theirs[:23](x))


def test_torchvisions_own_layout_fits_the_published_width() -> None:
    with torch.device("meta"):
        state = vgg19(weights=None).state_dict()
        net = Vgg19Cpm(Vgg19CpmSettings(stages=1), CHANNELS)
        layers = [layer for layer in net.trunk if isinstance(layer, nn.Conv2d)]
        assert len(vgg19_tensors(state, layers[:10])) == 20
    assert VGG19_Weights.IMAGENET1K_V1.url.endswith(f"/{HUB_FILE}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda t: {k: v for k, v in t.items() if "features.16." not in k}, "conv3_4.weight is missing"),
        (lambda t: fake_features(8), r"conv1_1.weight is \(8, 3, 3, 3\), it should be \(4"),
        (lambda t: {"conv1.weight": torch.ones(64, 3, 7, 7)}, r"conv1_1.weight is \(64, 3, 7, 7\)"),
        (lambda t: {"a": t["features.0.weight"], "b": t["features.0.bias"]}, "conv1_2.weight is missing"),
        (lambda t: {"epoch": 3}, "conv1_1.weight is missing"),
    ],
)
def test_other_networks_files_are_refused(tmp_path: Path, content: Any, message: str) -> None:
    file = tmp_path / "other.pth"
    torch.save(content(fake_features()), file)
    net = small(str(file))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(UserError, match=rf"pretrained=.*other.pth.*not VGG-19's.*{message}"):
        net.load_pretrained()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("content", [None, b"half a file"])
def test_a_file_that_is_not_there_or_damaged(tmp_path: Path, content: bytes | None) -> None:
    """Told when it is loaded: making the network asks for no file."""
    file = tmp_path / "gone.pth"
    if content is not None:
        file.write_bytes(content)
    net = small(str(file))
    with pytest.raises(UserError, match=r"backbone\.pretrained=.*gone\.pth: .*checkpoint"):
        net.load_pretrained()


# -------------------------------------------------------------------------------------------- names in files


@pytest.mark.parametrize("nested", [None, "state_dict", "model"])
def test_weights_may_lie_beside_other_things(tmp_path: Path, nested: str | None) -> None:
    state = {"a.weight": torch.ones(2)}
    torch.save(state if nested is None else {nested: state, "epoch": 3}, tmp_path / "file.pth")
    assert list(read_weights(tmp_path / "file.pth")) == ["a.weight"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["conv.weight", "conv.bias", "fc.weight"], ["conv.weight", "conv.bias", "fc.weight"]),
        (["1.conv.weight", "1.conv.bias", "2.conv.bias"], ["conv.weight", "conv.bias"]),
        (["net.conv.weight", "net.up.conv.weight"], ["conv.weight", "up.conv.weight"]),  # the outermost
        (["up_conv.weight", "b.conv.weight"], ["conv.weight"]),  # whole steps of a name only
        (["conv.bias", "x.y"], ["conv.bias", "x.y"]),
    ],
)
def test_a_prefix_is_what_stands_before_a_known_name(names: list[str], expected: list[str]) -> None:
    assert list(without_prefix(dict.fromkeys(names, 0), "conv.weight")) == expected


# ---------------------------------------------------------------------------------------------- torch's cache


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of torch hub, without a network."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))

    def offline(*_: Any, **__: Any) -> None:
        raise URLError("Temporary failure in name resolution")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    return tmp_path / "hub" / "checkpoints"


def test_the_cache_is_used(cache: Path) -> None:
    cache.mkdir(parents=True)
    tensors = fake_features()
    torch.save(tensors, cache / HUB_FILE)
    net = small("imagenet")
    net.load_pretrained()
    assert loaded_as(net, tensors)


def test_the_first_use_downloads(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(url: str, file: str, hash_prefix: str) -> None:
        asked.append((url, hash_prefix))
        torch.save(fake_features(), file)

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    for _ in range(2):
        small("imagenet").load_pretrained()
    assert asked == [(VGG19_Weights.IMAGENET1K_V1.url, "dcbb9e9d")]


@pytest.mark.parametrize(
    "error",
    [
        URLError("Temporary failure in name resolution"),
        IncompleteRead(b"1234"),
        RuntimeError('invalid hash value (expected "dcbb9e9d", got "00000000")'),
        PermissionError(13, "Permission denied"),
        TimeoutError(),
    ],
)
def test_offline_says_what_to_do(cache: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def download(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    with pytest.raises(UserError) as caught:
        small("imagenet").load_pretrained()
    told = str(caught.value)
    for part in (
        f"put that file into {cache} as {HUB_FILE}",
        "pretrained=FILE",
        "pretrained=null and train.freeze_epochs=0",
        "https://",
    ):
        assert part in told
    assert "\n" not in told and "()" not in told


# --------------------------------------------------------------------------------------------- frozen layers


def test_conv4_2_is_loaded_but_not_held() -> None:
    net = small(None)
    assert isinstance(net, Pretrained)
    held = net.pretrained_layers()
    numbers = [int(name) for name, layer in net.trunk.named_children() if any(layer is one for one in held)]
    assert numbers == [0, 2, 5, 7, 10, 12, 14, 16, 19]  # conv4_2 is 21
