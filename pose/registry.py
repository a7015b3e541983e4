"""Names in YAML -> classes.

One folder holds one kind of component, one file one component: the file's name is the component's name, so
`backbone: {name: hourglass}` is found in `pose/backbones/hourglass.py`.  The files of a folder are imported
on first use, each registers its class together with the class of its configuration.
"""

from __future__ import annotations

import difflib
import importlib.util
import pkgutil
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeVar

from pose.errors import UserError

C = TypeVar("C", bound=Callable[..., Any])


class Entry(NamedTuple):
    component: Any  # the class, or a function that makes it
    config: Any  # the class of its settings


def nearest(name: str, known: Iterable[str]) -> str:
    """ ", did you mean 'hourglass'?" or an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f", did you mean {close[0]!r}?" if close else ""


def _same_code(one: Any, other: Any) -> bool:
    """Whether a file is only imported again, perhaps as the program that is run."""
    modules = {one.__module__, other.__module__}
    return one.__qualname__ == other.__qualname__ and (len(modules) == 1 or "__main__" in modules)


class Registry:
    """`kind` for messages ("backbone"); `package` is the folder whose files register themselves."""

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self.package = package
        self._entries: dict[str, Entry] = {}
        self._imported = False

    def register(self, name: str, config: type) -> Callable[[C], C]:
        """Decorator of a class, or of a function that makes one of several classes:
        `@BACKBONES.register("hourglass", HourglassConfig)`."""

        def add(component: C) -> C:
            taken = self._entries.get(name)
            if taken is not None and not _same_code(taken.component, component):
                raise ValueError(
                    f"{self.kind} {name!r} is registered twice: "
                    f"{taken.component.__module__} and {component.__module__}"
                )
            self._entries[name] = Entry(component, config)
            return component

        return add

    def _import_all(self) -> None:
        if self._imported:
            return
        package = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{self.package}.{module.name}")
        self._imported = True

    def has_file(self, name: str) -> bool:
        """Whether the folder has the file of a component.  Imports none of them: most need torch."""
        return importlib.util.find_spec(f"{self.package}.{name}") is not None

    def names(self) -> list[str]:
        self._import_all()
        return sorted(self._entries)

    def __getitem__(self, name: str) -> Entry:
        names = self.names()
        if name not in self._entries:
            raise UserError(self.unknown(name, names))
        return self._entries[name]

    def unknown(self, name: object, names: Iterable[str]) -> str:
        known = list(names)
        return f"unknown {self.kind} {name!r}{nearest(str(name), known)} (known: {', '.join(known)})"

    def build(self, config: Any, *args: Any, **kwargs: Any) -> Any:
        """The component that `config.name` names, made as `Class(config, *args, **kwargs)`."""
        return self[config.name].component(config, *args, **kwargs)


BACKBONES = Registry("backbone", "pose.backbones")
NECKS = Registry("neck", "pose.necks")
PREDICTORS = Registry("predictor", "pose.predictors")
HEADS = Registry("head", "pose.heads")
DECODERS = Registry("decoder", "pose.decoders")
METRICS = Registry("metric", "pose.metrics")
OPTIMIZERS = Registry("optimizer", "pose.engine.optimizers")
SCHEDULES = Registry("schedule", "pose.engine.schedules")
