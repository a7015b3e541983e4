"""Every command line in documents, help, messages, configs and scripts is one that its command takes."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pose.errors import UserError
from tests import command_lines
from tests.command_lines import (
    CONFIGS,
    DOCUMENTS,
    MODULES,
    ROOT,
    SAMPLE_CONFIG,
    SCRIPTS,
    Line,
    WrongLine,
    accepted_by_one,
    check,
    documented_lines,
    find_inline,
    find_lines,
    inline_code,
    shipped_configs,
)

LINES = documented_lines()
README = (ROOT / "README.md").read_text(encoding="utf-8")


def runs_of_documents() -> dict[str, str]:
    """Name of a run -> the config that a document trains it with."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in DOCUMENTS)
    return {"quickstart": SAMPLE_CONFIG, **dict(re.findall(r"-e (\w+) --config (\S+)", text))}


@pytest.fixture(autouse=True, scope="module")
def configs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The project's configs, and those that the documents tell a reader to write."""
    folder = tmp_path_factory.mktemp("checkout") / "configs"
    shutil.copytree(ROOT / "configs", folder)
    for path in DOCUMENTS:
        for code, name in re.findall(
            r"^```yaml\n(# configs/(\S+\.yaml)\n.*?)^```", path.read_text(encoding="utf-8"), re.M | re.S
        ):
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            # tests/test_contributing.py has the backbone of CONTRIBUTING.md
            file.write_text(code.replace("{name: tiny}", "{name: hourglass}"), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pose.config_files.config_folder", lambda: folder)
        patch.setattr("pose.experiment.config_folder", lambda: folder)
        yield folder


@pytest.mark.parametrize("line", LINES, ids=str)
def test_a_documented_line_is_accepted(line: Line) -> None:
    check(line, runs_of_documents())


def test_the_lines_are_found() -> None:
    places = {line.place.partition(":")[0] for line in LINES}
    assert {"README.md", "CONTRIBUTING.md", "scripts/quickstart.sh", "configs/_base/aic.yaml"} <= places
    assert {"pose/train.py", "pose/exported.py", "benchmarks/demo.py"} <= places
    examples = {line.command for line in LINES if not line.mention}
    assert examples >= set(command_lines.COMMANDS)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("python -m pose.test -c NAME --save-pictrues 3", "has no --save-pictrues|unrecognized"),
        ("python -m pose.test -c NAME --save 3", "has no --save"),
        ("python -m pose.test -c NAME -m double", "invalid choice"),
        ("python -m pose.test -m single", "required"),
        ("python -m pose.tools.scores coco --annotations A --results B", "no command pose.tools.scores"),
        ("python -m pose.tools.score cocoo --annotations A --results B", "invalid choice"),
        ("python -m pose.train -e NAME --config configs/coco/none.yaml", "no config file"),
        ("python -m pose.train -e NAME --config configs/coco/ae_small.yaml train.batchsize=3", "unknown key"),
        ("python -m pose.train -e NAME --config configs/coco/ae_small.yaml train.epochs=no", "expected int"),
        ("python -m pose.test -c cut_small head.decoder.tag_threshold=1", "unknown key"),
        ("python -m pose.test -c NAME train.epochs=3", "cannot be changed"),
        ("torchrun --nproc-per-node 2 -m pose.train -e NAME --nonsense ...", "nonsense"),
        ("find . | python -m pose.demo -c NAME", "required"),
        ("Test again (python -m pose.test -c NAME --mdoe single).", "mdoe"),
        ("start one with python -m pose.tools.aic to-coca", "invalid choice"),
        ("start one with python -m pose.tools.none", "no command"),
        ("`pose.tools.compare A B --latx`", "latx"),
        ("`pose.tools.kompare A B`", "no command"),
    ],
)
def test_a_wrong_line_is_refused(line: str, message: str) -> None:
    (found,) = [*find_lines(line, "here"), *find_inline(line, "here")]
    with pytest.raises(WrongLine, match=message):
        check(found, runs_of_documents())


def test_what_belongs_to_a_line() -> None:
    text = """
    python -m pose.test -c NAME -m single \\
        --limit 3      # what it does
    python -m pose.train -e NAME [--config FILE] [key.sub=value ...]    a new run
Continue with: python -m pose.train -c NAME; the rest is said elsewhere.
"""
    rests = [(line.rest, line.mention) for line in find_lines(text, "here")]
    assert rests == [
        ("-c NAME -m single --limit 3", False),
        ("-e NAME [--config FILE] [key.sub=value ...]", False),
        ("-c NAME", True),
    ]


# -------------------------------------------------------------------------------------- settings and scripts

SECTIONS = r"(?:data|input|backbone|head|train|test)\.[a-z_.]+"
SETTINGS = [
    (f"README.md:{number}", code)
    for number, code in inline_code(README)
    if all(re.fullmatch(rf"{SECTIONS}=\S+", word) for word in code.split())
]


@pytest.mark.parametrize(("place", "settings"), SETTINGS, ids=[f"{p} {s}" for p, s in SETTINGS])
def test_settings_in_running_text_are_valid(place: str, settings: str) -> None:
    words = [word.rstrip(".").replace("=...", "=1") for word in settings.split()]
    if "data.skeleton=annotations" in words:
        pytest.skip("needs the annotation file")
    accepted_by_one(words, shipped_configs())


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(UserError, match="unknown key"):
        accepted_by_one(["train.acumulate=4"], shipped_configs())


SCRIPT_LINE = re.compile(r"(?:\./|bash )(scripts/\w+\.sh)((?: +(?:--?\w[\w-]*|[\w./=-]+))*)")
SCRIPT_LINES = [
    (path.relative_to(ROOT).as_posix(), script, words.split())
    for path in (*DOCUMENTS, *SCRIPTS, *CONFIGS, *MODULES)
    for text in [re.sub(r"\s{2,}|[\[\]]", "\n", path.read_text(encoding="utf-8"))]
    for script, words in SCRIPT_LINE.findall(text)
]


@pytest.mark.parametrize(("place", "script", "words"), SCRIPT_LINES)
def test_a_documented_script_is_there_and_has_its_options(place: str, script: str, words: list[str]) -> None:
    file = ROOT / script
    text = file.read_text(encoding="utf-8")
    assert file.stat().st_mode & 0o100, f"{script} cannot be started by its name"
    for word in words:
        if script == "scripts/test.sh":  # pytest's
            assert word.startswith("-") or (ROOT / word).exists()
        elif word.startswith("--"):
            assert re.search(rf"^\s*[^#\n]*{word}\b[^\n]*\)", text, re.M), f"{script} has no {word}"


def test_options_of_scripts_in_text_are_known() -> None:
    """(`--year 2014` for the older split)"""
    downloads = (ROOT / "scripts/download_coco.sh").read_text(encoding="utf-8")
    assert "--year 2014" in README and re.search(r"\| --year|--year \|", downloads)
    assert any(script == "scripts/download_coco.sh" for _, script, _ in SCRIPT_LINES)
