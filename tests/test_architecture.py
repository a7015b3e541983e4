"""The floor plan and the other promises of the layout, checked on every file that there is: a new module,
config or skeleton is tested without anybody writing a test for it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from pose import config, skeleton
from pose.errors import UserError
from pose.registry import BACKBONES, DECODERS, HEADS, METRICS, NECKS, PREDICTORS, Registry

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "configs"

# A module imports only lower floors and its own folder.  The keys are the files and folders of pose/.
FLOORS = {
    0: ["registry", "skeleton", "geometry", "checkpoint", "errors", "files", "images", "layers"]
    + ["cpu", "graphs", "workers", "download", "pickles", "foreign", "config_files", "streams"]
    + ["archives", "archive_members", "archive_tar", "archive_zip"],
    1: ["config"],
    2: ["structures"],
    # folders of one floor never import each other
    3: ["annotations", "synthetic", "backbones", "necks", "predictors", "targets", "losses"]
    + ["decoders", "draw"],
    4: ["data", "heads"],
    5: ["model"],
    6: ["predict", "metrics"],
    7: ["engine", "media", "report", "doctor", "panels"],
    8: [
        "experiment",
        "sessions",
        "exported",
        "inference",
        "runtimes",
        "run_folders",
        "options",
        "tested",
        "zoo",
    ],
    9: ["published"],
    10: ["predictor"],
    11: ["web"],
    12: ["train", "training", "first_weights", "test", "demo", "tools"],
}
FLOOR_OF = {name: floor for floor, names in FLOORS.items() for name in names}
# where the package's is another one
IMPORT_NAMES = {"opencv-python-headless": "cv2", "pyyaml": "yaml", "pillow": "PIL"}


# ------------------------------------------------------------------------------------------ reading the code


class Import(NamedTuple):
    target: str  # "pose.geometry", "numpy"
    line: int
    lazy: bool  # inside a function or under `if TYPE_CHECKING`


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imports(tree: ast.AST, module: str, known: Mapping[str, object], lazy: bool = False) -> Iterator[Import]:
    """Every import below `tree`, which is (part of) `module`; `known` tells `from pose import MODULE` from
    `from pose import VALUE`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, lazy)
        elif isinstance(node, ast.ImportFrom):
            # `from . import x` starts at pose.a in pose/a/b.py and in pose/a/__init__.py, known as pose.a
            parts = module.split(".") if known.get(module) == "package" else module.split(".")[:-1]
            above = ".".join(parts[: len(parts) - node.level + 1]) if node.level else ""
            source = ".".join(part for part in (above, node.module) if part)
            for alias in node.names:
                member = f"{source}.{alias.name}"
                yield Import(member if member in known else source, node.lineno, lazy)
        else:
            inner = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) or is_type_checking(node)
            yield from imports(node, module, known, lazy or inner)


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {
    module_name(path): path for path in sorted((ROOT / "pose").rglob("*.py")) if "_configs" not in path.parts
}
KINDS = {module: "package" if path.name == "__init__.py" else "file" for module, path in FILES.items()}
TREES = {module: ast.parse(path.read_text(encoding="utf-8")) for module, path in FILES.items()}
IMPORTS = {module: list(imports(tree, module, KINDS)) for module, tree in TREES.items()}


def place(module: str) -> str:
    """The file or folder directly below pose/ in which a module lies; "" is the package itself."""
    return module.partition(".")[2].partition(".")[0]


# ------------------------------------------------------------------------------------------------ the floors


def offences(module: str, found: list[Import]) -> Iterator[str]:
    """Imports that `module` must not have."""
    here = place(module)
    for target, line, _ in found:
        there = place(target)
        if target.partition(".")[0] != "pose" or not there or there == here:
            continue
        mine, other = FLOOR_OF[here], FLOOR_OF.get(there)
        both_files = KINDS.get(f"pose.{here}") == KINDS.get(f"pose.{there}") == "file"
        if other is None or other > mine or (other == mine and not both_files):
            yield f"line {line}: {module} (floor {mine}) imports {target} (floor {other})"


@pytest.mark.parametrize("module", [m for m in FILES if place(m)])
def test_a_module_imports_only_lower_floors_and_its_own_folder(module: str) -> None:
    assert place(module) in FLOOR_OF, f"give pose/{place(module)} a floor in FLOORS"
    assert list(offences(module, IMPORTS[module])) == []


@pytest.mark.parametrize(
    ("module", "source", "allowed"),
    [
        ("pose.heads.tags", "from pose.losses import masked_mse", True),
        ("pose.heads.tags", "from pose import geometry, skeleton", True),
        ("pose.heads.tags", "from .base import Head", True),
        ("pose.structures", "from pose.config import Settings", True),
        ("pose.registry", "from pose.errors import UserError", True),
        ("pose.backbones", "from pose import __version__", True),
        ("pose.synthetic.dataset", "from pose.targets import heatmaps", False),
        ("pose.targets.pafs", "from ..heads import base", False),
        ("pose.geometry", "def f():\n    import pose.config", False),
        ("pose.model", "from pose.metrics.coco_eval import evaluate", False),
        ("pose.metrics.coco", "from pose import tools", False),
    ],
)
def test_the_floor_test_itself(module: str, source: str, allowed: bool) -> None:
    found = list(imports(ast.parse(source), module, KINDS))
    assert (list(offences(module, found)) == []) == allowed


