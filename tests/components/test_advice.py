"""What a message advises exists, and the command that says it accepts it."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pytest
from pydantic import BaseModel

from pose import checkpoint, demo
from pose.data import selection
from pose.experiment import Experiment, ExperimentConfig, load_config
from pose.registry import BACKBONES, DECODERS, HEADS, METRICS
from pose.tools import doctor, score
from tests.command_lines import (
    COMMANDS,
    MODULES,
    ROOT,
    accepted_by_one,
    options_of,
    parser_of,
    shipped_configs,
    strings,
)
from tests.user_files import SMALL, UserFiles, write_folder

SAYING = {
    "UserError", "UnreadableImage", "ValueError", "Code", "Kind", "_read", "warn_once", "warning",
    "_say", "say", "__init__",
}  # fmt: skip
SETTING = re.compile(r"(?<![\w./])((?:data|input|backbone|head|train|test)(?:\.[a-z][a-z_]*)+)")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*[a-z](?![\w-])")
LINE = re.compile(r"python -m pose[^;()`]*")  # tests/commands/test_documented_lines.py has those
REGISTERED = ("pose.backbones.", "pose.heads.", "pose.decoders.", "pose.metrics.")
OF_OTHERS = {"--shm-size", "--standalone", "--master-port"}  # docker's, torchrun's


class Said(NamedTuple):
    module: str
    line: int
    word: str

    def __str__(self) -> str:
        return f"{self.module}:{self.line} {self.word}"


def messages(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of the strings that a module gives to errors and warnings."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        if name in SAYING:
            for argument in node.args:
                yield from strings(argument)


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


OURS = {module_name(path): path for path in MODULES if path.relative_to(ROOT).parts[0] == "pose"}
SAID = [
    Said(name, line, word)
    for name, path in OURS.items()
    for line, text in messages(path)
    for word in dict.fromkeys([*SETTING.findall(text), *OPTION.findall(LINE.sub("", text))])
    if word not in OF_OTHERS
]


@cache
def imports(module: str) -> frozenset[str]:
    """The project's modules that one imports, directly or not."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        tree = ast.parse(OURS[waiting.pop()].read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            names: list[str] = []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            new = [name for name in names if name in OURS and name not in found]
            if "pose.registry" in new:  # imports what it finds in its folders
                new += [name for name in OURS if name.startswith(REGISTERED) and name not in found]
            found.update(new)
            waiting += new
    return frozenset(found)


@cache
def options(command: str) -> frozenset[str]:
    return frozenset(flag for action in options_of(parser_of(command)) for flag in action.option_strings)


def settings_classes() -> Iterator[tuple[str, type[BaseModel]]]:
    """Every settings class of a section, and of each component."""
    fields = ExperimentConfig.model_fields
    waiting: list[tuple[str, Any]] = [(key, field.annotation) for key, field in fields.items()]
    sections = {"backbone": BACKBONES, "head": HEADS, "head.decoder": DECODERS, "test.metric": METRICS}
    for key, registry in sections.items():
        waiting += [(key, registry[name].config) for name in registry.names()]
    while waiting:
        key, kind = waiting.pop()
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield key, kind
            waiting += [(f"{key}.{name}", field.annotation) for name, field in kind.model_fields.items()]
        else:
            waiting += [(key, inner) for inner in get_args(kind) if inner is not Ellipsis]


SETTINGS = {f"{key}.{name}" for key, kind in settings_classes() for name in kind.model_fields}
WITH_VALUE = re.compile(SETTING.pattern + r"=(null|true|false|\d+(?:\.\d+)?|auto|exif|stored)(?![\w.])")
VALUES = sorted({
    found[0] for path in OURS.values() for _, text in messages(path) for found in WITH_VALUE.finditer(text)
})  # fmt: skip


def test_advice_is_found() -> None:
    words = {one.word for one in SAID}
    assert {"data.strict", "data.skeleton", "--skeleton", "--json", "data.workers", "--report"} <= words
    assert {"test.flip=false", "data.augment.flip=0", "train.validate_every=0"} <= set(VALUES)


@pytest.mark.parametrize("said", [one for one in SAID if not one.word.startswith("--")], ids=str)
def test_a_setting_that_a_message_names_exists(said: Said) -> None:
    word = re.sub(r"^data\.sets\.\w+", "data.train", said.word).rstrip(".")
    assert word in SETTINGS or any(one.startswith(f"{word}.") for one in SETTINGS), said


@pytest.mark.parametrize("said", [one for one in SAID if one.word.startswith("--")], ids=str)
def test_an_option_that_a_message_names_is_one_of_a_command_that_says_it(said: Said) -> None:
    """The command itself, or one that uses the module."""
    users = [name for name in COMMANDS if name in OURS and said.module in imports(name)]
    if said.module in COMMANDS:
        users = [said.module]
    assert any(said.word in options(name) for name in users), said


@pytest.mark.parametrize("setting", VALUES)
def test_a_value_that_a_message_advises_is_accepted(setting: str) -> None:
    accepted_by_one([setting], shipped_configs())


# ---------------------------------------------------------------------------- provoked, followed, accepted


