"""Self-contained HTML pages: one file that opens without a network, light or dark as the reader likes it."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pose.files import encode_picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE = """
:root { color-scheme: light dark; --line: #8886; --soft: #8881; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
body { overflow-wrap: break-word; } /* names of files may be long */
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; border-bottom: 1px solid var(--line); }
table { border-collapse: collapse; margin: .8rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .7rem; border-bottom: 1px solid var(--line); text-align: right; }
th:first-child, td:first-child { text-align: left; } thead th { background: var(--soft); }
td.text, th.text { text-align: left; } td { max-width: 40rem; }
figure { display: inline-block; margin: .4rem; vertical-align: top; max-width: 100%; }
figure img { display: block; max-width: 100%; height: auto; }
figcaption { font-size: .85rem; opacity: .8; max-width: 40rem; }
.scroll { overflow-x: auto; } .note { opacity: .75; font-size: .9rem; } nav a { margin-right: 1rem; }
"""


def text(value: object) -> str:
    """`value` as HTML shows it literally: names of files may hold anything."""
    return html.escape(readable(str(value)))


def readable(value: str) -> str:
    """Names of files may be no valid text: `?` for what cannot be written."""
    return value.encode("utf-8", "replace").decode("utf-8")


def page(title: str, sections: Sequence[tuple[str, str]], lead: str = "") -> str:
    """A whole page.  sections: (heading, HTML), with a list of links to them at the top where there are
    several; lead: HTML below the title."""
    links = [f'<a href="#part{i}">{text(heading)}</a>' for i, (heading, _) in enumerate(sections)]
    parts = [
        f'<section id="part{i}"><h2>{text(heading)}</h2>\n{body}\n</section>'
        for i, (heading, body) in enumerate(sections)
    ]
    return "\n".join(
        [
            f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{text(title)}</title>',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<style>{STYLE}</style></head><body>",
            f"<h1>{text(title)}</h1>",
            lead,
            f"<nav>{''.join(links)}</nav>" if len(links) > 1 else "",
            *parts,
            "</body></html>\n",
        ]
    )


def table(header: Sequence[str], rows: Sequence[Sequence[object]], text_columns: Sequence[int] = (0,)) -> str:
    """rows: values as they are to be read (numbers already formatted).  text_columns stand left, others
    right."""

    def row(cells: Sequence[object], tag: str) -> str:
        marks = [' class="text"' if i in text_columns else "" for i in range(len(cells))]
        return "".join(f"<{tag}{mark}>{text(cell)}</{tag}>" for cell, mark in zip(cells, marks, strict=True))

    body = "\n".join(f"<tr>{row(cells, 'td')}</tr>" for cells in rows)
    return (
        f'<div class="scroll"><table><thead><tr>{row(header, "th")}</tr></thead>\n<tbody>{body}</tbody>'
        "</table></div>"
    )


def picture(image: np.ndarray, caption: str = "", kind: str = "jpg", width: int | None = None) -> str:
    """image (H, W, 3) uint8 RGB inside the page.  kind: "jpg" for photos, "png" for drawings; width: in
    pixels of the page."""
    content = base64.b64encode(encode_picture(image, kind)).decode("ascii")
    mime = "jpeg" if kind == "jpg" else kind
    return _figure(f"data:image/{mime};base64,{content}", caption, width)


def drawing(figure: Figure, caption: str = "") -> str:
    """A matplotlib figure inside the page, as SVG: sharp at any size."""
    import io

    from matplotlib import rc_context

    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": "pose"}):  # else its ids are random, and no two pages the same
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    content = base64.b64encode(buffer.getvalue()).decode("ascii")
    return _figure(f"data:image/svg+xml;base64,{content}", caption, None)


def _figure(source: str, caption: str, width: int | None) -> str:
    size = f' style="width:{width}px"' if width else ""
    below = f"<figcaption>{text(caption)}</figcaption>" if caption else ""
    return f'<figure><img src="{source}" alt="{text(caption)}"{size}>{below}</figure>'