def find_cycle(graph: Mapping[str, set[str]]) -> list[str]:
    """A cycle as [a, b, a], or []."""
    done: set[str] = set()

    def visit(node: str, path: list[str]) -> list[str]:
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return []
        for other in sorted(graph.get(node, ())):
            cycle = visit(other, [*path, node])
            if cycle:
                return cycle
        done.add(node)
        return []

    return next((cycle for node in graph if (cycle := visit(node, []))), [])


def test_imports_have_no_cycle() -> None:
    graph = {
        module: {i.target for i in found if not i.lazy and i.target in FILES} - {"pose"}
        for module, found in IMPORTS.items()
    }
    assert find_cycle(graph) == []
    assert find_cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]


# --------------------------------------------------------------------------------------------- single files


@pytest.mark.parametrize("module", FILES)
def test_no_text_is_run_as_code(module: str) -> None:
    calls = [node for node in ast.walk(TREES[module]) if isinstance(node, ast.Call)]
    bare = [(c.func.id, c.lineno) for c in calls if isinstance(c.func, ast.Name)]
    assert [(name, line) for name, line in bare if name in ("eval", "exec")] == []


def bare_class_variables(tree: ast.AST) -> list[int]:
    """Lines on which a class attribute is annotated with `ClassVar` without an argument."""
    annotated = [node for node in ast.walk(tree) if isinstance(node, ast.AnnAssign)]
    return [n.lineno for n in annotated if ast.unparse(n.annotation).rpartition(".")[2] == "ClassVar"]


@pytest.mark.slow
def test_class_variables_have_a_type() -> None:
    """Python 3.10 cannot evaluate a bare `ClassVar`: pydantic fails at import.  Ruff finds syntax that the
    oldest Python lacks; `.ci/run` imports every module there and runs mypy."""
    files = [*FILES.values(), *ROOT.glob("tests/**/*.py"), *ROOT.glob("benchmarks/**/*.py")]
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in files}
    assert [f"{path}:{line}" for path, tree in trees.items() for line in bare_class_variables(tree)] == []


def test_the_class_variable_test_itself() -> None:
    source = "class A:\n a: ClassVar = 1\n b: typing.ClassVar = 1\n c: ClassVar[int] = 1\n d: int = 1"
    assert bare_class_variables(ast.parse(source)) == [2, 3]


