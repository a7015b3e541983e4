"""Which metrics fit a file, in which order, with which settings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pose.annotations.reader import parse
from pose.errors import UserError
from pose.metrics.base import Fixed, Metric, Scores, bind, fitting, settings_of
from pose.registry import METRICS
from pose.skeleton import Skeleton


def content(*people_of_images: int) -> dict[str, Any]:
    """As many people on each image, with two keypoints."""
    images = [{"id": i, "file_name": f"{i}.jpg"} for i in range(1, 1 + len(people_of_images))]
    owners = [i for i, count in enumerate(people_of_images, start=1) for _ in range(count)]
    person = {"category_id": 1, "iscrowd": 0, "bbox": [0, 0, 50, 50], "keypoints": [1, 2, 2, 30, 40, 2]}
    people = [{**person, "id": k, "image_id": i} for k, i in enumerate(owners, start=1)]
    category = {"id": 1, "name": "mouse", "keypoints": ["nose", "tail"], "sigmas": [0.1, 0.1]}
    return {"images": images, "annotations": people, "categories": [category]}


def names(data: dict[str, Any], **options: Any) -> list[str]:
    return [one.name for one in fitting(parse(data, "x.json"), **options)]


def test_made_for_the_file_comes_before_any_files_before_what_is_told_as_well() -> None:
    assert names(content(1, 2)) == ["coco"]
    assert names(content(1, 1)) == ["coco", "pck"]
    assert names(content(1, 1), wanted="pck") == ["pck", "coco"]
    with pytest.raises(UserError, match=r"pck does not fit: x.json has not one person .* \(fitting: coco\)"):
        names(content(1, 2), wanted="pck")


def test_images_without_annotations_have_no_metric_and_a_file_without_keypoints_is_refused() -> None:
    assert bind(parse(content(0, 0), "x.json"), None) == []
    data = content(1)
    del data["annotations"][0]["keypoints"]
    with pytest.raises(UserError, match="x.json: no annotation has keypoints"):
        bind(parse(data, "x.json"), None)


def test_every_metric_takes_its_own_of_all_settings() -> None:
    everything = {"backend": "pycocotools", "threshold": 0.5, "name": "a run", "flip": True}
    bound = bind(parse(content(1, 1), "x.json"), Skeleton("two", ("nose", "tail")), "auto", everything)
    assert [one.settings.name for one in bound] == ["coco", "pck"]
    assert bound[0].settings.backend == "pycocotools" and bound[1].settings.threshold == 0.5
    with pytest.raises(UserError, match="the metric pck: threshold: .* got 'high'"):
        settings_of("pck", {"threshold": "high"})


def test_scores_say_what_they_are() -> None:
    scores = Scores("coco", {"AP": 0.4123, "AP50": 0.7, "AR": 0.5}, "AP", ("AP", "AP50", "AP75"))
    assert (scores.value, scores.title) == (0.4123, "coco AP")
    assert scores.summary() == "AP 0.412, AP50 0.700"
    with_loss = scores.also(loss=2.0)
    assert with_loss.numbers["loss"] == 2 and "loss" not in scores.numbers and with_loss.value == 0.4123
    assert Scores("pck", {"PCK": 0.25}, "PCK").summary() == "PCK 0.250"


def test_what_cannot_be_drawn_again_has_no_intervals() -> None:
    one = Fixed([3, 4], {"right": 0.5})
    assert one.stats() == {"right": 0.5} and one.stats(np.array([0, 0])) == {"right": -1}


@pytest.mark.parametrize("name", METRICS.names())
def test_a_metric_is_complete(name: str) -> None:
    metric, settings = METRICS[name]
    assert issubclass(metric, Metric) and metric.name == name and metric.__doc__
    assert (metric.columns or (metric.best,))[0] == metric.best
    assert {*metric.score_options, *metric.test_options} <= settings.model_fields.keys()
    assert all(settings.model_fields[one].description for one in metric.score_options)
    assert set(metric.instead_of) <= set(METRICS.names())
