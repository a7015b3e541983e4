"""pose.first_weights: which checkpoints a training starts from, for every backbone of the registry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from pose import checkpoint
from pose.errors import UserError
from pose.experiment import NoAverage, load_config, model_weights
from pose.first_weights import common_sizes, keeps_average, load_weights, stages
from tests.small_networks import networks

NETWORKS = networks()


def config_of(network: str, *more: str, head: str = "tags", skeleton: str = "coco17") -> Any:
    sections = [f"{section}={plain(settings)}" for section, settings in NETWORKS[network].items()]
    return load_config(
        None, [f"data.skeleton={skeleton}", "input.size=[64, 64]", f"head={{name: {head}}}", *sections, *more]
    )


def plain(settings: dict[str, Any]) -> str:
    texts = [f"{key}: {list(v) if isinstance(v, tuple) else v}" for key, v in settings.items()]
    return "{" + ", ".join(texts) + "}"


def started(target: Any, state: dict[str, Any], folder: Path, *, partial: bool = False) -> str:
    """The sentence about `state` as the first weights of the config `target`."""
    checkpoint.save(state, folder / "first.pt")
    train = {"weights": str(folder / "first.pt"), "weights_partial": partial}
    config = target.model_copy(update={"train": target.train.model_copy(update=train)})
    return load_weights(config.build_model(), config)


@pytest.mark.parametrize("network", NETWORKS)
def test_a_network_starts_from_its_own_weights_with_other_keypoints(network: str, tmp_path: Path) -> None:
    """What depends on the keypoints need not fit, nor need neck and predictor."""
    state = {"model": config_of(network).build_model().state_dict()}
    for skeleton in ("coco17", "mpii14"):
        told = started(config_of(network, skeleton=skeleton), state, tmp_path)
        assert "parameters loaded" in told
    model = config_of(network).build_model()
    found = stages(model.backbone, common_sizes(model, config_of(network)))
    assert len(found) > 1
    assert all(model.state_dict()[name].ndim >= 2 for names in found.values() for name in names)


@pytest.mark.parametrize("network", NETWORKS)
def test_one_stage_that_does_not_fit_is_another_network(network: str, tmp_path: Path) -> None:
    """Counters and normalisation of that stage are no excuse."""
    config = config_of(network)
    model = config.build_model()
    found = stages(model.backbone, common_sizes(model, config))
    for stage, names in found.items():
        state = {name: v for name, v in model.state_dict().items() if name not in names}
        with pytest.raises(UserError, match=rf"no layer of backbone\.{stage} fits .*weights_partial=true"):
            started(config, {"model": state}, tmp_path)
    assert "parameters loaded" in started(config, {"model": state}, tmp_path, partial=True)


def test_the_same_shapes_here_and_there_are_another_network(tmp_path: Path) -> None:
    """A convolution of each stage fits, and most do not: ResNet with other widths inside."""
    config = config_of("resnet fpn")
    model = config.build_model()
    found = stages(model.backbone, common_sizes(model, config))
    assert {"conv1", "layer1", "layer4"} <= {*found}
    smallest = [min(names, key=lambda name: model.state_dict()[name].numel()) for names in found.values()]
    state = {name: model.state_dict()[name] for name in smallest}
    with pytest.raises(UserError, match="of the backbone's .* parameters fit"):
        started(config, {"model": state}, tmp_path)


def test_counters_are_no_weights(tmp_path: Path) -> None:
    """Of a network of another width only single numbers fit."""
    config = config_of("hrnet higher_resolution")
    wider = config.model_copy(
        update={"backbone": config.backbone.model_copy(update={"width": config.backbone.width * 2})}
    )
    state = {"model": wider.build_model().state_dict()}
    with pytest.raises(UserError, match="does not match this network: no layer of backbone"):
        started(config, state, tmp_path)
    told = started(config, state, tmp_path, partial=True)
    taken, total = (int(word.replace(",", "")) for word in told.split(": ")[1].split()[:3:2])
    own = dict(config.build_model().named_parameters())
    same = [n for n, p in wider.build_model().named_parameters() if n in own and own[n].shape == p.shape]
    assert taken == sum(own[name].numel() for name in same)
    assert total == sum(p.numel() for p in own.values())


AVERAGE = {"optimizer": {}, "model": {"w": torch.zeros(1)}}


@pytest.mark.parametrize(
    ("state", "averaged", "lost"),
    [
        (AVERAGE, None, True),
        (AVERAGE, True, True),
        (AVERAGE, False, False),
        ({**AVERAGE, "ema": None}, None, False),
        ({**AVERAGE, "ema": None}, True, True),
        ({**AVERAGE, "ema": {}}, None, True),
        ({**AVERAGE, "ema": {"w": torch.ones(1)}}, True, False),
        ({"model": AVERAGE["model"]}, True, False),  # as published
    ],
)
def test_an_average_that_is_missing(state: dict[str, Any], averaged: bool | None, lost: bool) -> None:
    if not lost:
        assert model_weights(state, averaged=averaged)["w"] == bool(state.get("ema"))
        return
    with pytest.raises(NoAverage, match="moving average"):
        model_weights(state, averaged=averaged)


def test_a_file_in_a_run_is_judged_by_its_config(tmp_path: Path) -> None:
    assert keeps_average(tmp_path) is None
    (tmp_path / "config.yaml").write_text("train: {ema: 0.9}")
    assert keeps_average(tmp_path) is True
    (tmp_path / "config.yaml").write_text("train: {ema: null}")
    assert keeps_average(tmp_path) is False
