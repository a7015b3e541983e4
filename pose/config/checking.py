"""Merged data -> typed settings, or one error that lists every mistake under the file that made it."""

from __future__ import annotations

import difflib
import json
import re
import types
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import ValidationError

from pose.config.merging import COMMAND_LINE, Merged, merge
from pose.config.settings import KeyPath, Settings, settings_in
from pose.errors import UserError
from pose.registry import nearest

S = TypeVar("S", bound=Settings)


def validate(schema: type[S], merged: Merged) -> S:
    """The typed settings, or one `UserError` that lists every problem under the file that caused it."""
    try:
        # as JSON: YAML has lists where the settings have tuples, which strict types take from JSON only
        return schema.model_validate_json(json.dumps(merged.data))
    except ValidationError as error:
        problems = error.errors()
    except (TypeError, ValueError) as error:
        raise UserError(f"the config holds a value that is not plain data: {error}") from None
    by_file: dict[str, list[str]] = {}
    explained = [_explain(schema, problem, merged.data) for problem in problems]
    for path, line in explained:
        if any(len(other) > len(path) and other[: len(path)] == path for other, _ in explained):
            continue  # of `A | B` the value is clearly an A with a mistake inside, so "not a B" says nothing
        origin = merged.origin_of(path) or _first_file(merged)
        lines = by_file.setdefault(origin, [])
        if line not in lines:
            lines.append(line)
    raise UserError(
        "the config has mistakes\n"
        + "\n".join(
            f"{file}:\n" + "\n".join(f"  {line}" for line in lines) for file, lines in by_file.items()
        )
    )


def _first_file(merged: Merged) -> str:
    files = [origin for origin in merged.origin.values() if origin != COMMAND_LINE]
    return files[-1] if files else COMMAND_LINE


def _explain(schema: type[Settings], problem: Any, data: Any) -> tuple[KeyPath, str]:
    """The path of a pydantic error in the user's data, and a sentence about it."""
    path, model = _user_path(schema, problem["loc"], data)
    dotted = ".".join(path) or "top"
    kind, given, context = problem["type"], problem.get("input"), problem.get("ctx", {})
    if kind == "extra_forbidden":
        fields = list(model.model_fields) if model else []
        hint = nearest(path[-1], fields) or _moved(path, model) or _known(fields)
        return path, f"{dotted}: unknown key{hint}"
    if kind == "missing":
        return path, f"{dotted}: missing"
    if kind in ("union_tag_invalid", "literal_error") and (
        path[-1:] == ("name",) or kind == "union_tag_invalid"
    ):
        name = given.get("name") if isinstance(given, dict) else given
        known = re.findall(r"'([^']+)'", context.get("expected_tags") or context.get("expected", ""))
        path = path if path[-1:] == ("name",) else (*path, "name")
        what = path[-2] if len(path) > 1 else "name"
        hint = f"{nearest(str(name), known)} (known: {', '.join(known)})"
        return path, f"{'.'.join(path)}: unknown {what} {name!r}{hint}"
    if kind == "union_tag_not_found":
        if not isinstance(given, dict):
            return path, f"{dotted}: expected a mapping, got {_short(given)}"
        return (*path, "name"), f"{dotted}.name: missing"
    if kind == "literal_error":
        return path, f"{dotted}: expected {context['expected']}, got {given!r}"
    if kind == "value_error":
        text = str(context["error"])
        word = re.match(r"\w*", text)[0]  # type: ignore[index]
        named = model is not None and word in model.model_fields  # which key of the section it is about
        if named and text.startswith(f"{word}: "):
            return (*path, word), f"{'.'.join((*path, word))}{text[len(word) :]}"
        return (*path, word) if named else path, f"{dotted}: {text}"
    expected = {
        "int_type": "int", "int_from_float": "int", "float_type": "float", "string_type": "text",
        "bool_type": "true or false", "tuple_type": "a list", "list_type": "a list", "dict_type": "a mapping",
        "model_type": "a mapping", "model_attributes_type": "a mapping", "path_type": "a path",
    }.get(kind)  # fmt: skip
    if expected:
        return path, f"{dotted}: expected {expected}, got {_short(given)}"
    return path, f"{dotted}: {_lower_first(problem['msg'])}, got {_short(given)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]


def _moved(path: KeyPath, model: type[Settings] | None) -> str:
    """Where a key lies today that is nearly one of a former version, as a hint; or an empty string."""
    former = model.former_keys if model else {}
    close = difflib.get_close_matches(path[-1], former, n=1)
    return f", did you mean '{'.'.join((*path[:-1], *former[close[0]]))}'?" if close else ""


def _known(fields: Sequence[str]) -> str:
    return f" (known: {', '.join(fields)})" if fields and len(fields) <= 30 else ""


def _user_path(
    schema: type[Settings], loc: Sequence[Any], data: Any
) -> tuple[KeyPath, type[Settings] | None]:
    """pydantic puts the chosen union member into `loc`; the user's file has no such key.  Also returns the
    class of settings in which the error lies."""
    path: list[str] = []
    model: type[Settings] | None = schema
    options: tuple[Any, ...] = ()
    tagged = False
    for i, step in enumerate(loc):
        member = next((m for m in options if _member_name(m) == step), None)
        if member is not None:
            model, options = member, ()
            continue
        if tagged:
            tagged = False  # a tag such as "list[str]" that pydantic adds to a union's path
            continue
        path.append(str(step))
        if isinstance(data, Mapping):
            data = data.get(step)
        elif isinstance(data, list) and isinstance(step, int) and step < len(data):
            data = data[step]
        else:
            data = None
        field = model.model_fields.get(str(step)) if model else None
        if field is None:
            continue_model = model if i == len(loc) - 1 else None
            model, options = continue_model, ()
            continue
        members = settings_in(field.annotation)
        if i < len(loc) - 1:
            model = members[0] if len(members) == 1 else None
            options = tuple(members) if len(members) > 1 else ()
            tagged = not members and _is_union(field.annotation)
    return tuple(path), model


def _is_union(annotation: Any) -> bool:
    """`A | B`, but not `A | None`."""
    members = [member for member in get_args(annotation) if member is not type(None)]
    return get_origin(annotation) in (Union, types.UnionType) and len(members) > 1


def _member_name(member: Any) -> str | None:
    fields = getattr(member, "model_fields", None)
    if not fields or "name" not in fields:
        return None
    names = get_args(fields["name"].annotation)
    return names[0] if names else None


def load(schema: type[S], path: Path | None, overrides: Iterable[str] = ()) -> S:
    return validate(schema, merge(schema, path, overrides))
