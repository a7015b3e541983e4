"""Score a results file: the numbers of a data set's metric, as a table and, with -o, as JSON.

    python -m pose.tools.score coco --annotations person_keypoints_val2017.json --results results.json
    python -m pose.tools.score coco --annotations my.json --results results.json --sigmas my.yaml -o out.json
    python -m pose.tools.score coco --annotations my.json --results results.json --report page.html
    python -m pose.tools.score aic --annotations keypoint_validation.json --results submission.json
    python -m pose.tools.score pck --annotations one_person_each.json --results results.json

--report writes a page about errors and what AP they cost, with the worst pictures where --images is given.
Each metric explains its options: python -m pose.tools.score coco --help
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from pose import skeleton
from pose.annotations.aic import AicImage, read_official
from pose.annotations.aic_coco import from_coco
from pose.annotations.categories import listed_sigmas
from pose.annotations.findings import Finding
from pose.annotations.image_files import locate
from pose.annotations.keypoint_file import KeypointFile
from pose.annotations.reader import read
from pose.errors import UserError, user_facing
from pose.experiment import config_folder
from pose.files import write_json, write_text
from pose.metrics import aic_eval, coco_eval, pck
from pose.metrics.results import file_order
from pose.options import user_path
from pose.report.analysis import analyse, file_skeleton
from pose.report.page import picture_reader, render


def main(arguments: Sequence[str] | None = None) -> None:
    args = _parser().parse_args(arguments)
    args.run(args)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pose.tools.score",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    metrics = parser.add_subparsers(title="metrics", metavar="METRIC", required=True)
    _add_coco(metrics)
    _add_aic(metrics)
    _add_pck(metrics)
    return parser


def _add_files(
    parser: argparse.ArgumentParser,
    annotations: str = "ground truth, COCO format",
    results: str = "COCO keypoint results",
) -> None:
    """--annotations and --results, with a sentence for each; -o."""
    parser.add_argument("--annotations", required=True, type=user_path, help=annotations)
    parser.add_argument("--results", required=True, type=user_path, help=results)
    parser.add_argument("-o", "--output", type=user_path, help="write the numbers here, as JSON")


def _add_coco(metrics: Any) -> None:
    parser = metrics.add_parser("coco", help="COCO's keypoint AP and AR by OKS")
    _add_files(parser)
    parser.add_argument("--backend", choices=("fast", "pycocotools"), default="fast", help="same numbers")
    parser.add_argument(
        "--sigmas",
        help="one OKS sigma per keypoint: comma list, skeleton name, or YAML file with a list or a skeleton",
    )
    parser.add_argument("--category", metavar="NAME", help="name or id, where several list keypoints")
    parser.add_argument("--image-ids", type=user_path, help="score only these: JSON list, or one id per line")
    parser.add_argument(
        "--report", type=user_path, metavar="FILE", help="write a page (HTML) about errors here"
    )
    parser.add_argument(
        "--images",
        type=user_path,
        metavar="DIR",
        help="of the annotations' pictures: draws the worst on the page",
    )
    parser.set_defaults(run=_score_coco)


def _score_coco(args: argparse.Namespace) -> None:
    if args.images is not None and args.report is None:
        raise UserError("--images is for the page that --report FILE writes; give both")
    if args.images is not None and not args.images.is_dir():
        raise UserError(f"--images: no folder {args.images}")
    image_ids = None if args.image_ids is None else read_image_ids(args.image_ids)
    file = read(args.annotations, args.category)
    sigmas = listed_sigmas(file) if args.sigmas is None else read_sigmas(args.sigmas, file)
    scores = coco_eval.evaluate(
        file,
        args.results,
        sigmas=sigmas,
        image_ids=image_ids,
        backend=args.backend,
    )
    which = "all" if image_ids is None else f"of {args.image_ids}"
    header = {
        "results": str(args.results),
        "annotations": str(args.annotations),
        "images": f"{scores.num_images} ({which})",
        "backend": scores.backend,
    }
    if args.sigmas is not None:
        header["sigmas"] = args.sigmas
    print(coco_eval.table(scores, header))
    if args.output is not None:
        write_json(args.output, {"metric": "coco", **header, **asdict(scores)}, indent=1)
    if args.report is not None:
        _write_report(args, file, header, sigmas, image_ids)


def _write_report(
    args: argparse.Namespace,
    file: KeypointFile,
    header: dict[str, str],
    sigmas: list[float] | None,
    image_ids: list[int] | None,
) -> None:
    results = coco_eval.read_results(args.results)
    analysis = analyse(file, results, file_skeleton(file), sigmas=sigmas, image_ids=image_ids)
    reader = None if args.images is None else picture_reader(image_files(file, args.images))
    write_text(args.report, render(analysis, header, reader))
    print(f"report: {args.report}")


def image_files(file: KeypointFile, folder: Path) -> dict[int, Path]:
    """By image id, of those whose file the annotations name."""
    named = zip(file.image_ids.tolist(), file.file_names, strict=True)
    return {number: locate(folder, name) for number, name in named if name}


def _add_aic(metrics: Any) -> None:
    parser = metrics.add_parser("aic", help="AI Challenger's official keypoint score")
    _add_files(parser, "ground truth: official list, or COCO format", "official list, as handed in")
    parser.add_argument("--strict", action="store_true", help="stop at anything that is wrong with a file")
    parser.set_defaults(run=_score_aic)


def _score_aic(args: argparse.Namespace) -> None:
    truth = read_truth(args.annotations, strict=args.strict)
    found, findings = read_official(args.results, boxes=False, strict=args.strict)
    _warn(args.results, findings)
    scores = aic_eval.evaluate(truth, found)
    _tell(args, "aic", aic_eval.table(scores), asdict(scores))


def _add_pck(metrics: Any) -> None:
    parser = metrics.add_parser("pck", help="the share of correct keypoints, for pictures of one person each")
    _add_files(parser)
    parser.add_argument(
        "--threshold", type=float, default=0.2, help="times the longer side of a person's keypoints"
    )
    parser.set_defaults(run=_score_pck)


def _score_pck(args: argparse.Namespace) -> None:
    scores = pck.evaluate(args.annotations, args.results, threshold=args.threshold)
    _tell(args, "pck", pck.table(scores), asdict(scores))


def _tell(args: argparse.Namespace, metric: str, table: str, scores: dict[str, Any]) -> None:
    header = {"results": str(args.results), "annotations": str(args.annotations)}
    print("\n".join([*(f"{key}: {value}" for key, value in header.items()), table]))
    if args.output is not None:
        write_json(args.output, {"metric": metric, **header, **scores}, indent=1)


def read_truth(path: Path, *, strict: bool = False) -> list[AicImage]:
    """The annotations of an official file (a list) or of one in COCO format with the 14 keypoints (a
    mapping); what was repaired is told."""
    if _beginning(path).lstrip().startswith("{"):
        return from_coco(read(path), strict=strict)
    truth, findings = read_official(path, boxes=True, strict=strict)
    _warn(path, findings)
    return truth


def _beginning(path: Path) -> str:
    try:
        with open(path, encoding="utf-8-sig") as file:
            return file.read(100)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--annotations: cannot read {path}: {error}") from error


def _warn(path: Path, findings: Sequence[Finding]) -> None:
    for finding in findings:
        print(f"warning: {path}: {finding}", file=sys.stderr)


def read_sigmas(text: str, file: KeypointFile | None = None) -> list[float]:
    """K sigmas from "0.026, 0.025, ...", the name of one of the project's skeletons or a YAML file: a list,
    or a mapping with `sigmas`.  Those of a skeleton go by name to the keypoints of the annotation file, where
    there is one."""
    known = config_folder() / "_skeletons" / f"{text}.yaml"
    text = str(known) if known.is_file() else text
    if not text.endswith((".yaml", ".yml", ".json")):
        try:
            return [float(part) for part in text.split(",")]
        except ValueError as error:
            raise UserError(
                f"--sigmas {text}: neither a comma list of numbers, a known skeleton nor a .yaml file"
            ) from error
    try:
        data = yaml.safe_load(_read(Path(text), "--sigmas"))
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
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"--sigmas {text}: expected a list of numbers, or a mapping with `sigmas`") from error


def read_image_ids(path: Path) -> list[int]:
    """Integers from a JSON list or from lines; blank lines do not count."""
    text = _read(path, "--image-ids")
    try:
        if not text.lstrip().startswith("["):
            return [int(line) for line in text.split()]
        ids = json.loads(text)
    except ValueError as error:
        raise UserError(f"--image-ids {path}: neither a JSON list nor one id per line: {error}") from error
    if not all(isinstance(value, int) and not isinstance(value, bool) for value in ids):
        raise UserError(f"--image-ids {path}: the list has something that is not an integer")
    return ids


def _read(path: Path, option: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{option}: cannot read {path}: {error}") from error


if __name__ == "__main__":
    sys.exit(user_facing(main)())
