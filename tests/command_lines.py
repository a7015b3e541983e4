"""The project's commands, their parsers, and the lines in which documents and messages show them."""

from __future__ import annotations

import argparse
import ast
import importlib
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from pose.errors import UserError
from pose.experiment import load_config
from pose.options import run_settings

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *ROOT.glob("docs/*.md")]
SCRIPTS = sorted(ROOT.glob("scripts/*.sh"))
CONFIGS = sorted(ROOT.glob("configs/**/*.yaml"))
MODULES = [
    path
    for folder in ("pose", "benchmarks")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if "_configs" not in path.parts
]


def is_command(path: Path) -> bool:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return any(isinstance(node, ast.If) and "__main__" in ast.unparse(node.test) for node in tree.body)


def command_name(path: Path) -> str:
    """What stands behind `python -m`."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")


COMMANDS = [command_name(path) for path in MODULES if is_command(path)]

# ------------------------------------------------------------------------------------------------- parsers


class WrongLine(Exception):
    """A documented line that the command refuses; says why."""


class Parsed(Exception):
    """Ends a command that has read its arguments."""


def options_of(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Those of its subcommands, too."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from options_of(inner)
        else:
            yield action


def subcommands(parser: argparse.ArgumentParser) -> list[str]:
    """The names of its subcommands; [] where there are none."""
    found = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    return [name for action in found for name in action.choices]


def _entry(command: str) -> Callable[[list[str]], Any]:
    """The function that reads the arguments of a command: `parse`, else `main`."""
    name = f"{command}.__main__" if (ROOT / command.replace(".", "/")).is_dir() else command
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise WrongLine(f"there is no command {command} ({error})") from None
    if command not in COMMANDS:
        raise WrongLine(f"{command} is no command")
    return getattr(module, "parse", None) or module.main


def parser_of(command: str) -> argparse.ArgumentParser:
    def take(parser: argparse.ArgumentParser, *_: Any) -> None:
        raise Parsed(parser)

    names = ("parse_args", "parse_known_args", "parse_intermixed_args")
    patches: dict[str, Any] = dict.fromkeys(names, take)
    entry = _entry(command)
    with mock.patch.multiple(argparse.ArgumentParser, **patches):
        try:
            entry([])
        except Parsed as parsed:
            return parsed.args[0]
    raise AssertionError(f"{command} reads no arguments")


def read_arguments(command: str, words: list[str]) -> None:
    """The command reads its arguments and ends; raises `WrongLine` where it refuses them."""

    def refuse(parser: argparse.ArgumentParser, message: str) -> None:
        raise WrongLine(message)

    def parse_and_end(original: Callable[..., Any]) -> Callable[..., Any]:
        def parse(parser: argparse.ArgumentParser, *arguments: Any) -> Any:
            raise Parsed(original(parser, *arguments))

        return parse

    entry = _entry(command)
    patches: dict[str, Any] = {"error": refuse}
    if entry.__name__ != "parse":  # `main` would go on and do its work
        names = ("parse_args", "parse_intermixed_args")
        patches |= {name: parse_and_end(getattr(argparse.ArgumentParser, name)) for name in names}
    with mock.patch.multiple(argparse.ArgumentParser, **patches), redirect_stdout(StringIO()):
        try:
            entry(words)
        except Parsed:
            return
        except SystemExit as ended:  # --help
            if ended.code:
                raise WrongLine(f"exit code {ended.code}") from None
        except UserError as error:
            raise WrongLine(str(error)) from None


# --------------------------------------------------------------------------------------------------- lines


class Line(NamedTuple):
    """A command line as somebody reads it."""

    place: str  # README.md:86
    command: str  # pose.demo
    rest: str  # what stands behind it, without the text that follows
    mention: bool  # in running text, where required arguments may be left out

    def __str__(self) -> str:
        return f"{self.place} {self.command} {self.rest}".strip()


STARTED = r"""(?:python3?|torchrun[^\n`]*?|"\$PYTHON")\s+-m\s+((?:pose|benchmarks)(?:\.\w+)*)"""
START = re.compile(STARTED)
NAMED = re.compile(r"^((?:pose|benchmarks)(?:\.[a-z_]+)+)(?=\s|$)")  # `pose.test --report`
END = re.compile(r"\s{2,}|\s#|[`;)]|\s\(|\s\||,\s|(?<![.=])[.:](?:\s|$)|\n")
EXAMPLE = re.compile(r"^[#\s$]*(?:.*\|\s*`?)?$")  # what may stand before a line to copy


def find_lines(text: str, place: str, first: int = 1) -> Iterator[Line]:
    """Every `python -m ...` of a text whose first line has the number `first`."""
    text = re.sub(r"[ \t]*\\\n[#\s]*", "\v", text)  # a continued line is one line
    for found in START.finditer(text):
        before = text[: found.start()]
        number = first + before.count("\n") + before.count("\v")
        rest = text[found.end() :].replace("\v", " ")
        if re.search(r"[A-Z]", found[1]):  # python -m pose.tools.NAME
            continue
        end = END.search(rest)
        rest = rest[: end.start()] if end else rest
        is_example = EXAMPLE.match(before.rpartition("\n")[2])
        is_name = found[0] == text  # the `prog` of a parser
        yield Line(f"{place}:{number}", found[1], rest.strip(), is_name or not is_example)


def find_inline(text: str, place: str) -> Iterator[Line]:
    """`pose.test --report` in the running text of a Markdown file: commands without `python -m`."""
    for number, code in inline_code(text):
        found = NAMED.match(code)
        if found and (found[1] in COMMANDS or found[1].startswith(("pose.tools.", "benchmarks."))):
            yield Line(f"{place}:{number}", found[1], code[found.end() :].strip(), True)


def inline_code(text: str) -> Iterator[tuple[int, str]]:
    """Line number and content of every `...` of a Markdown text, on one line."""
    blank = re.sub(r"^```.*?^```$", lambda m: "\n" * m[0].count("\n"), text, flags=re.M | re.S)
    for found in re.finditer(r"`([^`]+)`", blank):
        yield blank[: found.start()].count("\n") + 1, " ".join(found[1].split())


def strings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line number and text of every string of a module; what an f-string fills in is a placeholder."""
    inside: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            inside.update(inner for inner in ast.walk(node) if inner is not node)
            if node not in inside:
                yield node.lineno, _rendered(node)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in inside:
            yield node.lineno, node.value


def _rendered(node: ast.expr) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(_rendered(value) for value in node.values)
    if isinstance(node, ast.FormattedValue):
        return _rendered(node.value)
    if isinstance(node, ast.IfExp):
        return _rendered(node.body)
    if isinstance(node, ast.Constant):
        return str(node.value)
    named = isinstance(node, (ast.Name, ast.Attribute))
    return ast.unparse(node).rpartition(".")[2].upper() if named else "X"


def documented_lines() -> list[Line]:
    """Every line that documents, docstrings, help, messages, configs and scripts show."""
    lines: list[Line] = []
    for path in (*DOCUMENTS, *CONFIGS, *SCRIPTS):
        text, place = path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix()
        if path.suffix == ".sh":
            text = with_variables(text)
        lines += find_lines(text, place)
        lines += find_inline(text, place) if path.suffix == ".md" else []
    for path in MODULES:
        place = path.relative_to(ROOT).as_posix()
        for number, text in strings(ast.parse(path.read_text(encoding="utf-8"))):
            lines += find_lines(text, place, number)
    return lines


def with_variables(script: str) -> str:
    """`"$name"` of a shell script by what it is set to; `"$@"` is nothing."""
    values = dict(re.findall(r"^(\w+)=([\w./-]+)$", script, re.MULTILINE))
    named = re.sub(r'"\$(\w+)"', lambda m: values.get(m[1], m[0]), script)
    return named.replace(' "$@"', "")


# --------------------------------------------------------------------------------------------------- check

SAMPLE_CONFIG = "configs/synthetic/ae_small.yaml"
PLACEHOLDER = re.compile(r"[A-Z][A-Z_]*s?(\.[a-z]+)?")
INCOMPLETE = re.compile(r"required|expected one argument|^give ")  # what a mention may be
PLAIN = re.compile(r"[A-Za-z][\w'-]*")  # a word of a sentence


def variants(rest: str, parser: argparse.ArgumentParser) -> Iterator[list[str]]:
    """The arguments that a line stands for: optional parts are given, of `a|b` each in turn, and placeholders
    have values."""
    while (opened := re.sub(r"(^|\s)\[([^\[\]]*)\]", r"\1\2", rest)) != rest:
        rest = opened
    try:
        words = shlex.split(rest)
    except ValueError:  # the apostrophe of a sentence
        words = rest.split()
    words = [word.removesuffix("...") for word in words]
    words = [word for word in words if word]
    count = max([len(word.split("|")) for word in words], default=1)
    for i in range(count):
        chosen = [word.split("|")[min(i, word.count("|"))] for word in words]
        yield [_value(word, before, parser) for before, word in zip(["", *chosen], chosen)]


def _value(word: str, before: str, parser: argparse.ArgumentParser) -> str:
    """A placeholder's value; any other word stays."""
    if word == "key.sub=value":
        return "test.flip=false"
    if not PLACEHOLDER.fullmatch(word):
        return word
    action = {flag: action for action in options_of(parser) for flag in action.option_strings}.get(before)
    if action is not None and action.type is int:
        return "3"
    if action is not None and action.choices:
        return str(next(iter(action.choices)))
    takes_config = any(a.dest == "config" and not a.option_strings for a in options_of(parser))
    if before == "--config" or word == "CONFIG" or (word == "FILE" and takes_config):
        return SAMPLE_CONFIG
    return word


def check(line: Line, runs: Mapping[str, str]) -> None:
    """Raises `WrongLine` for a line that its command would refuse; runs: the config of each run by name."""
    _entry(line.command)
    if line.mention and not line.rest:
        return
    parser = parser_of(line.command)
    for words in variants(line.rest, parser):
        words = _parseable(line, words, parser)
        known = {flag: action for action in options_of(parser) for flag in action.option_strings}
        for flag in (word.partition("=")[0] for word in words if re.match(r"--?[a-zA-Z]", word)):
            if flag not in known:  # argparse would take the beginning of a flag, too
                raise WrongLine(f"{line.command} has no {flag}")
            if known[flag].help == argparse.SUPPRESS:
                raise WrongLine(f"{flag} is an old name")
        check_settings(line.command, words, runs)


def _parseable(line: Line, words: list[str], parser: argparse.ArgumentParser) -> list[str]:
    """The words that the command reads: a mention may leave out what is required, and words of the sentence
    may follow it."""
    least = 1 if subcommands(parser) else 0
    while True:
        try:
            read_arguments(line.command, words)
            return words
        except WrongLine as error:
            if line.mention and INCOMPLETE.search(str(error)):
                return words
            if not line.mention or len(words) <= least or not PLAIN.fullmatch(words[-1]):
                raise
            words = words[:-1]


def check_settings(command: str, words: list[str], runs: Mapping[str, str]) -> None:
    """The configs that a line names exist and take its `key.sub=value`."""
    files = [word for word in words if re.fullmatch(r"configs/\S+\.yaml", word)]
    settings = [word for word in words if re.match(r"[a-z_]+\.[a-z_.]+=", word)]
    try:
        if files:
            load_config(files[0], settings)
        if files or not settings:
            return
        names = [after for flag, after in zip(words, words[1:]) if flag == "-c"]
        candidates = [runs[name] for name in names if name in runs] or shipped_configs()
        if command != "pose.train" and names:
            run_settings(settings, data=any(word.startswith("data.") for word in settings))
        accepted_by_one(settings, candidates)
    except UserError as error:
        raise WrongLine(str(error)) from None


def shipped_configs() -> list[str]:
    found = [path.relative_to(ROOT) for path in CONFIGS]
    return [path.as_posix() for path in found if not path.parts[1].startswith(("_", "zoo"))]


def accepted_by_one(settings: Iterable[str], configs: Iterable[str]) -> None:
    """Raises the last config's `UserError` where none takes the settings."""
    error: UserError | None = None
    for config in configs:
        try:
            load_config(config, list(settings))
            return
        except UserError as refused:
            error = refused
    assert error is not None
    raise error
