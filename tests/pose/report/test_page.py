"""The page: complete, self-contained, and honest where there is nothing to say."""

from __future__ import annotations

import base64
import re
from typing import Any

import numpy as np
import pytest

from pose.report.analysis import Analysis, analyse, file_skeleton, part_of
from pose.report.page import picture_reader, render, side_by_side
from pose.skeleton import Skeleton

SECTIONS = [
    "What was tested",
    "AP and AR",
    "Precision and recall",
    "Groups of people",
    "Errors per keypoint",
    "What errors cost",
    "False positives and missed people",
    "Worst pictures",
]


def data(
    num_keypoints: int = 3, people: int = 4, **category: Any
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """One person in each picture, found a little off; the first is missed, the last found twice."""
    rng = np.random.default_rng(0)
    annotations, results = [], []
    for number in range(people):
        xy = rng.uniform(20, 180, (num_keypoints, 2))
        full = np.column_stack([xy, np.full(num_keypoints, 2)])
        own = {"image_id": number, "category_id": 1}
        annotations.append(
            {
                **own,
                "id": number + 1,
                "keypoints": full.ravel().tolist(),
                "num_keypoints": num_keypoints,
                "area": 1e4,
                "bbox": [20.0, 20.0, 160.0, 160.0],
                "iscrowd": 0,
            }
        )
        near = np.column_stack([xy + rng.normal(0, 6, xy.shape), np.full(num_keypoints, 0.8)])
        guess = {**own, "keypoints": near.ravel().tolist(), "score": 0.3 + 0.1 * number}
        results += [guess] * (number > 0) + [guess] * (number == people - 1)
    images = [{"id": i, "file_name": f"{i}.png"} for i in range(people)]
    described = {"id": 1, "name": "thing", **category}
    return {"images": images, "annotations": annotations, "categories": [described]}, results


def analysed(*arguments: Any, **options: Any) -> Analysis:
    annotations, results = data(*arguments, **options)
    skeleton = file_skeleton(annotations)
    sigmas = [0.08] * (len(annotations["annotations"][0]["keypoints"]) // 3)
    return analyse(annotations, results, skeleton, sigmas=sigmas)


def headings(page: str) -> list[str]:
    return re.findall(r"<h2>(.*?)</h2>", page)


def test_the_page_has_every_part_and_asks_for_nothing_outside() -> None:
    analysis = analysed(keypoints=["top", "left_end", "right_end"], skeleton=[[1, 2], [1, 3]])
    grey = np.full((200, 220, 3), 90, np.uint8)
    page = render(analysis, {"run": "mine", "mode": "single"}, lambda image_id: (f"{image_id}.png", grey))
    assert headings(page) == SECTIONS
    assert "<title>Report: mine</title>" in page
    assert not re.search(r"https?://|<script|<link|@import|url\(", page)
    sources = re.findall(r'src="(.{30})', page)
    assert sources and all(source.startswith("data:image/") for source in sources)
    drawings = [base64.b64decode(text) for text in re.findall(r'data:image/svg\+xml;base64,([^"]+)"', page)]
    assert len(drawings) == 5
    for drawing in drawings:  # "xmlns" and what describes the file name no address that is asked for
        assert not re.search(rb"""(href|src)=["']http|<script|@import|url\(["']?http""", drawing)
    assert page.count("data:image/jpeg") == len(analysis.worst) == 4
    for name in ("left end", "right end", "1 of 4 people annotated are missed"):
        assert name in page
    stats = analysis.stats
    for name in ("AP", "AP50", "AR"):
        assert f'<td class="text">{name}</td><td>{stats[name]:.3f}</td>' in page


def test_names_are_shown_literally() -> None:
    hostile = "<script>alert(1)</script>\"'&.png"
    grey = np.zeros((40, 40, 3), np.uint8)
    analysis = analysed(2, keypoints=["<b>one", "two&"])
    page = render(analysis, {"run": hostile, "<i>": hostile}, lambda image_id: (hostile, grey))
    for forbidden in ("<script", "<i>", "<b>", "\"'&.png"):
        assert forbidden not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "&lt;b&gt;one" in page


@pytest.mark.parametrize("num_keypoints", [1, 14, 21])
def test_any_number_of_keypoints_without_names(num_keypoints: int) -> None:
    page = render(analysed(num_keypoints), {"results": "some.json"})
    assert headings(page) == SECTIONS
    assert f"keypoint {num_keypoints}<" in page and f"keypoint {num_keypoints + 1}<" not in page


def test_names_without_mirror_images_are_still_names() -> None:
    annotations = data(2, keypoints=["left_end", "middle"])[0]
    skeleton = file_skeleton(annotations)
    assert skeleton.keypoints == ("left_end", "middle")
    assert skeleton.flip_index == (0, 1)


def test_the_runs_skeleton_gives_limbs_and_sides_to_the_files_keypoints() -> None:
    whole = Skeleton(
        "whole", ("neck", "left_eye", "right_eye"), limbs=(("neck", "left_eye"), ("neck", "right_eye"))
    )
    assert part_of(whole, [2, 0, 1]).flip_index == (2, 1, 0)
    assert set(part_of(whole, [2, 0, 1]).limbs) == set(whole.limbs)
    lone = part_of(whole, [0, 1])
    assert lone.keypoints == ("neck", "left_eye") and lone.flip_index == (0, 1)


def test_nobody_found_and_nobody_annotated() -> None:
    annotations, results = data()
    sigmas = [0.1] * 3
    empty = render(analyse(annotations, [], file_skeleton(annotations), sigmas=sigmas), {"run": "a"})
    assert headings(empty) == SECTIONS
    assert "Nobody was found near anybody annotated" in empty
    assert "4 of 4 people annotated are missed" in empty
    annotations["images"].append({"id": 9})
    stray = [{**results[0], "image_id": 9}]
    chosen = analyse(annotations, stray, file_skeleton(annotations), sigmas=sigmas, image_ids=[9])
    page = render(chosen, {"run": "a"})
    assert "On the tested pictures nobody is annotated with keypoints" in page
    assert "1 people were found there" in page
    assert headings(page) == ["What was tested", "AP and AR", "Worst pictures"]


def test_perfect_results_have_no_worst_picture() -> None:
    annotations, _ = data()
    results = [{**person, "score": 0.5, "bbox": None} for person in annotations["annotations"]]
    analysis = analyse(annotations, results, file_skeleton(annotations), sigmas=[0.1] * 3)
    assert "Nothing is wrong on any picture." in render(analysis, {"run": "a"})


def test_a_picture_that_cannot_be_read_is_said(tmp_path: Any) -> None:
    analysis = analysed()
    (tmp_path / "1.png").write_bytes(b"no picture")
    reader = picture_reader({0: tmp_path / "gone.png", 1: tmp_path / "1.png"})
    page = render(analysis, {"run": "a"}, reader)
    assert page.count("cannot be read") == len(analysis.worst)


@pytest.mark.parametrize("size", [(2000, 30), (40, 3000), (60, 60), (900, 1200)])
def test_both_sides_of_a_picture_show_who_they_should(size: tuple[int, int]) -> None:
    analysis = analysed()
    missed = next(one for one in analysis.worst if one.image_id == 0)  # annotated, not found
    drawn = side_by_side(analysis, missed, np.zeros((*size, 3), np.uint8))
    left, right = drawn[:, : (drawn.shape[1] - 6) // 2], drawn[:, -((drawn.shape[1] - 6) // 2) :]
    assert left.shape == right.shape and drawn.shape[0] <= 420 and left.shape[1] <= 520
    assert not right.any()
    if min(size) > 180:
        assert left.any()
