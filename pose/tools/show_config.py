"""Show what a config comes to: every key after `base:` files, defaults and overrides, with its meaning.

    python -m pose.tools.show_config configs/coco/ae_hourglass.yaml
    python -m pose.tools.show_config configs/coco/ae_hourglass.yaml --plain train.lr=1e-4
    python -m pose.tools.show_config --schema

What is printed is a config itself.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from pose.config import describe, json_schema, to_yaml
from pose.errors import UserError, user_facing
from pose.options import add_settings, user_path

SCHEMA = Path("configs/schema.json")


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m pose.tools.show_config",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "file", nargs="?", type=user_path, help="a YAML file, also a run's exp/NAME/config.yaml"
    )
    add_settings(parser)
    parser.add_argument("--plain", action="store_true", help="without the meanings")
    parser.add_argument(
        "--schema",
        nargs="?",
        type=user_path,
        const=SCHEMA,
        metavar="OUT",
        help=f"instead, write the JSON schema by which editors check the YAML files (default: {SCHEMA})",
    )
    args = parser.parse_intermixed_args(argv)
    if args.schema is None and args.file is None:
        parser.error("which config? name a YAML file, or give --schema")
    if args.schema is not None and args.file is not None:
        parser.error("--schema is the same for every config; give it without a YAML file")
    return args


def schema_text() -> str:
    """The JSON schema of an experiment's YAML file, as `--schema` writes it."""
    from pose.experiment import ExperimentConfig

    return json.dumps(json_schema(ExperimentConfig), indent=2, ensure_ascii=False) + "\n"


def write_schema(path: Path) -> None:
    try:
        path.write_text(schema_text(), encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; name another file: --schema OUT") from None


def main(argv: Sequence[str] | None = None) -> None:
    """Print the config, or write the schema."""
    args = parse(argv)
    if args.schema is not None:
        write_schema(args.schema)
        print(f"wrote {args.schema}")
        return
    from pose.experiment import load_config

    config = load_config(args.file, args.settings)
    print(to_yaml(config).rstrip() if args.plain else describe(config))


if __name__ == "__main__":
    sys.exit(user_facing(main)())
