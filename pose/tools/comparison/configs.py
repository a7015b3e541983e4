"""What differs between the configs of tested runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from pose import config as cfg
from pose.tools.comparison.runs import Tested

# keys that say where things lie or how fast they are read, not what is learnt
BESIDE = ("data.root", "data.cache", "data.workers", "data.strict", "head.statistics", "train.keep",
          "train.log_every", "train.save_minutes", "train.save_steps")  # fmt: skip
LONGEST = 48  # characters of a config's value


def flat(plain: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Dotted keys; lists are values."""
    result: dict[str, Any] = {}
    for key, value in plain.items():
        if isinstance(value, Mapping) and value:
            result |= flat(value, f"{above}{key}.")
        else:
            result[f"{above}{key}"] = value
    return result


def settings_of(run: Tested) -> dict[str, Any]:
    """The run's config as it was tested, flat."""
    settings = flat(cfg.to_plain(run.experiment.config))
    noted = run.metrics.get("settings", {})
    tested = flat({key: noted[key] for key in ("test", "head") if isinstance(noted.get(key), Mapping)})
    decoder = "head.decoder.name"
    if tested.get(decoder, settings.get(decoder)) != settings.get(decoder):  # by another one than configured
        settings = {key: value for key, value in settings.items() if not key.startswith("head.decoder.")}
    return {key: value for key, value in (settings | tested).items() if key not in BESIDE}


def config_rows(runs: Sequence[Tested], every_key: bool = False) -> list[list[str]]:
    """Key and each run's value, for the keys that differ.

    every_key: also those that not all runs have, because their components are others; "-" where there is
    none."""
    absent = object()
    every = [settings_of(run) for run in runs]
    sections = dict.fromkeys(key.rpartition(".")[0] for one in every for key in one)
    keys = dict.fromkeys(key for one in every for key in one)
    if len({one.get("data.skeleton.name") for one in every}) > 1:  # they differ in everything
        keys = {k: None for k in keys if not k.startswith("data.skeleton.") or k == "data.skeleton.name"}
    rows = []
    for key in sorted(keys, key=lambda key: [*sections].index(key.rpartition(".")[0])):
        values = [one.get(key, absent) for one in every]
        if all(value == values[0] for value in values) or (absent in values and not every_key):
            continue
        rows.append([key, *("-" if value is absent else shown(value) for value in values)])
    return rows


def shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if len(text) <= LONGEST:
        return text
    if isinstance(value, list):  # lists that differ must not look the same
        return f"{len(value)} values ({hashlib.sha256(text.encode()).hexdigest()[:4]})"
    return f"{text[: LONGEST - 3]}..."
