"""Reports that tell every finding, on the terminal, to programs and on a page."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pose.annotations.reader import read
from pose.doctor.bounds import Bounds
from pose.doctor.checks import Example, Fault
from pose.doctor.content import content_of
from pose.doctor.diagnosis import Diagnosis, Source
from pose.doctor.reports import WIDTH, cost, example_picture, html_report, json_report, place, table
from pose.doctor.texts import KINDS
from pose.draw import pages
from tests.dot_people import write_set

BOUNDS = Bounds(mended=0.95, as_it_is=0.9, costs={"area_zero": 0.05, "outside": -0.001}, images=3, people=6)
FAULTS = [
    Fault("area_zero", 1, 6, (Example(10, 1, "000.png", "area 0"),), np.array([0])),
    Fault("outside", 2, 4000, (Example(20, 2, "001.png", "nose by 9 pixels"),), np.array([1])),
    Fault("image_missing", 1, 3, (Example(30, None, "<gone> & away.png", ""),)),
    Fault("unlabelled", 3, 6, tuple(Example(10, i, "000.png", f"seen {i}") for i in (1, 2)), np.arange(3)),
]


def diagnosis(folder: Path, faults: list[Fault] = FAULTS, bounds: Bounds | None = BOUNDS) -> Diagnosis:
    """Of dots.json, with three pictures in dots/ and six people."""
    if not (folder / "dots.json").exists():
        write_set(folder, [(96, 128)] * 3)
    source = Source("val", folder / "dots.json", folder / "dots", None)
    return Diagnosis(source, content_of(read(source.annotations)), faults, bounds)


def test_every_report_tells_every_finding(tmp_path: Path) -> None:
    one = diagnosis(tmp_path)
    terminal = " ".join(table(one).split())
    page, record = html_report([one]), json.loads(json_report([one]))["files"][0]
    assert [finding["what"] for finding in record["findings"]] == [fault.what for fault in FAULTS]
    for fault in FAULTS:
        assert fault.what in terminal and pages.text(fault.what) in page
        if fault.level != "note":
            kind = KINDS[fault.kind]
            assert all(said in terminal and pages.text(said) in page for said in (kind.ap, kind.advice))
    assert "3 findings to mend" in page and "6 people" in terminal and record["people"] == 6


def test_a_note_shows_one_example_and_a_fault_more(tmp_path: Path) -> None:
    seen = tuple(Example(10, i, "000.png", f"seen {i}") for i in range(5))
    for kind, count in (("unlabelled", 1), ("area_zero", 3)):
        text = table(diagnosis(tmp_path, [Fault(kind, 5, 6, seen)]))
        assert [f"seen {i}" in text for i in range(5)] == [i < count for i in range(5)]


def test_the_terminals_table_is_no_wider_than_it_should_be(tmp_path: Path) -> None:
    assert max(map(len, table(diagnosis(tmp_path)).splitlines())) <= WIDTH


def test_a_share_too_small_for_its_digits_is_a_count(tmp_path: Path) -> None:
    text = table(diagnosis(tmp_path, [Fault("outside", 2, 4000, ()), Fault("copies", 2, 400, ())]))
    assert "(2 of 4000)" in text and "(0.5 %)" in text


def test_a_cost_is_told_as_what_the_fault_does_to_ap(tmp_path: Path) -> None:
    one = diagnosis(tmp_path)
    assert cost(one, "area_zero") == "-0.050" and cost(one, "outside") == "+0.001"
    assert cost(one, "copies") == "" == cost(diagnosis(tmp_path, bounds=None), "area_zero")
    found = json.loads(json_report([one]))["files"][0]["findings"]
    assert [finding["ap_cost"] for finding in found] == [0.05, -0.001, None, None]
    assert "AP 0.900 against the file as it is, 0.950 against" in " ".join(table(one).split())


def test_without_faults_every_report_says_so(tmp_path: Path) -> None:
    one = diagnosis(tmp_path, [], None)
    assert "nothing found" in table(one) and not one.ill
    page = html_report([one])
    assert "Nothing found." in page and "nothing to mend" in page
    record = json.loads(json_report([one]))["files"][0]
    assert record["findings"] == [] and record["measured"] is None


def test_names_of_files_are_no_html(tmp_path: Path) -> None:
    page = html_report([diagnosis(tmp_path)])
    assert "<gone>" not in page and "&lt;gone&gt; &amp; away.png" in page


@pytest.mark.parametrize(
    ("example", "text"),
    [
        (Example(3, 4, "a.png", "area 0"), "image 3, annotation 4, a.png: area 0"),
        (Example(0, None, "", "no size"), "image 0: no size"),
        (Example(None, None, "a.png", ""), "a.png"),
        (Example(None, None, "", "as a whole"), "as a whole"),
    ],
)
def test_a_place_names_what_there_is(example: Example, text: str) -> None:
    assert place(example) == text


def test_an_examples_picture_shows_its_people(tmp_path: Path) -> None:
    one = diagnosis(tmp_path)
    picture = example_picture(one, Example(10, 1, "000.png", ""))
    assert picture is not None and picture.dtype == np.uint8
    assert html_report([one]).count("<img") == 4  # all examples but that of the missing picture
    (tmp_path / "dots" / "000.png").write_bytes(b"no picture")
    assert example_picture(one, Example(10, 1, "000.png", "")) is None
    assert example_picture(one, Example(30, None, "gone.png", "")) is None
    assert example_picture(one, Example(None, None, "", "as a whole")) is None
