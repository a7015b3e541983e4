"""HRNet is the published network: its size, its outputs, its files."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from pose.backbones.hrnet import Hrnet, HrnetSettings, hrnet_tensors
from pose.backbones.pretrained import Pretrained
from pose.errors import UserError
from tests.golden import golden, multiply_adds
from tests.literal.reference.ae_layers import SimpleLayers
from tests.literal.reference.higher_hrnet_network import HigherHRNet, HigherLayers, HRNet

Rows = Literal[1, 4]
MMPOSE = ("backbone.", "keypoint_head.")
BELOW = ("final_layers.", "deconv_layers.")  # of HigherHRNet's own files, where the body has no prefix


def tiny(**more: Any) -> Hrnet:
    torch.manual_seed(0)
    return Hrnet(HrnetSettings(**{"width": 2, **more}))


def randomized(net: nn.Module, seed: int = 1) -> nn.Module:
    """With random normalisations, so that nothing can be left out unseen."""
    generator = torch.Generator().manual_seed(seed)
    for value in net.state_dict().values():
        if value.ndim == 1:
            value.copy_(torch.rand(value.shape, generator=generator, dtype=torch.float64) + 0.5)
    return net


# -------------------------------------------------------------------------------------- the published outputs


@pytest.mark.parametrize(
    ("name", "width"),
    [
        ("mmpose_hrnet_w32_ae", 32),
        pytest.param("mmpose_hrnet_w48_ae", 48, marks=pytest.mark.slow),
        ("mmpose_higherhrnet_w32", 32),
        pytest.param("mmpose_higherhrnet_w48", 48, marks=pytest.mark.slow),
        pytest.param("original_higherhrnet_w32", 32, marks=pytest.mark.slow),
        pytest.param("original_higherhrnet_w48", 48, marks=pytest.mark.slow),
    ],
)
def test_it_gives_what_the_published_network_gives(real_data: Path, name: str, width: int) -> None:
    published = golden(real_data, name)
    net = Hrnet(HrnetSettings(width=width)).eval()
    layers = (HigherLayers if "higher" in name else SimpleLayers)(width).eval()
    if name.startswith("mmpose"):
        body, rest = (published.weights(prefix) for prefix in MMPOSE)
    else:
        weights = published.weights("")
        rest = {n: weights.pop(n) for n in [*weights] if n.startswith(BELOW)}
        body = weights
    net.load_state_dict(body)
    layers.load_state_dict(rest)
    assert sum(p.numel() for m in (net, layers) for p in m.parameters()) == published.facts["parameters"]
    for case in published.cases:
        with torch.no_grad():
            (feature,) = net(case.image)
            made = layers(feature)
        case.check(made if isinstance(made, list) else [made])


@pytest.mark.slow
@pytest.mark.parametrize("width", [32, 48])
def test_four_rows_are_those_of_the_published_network(real_data: Path, width: int) -> None:
    published = golden(real_data, f"mmpose_dekr_w{width}")
    net = Hrnet(HrnetSettings(width=width, rows=4)).eval()
    net.load_state_dict(published.weights("backbone."))
    for case in published.cases:
        with torch.no_grad():
            case.check_taps("backbone.stage4", net(case.image))


# ------------------------------------------------------------------------------------------------------ sizes


PARTS = ("conv1", "bn1", "conv2", "bn2")
# parameters of the stem, of layer1, of the transitions, and of branches and exchanges of each stage
SIZES: dict[int, dict[str, int]] = {
    32: {
        "stem": 38_848, "layer1": 286_208, "transition1": 221_376, "transition2": 73_984,
        "transition3": 295_424, "stage2.branches": 370_176, "stage2.fuse_layers": 20_672,
        "stage3.branches": 6_207_488, "stage3.fuse_layers": 614_144,
        "stage4.branches": 18_823_680, "stage4.fuse_layers": 1_583_552,
    },
    48: {
        "stem": 38_848, "layer1": 286_208, "transition1": 332_064, "transition2": 166_272,
        "transition3": 664_320, "stage2.branches": 831_744, "stage2.fuse_layers": 46_368,
        "stage3.branches": 13_956_096, "stage3.fuse_layers": 1_378_944,
        "stage4.branches": 42_336_000, "stage4.fuse_layers": 3_558_048,
    },
}  # fmt: skip


def part(name: str) -> str:
    """`stage3.2.branches.0.1.conv1.weight` -> `stage3.branches`."""
    first, _, *rest = name.split(".")
    return "stem" if first in PARTS else f"{first}.{rest[0]}" if first.startswith("stage") else first


def meta(width: int, rows: Rows = 1) -> Hrnet:
    with torch.device("meta"):
        return Hrnet(HrnetSettings(width=width, rows=rows))


@pytest.mark.parametrize("width", [32, 48])
def test_every_part_has_its_number_of_parameters(width: int) -> None:
    found: Counter[str] = Counter()
    for name, value in meta(width).named_parameters():
        found[part(name)] += value.numel()
    assert found == SIZES[width]


@pytest.mark.parametrize(
    ("width", "rows", "parameters", "convolutions"),
    [(32, 1, 28_535_552, 292), (32, 4, 29_305_536, 305), (48, 1, 63_594_912, 292), (48, 4, 65_325_120, 305)],
)
def test_the_network_has_its_number_of_parameters(
    width: int, rows: Rows, parameters: int, convolutions: int
) -> None:
    net = meta(width, rows)
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert sum(isinstance(layer, nn.Conv2d) for layer in net.modules()) == convolutions
    assert len(net.state_dict()) == 6 * convolutions  # a weight, and five of its normalisation
    widths = (width, 2 * width, 4 * width, 8 * width)
    assert net.feature_channels == widths[:rows] and net.feature_strides == (4, 8, 16, 32)[:rows]


@pytest.mark.parametrize(
    ("width", "rows", "giga"),
    [(32, 1, (40.76, 63.69)), (32, 4, (41.23, 64.42)), (48, 1, (83.68, 130.74)), (48, 4, (84.72, 132.38))],
)
def test_the_network_has_its_number_of_multiply_adds(
    width: int, rows: Rows, giga: tuple[float, float]
) -> None:
    net = meta(width, rows)
    counts = [sum(multiply_adds(net, side, side).values()) for side in (512, 640)]
    assert tuple(round(count / 1e9, 2) for count in counts) == giga
    assert counts[1] * 16 == counts[0] * 25  # every layer's grid grows with the image
    if rows == 1:  # the published network, without its last convolution to 34 channels
        whole = {32: 40_782_266_368, 48: 83_703_103_488}[width]
        assert counts[0] == whole - 34 * width * 128 * 128


def test_every_part_has_its_number_of_multiply_adds() -> None:
    """By hand: parameters of the convolutions times cells.  All of a branch is on one grid."""
    found: Counter[str] = Counter()
    for name, count in multiply_adds(meta(32), 512, 512).items():
        found[".".join(name.split(".")[:1]) if "branches" not in name else "branches"] += count
    cells = 128 * 128
    assert found["conv1"] == 64 * 3 * 9 * 4 * cells
    assert found["conv2"] == 64 * 64 * 9 * cells
    assert found["layer1"] == cells * (64 * 64 + 4 * 64 * 64 * 9 + 3 * 256 * 64 + 5 * 64 * 256)
    # a quarter of the cells and four times the weights at every lower resolution
    assert found["branches"] == (1 * 2 + 4 * 3 + 3 * 4) * 8 * 32 * 32 * 9 * cells
    assert found["transition3"] == 256 * 128 * 9 * 16 * 16


# -------------------------------------------------------------------------------- against the literal network


@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("training", [False, True])
def test_outputs_and_gradients_are_those_of_the_literal_network(rows: Rows, training: bool) -> None:
    """In double precision: no sum in place changes what a gradient needs, nor do sums in another order."""
    torch.manual_seed(0)
    literal = randomized(HRNet(3, rows)).double().train(training)
    ours = Hrnet(HrnetSettings(width=3, rows=rows)).double().train(training)
    ours.load_state_dict(literal.state_dict())
    x = torch.rand(2, 3, 64, 96, dtype=torch.float64)
    results: list[tuple[list[Tensor], dict[str, Tensor]]] = []
    for net in (literal, ours):
        features = net(x)
        torch.stack([f.square().mean() for f in features]).sum().backward()
        grads = {name: p.grad for name, p in net.named_parameters() if p.grad is not None}
        results.append((features, grads))
    (expected, their_grads), (made, our_grads) = results
    assert set(our_grads) == set(their_grads) == {name for name, _ in ours.named_parameters()}
    for one, other in zip(made, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
        assert other.std() > 0.01
    largest = max(grad.abs().max() for grad in their_grads.values())
    for name, grad in their_grads.items():
        assert (our_grads[name] - grad).abs().max() < 1e-10 * largest, name
    buffers = dict(literal.named_buffers())
    assert all(torch.allclose(value, buffers[name]) for name, value in ours.named_buffers())


def test_first_weights_keep_the_signal() -> None:
    torch.manual_seed(0)
    net = Hrnet(HrnetSettings(width=8, rows=4)).train()
    with torch.no_grad():
        features = net(torch.randn(2, 3, 128, 128))
    assert all(0.3 < feature.std() < 10 for feature in features)
    weights = {name: p for name, p in net.named_parameters() if p.ndim == 1}
    assert all((p == float(name.endswith("weight"))).all() for name, p in weights.items())


def test_published_first_weights() -> None:
    """N(0, 0.001^2) everywhere; normalisations are the identity."""
    net = tiny(width=8, rows=4, init="normal")
    for name, value in net.named_parameters():
        if value.ndim == 1:
            assert (value == float(name.endswith("weight"))).all(), name
        else:
            assert abs(value.std() / 0.001 - 1) < 5 / value.numel() ** 0.5, name
            assert abs(value.mean()) < 5 * 0.001 / value.numel() ** 0.5, name


def test_published_first_weights_go_with_trained_normalisations() -> None:
    """They keep the signal up; the statistics of no weights, which are the identity, let it vanish."""
    x = torch.randn(2, 3, 128, 128)
    with torch.no_grad():
        trained, frozen = (
            tiny(width=8, init="normal", batch_norm=kind).train()(x)[0] for kind in ("train", "frozen")
        )
    assert 0.3 < trained.std() < 10 and frozen.std() < 1e-6


def test_pretrained_weights_replace_all_first_weights(tmp_path: Path) -> None:
    """A recipe with them trains alike from either: what is drawn after the backbone is the same too."""
    file = save(imagenet_file(), tmp_path / "hrnet.pth")
    nets, drawn = [], []
    for init in ("kaiming", "normal"):
        net = tiny(pretrained=str(file), init=init)
        drawn.append(torch.rand(5))
        assert init == "kaiming" or net.stage4[0].branches[0][0].conv1.weight.abs().max() < 0.01  # type: ignore[index, union-attr]
        net.load_pretrained()
        nets.append(net.state_dict())
    assert torch.equal(*drawn)
    assert all(torch.equal(value, nets[1][name]) for name, value in nets[0].items())


# ----------------------------------------------------------------------------------------------- weight files


def imagenet_file(width: int = 2) -> dict[str, Tensor]:
    """As the published classifiers: all rows, and the layers after them."""
    state = randomized(tiny(width=width, rows=4)).state_dict()
    extra = {
        "incre_modules.0.0.conv1.weight": torch.ones(1),
        "downsamp_modules.0.0.weight": torch.ones(1),
        "final_layer.0.weight": torch.ones(1),
        "classifier.bias": torch.ones(9),
    }
    return {**state, **extra}


def higher_hrnet_file(prefix: str) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {f"{prefix}{n}": v for n, v in randomized(HigherHRNet(2, keypoints=3)).state_dict().items()}


FILES: dict[str, Any] = {
    "ImageNet": imagenet_file,
    "MMPose": lambda: {
        "meta": {"epoch": 3},
        "state_dict": {
            **{f"backbone.{n}": v for n, v in imagenet_file().items()},
            "keypoint_head.final_layers.0.weight": torch.ones(6, 2, 1, 1),
            "keypoint_head.deconv_layers.0.1.0.conv1.weight": torch.ones(2, 2, 3, 3),
        },
    },
    "HigherHRNet": lambda: higher_hrnet_file(""),
    "HigherHRNet of several GPUs": lambda: higher_hrnet_file("module."),
    "HigherHRNet of half precision": lambda: {
        name: value.half() if value.is_floating_point() else value
        for name, value in higher_hrnet_file("1.").items()
    },
    "before batches were counted": lambda: {n: v for n, v in imagenet_file().items() if "num_b" not in n},
}


def save(content: Mapping[str, Any], file: Path) -> Path:
    torch.save(dict(content), file)
    return file


@pytest.mark.parametrize("form", FILES)
@pytest.mark.parametrize("batch_norm", ["train", "frozen"])
def test_files_of_many_forms(tmp_path: Path, form: str, batch_norm: str) -> None:
    content = FILES[form]()
    file = save(content, tmp_path / "hrnet.pth")
    net = tiny(pretrained=str(file), batch_norm=batch_norm)
    assert isinstance(net, Pretrained) and net.pretrained_layers() == [net]
    told = net.load_pretrained()
    tensors = content.get("state_dict", content)
    prefix = next(n for n in tensors if n.endswith("conv1.weight")).removesuffix("conv1.weight")
    wanted = {n: v for n, v in net.state_dict().items() if "num_batches" not in n}
    assert len(wanted) == 292 * 5 and str(file) in told
    assert all(torch.equal(value, tensors[prefix + name].float()) for name, value in wanted.items())


def test_a_safetensors_file(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    file = tmp_path / "model.safetensors"
    content = {name: value.contiguous() for name, value in imagenet_file().items()}
    safetensors.save_file(content, file)
    net = tiny(pretrained=str(file))
    net.load_pretrained()
    assert torch.equal(net.conv1.weight, content["conv1.weight"])
    file.write_bytes(b"half a file")
    with pytest.raises(UserError, match=r"model\.safetensors: cannot load .* not a safetensors file"):
        net.load_pretrained()
    with pytest.raises(UserError, match=r"no checkpoint .*gone\.safetensors"):
        tiny(pretrained=str(tmp_path / "gone.safetensors")).load_pretrained()


def test_a_safetensors_file_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(UserError, match=r"needs safetensors: pip install 'bottomup-pose\[timm\]'"):
        tiny(pretrained=str(tmp_path / "model.safetensors")).load_pretrained()


@pytest.mark.parametrize(
    ("content", "rows", "message"),
    [
        (
            lambda: {n: v for n, v in imagenet_file().items() if n != "stage3.2.fuse_layers.2.0.1.0.weight"},
            1,
            r"stage3\.2\.fuse_layers\.2\.0\.1\.0\.weight is missing, it should be \(8, 2, 3, 3\)",
        ),
        (lambda: imagenet_file(3), 1, r"transition1.0.0.weight is \(3, 256, 3, 3\), it should be \(2, 256"),
        (lambda: higher_hrnet_file(""), 4, r"stage4\.2\.fuse_layers\.1\.0\.0\.0\.weight is missing"),
        (
            lambda: tiny(modules=(1, 5, 3)).state_dict(),
            1,
            "it has no stage3.4.branches.0.0.conv1.weight; is backbone.modules",
        ),
        (lambda: tiny(blocks=5).state_dict(), 1, "it has no layer1.4.conv1.weight; is backbone.modules"),
        (lambda: {"features.0.weight": torch.ones(4, 3, 3, 3)}, 1, "conv1.weight is missing"),
        (lambda: {"epoch": 3}, 1, "conv1.weight is missing"),
    ],
    ids=["one less", "another width", "one row for four", "more modules", "more blocks", "VGG", "nothing"],
)
def test_other_networks_files_are_refused(tmp_path: Path, content: Any, rows: int, message: str) -> None:
    net = tiny(pretrained=str(save(content(), tmp_path / "other.pth")), rows=rows)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(UserError, match=rf"pretrained=.*other\.pth: .* of this HRNet: .*{message}"):
        net.load_pretrained()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"backbone\.pretrained=.*gone\.pth: .*checkpoint"):
        tiny(pretrained=str(tmp_path / "gone.pth")).load_pretrained()


# ------------------------------------------------------------------------------------------------------- timm


@pytest.mark.parametrize(
    ("source", "asked"),
    [("imagenet", "hrnet_w2.ms_in1k"), ("timm:hrnet_w2.paddle", "hrnet_w2.paddle")],
)
def test_timms_weights_by_name(monkeypatch: pytest.MonkeyPatch, source: str, asked: str) -> None:
    seen = []

    def create_model(name: str, pretrained: bool) -> Any:
        seen.append((name, pretrained))
        return SimpleNamespace(state_dict=imagenet_file)

    monkeypatch.setitem(sys.modules, "timm", SimpleNamespace(create_model=create_model))  # type: ignore[arg-type]
    net = tiny(pretrained=source)
    assert f"timm:{asked}" in net.load_pretrained()
    assert seen == [(asked, True)] and torch.equal(net.conv1.weight, imagenet_file()["conv1.weight"])


@pytest.mark.parametrize("error", [RuntimeError("Unknown model (hrnet_w2)"), OSError("offline"), KeyError()])
def test_what_timm_cannot_load_is_one_sentence(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def create_model(name: str, pretrained: bool) -> Any:
        raise error

    monkeypatch.setitem(sys.modules, "timm", SimpleNamespace(create_model=create_model))  # type: ignore[arg-type]
    with pytest.raises(UserError) as caught:
        tiny(pretrained="imagenet").load_pretrained()
    for expected in (
        "backbone.pretrained=imagenet: timm cannot load hrnet_w2.ms_in1k (",
        str(error) or "KeyError",
        "set backbone.pretrained=FILE",
        "backbone.pretrained=null and train.freeze_epochs=0",
    ):
        assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_timm_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(
        UserError, match=r"hrnet_w2\.ms_in1k comes from timm: pip install 'bottomup-pose\[timm\]'.*FILE"
    ):
        tiny(pretrained="imagenet").load_pretrained()


@pytest.mark.slow
@pytest.mark.parametrize("model", ["hrnet_w18", "hrnet_w18_small_v2"])
def test_timms_network_is_the_same(model: str) -> None:
    """Also the small one, which has fewer modules and blocks."""
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    theirs: Any = randomized(timm.create_model(model, pretrained=False)).eval()
    small: dict[str, Any] = {"modules": (1, 3, 2), "blocks": 2} if "small" in model else {}
    net = Hrnet(HrnetSettings(width=18, rows=4, **small)).eval()
    net.load_state_dict(hrnet_tensors(theirs.state_dict(), net))
    x = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        stem = theirs.act2(theirs.bn2(theirs.conv2(theirs.act1(theirs.bn1(theirs.conv1(x))))))
        expected = theirs.stages(stem)
        made = net(x)
    for one, other in zip(made, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5 * float(other.abs().max()))


@pytest.mark.slow
def test_timm_has_weights_of_the_published_widths() -> None:
    timm = pytest.importorskip("timm")
    assert {f"hrnet_w{width}.ms_in1k" for width in (18, 32, 48)} <= set(timm.list_pretrained("hrnet*"))


@pytest.mark.parametrize(
    "bad", [{"width": 0}, {"rows": 2}, {"modules": (1, 0, 3)}, {"modules": (1, 4)}, {"blocks": 0}]
)
def test_settings_out_of_range(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        HrnetSettings(**bad)
