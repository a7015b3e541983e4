"""What stands on the page and what it does."""

from __future__ import annotations

import html
import json
import math
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pose.draw.people import Style
from pose.files import encode_picture, write_bytes
from pose.images import UnreadableImage
from pose.structures import WORTH_SEEING
from pose.web.limits import Limits
from pose.web.views import Seen, Viewer, summary

LEAST = WORTH_SEEING  # score of the people who are drawn at first
KEPT = (600, 3600)  # seconds between two looks at the uploaded files, and the age at which they are removed
WAITING = 32  # pictures in the queue, before visitors are turned away
CSS = """
.gradio-container { max-width: 1400px !important; margin: 0 auto !important; }
#head h1 { margin: 0.2rem 0 0; font-size: 1.5rem; }
#head p { margin: 0.1rem 0 0; opacity: 0.75; }
#status .html-container { padding: 0; }
#status p { margin: 0; min-height: 1.5rem; font-weight: 600; }
#status .problem { color: #c2410c; }
.dark #status .problem { color: #fb923c; }
#examples > .gallery { display: grid; grid-template-columns: repeat(6, minmax(0, 1fr)); gap: 6px; }
#examples .gallery-item, #examples .gallery-item div { width: 100%; max-width: none; min-width: 0; }
#examples .gallery-item div { height: 4.2rem; }
#examples .gallery-item span { width: 100%; }
#examples img { width: 100%; height: 100%; object-fit: cover; }
#layout { display: grid; grid-template-columns: minmax(0, 1fr); }
#skeletons img, .field img { max-height: 70vh; object-fit: contain; }
footer { display: none !important; }
@media (min-width: 900px) {
  #layout {
    grid-template: "source result" auto "controls result" 1fr / minmax(320px, 4fr) 8fr;
  }
  #left { grid-area: source; }
  #right { grid-area: result; }
  #controls { grid-area: controls; }
}
"""
TABS = {  # by the names of panels: title and meaning
    "heatmap": ("Heatmaps", "Where the network sees keypoints; each kind has its own colour."),
    "background": ("Background", "Bright where the network is sure that there is some keypoint."),
    "tag": ("Tags", "The hue is the value of the tag: keypoints of one person should have one colour."),
    "tag_people": (
        "Tags of people",
        "The tags at the keypoints that were found, ringed in each person's colour.",
    ),
    "tag_values": (
        "Tag values",
        "The same tags on a line, one row for each person: rows should not overlap.",
    ),
    "paf": (
        "Limbs",
        "Part affinity fields: the hue is the direction from a limb's first keypoint to its second, as on "
        "the small wheel.",
    ),
    "locref": ("Refinement", "From the cell of each peak to where the network says that the keypoint lies."),
    "pairwise": ("Offsets", "From each peak to where it expects the person's next keypoints."),
}
SAVE = """(file) => {
  if (!file) return;
  const link = document.createElement("a");
  link.href = file.url;
  link.download = file.orig_name;
  document.body.appendChild(link);
  link.click();
  link.remove();
}"""
TO_RESULT = """() => {
  if (window.innerWidth < 900 && document.querySelector("#skeletons img, #status .problem"))
    document.querySelector("#status").scrollIntoView({ behavior: "smooth" });
}"""
UPLOADS = "only uploaded pictures are taken"
WELCOME = "Choose a picture, or one of the examples."


