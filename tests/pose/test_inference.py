"""Networks arranged for inference: the same fields and people, quicker."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from pose import cpu, inference
from pose.heads.tags import TagsSettings
from pose.inference import (
    DIFFERENCE,
    GAIN,
    Comparison,
    channels_last_wins,
    choose_precision,
    compare,
    difference,
    for_inference,
    probe_images,
)
from pose.model import PoseModel
from pose.predict.batches import BatchPredictor
from pose.predict.settings import TestSettings
from pose.structures import InputSettings
from tests.dot_people import SKELETON, assert_same_people, dot_model, dots
from tests.small_networks import networks, small_model

NETWORKS = networks()


@pytest.fixture
def onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine where the rule says channels last."""
    monkeypatch.setattr(inference, "channels_last_wins", lambda device: device.type == "cpu")


def is_last(model: PoseModel) -> bool:
    """Whether every kernel that covers several pixels and channels lies channels last."""
    kernels = [one for one in model.parameters() if one.dim() == 4 and one.shape[1] > 1 and one.shape[2] > 1]
    return all(one.is_contiguous(memory_format=torch.channels_last) for one in kernels)


@pytest.mark.parametrize("name", NETWORKS)
def test_channels_last_gives_the_same_fields(name: str, onednn: None) -> None:
    """Up to the rounding of sums in another order, relative to the field's largest value."""
    plain = small_model(NETWORKS[name], TagsSettings(), SKELETON, InputSettings(size=(128, 128))).eval()
    last = for_inference(copy.deepcopy(plain))
    assert is_last(last) and not is_last(plain)
    for own, other in zip(plain.parameters(), last.parameters(), strict=True):
        assert torch.equal(own, other)
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (2, 3, 128, 192), generator=generator, dtype=torch.uint8)
    with torch.inference_mode():
        expected, found = plain.read(images), last.read(images)
    assert expected.keys() == found.keys()
    for field, maps in expected.items():
        assert_close(found[field], maps, rtol=0, atol=3e-5 * float(maps.abs().max()), msg=field)


def test_the_same_people(onednn: None) -> None:
    image, truth = dots((150, 200), 2)
    settings = TestSettings(multi=(1.0, 1.5))
    plain = BatchPredictor(dot_model(), settings, "multi")(image)
    last = BatchPredictor(for_inference(dot_model()), settings, "multi")(image)
    assert_same_people(last, truth)
    assert_close(last.keypoints, plain.keypoints, rtol=0, atol=1e-3)
    assert_close(last.scores, plain.scores, rtol=0, atol=1e-5)


def test_maps_are_decoded_one_after_the_other() -> None:
    """Decoders read map by map; a network that computes channels last must not slow them."""
    model = dot_model()
    forward = model.backbone.forward

    def last(x: torch.Tensor) -> Any:
        stages = forward(x)
        return [{k: v.contiguous(memory_format=torch.channels_last) for k, v in s.items()} for s in stages]

    model.backbone.forward = last  # type: ignore[method-assign]
    for flip in (False, True):
        predictor = BatchPredictor(model, TestSettings(flip=flip))
        prepared = [predictor.prepare(dots((128, 128), 1)[0])]
        fields, _ = predictor.fields([one.canvases for one in prepared])
        assert all(maps.is_contiguous() for maps in fields.values())


@pytest.mark.parametrize(
    ("machine", "onednn", "device", "expected"),
    [
        ("x86_64", True, "cpu", True),
        ("AMD64", True, "cpu", True),
        ("x86_64", False, "cpu", False),
        ("aarch64", True, "cpu", False),
        ("arm64", False, "cpu", False),
        ("x86_64", True, "meta", False),
    ],
)
def test_the_rule(
    machine: str, onednn: bool, device: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference.platform, "machine", lambda: machine)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: onednn)
    assert channels_last_wins(torch.device(device)) == expected
    if device == "cpu":
        model = small_model(
            NETWORKS["hourglass"], TagsSettings(), SKELETON, InputSettings(size=(128, 128))
        ).eval()
        assert is_last(for_inference(model)) == expected


# ---- arithmetic


