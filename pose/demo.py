"""People on pictures, videos and cameras: drawn, and as records.

    python -m pose.demo -c quickstart data/synthetic/val            a folder of pictures
    python -m pose.demo -c NAME photo.jpg "more/*.png" film.mp4     pictures, patterns, videos, in any mixture
    python -m pose.demo -c NAME camera:0 --show                     the first camera, in a window; q ends
    find photos -name "*.jpg" | python -m pose.demo -c NAME -       paths from a pipe, as they come
    python -m pose.demo -c NAME film.mp4 --tracks --json            who is who, and COCO and OpenPose files

A folder stands for all pictures and videos in it and below.  Draws to exp/NAME/demo/ (-o): pictures keep
their kind and the folders below the one that was named (a second a.jpg becomes a-2.jpg), videos become MP4 of
the same rate, size (odd sides lose one pixel) and length, without sound.  Photos and videos are turned
upright as their files say.

--json writes, beside the drawings, STEM_keypoints.json for each picture and STEM_000000000000_keypoints.json
for each frame, as OpenPose does, with the keypoints in the order of the run's skeleton; and people.json (or
FILE), COCO results with image ids from 1 in the order of pictures and frames, which people-images.json lists.
`test.*` and `head.decoder.*` may be set as for pose.test.  On a CPU `--runtime onnx` is quicker.

Exit code: 0; 1 where pictures or videos could not be read, which are listed at the end; 2 for a mistake in
the command; 130 after Ctrl-C, with everything so far written whole.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import cv2

from pose.draw.options import add_style, style_of
from pose.engine.signals import catch_signals
from pose.errors import UserError, user_facing
from pose.media.sources import STDIN, Source, find_sources, listed_sources, stdin_lines
from pose.options import add_device, add_mode, add_run, add_runtime, add_weights, user_path
from pose.run_folders import run_folder
from pose.structures import WORTH_SEEING

if TYPE_CHECKING:
    from pose.media.viewer import Viewer
    from pose.predictor import Predictor

MANY = 50  # images from which on it pays to think about the runtime
SETTING = re.compile(r"\w+(\.\w+)+=")  # key.sub=value; the names of files may hold a = too


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m pose.demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_run(parser, required=False)
    parser.add_argument(
        "--onnx", type=user_path, metavar="FILE", help="an exported network instead of the run's"
    )
    add_mode(parser)
    parser.add_argument(
        "-o",
        "--output",
        type=user_path,
        metavar="FOLDER",
        help="default: exp/NAME/demo; --onnx: demo/ beside the file",
    )
    parser.add_argument(
        "--json", nargs="?", const="", metavar="FILE.json", help="write records (default: people.json there)"
    )
    parser.add_argument("--no-pictures", action="store_true", help="draw nothing")
    parser.add_argument("--show", action="store_true", help="in a window; q or Esc ends")
    parser.add_argument("--tracks", action="store_true", help="follow people through videos, and smooth them")
    add_weights(parser)
    add_device(parser)
    add_runtime(parser)
    parser.add_argument("--limit", type=int, metavar="N", help="the first N pictures and frames only")
    parser.add_argument(
        "sources", nargs="+", metavar="SOURCE", help="what to look at, and settings as key.sub=value"
    )
    add_style(parser, min_score=WORTH_SEEING)
    options = parser.parse_intermixed_args(_json_alone(sys.argv[1:] if arguments is None else arguments))
    options.settings = [text for text in options.sources if SETTING.match(text) and not os.path.exists(text)]
    options.sources = [text for text in options.sources if text not in options.settings]
    _check(options)
    return options


def _json_alone(arguments: Sequence[str]) -> list[str]:
    """`--json photo.jpg` is `--json` and a picture, never a file to write."""
    after = [*arguments, ""][1:]
    return [
        "--json=" if text == "--json" and not following.lower().endswith(".json") else text
        for text, following in zip(arguments, after, strict=True)
    ]


def _check(options: argparse.Namespace) -> None:
    if not options.sources:
        raise UserError("nothing to look at is given: name pictures, folders, videos or camera:0")
    if options.name is None and options.onnx is None:
        raise UserError(
            "say which network: -c NAME for the run exp/NAME/, -c zoo:NAME for a published one (python -m "
            "pose.tools.zoo list), or --onnx FILE"
        )
    if options.onnx is not None and options.weights is not None:
        raise UserError("--onnx FILE has its weights; leave --weights out")
    if options.onnx is not None and options.runtime != "torch":
        raise UserError(f"--onnx FILE says what runs it; leave --runtime {options.runtime} out")
    if options.limit is not None and options.limit < 1:
        raise UserError(f"--limit {options.limit}: expected 1 or more")
    if options.no_pictures and options.json is None and not options.show:
        raise UserError("--no-pictures leaves nothing to do; add --json or --show")
    style_of(options)
    if options.json and not options.json.lower().endswith(".json"):
        raise UserError(f"--json {options.json}: name a file that ends in .json")


def output_folder(options: argparse.Namespace) -> Path:
    if options.output is not None:
        return Path(os.path.expanduser(options.output))
    return (run_folder(options.name) if options.name else options.onnx.parent) / "demo"


def build_predictor(options: argparse.Namespace) -> Predictor:
    from pose.predictor import Predictor

    mode, device, settings = options.mode, options.device, options.settings
    if options.onnx is not None:
        return Predictor.from_exported(
            options.onnx, name=options.name, mode=mode, device=device, settings=settings
        )
    return Predictor.from_run(
        options.name,
        mode=mode,
        weights=options.weights,
        device=device,
        settings=settings,
        runtime=options.runtime,
    )


def build_viewer(options: argparse.Namespace, predictor: Predictor, parts: ExitStack) -> Viewer:
    from pose.media.viewer import Viewer, Wishes

    folder = output_folder(options)
    wishes = Wishes(
        folder=folder,
        style=style_of(options),
        pictures=not options.no_pictures,
        records=None
        if options.json is None
        else Path(os.path.expanduser(options.json or folder / "people.json")),
        window=options.show,
        tracks=options.tracks,
        threshold=options.score_threshold,
        limit=options.limit,
    )
    return Viewer(predictor.batches, predictor.skeleton, wishes, parts)


def count(sources: Sequence[Source], options: argparse.Namespace) -> int | None:
    """How many pictures and frames there will be; None: nobody knows."""
    if STDIN in options.sources or any(source.kind != "picture" for source in sources):
        return options.limit
    return min(len(sources), options.limit or len(sources))


def quicker(options: argparse.Namespace, predictor: Predictor, sources: Sequence[Source]) -> str:
    """A sentence about what would take less time for many images on a CPU; "" where nothing is known to.

    The figures are those of `benchmarks.runtimes` against channels last.  Where bf16 was chosen ONNX Runtime,
    which computes in float32, was slower for large networks."""
    known = count(sources, options)
    batches = predictor.batches
    torch_alone = options.runtime == "torch" and options.onnx is None and batches.precision == "fp32"
    if not torch_alone or batches.device.type != "cpu" or (known is not None and known < MANY):
        return ""
    missing = [name for name in ("onnx", "onnxruntime") if importlib.util.find_spec(name) is None]
    install = "; it needs pip install 'bottomup-pose[export]'" if missing else ""
    return f"--runtime onnx was up to 2 times as quick as this on a CPU, with the same people{install}"


@contextmanager
def one_thread_each() -> Iterator[None]:
    """OpenCV's own threads would be in the way of ours."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    from pose.published.zoo_runs import run_name, run_of

    named = options.name
    options.name = None if named is None else run_name(named)
    folder = output_folder(options)
    found = find_sources(options.sources, folder)
    sources: Iterable[Source] = found
    if STDIN in options.sources:
        sources = itertools.chain(found, listed_sources(stdin_lines(), folder, found))
    if named is not None:
        run_of(named)  # fetches a network of the zoo, now that there is something to look at
    predictor = build_predictor(options)
    for sentence in filter(None, (predictor.told, quicker(options, predictor, found))):
        print(sentence, file=sys.stderr)
    with one_thread_each(), catch_signals() as caught:
        with ExitStack() as parts:
            viewer = build_viewer(options, predictor, parts)
            viewer.run(sources, lambda: bool(caught()), count(found, options))
        done, bad = viewer.report()
        print("\n".join(done))
        if bad:
            print("\n".join(bad), file=sys.stderr)
        if caught():
            print("stopped: what is above is done and whole", file=sys.stderr)
            return 128 + caught()
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(user_facing(main)())
