"""Score a results file: the numbers of a data set's metric, as a table and, with -o, as JSON.

    python -m pose.tools.score coco --annotations person_keypoints_val2017.json --results results.json
    python -m pose.tools.score coco --annotations my.json --results results.json --sigmas my.yaml -o out.json
    python -m pose.tools.score coco --annotations my.json --results results.json --report page.html
    python -m pose.tools.score crowdpose --annotations crowdpose_test.json --results results.json
    python -m pose.tools.score aic --annotations keypoint_validation.json --results submission.json
    python -m pose.tools.score pck --annotations one_person_each.json --results results.json

Every metric of pose/metrics/ is here by its name.  --report writes a page about errors and what AP they cost,
with the worst images where --images is given.  Each metric explains its options:

    python -m pose.tools.score coco --help
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pose import skeleton
from pose.annotations.image_files import locate
from pose.annotations.keypoint_file import KeypointFile
from pose.archives import is_folder
from pose.config import Settings, parse_yaml
from pose.config_files import config_folder
from pose.errors import UserError, user_facing
from pose.files import is_regular, read_text, write_json, write_text
from pose.metrics.base import Metric, Scores, settings_of
from pose.metrics.coco import Coco
from pose.metrics.coco_eval import header_lines
from pose.metrics.results import file_order
from pose.options import add_setting_options, user_path
from pose.registry import METRICS
from pose.skeleton import RULE_NAMES, is_rule, rule_sigma


def main(arguments: Sequence[str] | None = None) -> None:
    score(_parser().parse_args(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pose.tools.score",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    metrics = parser.add_subparsers(title="metrics", metavar="METRIC", required=True)
    for name in METRICS.names():
        _add_metric(metrics, name, *METRICS[name])
    return parser


def _add_metric(metrics: Any, name: str, metric: type[Metric], settings: type[Settings]) -> None:
    what = (metric.__doc__ or "").strip().partition("\n")[0].rstrip(".")
    parser = metrics.add_parser(name, help=what, description=f"{what}.")
    parser.set_defaults(metric=name)
    parser.add_argument("--annotations", required=True, type=user_path, help=metric.annotations_help)
    parser.add_argument("--results", required=True, type=user_path, help=metric.results_help)
    parser.add_argument("-o", "--output", type=user_path, help="write the numbers here, as JSON")
    parser.add_argument("--category", metavar="NAME", help="name or id, where several list keypoints")
    parser.add_argument("--image-ids", type=user_path, help="score only these: JSON list, or one id per line")
    add_setting_options(parser, settings, [one for one in metric.score_options if one != "sigmas"])
    if issubclass(metric, Coco):
        parser.add_argument(
            "--sigmas",
            help="one OKS sigma per keypoint: comma list, skeleton name, YAML file with a list or a "
            f"skeleton, or a rule ({RULE_NAMES})",
        )
        parser.add_argument(
            "--report", type=user_path, metavar="FILE", help="write a page (HTML) about errors"
        )
        parser.add_argument(
            "--images",
            type=user_path,
            metavar="DIR",
            help="folder or archive of the annotations' images: draws the worst on it",
        )


def score(args: argparse.Namespace) -> None:
    given = vars(args)
    if given.get("images") is not None and args.report is None:
        raise UserError("--images is for the page that --report FILE writes; give both")
    if given.get("images") is not None and not is_folder(args.images):
        raise UserError(f"--images: no folder {args.images}, and no archive")
    image_ids = None if args.image_ids is None else read_image_ids(args.image_ids)
    own = METRICS[args.metric].component
    settings = settings_of(args.metric, {key: given[key] for key in own.score_options if key != "sigmas"})
    metric: Metric = own.open(settings, args.annotations, args.category)
    if given.get("sigmas") is not None:
        assert isinstance(metric, Coco)
        metric.sigmas = read_sigmas(args.sigmas, metric.file, metric.num_keypoints)
    scores = metric.score(metric.read(args.results), image_ids)
    header = _header(args, scores)
    print("\n".join([*header_lines(header), scores.table()]))
    if args.output is not None:
        content = {"metric": scores.metric, **header, **scores.details, **scores.plain()}
        write_json(args.output, content, indent=1)
    if given.get("report") is not None:
        assert isinstance(metric, Coco)
        _write_report(args, metric, header, image_ids, scores)


def _header(args: argparse.Namespace, scores: Scores) -> dict[str, str]:
    header = {"results": str(args.results), "annotations": str(args.annotations)}
    if "num_images" in scores.details:
        which = "all" if args.image_ids is None else f"of {args.image_ids}"
        header["images"] = f"{scores.details['num_images']} ({which})"
    if "backend" in scores.details:
        header["backend"] = str(scores.details["backend"])
    if vars(args).get("sigmas") is not None:
        header["sigmas"] = args.sigmas
    if vars(args).get("areas", "file") != "file":
        header["areas"] = args.areas
    return header


def _write_report(
    args: argparse.Namespace,
    metric: Coco,
    header: dict[str, str],
    image_ids: list[int] | None,
    scores: Scores,
) -> None:
    from pose.report.analysis import analyse_matches, file_skeleton
    from pose.report.page import picture_reader, render

    matches = metric.matches(metric.read(args.results), image_ids)
    analysis = analyse_matches(matches, file_skeleton(metric.file))
    reader = None if args.images is None else picture_reader(image_files(metric.file, args.images))
    write_text(args.report, render(analysis, header, reader, [scores]))
    print(f"report: {args.report}")


def image_files(file: KeypointFile, folder: Path) -> dict[int, Path]:
    """By image id, of those whose file the annotations name."""
    named = zip(file.image_ids.tolist(), file.file_names, strict=True)
    return {number: locate(folder, name) for number, name in named if name}


def read_sigmas(text: str, file: KeypointFile | None = None, count: int = 0) -> list[float]:
    """K sigmas from "0.026, 0.025, ...", a rule for `count` keypoints, the name of one of the project's
    skeletons or a YAML file: a list, or a mapping with `sigmas`.  Those of a skeleton go by name to the
    keypoints of the annotation file, where there is one."""
    if is_rule(text):
        return [rule_sigma(text, count)] * count
    known = config_folder() / "_skeletons" / f"{text}.yaml"
    text = str(known) if is_regular(known) else text
    if not text.endswith((".yaml", ".yml", ".json")):
        try:
            return [float(part) for part in text.split(",")]
        except ValueError as error:
            raise UserError(
                f"--sigmas {text}: neither a comma list of numbers, a rule, a known skeleton nor a .yaml file"
            ) from error
    try:
        data = parse_yaml(_read(Path(text), "--sigmas"), f"--sigmas {text}")
        if isinstance(data, dict) and data.get("sigmas") and data.get("keypoints"):
            one = skeleton.from_dict(data)
            places = range(len(one))
            order = places if file is None else file_order(one, file)
            return [one.sigmas[k] for k in order]
        sigmas = data["sigmas"] if isinstance(data, dict) else data
        if not isinstance(sigmas, list) or not sigmas:
            raise ValueError("no list")
        return [float(value) for value in sigmas]
    except UserError:  # a ValueError that already says it better
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"--sigmas {text}: expected a list of numbers, or a mapping with `sigmas`") from error


def read_image_ids(path: Path) -> list[int]:
    """Integers from a JSON list or from lines; blank lines do not count."""
    text = _read(path, "--image-ids")
    try:
        if not text.lstrip().startswith("["):
            return [int(line) for line in text.split()]
        ids = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"--image-ids {path}: neither a JSON list nor one id per line: {error}") from error
    if not all(isinstance(value, int) and not isinstance(value, bool) for value in ids):
        raise UserError(f"--image-ids {path}: the list has something that is not an integer")
    return ids


def _read(path: Path, option: str) -> str:
    try:
        return read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{option}: cannot read {path}: {error}") from error


if __name__ == "__main__":
    sys.exit(user_facing(main)())
