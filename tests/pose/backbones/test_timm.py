"""Networks of timm as backbones: its own small models for tests, and five families of those people use."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

import pose.test
from pose.backbones.pretrained import Pretrained
from pose.backbones.timm import Timm, TimmSettings, first_line
from pose.engine.distributed import sync_batch_norm
from pose.engine.optim import layer_rates
from pose.engine.optimizers.adam import AdamSettings
from pose.errors import UserError, user_facing
from pose.heads.tags import TagsSettings
from pose.necks.cat import CatSettings
from pose.necks.deconv import DeconvSettings
from pose.necks.fpn import FpnSettings
from pose.structures import InputSettings
from pose.tools.zoo import main as zoo_tool
from tests.dot_people import SKELETON
from tests.small_networks import small_model
from tests.training_fixtures import DRAWN, command, drawn

timm = pytest.importorskip("timm")

# of each family a model, with the channels and strides of its features
FAMILIES: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "resnet18": ((64, 128, 256, 512), (4, 8, 16, 32)),
    "convnextv2_atto": ((40, 80, 160, 320), (4, 8, 16, 32)),
    "tf_efficientnetv2_b0": ((32, 48, 112, 192), (4, 8, 16, 32)),
    "swin_tiny_patch4_window7_224": ((96, 192, 384, 768), (4, 8, 16, 32)),
    "mobilenetv4_conv_small": ((32, 64, 96, 960), (4, 8, 16, 32)),
    "vit_tiny_patch16_224": ((192,), (16,)),
}
NECKS: Mapping[str, Any] = {
    "fpn": FpnSettings(width=8),
    "cat": CatSettings(width=8),
    "deconv": DeconvSettings(layers=2, width=8),
}
# of timm's models for its own tests: a convolutional one, one that normalises layers, a transformer
SMALL = ("test_resnet", "test_convnext", "test_efficientnet", "test_vit")


def backbone(model: str, **more: Any) -> Timm:
    torch.manual_seed(0)
    return Timm(TimmSettings(model=model, **more))


def randomized(net: nn.Module) -> nn.Module:
    """Other values for every floating-point tensor, so that none is as it was made."""
    generator = torch.Generator().manual_seed(1)
    for value in net.state_dict().values():
        if value.is_floating_point():
            value.copy_(0.1 + 0.1 * torch.rand(value.shape, generator=generator))
    return net


# --------------------------------------------------------------------------------------------- five families


@pytest.mark.parametrize("model", FAMILIES)
def test_a_family_gives_features_of_any_size(model: str) -> None:
    """Sides that are no multiple of a window, nor of the size that the model was trained at."""
    net = backbone(model).eval()
    channels, strides = FAMILIES[model]
    assert (net.feature_channels, net.feature_strides) == (channels, strides)
    for rows, columns in ((1, 1), (5, 7)):
        height, width = rows * net.size_multiple, columns * net.size_multiple
        with torch.no_grad():
            features = net(torch.rand(2, 3, height, width))
        assert [tuple(y.shape) for y in features] == [
            (2, count, height // stride, width // stride)
            for count, stride in zip(channels, strides, strict=True)
        ]


@pytest.mark.parametrize(
    ("model", "neck"),
    [*((model, "fpn") for model in FAMILIES), ("swin_tiny_patch4_window7_224", "cat"),
     *((model, "deconv") for model in ("vit_tiny_patch16_224", "mobilenetv4_conv_small"))],
)  # fmt: skip
def test_a_family_learns_with_a_neck(model: str, neck: str) -> None:
    """Every weight has a gradient: DistributedDataParallel would wait for one without."""
    parts = {
        "backbone": {"name": "timm", "model": model},
        "neck": {"name": neck, **NECKS[neck].model_dump(exclude={"name"})},
    }
    net = small_model(parts, TagsSettings(), SKELETON, InputSettings(size=(64, 96))).train()
    stages = net(torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8))
    strides = net.backbone.feature_strides
    stride = strides[-1] // 4 if neck == "deconv" else strides[0]
    assert {maps.shape[-2:] for maps in stages[-1].values()} == {(64 // stride, 96 // stride)}
    torch.stack([maps.square().mean() for stage in stages for maps in stage.values()]).sum().backward()
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name


@pytest.mark.slow
@pytest.mark.parametrize("model", ["swin_tiny_patch4_window7_224", "vit_tiny_patch16_224", "convnextv2_atto"])
def test_a_family_compiles_without_a_break(model: str) -> None:
    net = backbone(model).eval()
    images = torch.rand(1, 3, 2 * net.size_multiple, 3 * net.size_multiple)
    with torch.no_grad():
        expected = net(images)
        net.compile(backend="aot_eager", fullgraph=True)
        for found, wanted in zip(net(images), expected, strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_values_are_timms_own() -> None:
    """At the size of its training, where nothing is interpolated or padded; channels first."""
    for model, side in (("swin_tiny_patch4_window7_224", 224), ("vit_tiny_patch16_224", 224)):
        torch.manual_seed(0)
        net = backbone(model).eval()
        theirs = timm.create_model(model, features_only=True).eval()
        loaded = theirs.load_state_dict(net.net.state_dict(), strict=False)
        assert not loaded.missing_keys
        x = torch.rand(1, 3, side, side)
        with torch.no_grad():
            found, expected = net(x), theirs(x)
        if "swin" in model:
            # the last resolution has one window at this size: nothing to shift for timm, and for us the
            # shifted windows are masked
            expected = [y.permute(0, 3, 1, 2) for y in expected][:3]
        else:
            expected = expected[-1:]
        for ours, other in zip(found, expected, strict=False):
            torch.testing.assert_close(ours, other, rtol=0, atol=1e-5 * float(other.abs().max()))


def test_hrnet_gives_its_four_resolutions() -> None:
    """And not what its classifier makes of them."""
    net = backbone("hrnet_w18_small")
    assert net.feature_channels == (16, 32, 64, 128) and net.feature_strides == (4, 8, 16, 32)


# ------------------------------------------------------------------------------------------------- settings


def test_some_strides_leave_the_other_layers_out() -> None:
    assert backbone("test_resnet", strides=(8, 4)).feature_strides == (4, 8)
    assert backbone("test_resnet", strides=(2,)).feature_channels == (32,)
    short, whole = (backbone("test_efficientnet", strides=s) for s in ((8, 16), ()))
    assert 0 < len([*short.parameters()]) < len([*whole.parameters()])
    x = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        for one, other in zip(short.eval()(x), whole.eval()(x)[1:3], strict=True):
            torch.testing.assert_close(one, other)


def test_a_finer_grid_by_dilation() -> None:
    net = backbone("test_resnet", output_stride=16)
    assert net.feature_strides == (4, 8, 16) and net.size_multiple == 16


def test_stochastic_depth_acts_in_training_only() -> None:
    net = backbone("test_convnext", drop_path=0.9)
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(net.eval()(x)[-1], net(x)[-1])
        net.train()
        assert not torch.equal(net(x)[-1], net(x)[-1])


@pytest.mark.parametrize("model", ["test_convnext", "swin_tiny_patch4_window7_224"])
def test_activations_computed_again_give_the_same_gradients(model: str) -> None:
    found = []
    for checkpointing in (False, True):
        net = backbone(model, checkpointing=checkpointing).train()
        torch.stack([y.square().mean() for y in net(torch.ones(2, 3, 64, 64))]).sum().backward()
        found.append([p.grad for p in net.parameters()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_synchronised_batch_normalisation_keeps_the_activations() -> None:
    """timm's layers have one inside, which torch's own conversion drops."""
    net = nn.Sequential(backbone("test_efficientnet"), nn.BatchNorm2d(3)).eval()
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        before = net[0](x)
        sync_batch_norm(net)
        kinds = {type(layer) for layer in net.modules() if isinstance(layer, _BatchNorm)}
        assert all(issubclass(kind, nn.SyncBatchNorm) for kind in kinds)
        for one, other in zip(net[0](x), before, strict=True):
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"model": "resnett18"}, "backbone: timm has no model 'resnett18'; did you mean resnet18 or"),
        ({"model": "qqqqqqqq"}, r"timm has no model .qqqqqqqq.; timm\.list_models\(\) lists all"),
        ({"model": "resnet18.nobody"}, "timm has no weights resnet18.nobody; their tags are a1_in1k, "),
        ({"model": "test_resnet", "strides": (3,)}, "timm has features at the strides 2, 4, 8"),
        ({"model": "vgg11_bn", "drop_path": 0.1}, "has no stochastic depth; set backbone.drop_path=0"),
        ({"model": "test_vit", "output_stride": 8}, "output_stride 8 .*; set backbone.output_stride=null"),
        ({"model": "nest_tiny"}, "does not take images of any size .*; choose another one"),
        ({"model": "inception_v3"}, r"at stride 4 has the shape .* where \(1, 192, 32, 48\) is needed"),
    ],
)  # fmt: skip
def test_what_timm_cannot_do_is_one_sentence(more: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says) as caught:
        backbone(**more)
    assert "\n" not in str(caught.value)


def test_what_the_advice_names_works() -> None:
    for model in ("resnet50", "convnext_tiny", "swin_tiny_patch4_window7_224"):
        assert model in timm.list_models(pretrained=False)
    assert backbone("vgg11_bn", drop_path=0).feature_strides == (4, 8, 16, 32)
    assert backbone("test_vit", output_stride=None).feature_strides == (16,)


def test_without_timm_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=r"pip install 'bottomup-pose\[timm\]', or choose another backbone"):
        backbone("resnet18")


# -------------------------------------------------------------------------------------------- learning rates


@pytest.mark.parametrize("model", [*SMALL, "swin_tiny_patch4_window7_224"])
def test_rates_fall_from_stage_to_stage(model: str) -> None:
    net = backbone(model)
    groups = net.layer_groups()
    assert sorted(map(id, net.parameters())) == sorted(id(p) for group in groups for p in group)
    rates = layer_rates(net, AdamSettings(layer_decay=0.5))
    names = {p: name for name, p in net.named_parameters()}
    of_groups = [{rates[p] for p in group} for group in groups]
    assert of_groups == [{0.5**above} for above in range(len(groups), 0, -1)]
    last = max(
        int(part) for name in names.values() for part in name.replace("_", ".").split(".") if part.isdigit()
    )
    assert last > 0 and any(
        "stem" in names[p] or "embed" in names[p] or "conv1" in names[p] for p in groups[0]
    )


# --------------------------------------------------------------------------------------- pretrained weights


def weights_file(model: str, folder: Path, kind: str) -> tuple[Path, dict[str, Tensor]]:
    """A file of the whole classifier, and its tensors."""
    state = randomized(timm.create_model(model)).state_dict()
    file = folder / ("model.safetensors" if kind == "safetensors" else "model.pth")
    if kind == "safetensors":
        from safetensors.torch import save_file

        save_file(state, file)
    elif kind == "checkpoint of parallel training":
        torch.save({"epoch": 3, "state_dict": {f"module.{n}": value for n, value in state.items()}}, file)
    else:
        torch.save(state, file)
    return file, state


@pytest.mark.parametrize("kind", ["file", "safetensors", "checkpoint of parallel training"])
@pytest.mark.parametrize("model", SMALL)
def test_a_file_gives_every_weight(tmp_path: Path, model: str, kind: str) -> None:
    file, state = weights_file(model, tmp_path, kind)
    net = backbone(model, pretrained=str(file))
    assert isinstance(net, Pretrained) and net.pretrained_layers() == [net]
    told = net.load_pretrained()
    assert told.startswith(f"{file}: {model} of timm with ") and "\n" not in told
    assert net.normalization
    mean, std = (list(net.normalization[key]) for key in ("mean", "std"))
    assert told.endswith(f" for images normalised with mean {mean}, std {std}")
    names = {name.replace("_", "."): value for name, value in state.items()}
    for name, value in net.net.state_dict().items():
        assert torch.equal(value, names[name.removeprefix("model.").replace("_", ".")]), name


def test_the_random_state_is_not_touched(tmp_path: Path) -> None:
    file, _ = weights_file("test_resnet", tmp_path, "file")
    net = backbone("test_resnet", pretrained=str(file))
    torch.manual_seed(5)
    net.load_pretrained()
    found = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(3), found)


@pytest.mark.parametrize("model", ["test_convnext", "test_convnext2", "test_efficientnet", "test_vit"])
def test_another_networks_file_is_refused(tmp_path: Path, model: str) -> None:
    """timm itself loads what fits and says nothing."""
    file, _ = weights_file("test_resnet", tmp_path, "file")
    net = backbone(model, pretrained=str(file))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(
        UserError, match=rf"pretrained=.*model\.pth: these are not the weights of timm's {model}"
    ):
        net.load_pretrained()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_one_tensor_less_is_refused(tmp_path: Path) -> None:
    file, state = weights_file("test_resnet", tmp_path, "file")
    missing = "layer2.0.conv2.weight"
    torch.save({name: value for name, value in state.items() if name != missing}, file)
    with pytest.raises(UserError, match=rf"not the weights of timm's test_resnet: {missing} is missing$"):
        backbone("test_resnet", pretrained=str(file)).load_pretrained()


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"backbone\.pretrained=.*gone\.pth: .*checkpoint"):
        backbone("test_resnet", pretrained=str(tmp_path / "gone.pth")).load_pretrained()


def test_timms_weights_by_name_come_with_their_licence(monkeypatch: pytest.MonkeyPatch) -> None:
    create, asked = timm.create_model, []

    def downloaded(name: str, pretrained: bool = False, **more: Any) -> Any:
        asked.append((name, pretrained, more.pop("pretrained_cfg_overlay", {})))
        net = create(name, **more)
        return randomized(net) if pretrained else net

    net = backbone("test_resnet.r160_in1k", pretrained=True)
    monkeypatch.setattr(timm, "create_model", downloaded)
    told = net.load_pretrained()
    assert told.startswith("test_resnet.r160_in1k: ") and told.endswith(
        "; licence of the weights: apache-2.0"
    )
    assert asked[0][:2] == ("test_resnet.r160_in1k", True) and not asked[0][2]
    assert all(value.min() >= 0.1 for value in net.net.state_dict().values() if value.is_floating_point())


@pytest.mark.parametrize("error", [RuntimeError("no such host\nat all"), OSError("offline"), KeyError()])
def test_offline_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    net = backbone("test_resnet", pretrained=True)

    def create_model(name: str, **more: Any) -> Any:
        raise error

    monkeypatch.setattr(timm, "create_model", create_model)
    with pytest.raises(UserError) as caught:
        net.load_pretrained()
    for expected in (
        "backbone.pretrained=True: timm cannot load test_resnet (",
        first_line(error),
        "set backbone.pretrained=FILE",
        "backbone.pretrained=null and train.freeze_epochs=0",
    ):
        assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("model", "mean"), [("vit_tiny_patch16_224", (0.5,) * 3), ("resnet18", (0.485, 0.456, 0.406))]
)
def test_normalisation_belongs_to_the_weights(model: str, mean: tuple[float, ...]) -> None:
    settings = backbone(model).normalization
    assert settings is not None and settings["mean"] == mean
    assert InputSettings(**settings).mean == mean


# --------------------------------------------------------------------------------------------------- a run


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drawn(tmp_path_factory.getbasetemp())


def settings(data: Path, *more: str) -> list[str]:
    return [
        f"data.root={data}",
        f"data.synthetic={json.dumps(DRAWN)}",
        "data.workers=0",
        "input.size=[64, 64]",
        "backbone={name: timm, model: test_resnet}",
        "neck={name: fpn, width: 8}",
        "train.epochs=1",
        "train.steps_per_epoch=2",
        "train.batch_size=2",
        "train.optimizer.layer_decay=0.8",
        "train.validate_every=0",
        *more,
    ]


def test_a_run_starts_from_weights_and_notes_them(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    file, _ = weights_file("test_resnet", tmp_path, "file")
    pretrained = settings(data, f"backbone.pretrained={file}")
    # what the message advises is what the command accepts
    assert command(monkeypatch, "-e", "run", *pretrained) == 2
    said = capsys.readouterr().err
    assert "these weights were trained on images with mean [0.5, 0.5, 0.5]" in said
    advised = said.strip().rpartition("; set ")[2]
    assert advised.startswith("input.normalization=custom input.mean=[0.5, 0.5, 0.5] input.std=[")
    assert not (tmp_path / "exp").exists()
    more = re.split(r" (?=input\.)", advised)
    assert command(monkeypatch, "-e", "run", *pretrained, *more) == 0
    told = f"{file}: test_resnet of timm with "
    assert told in capsys.readouterr().err
    first = (tmp_path / "exp" / "run" / "environment.jsonl").read_text().splitlines()[0]
    assert json.loads(first)["weights"].startswith(told)
    # the run is complete in itself: it is continued and tested without the file
    file.unlink()
    assert command(monkeypatch, "-c", "run") == 0
    monkeypatch.setattr(sys, "argv", ["pose.test", "-c", "run", "-m", "single", "--device", "cpu"])
    assert user_facing(pose.test.main)() == 0
    # and published with the name of the file, not its folder
    assert zoo_tool(["export", "run", "-o", "public", "--licence", "CC0-1.0"]) == 0
    assert "- started from: model.pth: test_resnet of timm with " in Path("public/README.md").read_text()


def test_weights_by_name_say_which_normalisation_they_want(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    more = ["backbone.model=mobilenetv4_conv_small", "backbone.pretrained=true"]
    assert command(monkeypatch, "-e", "run", *settings(data, *more)) == 2
    assert capsys.readouterr().err.strip().endswith("; set input.normalization=imagenet")