def build(gr: Any, viewer: Viewer, examples: Sequence[Path], folder: Path) -> Any:
    """The page as gradio's Blocks; folder: gradio's."""
    refuse_addresses(gr)
    run = viewer.predictor.experiment
    plain = {"size": "md", "interactive": False, "min_width": 150}
    with gr.Blocks(title=f"{run.folder.name}: people", analytics_enabled=False, delete_cache=KEPT) as page:
        head = run.config.head.name
        gr.Markdown(
            f"# {run.folder.name}\n{run.config.backbone.name} · {head} · "
            f"{len(viewer.predictor.skeleton)} keypoints",
            elem_id="head",
        )
        seen = gr.State(None, time_to_live=KEPT[1])
        with gr.Row(elem_id="layout"):
            with gr.Column(elem_id="left", min_width=320):
                source = picture_input(gr, viewer.limits)
                rows = [[str(path)] for path in examples]
                gr.Examples(rows, [source], cache_examples=False, elem_id="examples")
            with gr.Column(elem_id="right", min_width=320):
                status = gr.HTML(sentence(WELCOME), elem_id="status", padding=False)
                result, panels = tabs(gr, viewer)
                with gr.Row():
                    save_json = gr.Button("Save people (JSON)", elem_id="save-json", **plain)
                    save_png = gr.Button("Save drawing (PNG)", elem_id="save-png", **plain)
                file = gr.DownloadButton(visible="hidden", elem_id="file")
            with gr.Column(elem_id="controls", min_width=320):
                controls = sliders(gr)
        handlers = Handlers(gr, viewer, list(panels), folder)
        private = {"api_visibility": "private"}
        looked = source.change(
            handlers.see,
            [source, *controls],
            [seen, status, result, *panels.values(), source, save_json, save_png, controls[0]],
            concurrency_limit=1,
            preprocess=False,  # gradio would open the file before anyone has looked at its size
            show_progress_on=result,
            **private,
        )
        looked.success(None, js=TO_RESULT, **private)
        source.clear(lambda: sentence(WELCOME), None, status, queue=False, **private)
        gr.on(
            [control.input for control in controls],
            handlers.redraw,
            [seen, *controls],
            [status, result],
            show_progress="hidden",
            trigger_mode="always_last",
            concurrency_limit=4,
            **private,
        )
        for button, make in ((save_json, handlers.write_json), (save_png, handlers.write_png)):
            made = button.click(make, [seen, *controls], file, concurrency_limit=1, **private)
            made.success(None, file, None, js=SAVE, **private)
    page.queue(max_size=WAITING, api_open=False)
    return page


def sentence(text: str, kind: str = "told") -> str:
    """As HTML."""
    return f'<p class="{kind}">{html.escape(text)}</p>'


def picture_input(gr: Any, limits: Limits) -> Any:
    """Upload, camera and clipboard."""
    return gr.Image(
        label="Picture",
        type="filepath",
        image_mode=None,
        sources=["upload", "webcam", "clipboard"],
        webcam_options=gr.WebcamOptions(mirror=False),  # left stays left
        height=280,
        buttons=[],
        placeholder=f"Drop a picture here, or click to choose one\n(at most {limits.megabytes:g} MB, "
        f"{limits.megapixels:g} megapixels)",
        elem_id="source",
    )


def tabs(gr: Any, viewer: Viewer) -> tuple[Any, dict[str, Any]]:
    """The skeletons, and one tab for each field of the head."""
    plain = {"interactive": False, "show_label": False, "format": "jpeg", "buttons": ["fullscreen"]}
    panels = {}
    with gr.Tabs():
        with gr.Tab("Skeletons"):
            result = gr.Image(elem_id="skeletons", **plain)
        for name in viewer.field_names():
            title, meaning = TABS.get(name, (name.replace("_", " ").capitalize(), ""))
            with gr.Tab(title):
                panels[name] = gr.Image(elem_id=f"field-{name}", elem_classes="field", **plain)
                if meaning:
                    gr.Markdown(meaning)
    return result, panels


def sliders(gr: Any) -> list[Any]:
    """In the order of `style_of`."""
    style = Style()
    with gr.Group():
        min_score = gr.Slider(0, 1, LEAST, step=0.01, label="Least score of a person")
        min_keypoint = gr.Slider(0, 1, style.min_keypoint, step=0.01, label="Least score of a keypoint")
        width = gr.Slider(0.25, 4, style.width, step=0.05, label="Width of the lines")
        color = gr.Radio(
            [("each person", "person"), ("left and right", "side")], value=style.color, label="Colours of"
        )
        write = gr.CheckboxGroup(
            [("keypoint names", "names"), ("numbers and scores", "labels")], value=[], label="Write"
        )
    return [min_score, min_keypoint, width, color, write]


