"""Training and testing on a GPU: the same numbers as on the CPU, in every precision and memory format.

`bash scripts/check_gpu.sh` runs these; POSE_CHECK_DEVICE=cpu runs them on a CPU, to show that they work."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator

import pytest
import torch

from benchmarks.gpu import made_up
from pose.engine.optim import build_optimizer
from pose.engine.optimizers.adam import AdamSettings
from pose.engine.settings import TrainSettings
from pose.engine.update import Update, Updater
from pose.experiment import ExperimentConfig, load_config
from pose.model import PoseModel, TrainStep
from pose.predict.batches import BatchPredictor
from pose.registry import OPTIMIZERS

pytestmark = pytest.mark.gpu

CONFIGS = {
    "tags": ("synthetic/ae_small.yaml", "backbone.width=8", "backbone.growth=4"),
    "paf": ("synthetic/paf_small.yaml", "backbone.width=8", "backbone.growth=4"),
    "pairwise": ("synthetic/deepercut_small.yaml",),
}


@pytest.fixture(scope="module")
def device() -> torch.device:
    chosen = os.environ.get("POSE_CHECK_DEVICE", "cuda")
    if chosen == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU")
    return torch.device(chosen)


@pytest.fixture(autouse=True)
def plain_arithmetic() -> Iterator[None]:
    before = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before[0]
    torch.set_float32_matmul_precision(before[1])
    torch.backends.cudnn.benchmark = False


def config_of(head: str) -> ExperimentConfig:
    file, *more = CONFIGS[head]
    return load_config(file, ["data.skeleton=coco17", "input.size=[128, 128]", *more])


def model_of(config: ExperimentConfig) -> PoseModel:
    torch.manual_seed(0)
    return config.build_model().train()


def updater_of(
    config: ExperimentConfig,
    device: torch.device,
    *,
    precision: str = "fp32",
    last: bool = False,
    **more: object,
) -> Updater:
    model = model_of(config).to(device)
    if last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    step = TrainStep(model, precision=precision).train()
    settings = TrainSettings(optimizer=AdamSettings(lr=1e-3), ema=0.9, clip_norm=1.0, **more)  # type: ignore[arg-type]
    return Updater(step, step, settings, device, steps_per_epoch=10)


def losses(updater: Updater, config: ExperimentConfig, device: torch.device, steps: int = 3) -> list[float]:
    batch = made_up(config, 2, device)
    return [float(updater.update(batch).terms["loss"]) for _ in range(steps)]


@pytest.mark.parametrize("head", CONFIGS)
def test_fp32_is_the_cpu_to_a_thousandth(head: str, device: torch.device) -> None:
    config = config_of(head)
    expected = losses(updater_of(config, torch.device("cpu")), config, torch.device("cpu"))
    assert losses(updater_of(config, device), config, device) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels_last"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_precisions_and_memory_formats_agree(precision: str, last: bool, device: torch.device) -> None:
    config = config_of("tags")
    torch.backends.cudnn.benchmark = True
    expected = losses(updater_of(config, torch.device("cpu")), config, torch.device("cpu"), steps=1)
    found = losses(updater_of(config, device, precision=precision, last=last), config, device, steps=1)
    assert found == pytest.approx(expected, rel=1e-3 if precision == "fp32" else 0.05)


def test_compiled_is_the_same(device: torch.device) -> None:
    config = config_of("tags")
    model = model_of(config).to(device)
    images = made_up(config, 2, device).image
    with torch.no_grad():
        (expected,) = copy.deepcopy(model)(images)
        model.compile_network()
        (found,) = model(images)
    torch.compiler.reset()
    for name, maps in expected.items():
        torch.testing.assert_close(found[name], maps, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_the_fused_optimiser_moves_weights_as_the_plain_one(optimizer: str, device: torch.device) -> None:
    settings = OPTIMIZERS[optimizer].config(lr=0.01)
    moved = []
    for where in (torch.device("cpu"), device):
        torch.manual_seed(0)
        net = torch.nn.Linear(8, 4).to(where)
        chosen = build_optimizer(net.named_parameters(), settings)
        assert all(group["fused"] for group in chosen.param_groups)
        for _ in range(3):
            net(torch.ones(2, 8, device=where)).square().sum().backward()
            chosen.step()
            chosen.zero_grad()
        moved.append(net.weight.detach().cpu())
    torch.testing.assert_close(*moved, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("head", CONFIGS)
def test_no_step_waits_for_the_device(head: str, device: torch.device) -> None:
    if device.type != "cuda":
        pytest.skip("nothing to wait for on a CPU")
    config = config_of(head)
    updater, batch = updater_of(config, device, accumulate=2), made_up(config, 2, device)
    updater.update(batch)
    torch.cuda.set_sync_debug_mode("error")
    try:
        done: Update = updater.update(batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert bool(done.finite)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_bad_step_changes_nothing(precision: str, device: torch.device) -> None:
    config = config_of("tags")
    updater, batch = updater_of(config, device, precision=precision), made_up(config, 2, device)
    updater.update(batch)
    with torch.no_grad():
        next(updater.model.parameters()).view(-1)[0] = torch.inf
    before = {name: value.clone() for name, value in updater.model.state_dict().items()}
    assert not bool(updater.update(batch).finite)
    for name, value in updater.model.state_dict().items():
        assert torch.equal(value.nan_to_num(), before[name].nan_to_num()), name


@pytest.mark.parametrize("head", ["tags", "paf"])
def test_decoders_find_the_same_people_from_the_device(head: str, device: torch.device) -> None:
    config = config_of(head)
    predictor = BatchPredictor(model_of(config).to(device), config.test)
    image = made_up(config, 1, torch.device("cpu")).image[0].permute(1, 2, 0).numpy()
    batch = [predictor.prepare(image)]
    fields, stride = predictor.fields([one.canvases for one in batch])
    ((_, found),) = predictor.decode(fields, stride, batch)
    ((_, expected),) = predictor.decode({name: maps.cpu() for name, maps in fields.items()}, stride, batch)
    assert len(found.scores) == len(expected.scores)
    torch.testing.assert_close(
        torch.tensor(found.keypoints), torch.tensor(expected.keypoints), rtol=1e-3, atol=1e-2
    )