@pytest.fixture
def bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine that computes in bf16."""
    monkeypatch.setattr(cpu, "has_bf16", lambda: True)


def choice(gain: float, apart: float, monkeypatch: pytest.MonkeyPatch, folder: Path, **settings: Any) -> str:
    monkeypatch.setattr(inference, "compare", lambda *_: Comparison(gain, apart))
    chosen, told = choose_precision(dot_model(), TestSettings(**settings), folder)
    assert bool(told) == (not settings)
    assert not told or f"precision: {chosen.precision}" in told
    return chosen.precision


def test_bf16_where_it_is_quicker_and_hardly_differs(
    bf16: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = [(2.0, 0.005, "bf16"), (GAIN, DIFFERENCE, "bf16"), (GAIN - 0.01, 0.0, "fp32"),
             (0.2, 0.0, "fp32"), (3.0, DIFFERENCE + 0.001, "fp32"), (3.0, float("inf"), "fp32")]  # fmt: skip
    for number, (gain, apart, expected) in enumerate(cases):
        assert choice(gain, apart, monkeypatch, tmp_path / f"{number}") == expected
    for precision in ("fp32", "bf16"):  # what was asked for is not measured
        assert choice(9.0, 0.0, monkeypatch, tmp_path / "forced", precision=precision) == precision
        assert not (tmp_path / "forced").exists()


def test_a_processor_without_bf16_is_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "compare", lambda *_: pytest.fail("measured"))
    monkeypatch.setattr(cpu, "has_bf16", lambda: False)
    settings, told = choose_precision(dot_model(), TestSettings(), tmp_path)
    assert (settings.precision, told, [*tmp_path.iterdir()]) == ("fp32", "", [])


def test_measured_once_for_the_weights_and_the_machine(
    bf16: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[int] = []

    def fake(*_: Any) -> Comparison:
        measured.append(1)
        return Comparison(1.1 + len(measured), 0.001)

    monkeypatch.setattr(inference, "compare", fake)
    model = dot_model()
    first = choose_precision(model, TestSettings(), tmp_path)
    assert choose_precision(model, TestSettings(), tmp_path) == first and len(measured) == 1
    changes: list[Callable[[], Any]] = [
        lambda: torch.nn.init.constant_(model.backbone.gain, 1.5),  # type: ignore[arg-type]
        lambda: monkeypatch.setattr(cpu, "name", lambda: "another"),
        lambda: monkeypatch.setattr(torch, "get_num_threads", lambda: 77),
    ]
    for count, change in enumerate(changes, start=2):
        change()
        for _ in range(2):
            choose_precision(model, TestSettings(), tmp_path)
            assert len(measured) == count
    choose_precision(model, TestSettings(flip=False), tmp_path)
    assert len(measured) == 5
    file = tmp_path / ".cache" / "precision.json"
    assert len(json.loads(file.read_text())) == 5
    file.write_text("[1, 2")  # cut off: measured again, and written anew
    choose_precision(model, TestSettings(), tmp_path)
    assert len(measured) == 6 and len(json.loads(file.read_text())) == 1


def test_a_run_that_cannot_be_written_is_remembered_in_the_users_cache(
    bf16: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    run.write_text("no folder, so nothing can be made in it")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    for gain in (2.0, 1.0):  # the second one is not asked
        assert choice(gain, 0.0, monkeypatch, run) == "bf16"
    assert len(list((tmp_path / "home").rglob("precision.json"))) == 1
    monkeypatch.setenv("XDG_CACHE_HOME", str(run))  # nowhere: measured each time
    assert [choice(gain, 0.0, monkeypatch, run) for gain in (2.0, 1.0)] == ["bf16", "fp32"]


def test_the_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    """In turns: the median of the ratios, which one disturbed turn does not move."""
    model = small_model(
        NETWORKS["hourglass"], TagsSettings(), SKELETON, InputSettings(size=(128, 128))
    ).eval()
    moments = itertools.chain(*((100.0 * turn, 100.0 * turn + 4, 100.0 * turn + 6) for turn in range(4)),
                              (900.0, 901.0, 999.0))  # fmt: skip
    monkeypatch.setattr(inference.time, "perf_counter", lambda: next(moments))
    images = probe_images(model, TestSettings())
    compared = compare(model, images)
    assert compared.gain == pytest.approx(2.0)
    with torch.inference_mode():
        expected = difference(model.read(images, "bf16"), model.read(images))
    assert 0 < compared.difference == expected < 0.1


def test_the_difference_is_relative_and_never_hidden() -> None:
    one = {"heatmap": torch.tensor([0.0, 0.5]), "tag": torch.tensor([-20.0, 4.0])}
    assert difference(one, one) == 0
    assert difference({**one, "tag": torch.tensor([-20.0, 5.0])}, one) == pytest.approx(0.05)
    assert difference({**one, "heatmap": torch.tensor([0.1, 0.5])}, one) == pytest.approx(0.2)
    assert difference({**one, "tag": torch.tensor([float("nan"), 4.0])}, one) == float("inf")
    assert difference({"heatmap": torch.ones(1)}, {"heatmap": torch.zeros(1)}) == 1


@pytest.mark.parametrize(("size", "expected"), [((64, 192), (64, 192)), ((512, 368), (256, 256))])
def test_the_images_of_the_comparison(size: tuple[int, int], expected: tuple[int, int]) -> None:
    model = dot_model(size=512)
    for flip in (True, False):
        images = probe_images(model, TestSettings(flip=flip, input_size=size))
        assert images.shape == (2 if flip else 1, 3, *expected) and images.dtype == torch.uint8
        assert images.float().std() > 20
    assert torch.equal(probe_images(model, TestSettings()), probe_images(model, TestSettings()))