def style_of(min_score: float, min_keypoint: float, width: float, color: Any, write: Sequence[str]) -> Style:
    """What the controls say."""
    return Style(
        color=color,
        width=width,
        names="names" in write,
        labels="labels" in write,
        min_score=min_score,
        min_keypoint=min_keypoint,
    )


class Handlers:
    """What the page does: each visitor's `Seen` comes and goes with the call, nothing is kept here."""

    def __init__(self, gr: Any, viewer: Viewer, fields: Sequence[str], folder: Path) -> None:
        self.gr = gr
        self.viewer = viewer
        self.fields = fields
        self.folder = folder.resolve()  # of uploads and downloads

    def see(self, upload: Mapping[str, Any] | None, *controls: Any) -> tuple[Any, ...]:
        """upload: as the browser names the file -> seen, status, skeletons, panels, source, both buttons,
        the slider of the person score."""
        if upload is None:
            # another picture may be on its way to the source already
            return self._nothing(self.gr.skip(), source=self.gr.skip())
        try:
            seen, panels = self.viewer.see(self._uploaded(upload))
        except UnreadableImage as error:
            return self._nothing(sentence(str(error), "problem"))
        style = style_of(*controls)
        button = self.gr.update(interactive=True)
        top = math.ceil(max([1.0, *seen.people.scores.tolist()]))  # some decoders score beyond 1
        return (
            seen,
            sentence(summary(seen, style)),
            self.viewer.draw(seen, style),
            *[panels.get(name) for name in self.fields],
            self.gr.skip(),
            button,
            button,
            self.gr.update(maximum=top),
        )

    def _nothing(self, status: Any, source: Any = None) -> tuple[Any, ...]:
        button = self.gr.update(interactive=False)
        return None, status, None, *[None] * len(self.fields), source, button, button, self.gr.skip()

    def _uploaded(self, upload: Mapping[str, Any]) -> Path:
        """gradio has looked at this, too."""
        path = Path(upload.get("path") or "").resolve()
        if not path.is_relative_to(self.folder):
            raise UnreadableImage(UPLOADS)
        return path

    def redraw(self, seen: Seen | None, *controls: Any) -> tuple[Any, Any]:
        """-> status, skeletons: the network is not asked again."""
        if seen is None:
            return self.gr.skip(), self.gr.skip()
        style = style_of(*controls)
        return sentence(summary(seen, style)), self.viewer.draw(seen, style)

    def write_json(self, seen: Seen | None, *controls: Any) -> str:
        seen = self._still(seen)
        record = self.viewer.record(seen, style_of(*controls))
        return self._write(f"{seen.file.stem}-people.json", json.dumps(record, indent=1).encode())

    def write_png(self, seen: Seen | None, *controls: Any) -> str:
        """At the picture's own size."""
        seen = self._still(seen)
        try:
            drawn = self.viewer.draw_whole(seen, style_of(*controls))
        except UnreadableImage as error:  # removed meanwhile
            raise self.gr.Error(str(error), print_exception=False) from None
        return self._write(f"{seen.file.stem}-people.png", encode_picture(drawn, "png"))

    def _still(self, seen: Seen | None) -> Seen:
        """The buttons are live only after a picture was seen."""
        if seen is None:
            raise self.gr.Error("the picture was forgotten meanwhile; choose it again", print_exception=False)
        return seen

    def _write(self, name: str, content: bytes) -> str:
        """Below gradio's folder, where nobody else can guess it."""
        path = self.folder / secrets.token_hex(16) / name
        write_bytes(path, content)
        return str(path)


def refuse_addresses(gr: Any) -> None:
    """gradio fetches the picture of a request that names a web address; here only uploads are taken."""

    async def refuse(*_: Any, **__: Any) -> str:
        raise gr.Error(UPLOADS, print_exception=False)

    gr.processing_utils.async_ssrf_protected_download = refuse