@pytest.fixture
def files(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> UserFiles:
    """The sound set below data/, and a run with random weights."""
    data = write_folder(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    where = [f"data.{one}={{annotations: base.json, images: pictures}}" for one in ("train", "val")]
    config = load_config("coco/ae_small.yaml", [*SMALL, f"data.root={data}", *where])
    experiment = Experiment.create("run", config)
    model = config.build_model()
    checkpoint.save({"model": model.state_dict()}, experiment.path("last.pt"))
    selection.warn_once.cache_clear()
    return UserFiles(data, monkeypatch, capsys, caplog)


def numbered(content: dict[str, Any]) -> None:
    content["categories"][0]["keypoints"] = [f"k{i}" for i in range(17)]


def one_sided(content: dict[str, Any]) -> None:
    content["categories"][0]["keypoints"] = ["left_tail", *[f"k{i}" for i in range(16)]]


def without_limbs(content: dict[str, Any]) -> None:
    numbered(content)
    content["categories"][0]["skeleton"] = []


OWN = "data.skeleton=annotations"
PAIRS = {f"k{i}": f"k{i + (1 if i % 2 else -1)}" for i in range(1, 17)}
SIDES = f"data.skeleton={{base: annotations, mirror: {json.dumps(PAIRS)}}}"
ALONE = "data.skeleton={base: annotations, mirror: {left_tail: left_tail}}"
YEAR = "data.train.annotations=b{year}.json"
FLIPS = ["data.augment.flip=0", "test.flip=false"]
LIMBS = "data.skeleton={base: annotations, limbs: [[k0, k1], [k1, k2]]}"


@pytest.mark.parametrize(
    ("change", "more", "says", "advised"),
    [
        (numbered, [OWN], "mirror: {NAME: PARTNER, ...}", [SIDES]),
        (numbered, [OWN], " ".join(FLIPS), [OWN, *FLIPS]),
        (one_sided, [OWN], ALONE, [ALONE]),
        (without_limbs, [OWN, "head={name: paf}"], "limbs: [[NAME, NAME], ...]", [LIMBS, "head={name: paf}"]),
        (None, [YEAR, "data.year=null"], "data.year=2017", [YEAR, "data.year=2017"]),
    ],
)  # fmt: skip
def test_advice_of_browse_is_accepted(
    files: UserFiles, change: Any, more: list[str], says: str, advised: list[str]
) -> None:
    file = files.write(change)
    (files.folder / "b2017.json").write_text((files.folder / "base.json").read_text())
    _, text = files.browse(file, *more)
    assert says in text
    selection.warn_once.cache_clear()
    code, text = files.browse(file, *advised)
    assert code == 0 and says not in text, text


def test_a_trained_run_is_advised_what_it_accepts(files: UserFiles) -> None:
    """Mirroring of a test: data.augment and data.skeleton cannot be set there."""
    file = files.write(numbered)
    config = load_config(
        "coco/ae_small.yaml",
        [*SMALL, *files.where(file, ("train", "val")), OWN, "test.flip=true"],
    )
    experiment = Experiment.create("numbered", config)
    model = config.build_model()
    checkpoint.save({"model": model.state_dict()}, experiment.path("last.pt"))
    files.knows_the_truth()
    selection.warn_once.cache_clear()
    code, text = files.test("numbered", file)
    assert code == 0 and "turn mirroring off (test.flip=false)" in text and "data.augment" not in text
    selection.warn_once.cache_clear()
    code, text = files.test("numbered", file, "test.flip=false")
    assert code == 0 and "mirroring" not in text


def two_categories(content: dict[str, Any]) -> None:
    content["categories"].append({"id": 2, "name": "face", "keypoints": ["left_eye", "right_eye"]})


def test_advice_about_categories_is_accepted(files: UserFiles) -> None:
    files.knows_the_truth()
    file = files.write(two_categories)
    for command in (files.doctor, files.score, files.draw):
        code, text = command(file)
        assert code == 2
        found = re.search(r"choose one with (--category) (\w+)", text)
        assert found is not None, text
        code, text = command(file, *found.groups())
        assert code in (0, 1), text
    for command in (files.browse, lambda *given: files.test("run", *given)):
        code, text = command(file)
        assert code == 2
        found = re.search(r"choose one with (data\.category=\w+)", text)
        assert found is not None, text
        assert command(file, found[1])[0] == 0


def test_advice_of_pose_test_is_accepted(files: UserFiles) -> None:
    broken = files.folder / "pictures" / "p01.png"
    broken.write_bytes(broken.read_bytes()[:200])
    code, text = files.test("run", "base.json", "data.strict=true")
    assert code == 2 and "data.strict=false" in text, text
    assert files.test("run", "base.json", "data.strict=false")[0] == 0
    empty = files.write(lambda content: {**content, "annotations": []}, "empty.json")
    code, text = files.test("run", empty, "data.validation_people_only=true")
    assert code == 2 and "set it to false" in text, text
    files.knows_the_truth()
    assert files.test("run", empty, "data.validation_people_only=false")[0] == 0


@pytest.mark.parametrize(
    ("main", "given", "says", "more"),
    [
        (demo.main, ["p00.png"], "-c NAME", ["-c", "run"]),
        (demo.main, ["-c", "run", "p00.png", "--no-pictures"], "add --json", ["--json"]),
        (score.main,
         ["coco", "--annotations", "base.json", "--results", "base_results.json", "--images", "pictures"],
         "--report FILE", ["--report", "page.html"]),
        (doctor.main, ["--annotations", "base.json", "--images", "none"], "no folder none",
         ["--images", "pictures"]),
        (doctor.main, ["--annotations", "base.json", "--pictures", "x"], "expected a number, all or none",
         ["--pictures", "all"]),
        (doctor.main, ["--annotations", "base.json", "data.strict=true"], "settings go with --config", None),
    ],
)  # fmt: skip
def test_advice_about_options_is_accepted(
    files: UserFiles, main: Any, given: list[str], says: str, more: list[str] | None
) -> None:
    for name in ("base.json", "base_results.json", "pictures"):
        Path(name).symlink_to(files.folder / name)
    Path("p00.png").symlink_to(files.folder / "pictures" / "p00.png")
    code, text = files.run(main, *given)
    assert code == 2 and says in text, text
    if more is not None:
        code, text = files.run(main, *given, *more)
        assert code in (0, 1), text
