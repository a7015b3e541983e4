"""pose.tools.show_config: what it prints is the config, and the committed schema is up to date."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pose.config import settings_in
from pose.errors import UserError
from pose.experiment import ExperimentConfig, load_config
from pose.tools import show_config

ROOT = Path(__file__).parents[3]
CONFIG = next(
    path
    for path in sorted((ROOT / "configs").rglob("*.yaml"))
    if not any(part.startswith("_") for part in path.relative_to(ROOT / "configs").parts)
)


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    show_config.main([str(CONFIG), *arguments])
    return capsys.readouterr().out


@pytest.mark.parametrize("mode", [[], ["--plain"]], ids=["described", "plain"])
def test_what_is_printed_is_the_same_config(
    mode: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    again = tmp_path / "again.yaml"
    again.write_text(shown(capsys, *mode), encoding="utf-8")
    assert load_config(again) == load_config(CONFIG)


def test_settings_may_stand_on_either_side_of_an_option(capsys: pytest.CaptureFixture[str]) -> None:
    size = "input.size=[64, 96]"
    assert "size: [64, 96]" in shown(capsys, size, "--plain")
    assert shown(capsys, size, "--plain") == shown(capsys, "--plain", size)


def test_the_meaning_stands_beside_the_key(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys).splitlines()
    line = next(line for line in lines if line.strip().startswith("channel_order:"))
    assert line.endswith("# Order of the channels that the network takes.")


def test_a_mistake_is_a_sentence() -> None:
    with pytest.raises(UserError, match="no config file"):
        show_config.main(["no_such.yaml"])
    with pytest.raises(UserError, match=r"input\.siz: unknown key, did you mean 'size'"):
        show_config.main([str(CONFIG), "input.siz=3"])


def test_a_file_or_the_schema_but_not_both_or_none(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in [[], [str(CONFIG), "--schema"]]:
        with pytest.raises(SystemExit) as stopped:
            show_config.main(arguments)
        assert stopped.value.code == 2
    assert "--schema" in capsys.readouterr().err


def test_the_committed_schema_is_up_to_date(tmp_path: Path) -> None:
    show_config.main(["--schema", str(tmp_path / "schema.json")])
    fresh = json.loads((tmp_path / "schema.json").read_text(encoding="utf-8"))
    committed = json.loads((ROOT / "configs" / "schema.json").read_text(encoding="utf-8"))
    assert normal(committed) == normal(fresh), (
        "configs/schema.json is old; write it anew: python -m pose.tools.show_config --schema"
    )


def normal(schema: Any) -> Any:
    """Without what other versions of pydantic word differently and no editor looks at."""
    if isinstance(schema, dict):
        kept = {k: v for k, v in schema.items() if not (k == "title" and isinstance(v, str))}
        if "const" in kept:
            kept.pop("enum", None)
        if len(kept.get("allOf", ())) == 1:
            kept |= kept.pop("allOf")[0]
        return {key: normal(value) for key, value in kept.items()}
    if isinstance(schema, list):
        return [normal(value) for value in schema]
    return schema


def test_a_folder_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot write"):
        show_config.main(["--schema", str(tmp_path / "no" / "schema.json")])


def test_the_schema_knows_every_section() -> None:
    properties = json.loads(show_config.schema_text())["properties"]
    assert set(properties) == {*ExperimentConfig.model_fields, "base"}
    fields = ExperimentConfig.model_fields
    sections = [name for name, field in fields.items() if settings_in(field.annotation)]
    assert {"input", "backbone", "head"} <= set(sections)
