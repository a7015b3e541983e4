"""Weights that rtpose (PyTorch) trained and CMU's: which keypoints two of the limbs join."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pose.backbones.vgg19_cpm import Vgg19Cpm, Vgg19CpmSettings
from pose.decoders.paf_groups import PafGroups, PafGroupsSettings
from pose.experiment import load_config
from pose.published import conversion
from pose.published.rtpose import rtpose_order
from pose.skeleton import Skeleton
from pose.structures import People
from pose.tools import convert
from tests.literal.reference import rtpose_decoding as literal

# channels 2 l and 2 l + 1 of a field belong to limb l
EARS = {9: ("right_shoulder", "right_ear"), 13: ("left_shoulder", "left_ear")}
EYES = {9: ("right_shoulder", "right_eye"), 13: ("left_shoulder", "left_eye")}


def skeleton(config: str, *settings: str) -> Skeleton:
    return load_config(f"published/{config}.yaml", settings).skeleton


def file(folder: Path, prefix: str) -> Path:
    """A narrow network of one stage under the names of either's files."""
    cfg = Vgg19CpmSettings(stages=1, trunk_width=4, width=8, first_stage_width=16, kernel=3)
    state = Vgg19Cpm(cfg, {"paf": 38, "heatmap": 19}).state_dict()
    weights: dict[str, Tensor] = {}
    for name in rtpose_order(1):
        part, *rest = name.removeprefix("backbone.").split(".")
        if part == "stages":
            _, branch, *rest = rest
            part = f"model1_{'1' if branch == 'paf' else '2'}"
        key = ".".join([part.replace("trunk", "model0"), *rest])
        weights[prefix + key] = state[name.removeprefix("backbone.")]
    torch.save(weights, folder / "weights.pth")
    return folder / "weights.pth"


@pytest.mark.parametrize(
    ("prefix", "settings", "limbs"),
    [
        ("", [], EARS),  # CMU's, converted from Caffe
        ("module.", [], EYES),  # trained by rtpose
        ("module.", ["data.skeleton=coco18"], EARS),  # the same as rtpose itself decodes them
    ],
)
def test_a_converted_run_reads_the_limbs_that_were_trained(
    tmp_path: Path, prefix: str, settings: list[str], limbs: dict[int, tuple[str, str]]
) -> None:
    converted = conversion.convert(convert.SOURCES["rtpose"], file(tmp_path, prefix), settings)
    found = converted.config.skeleton.limbs
    assert {limb: found[limb] for limb in (9, 13)} == limbs
    assert found[:9] == skeleton("rtpose_cmu").limbs[:9] and len(found) == 19
    decoder = PafGroups(PafGroupsSettings(preset="s1"), converted.config.skeleton)
    assert decoder.limbs.T.tolist() == [list(pair) for pair in converted.config.skeleton.limb_index]


def test_the_skeletons_differ_in_two_limbs_and_come_last_in_both() -> None:
    eyes, ears = skeleton("rtpose"), skeleton("rtpose_cmu")
    assert eyes.keypoints == ears.keypoints
    differing = [limb for limb in range(19) if eyes.limbs[limb] != ears.limbs[limb]]
    assert differing == [9, 13] and list(eyes.limb_order_index[-2:]) == [9, 13]
    assert eyes.limb_order_index == ears.limb_order_index
    assert eyes.tree_limbs == ears.tree_limbs


def found_by(one: Skeleton, heat: np.ndarray, paf: np.ndarray) -> People:
    decoder = PafGroups(PafGroupsSettings(preset="s1", person_score="total_times_parts"), one)
    heatmap, field = (torch.from_numpy(maps.transpose(2, 0, 1)[None].copy()) for maps in (heat, paf))
    return decoder(heatmap, field, stride=8)[0]


def test_fields_to_the_eyes_read_as_trained_and_as_rtpose_reads_them() -> None:
    """Both readings equal the literal restatement, on fields drawn from the shoulders to the eyes; read as if
    they went to the ears they join less."""
    eyes, ears = skeleton("rtpose"), skeleton("rtpose", "data.skeleton=coco18")
    limbs, different = literal.S1_TARGET_LIMBS, 0
    number = {"eyes": 0, "ears": 0}
    for seed in range(60):
        maps = literal.scene(1 + seed % 5, seed, missing=0.25, limbs=limbs)
        found = {"eyes": found_by(eyes, *maps), "ears": found_by(ears, *maps)}
        expected = {
            "eyes": literal.decode_s1(*maps, limbs=limbs, peak_zero_bug=False),
            "ears": literal.decode_s1(*maps, peak_zero_bug=False),
        }
        for reading, people in expected.items():
            scores = np.array([person.total * person.parts for person in people], np.float32)
            order = np.argsort(-scores, kind="stable")
            np.testing.assert_allclose(found[reading].scores, scores[order], rtol=1e-5)
            keypoints = np.array([people[i].keypoints for i in order]).reshape(-1, 18, 3)
            np.testing.assert_array_equal(found[reading].keypoints[..., :2], keypoints[..., :2])
            number[reading] += int((keypoints[..., 2] > 0).sum())
        different += not np.array_equal(found["eyes"].keypoints, found["ears"].keypoints)
    assert different > 10 and number["eyes"] > number["ears"]
