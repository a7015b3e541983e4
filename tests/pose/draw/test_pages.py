"""Self-contained pages."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser

import numpy as np

from pose.draw import pages
from tests.image_files import decode_rgb


class Reader(HTMLParser):
    """What a browser sees: tags with their attributes, and the text between them."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(content)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in ("img", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


HOSTILE = "<script>alert('x')</script>&\"'.jpg"


def test_a_page_is_well_formed_and_asks_nobody_for_anything() -> None:
    from matplotlib.figure import Figure

    figure = Figure()
    figure.subplots().plot([1, 2])
    red = np.full((8, 6, 3), (250, 20, 20), np.uint8)
    body = (
        pages.table(["file", "AP"], [[HOSTILE, "0.5"], ["b", "1"]])
        + pages.picture(red, HOSTILE, kind="png", width=30)
        + pages.drawing(figure, "a curve")
    )
    content = pages.page(HOSTILE, [("one", body), ("two", "")], "<p>lead</p>")
    read = Reader(content)
    assert read.open == []
    assert "script" not in [tag for tag, _ in read.tags]
    assert "".join(read.words).count(HOSTILE) == 4  # two titles, a cell, a caption
    assert [a["href"] for tag, a in read.tags if tag == "a"] == ["#part0", "#part1"]
    assert {a["id"] for tag, a in read.tags if tag == "section"} == {"part0", "part1"}
    sources = [a["src"] or "" for tag, a in read.tags if tag == "img"]
    assert [source.partition(",")[0] for source in sources] == [
        "data:image/png;base64", "data:image/svg+xml;base64",
    ]  # fmt: skip
    assert not re.search(r"(href|src)=\"(?!#|data:)|@import|url\(", content)
    decoded = decode_rgb(base64.b64decode(sources[0].partition(",")[2]))
    np.testing.assert_array_equal(decoded, red)


def test_the_same_drawing_gives_the_same_page() -> None:
    from matplotlib.figure import Figure

    def drawn() -> str:
        figure = Figure()
        figure.subplots().plot([1, 2])
        return pages.drawing(figure)

    assert drawn() == drawn()


def test_names_that_are_no_valid_text_can_be_written() -> None:
    assert pages.text("a\udcff<b").encode("utf-8") == b"a?&lt;b"


def test_only_the_named_columns_stand_left() -> None:
    read = Reader(pages.table(["a", "b", "c"], [[1, 2, 3]], text_columns=(0, 2)))
    assert [a.get("class") for tag, a in read.tags if tag == "td"] == ["text", None, "text"]
