"""Networks arranged for inference: the same fields and people, quicker."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from pose.heads.tags import TagsSettings
from pose.model import PoseModel
from pose.predict import inference
from pose.predict.batches import BatchPredictor
from pose.predict.inference import channels_last_wins, for_inference
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
