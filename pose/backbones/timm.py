"""Any network of timm (PyTorch Image Models, Wightman 2019) that gives features at several resolutions, or a
vision transformer with its one; the names, weights and licences are timm's."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pose.backbones.base import FeatureBackbone
from pose.backbones.batch_norm import BatchNorm
from pose.backbones.pretrained import import_timm, not_loaded, read_weights
from pose.config import FilePath, Settings
from pose.errors import UserError
from pose.registry import BACKBONES
from pose.structures import NORMALIZATIONS

FINEST = 4  # finer features cost more than all others together, and few necks use them
# arguments that let a family take images of every size; a model without one of them refuses it by name
ANY_SIZE: Mapping[str, Any] = {
    "strict_img_size": False,  # Swin
    "always_partition": True,  # Swin: the windows are shifted at every resolution, as where one is larger
    "dynamic_img_size": True,  # vision transformers: position embeddings are interpolated
}


class TimmSettings(Settings):
    """Models with window or plain attention take images of any size, but were trained at their own."""

    name: Literal["timm"] = "timm"
    model: str = "resnet50"
    """Name in timm, with the tag of its weights where they are not the usual ones, such as `convnext_tiny`,
    `resnet50.a1_in1k` or `swin_tiny_patch4_window7_224`."""
    strides: tuple[int, ...] = ()
    """Strides of the features that come out; empty = all that the model has, of 4 and coarser."""
    output_stride: Literal[8, 16, 32] | None = None
    """Stride of the coarsest feature, by dilated convolutions, for models that can be built so; null = as
    the model is."""
    drop_path: float = Field(0.0, ge=0, lt=1)
    """Rate of stochastic depth, for models that have it; 0.1 to 0.3 for ConvNeXt and Swin."""
    checkpointing: bool = False
    """Compute activations again in the backward pass instead of keeping them: less memory, more time."""
    batch_norm: BatchNorm = "train"
    """frozen: normalise by the statistics that came with the weights, in training too; scale and shift
    learn."""
    pretrained: bool | FilePath | None = None
    """Weights when a new run starts: true (timm's for this model, downloaded once), a file with timm's names
    (.pth, .safetensors; a classifier in it is ignored), or null.  Licences of weights differ from that of the
    code: the run notes them."""


@BACKBONES.register("timm", TimmSettings)
class Timm(FeatureBackbone):
    """Raises `UserError` where timm is not installed, does not know the model, or the model does not give
    features of images of any size."""

    def __init__(self, cfg: TimmSettings, channels: Mapping[str, int] | None = None) -> None:
        super().__init__()
        self.cfg = cfg
        # on the CPU first: not every model can be built on the meta device, and it is run once below
        with torch.device("cpu"):
            network = self._create()
            info = [
                (info["reduction"], index)
                for index, info in zip(network.feature_info.out_indices, network.feature_info.get_dicts())
            ]
            wanted = chosen_features(cfg, info)
            if wanted != list(network.feature_info.out_indices):
                network = self._create(out_indices=tuple(wanted))
        self.net = network
        self.feature_channels = tuple(network.feature_info.channels())
        self.feature_strides = tuple(network.feature_info.reduction())
        self.size_multiple = max(self.feature_strides)
        self.nhwc = str(getattr(network, "output_fmt", "NCHW")).endswith("NHWC")
        self._freeze_statistics()
        with torch.device("cpu"):
            self._check(
                "this model of timm does not take images of any size ({}); choose another one, such as "
                "resnet50, convnext_tiny or swin_tiny_patch4_window7_224"
            )
            if cfg.checkpointing:
                network.set_grad_checkpointing(True)
                self._check(
                    "this model of timm has no gradients that way ({}); set backbone.checkpointing=false"
                )
        self.to(torch.get_default_device())
        self.normalization = normalization_of(network)

    def _create(self, **more: Any) -> Any:
        """timm's network of features; more: arguments, with `pretrained` where weights are wanted."""
        cfg = self.cfg
        timm = import_timm(cfg.model, "choose another backbone")
        arguments = {"features_only": True, **more}
        if cfg.drop_path:
            arguments["drop_path_rate"] = cfg.drop_path
        if cfg.output_stride is not None:
            arguments["output_stride"] = cfg.output_stride
        optional = dict(ANY_SIZE)
        if cfg.model.startswith("hrnet"):
            optional["feature_location"] = ""  # the four resolutions, not what the classifier makes of them
        while True:
            try:
                return timm.create_model(cfg.model, **arguments, **optional)
            except TypeError as error:
                unknown = [name for name in optional if f"'{name}'" in str(error)]
                if not unknown:
                    raise UserError(f"backbone: {refusal(cfg, error)}") from None
                del optional[unknown[0]]
            except Exception as error:  # of every family's own kind; with weights, of the download
                if more.get("pretrained_cfg_overlay"):
                    raise UserError(f"{not_of(cfg)} ({first_line(error)})") from None
                if more.get("pretrained"):
                    raise not_loaded(cfg.model, error) from None
                raise UserError(f"backbone: {refusal(cfg, error)}") from None

    def _freeze_statistics(self) -> None:
        if self.cfg.batch_norm == "frozen":
            for layer in self._normalisations():
                layer.num_batches_tracked = None

    def _normalisations(self) -> list[_BatchNorm]:
        return [layer for layer in self.net.modules() if isinstance(layer, _BatchNorm)]

    def train(self, mode: bool = True) -> Timm:
        super().train(mode)
        if self.cfg.batch_norm == "frozen":
            for layer in self._normalisations():
                layer.eval()
        return self

    def _check(self, failure: str) -> None:
        """Runs a small image through, of another size and form than any model was trained at, and takes out
        layers that no feature depends on: DistributedDataParallel would wait for their gradients.

        failure: the message where that fails, with a place for the reason."""
        height, width = 4 * self.size_multiple, 6 * self.size_multiple
        named = {
            name: parameter for name, parameter in self.net.named_parameters() if parameter.requires_grad
        }
        mode = self.training
        try:
            with torch.enable_grad():
                features = self.eval()(torch.zeros(1, 3, height, width))
                total = torch.stack([feature.sum() for feature in features]).sum()
                gradients = torch.autograd.grad(total, [*named.values()], allow_unused=True)
        except Exception as error:  # of every family's own kind
            reason = failure.format(first_line(error))
            raise UserError(f"backbone.model={self.cfg.model}: {reason}") from None
        finally:
            self.train(mode)
        for feature, count, stride in zip(features, self.feature_channels, self.feature_strides, strict=True):
            expected = (1, count, height // stride, width // stride)
            if tuple(feature.shape) != expected:
                raise UserError(
                    f"backbone.model={self.cfg.model}: the feature of this model of timm at stride {stride} "
                    f"has the shape {tuple(feature.shape)} where {expected} is needed; choose another model, "
                    "or leave that stride out of backbone.strides"
                )
        used = [name for name, gradient in zip(named, gradients, strict=True) if gradient is not None]
        if len(used) < len(named):
            remove_layers(self.net, used)

    def forward(self, x: Tensor) -> list[Tensor]:
        """x (B, 3, H, W) float -> (B, C, H / stride, W / stride) for every stride."""
        features = self.net(x)
        return [y.permute(0, 3, 1, 2) if self.nhwc else y for y in features]

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """The stem and each stage, as timm groups them."""
        timm = import_timm(self.cfg.model)
        with torch.device("cpu"):
            whole = timm.create_model(self.cfg.model)
        if not hasattr(whole, "group_matcher"):
            raise UserError(
                f"train.optimizer.layer_decay: timm does not say which layers of {self.cfg.model} come after "
                "which; set train.optimizer.backbone_lr instead"
            )
        numbers = timm.models.group_parameters(whole, whole.group_matcher(coarse=True), reverse=True)
        # wrappers for features put `model.` before the names, or `_` for some dots
        group_of = {name.replace("_", "."): number for name, number in numbers.items()}
        groups: dict[int, list[nn.Parameter]] = {}
        number = 0
        for name, parameter in self.net.named_parameters():
            number = group_of.get(name.removeprefix("model.").replace("_", "."), number)
            groups.setdefault(number, []).append(parameter)
        return [groups[number] for number in sorted(groups)]

    def sync_batch_norm(self) -> None:
        """Makes every batch normalisation that trains one over all processes: torch's own conversion loses
        the activations that timm keeps in such layers."""
        if self.cfg.batch_norm != "frozen":
            from timm.layers import convert_sync_batchnorm

            self.net = convert_sync_batchnorm(self.net)

    def load_pretrained(self) -> str:
        """Loads the weights that `pretrained` names; a sentence about them and their licence.

        Raises `UserError` where there are no such weights, or they are not all of this network's."""
        source, name = self.cfg.pretrained, self.cfg.model
        assert source
        file = None if source is True else Path(str(source))
        try:
            overlay = {} if file is None else {"state_dict": timm_tensors(read_weights(file))}
            loaded, blank = self._twice(overlay)
            self._check_loaded(loaded, blank)
        except UserError as error:
            raise UserError(f"backbone.pretrained={source}: {error}") from None
        taken = {entry: loaded[entry] for entry in self.net.state_dict() if entry in loaded}
        self.net.load_state_dict(taken)
        wants = ", ".join(f"{key} {list(self.normalization[key])}" for key in ("mean", "std"))  # type: ignore[index]
        about = f"{name} of timm with {len(taken)} tensors loaded, for images normalised with {wants}"
        if file is not None:
            return f"{file}: {about}"
        cfg = self.net.pretrained_cfg
        tag = f".{cfg['tag']}" if cfg.get("tag") and "." not in name else ""
        licence = cfg.get("license") or "not stated"
        return f"{name}{tag}: {about}; licence of the weights: {licence}"

    def _twice(self, overlay: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The network's tensors with the weights and, of the same first weights, without."""
        indices = tuple(self.net.feature_info.out_indices)
        states = []
        log = logging.getLogger("timm")
        level = log.level
        log.setLevel(logging.ERROR)  # it warns of a file's every tensor that the features do not need
        try:
            for more in ({"pretrained": True, "pretrained_cfg_overlay": overlay}, {}):
                with torch.random.fork_rng(devices=[]), torch.device("cpu"):
                    torch.manual_seed(0)
                    states.append(self._create(out_indices=indices, **more).state_dict())
        finally:
            log.setLevel(level)
        return states[0], states[1]

    def _check_loaded(self, loaded: Mapping[str, Tensor], blank: Mapping[str, Tensor]) -> None:
        """timm takes what fits and leaves the rest random: that would be found out weeks later."""
        own = {name for name, parameter in self.net.named_parameters() if parameter.requires_grad}
        random = [n for n in own if n in blank and blank[n].numel() > 1 and blank[n].min() < blank[n].max()]
        left = [name for name in blank if name in random and torch.equal(loaded[name], blank[name])]
        if left:
            raise UserError(
                f"{not_of(self.cfg)}: {left[0]} is missing"
                + (f", and {len(left) - 1} more" if len(left) > 1 else "")
            )

    def pretrained_layers(self) -> list[nn.Module]:
        """What `train.freeze_epochs` freezes: everything."""
        return [self]


def chosen_features(cfg: TimmSettings, features: list[tuple[int, int]]) -> list[int]:
    """Indices of the features that come out, fine to coarse.  features: stride and index of all there are; of
    several at one stride the last is taken."""
    last = dict(features)
    strides = sorted(cfg.strides or (stride for stride in last if stride >= FINEST))
    absent = [stride for stride in strides if stride not in last]
    if absent or not strides:
        raise UserError(
            f"backbone.strides={list(cfg.strides)}: {cfg.model} of timm has features at the strides "
            f"{', '.join(map(str, sorted(last)))} only"
        )
    return [last[stride] for stride in strides]


def remove_layers(network: nn.Module, used: Collection[str]) -> None:
    """Puts the identity where a layer has parameters and none of them is among `used`."""
    for name, layer in list(network.named_children()):
        below = {entry.partition(".")[2] for entry in used if entry.partition(".")[0] == name}
        if below:
            remove_layers(layer, below)
        elif any(True for _ in layer.parameters()):
            setattr(network, name, nn.Identity())


def normalization_of(network: Any) -> dict[str, Any]:
    """What the pretrained weights take, as `input` settings."""
    cfg = network.pretrained_cfg
    mean, std = tuple(map(float, cfg["mean"])), tuple(map(float, cfg["std"]))
    found = {"mean": mean, "std": std, "channel_order": "rgb"}
    return dict(NORMALIZATIONS["imagenet"]) if found == NORMALIZATIONS["imagenet"] else found


def timm_tensors(state: Mapping[str, Any]) -> dict[str, Any]:
    """Without the prefix of DistributedDataParallel, and of torch.compile."""
    return {str(name).removeprefix("module.").removeprefix("_orig_mod."): v for name, v in state.items()}


def refusal(cfg: TimmSettings, error: Exception) -> str:
    """Why timm does not build the model of the settings; a sentence with what to do."""
    if cfg.drop_path and "drop_path_rate" in str(error):
        return f"{cfg.model} of timm has no stochastic depth; set backbone.drop_path=0"
    reason = first_line(error)
    if cfg.output_stride is not None:
        return (
            f"{cfg.model} of timm cannot be built with output_stride {cfg.output_stride} ({reason}); set "
            "backbone.output_stride=null"
        )
    timm = import_timm(cfg.model)
    plain, dot, tag = cfg.model.partition(".")
    if timm.is_model(plain):
        tags = [name.partition(".")[2] for name in timm.list_pretrained(f"{plain}.*")]
        if dot and tag not in tags:
            return f"timm has no weights {cfg.model}; their tags are {', '.join(tags) or '(none)'}"
        return f"{cfg.model} of timm gives no features ({reason}); choose another model"
    close = difflib.get_close_matches(plain, timm.list_models(), n=3)
    hint = f"; did you mean {' or '.join(close)}?" if close else "; timm.list_models() lists all"
    return f"timm has no model {cfg.model!r}{hint}"


def not_of(cfg: TimmSettings) -> str:
    return f"these are not the weights of timm's {cfg.model}"


def first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