def test_the_oldest_python_is_the_same_everywhere() -> None:
    """The version that pyproject.toml promises, the one that ruff checks the syntax of, and the scripts'."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    keys = {"requires-python": r">=3\.(\d+)", "target-version": r"py3(\d+)"}
    found = {key: re.findall(f'^{key} = "{value}"', text, re.MULTILINE) for key, value in keys.items()}
    assert found == dict.fromkeys(keys, ["10"])
    assert "sys.version_info < (3, 10)" in (ROOT / "scripts" / "_venv.sh").read_text(encoding="utf-8")


def test_mypy_checks_against_the_python_that_runs_it() -> None:
    """The stubs of NumPy are those of the installed Python: mypy misreads newer ones when it is told of an
    older Python."""
    assert "python_version" not in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_no_file_is_a_drawer_for_everything() -> None:
    drawers = ("utils", "util", "misc", "helpers", "common")
    assert [module for module in FILES if module.rpartition(".")[2] in drawers] == []


TESTS = sorted((ROOT / "tests" / "pose").rglob("test_*.py"))


def mirrored(path: Path) -> Path:
    """tests/pose/a/test_b.py -> pose/a/b.py."""
    inside = path.relative_to(ROOT / "tests")
    return ROOT / inside.with_name(inside.name.removeprefix("test_"))


def test_a_test_file_is_named_after_the_module_that_it_tests() -> None:
    """Tests of whole commands are in tests/commands, of every component in tests/components."""
    assert mirrored(ROOT / "tests/pose/heads/test_tags.py") == ROOT / "pose/heads/tags.py"
    assert [path.relative_to(ROOT).as_posix() for path in TESTS if not mirrored(path).is_file()] == []


def declared_dependencies() -> set[str]:
    """Import names of the packages that every installation has, from pyproject.toml."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    block = re.search(r"^dependencies = \[(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    assert block, "pyproject.toml lists no dependencies"
    names = re.findall(r'"([A-Za-z0-9_.-]+)', block[1])
    return {IMPORT_NAMES.get(name.lower(), name.replace("-", "_")) for name in names}


@pytest.mark.parametrize("module", FILES)
def test_what_a_module_needs_to_be_imported_is_always_installed(module: str) -> None:
    """Other packages are imported where they are used, with an error that says what to install."""
    allowed = declared_dependencies() | set(sys.stdlib_module_names) | {"pose"}
    needed = {i.target.partition(".")[0] for i in IMPORTS[module] if not i.lazy}
    assert needed <= allowed


@pytest.mark.slow
def test_the_lower_floors_import_without_optional_packages() -> None:
    """In a fresh process in which the developers' tools, and what only draws and logs, cannot be found."""
    blocked = {"matplotlib", "tensorboard", "pytest", "mypy", "ruff"}
    modules = ["pose", *(m for m in FILES if place(m) and FLOOR_OF.get(place(m), 9) <= 2)]
    program = (
        "import importlib, sys\n"
        "class Blocked:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] in {blocked!r}:\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Blocked())\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# ------------------------------------------------------------------------------------------------ components


def registrations(tree: ast.AST) -> list[str]:
    """Names in decorators like `@BACKBONES.register("hourglass", ...)`."""
    made = (ast.ClassDef, ast.FunctionDef)
    decorators = [d for node in ast.walk(tree) if isinstance(node, made) for d in node.decorator_list]
    return [
        ast.literal_eval(d.args[0])
        for d in decorators
        if isinstance(d, ast.Call) and isinstance(d.func, ast.Attribute) and d.func.attr == "register"
    ]


@pytest.mark.parametrize("module", [m for m in FILES if registrations(TREES[m])])
def test_a_components_name_is_its_files_name(module: str) -> None:
    assert registrations(TREES[module]) == [FILES[module].stem]


@pytest.mark.parametrize(
    "registry", [BACKBONES, NECKS, PREDICTORS, HEADS, DECODERS, METRICS], ids=lambda registry: registry.kind
)
def test_a_registry_knows_the_components_of_its_folder(registry: Registry) -> None:
    written = [n for m in FILES if m.startswith(f"{registry.package}.") for n in registrations(TREES[m])]
    assert written and set(written) <= set(registry.names())


# -------------------------------------------------------------------------------------- configs and skeletons


def relative(path: Path) -> str:
    return path.relative_to(CONFIGS).as_posix()


YAMLS = sorted(CONFIGS.rglob("*.yaml"))
EXPERIMENTS = [p for p in YAMLS if not p.relative_to(CONFIGS).parts[0].startswith(("_", "zoo"))]
SKELETONS = sorted((CONFIGS / "_skeletons").glob("*.yaml"))


@pytest.mark.parametrize("path", YAMLS, ids=relative)
def test_a_yaml_file_is_a_mapping_and_its_schema_comment_leads_somewhere(path: Path) -> None:
    assert config.read_yaml(path)
    named = re.search(r"yaml-language-server: \$schema=(\S+)", path.read_text(encoding="utf-8"))
    assert named is None or (path.parent / named[1]).resolve() == CONFIGS / "schema.json"


@pytest.mark.parametrize("path", EXPERIMENTS, ids=relative)
def test_a_config_loads_and_survives_being_written(path: Path, tmp_path: Path) -> None:
    from pose.experiment import load_config

    loaded = load_config(path)
    resolved = tmp_path / "config.yaml"
    resolved.write_text(config.to_yaml(loaded), encoding="utf-8")
    assert load_config(resolved) == loaded


@pytest.mark.parametrize("path", EXPERIMENTS, ids=relative)
def test_a_config_makes_a_model_that_can_be_trained(path: Path) -> None:
    import torch

    from pose.experiment import load_config
    from pose.training import check_shapes

    loaded = load_config(path)
    with torch.device("meta"):
        model = loaded.build_model()
    check_shapes(loaded, model.size_multiple)


@pytest.mark.parametrize("path", EXPERIMENTS, ids=relative)
def test_a_config_refuses_an_unknown_key(path: Path) -> None:
    from pose.experiment import load_config

    with pytest.raises(UserError, match=r"train\.no_such_key: unknown key"):
        load_config(path, ["train.no_such_key=1"])


@pytest.mark.parametrize("path", SKELETONS, ids=relative)
def test_a_skeleton_mirrors_onto_itself(path: Path) -> None:
    one = skeleton.from_dict(config.read_yaml(path))
    assert one.name == path.stem
    flip = one.flip_index
    assert [flip[flip[k]] for k in range(len(one))] == list(range(len(one)))
    limbs = {frozenset(limb) for limb in one.limb_index}
    assert {frozenset(flip[k] for k in limb) for limb in limbs} == limbs
    # AI Challenger's sigmas, and those of COCO-WholeBody's faces, were measured for each side apart
    ratios = [one.sigmas[k] / sigma for k, sigma in zip(flip, one.sigmas, strict=True)]
    assert max(ratios) < (4 if one.name == "coco_wholebody133" else 1.4)  # its face-47 stands out
    assert skeleton.from_dict(skeleton.to_dict(one)) == one
