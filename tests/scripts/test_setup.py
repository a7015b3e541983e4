"""The scripts' cheap sides: they parse, set up once, and say in a sentence what is wrong."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted([*ROOT.glob("scripts/*.sh"), ROOT / ".ci" / "run"])

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="bash scripts")


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_valid_bash(script: Path) -> None:
    subprocess.run(["bash", "-n", script], check=True)


def test_what_is_started_by_name_is_executable() -> None:
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository root with the set-up in it, and an environment whose pip only notes how it was called."""
    root = tmp_path / "checkout"
    (root / "scripts").mkdir(parents=True)
    for name in ("_venv.sh", "constraints.txt", "test_other_pythons.sh"):
        shutil.copy(ROOT / "scripts" / name, root / "scripts")
    (root / "pyproject.toml").write_text("[project]\n")
    program(
        root / ".venv" / "bin" / "python",
        '#!/bin/sh\nif [ "$2" = pip ]; then echo "$@" >> pip.log; exit $(cat pip.exit); fi\n'
        f'exec "{sys.executable}" "$@"\n',
    )
    (root / "pip.exit").write_text("0")
    return root


def set_up(root: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("POSE_")}
    return subprocess.run(
        ["bash", "-c", "source scripts/_venv.sh; echo policy $OMP_WAIT_POLICY"],
        cwd=root, env={**kept, **environment}, capture_output=True, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def installs(root: Path) -> list[str]:
    log = root / "pip.log"
    return [line.split()[-1] for line in log.read_text().splitlines()] if log.exists() else []


def test_set_up_installs_once(checkout: Path) -> None:
    first = set_up(checkout, OMP_WAIT_POLICY="")
    assert first.returncode == 0, first.stderr
    assert "policy PASSIVE" in first.stdout
    assert "up to date" in set_up(checkout).stdout
    assert installs(checkout) == ["."]


def test_set_up_installs_again_when_the_requirements_change(checkout: Path) -> None:
    set_up(checkout)
    (checkout / "pyproject.toml").write_text("[project]\ndependencies = []\n")
    set_up(checkout)
    assert installs(checkout) == [".", "."]


def test_the_tools_that_check_are_installed_in_pinned_versions(checkout: Path) -> None:
    """A new pin is installed, too."""
    set_up(checkout, POSE_EXTRAS="dev")
    assert "--constraint scripts/constraints.txt" in (checkout / "pip.log").read_text()
    (checkout / "scripts" / "constraints.txt").write_text("mypy==9.9.9\n")
    set_up(checkout, POSE_EXTRAS="dev")
    assert installs(checkout) == [".[dev]", ".[dev]"]


def test_only_tools_that_check_are_pinned() -> None:
    """What the code runs with stays free, so that the newest libraries are tested."""
    lines = (ROOT / "scripts" / "constraints.txt").read_text().splitlines()
    pins = [line.split("==") for line in lines if not line.startswith("#")]
    assert all(len(pin) == 2 for pin in pins)
    project = (ROOT / "pyproject.toml").read_text()
    tools = re.findall(r'"(pytest|pytest-xdist|ruff|mypy|types-[A-Za-z0-9-]+)[">=<]', project)
    assert sorted(name for name, _ in pins) == sorted(tools)


def test_the_developers_environment_also_serves_the_quick_start(checkout: Path) -> None:
    set_up(checkout)
    set_up(checkout, POSE_EXTRAS="dev")
    set_up(checkout)
    set_up(checkout, POSE_EXTRAS="dev")
    assert installs(checkout) == [".", ".[dev]"]


def test_a_failed_install_is_not_taken_for_done(checkout: Path) -> None:
    (checkout / "pip.exit").write_text("1")
    failed = set_up(checkout)
    assert failed.returncode == 2 and "error: the installation into .venv failed" in failed.stderr
    (checkout / "pip.exit").write_text("0")
    assert set_up(checkout).returncode == 0
    assert len(installs(checkout)) == 2


def test_the_environment_can_lie_elsewhere(checkout: Path, tmp_path: Path) -> None:
    shutil.move(checkout / ".venv", tmp_path / "other")
    done = set_up(checkout, POSE_VENV=str(tmp_path / "other"))
    assert done.returncode == 0, done.stderr
    assert not (checkout / ".venv").exists()


def test_an_old_python_gives_a_sentence(checkout: Path, tmp_path: Path) -> None:
    """Nothing on the PATH is new enough: every candidate answers as an old one would."""
    shutil.rmtree(checkout / ".venv")
    names = ["python", "python3", *(f"python3.{minor}" for minor in range(10, 15))]
    for name in names:
        program(tmp_path / "old" / name, "#!/bin/sh\nexit 1\n")
    done = set_up(checkout, PATH=f"{tmp_path / 'old'}{os.pathsep}{os.environ['PATH']}")
    assert done.returncode == 2
    assert "found no Python 3.10 or later" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1

    named = set_up(checkout, POSE_PYTHON=str(tmp_path / "old" / "python"))
    assert named.returncode == 2 and "POSE_PYTHON" in named.stderr


# ------------------------------------------------------------------------------------------ several Pythons

FAKE = """#!/bin/sh
case "$*" in
  *ensurepip*|*exit*) ;;  # whether it can be used
  *version_info*) echo VERSION ;;
  --version|"- "*) echo "Python VERSION" ;;  # also for the fingerprint
  "-m venv "*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python" ;;
  *) echo "$0 $*" >> runs.log; [ "$2" != "$FAULT" ] ;;
esac
"""


@pytest.fixture
def machine(checkout: Path, tmp_path: Path) -> dict[str, str]:
    """Variables of a machine that has Python 3.11 in the environment and 3.10 to 3.13 in pyenv, all of them
    fakes that note in runs.log what they are given to run.  FAULT: the module with which they fail."""
    program(checkout / ".venv" / "bin" / "python", FAKE.replace("VERSION", "3.11"))
    for version in ("3.10", "3.11", "3.12", "3.13"):
        path = tmp_path / "pyenv" / "versions" / f"{version}.1" / "bin" / "python"
        program(path, FAKE.replace("VERSION", version))
    for minor in range(10, 15):  # as pyenv's are for a version that is not chosen
        program(tmp_path / "shims" / f"python3.{minor}", "#!/bin/sh\nexit 127\n")
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith("POSE_") and name != "CI"
    }
    search = f"{tmp_path / 'shims'}{os.pathsep}{os.environ['PATH']}"
    return {**kept, "PATH": search, "PYENV_ROOT": str(tmp_path / "pyenv"), "FAULT": "none"}


def check_others(root: Path, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "scripts/test_other_pythons.sh"],
        cwd=root, env=variables, capture_output=True, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def runs(root: Path, folder: str) -> list[str]:
    """What the Python of an environment was given to run."""
    given = [line.split() for line in (root / "runs.log").read_text().splitlines()]
    return [" ".join(words[1:3]) for words in given if words[0] == f"{folder}/bin/python"]


def test_the_oldest_and_the_newest_other_python_are_checked(checkout: Path, machine: dict[str, str]) -> None:
    done = check_others(checkout, machine)
    assert done.returncode == 0, done.stderr
    checks = ["-m pip", "-", "-m mypy", "-m pytest"]  # - is the program that imports every module
    assert runs(checkout, ".venv-3.10") == checks and runs(checkout, ".venv-3.13") == checks
    assert runs(checkout, ".venv") == ["-m pip"]
    assert sorted(path.name for path in checkout.glob(".venv*")) == [".venv", ".venv-3.10", ".venv-3.13"]


def test_the_environments_of_other_pythons_are_deleted_in_ci(checkout: Path, machine: dict[str, str]) -> None:
    assert check_others(checkout, {**machine, "CI": "true"}).returncode == 0
    assert [path.name for path in checkout.glob(".venv*")] == [".venv"]


def test_one_other_python_is_checked_once(checkout: Path, machine: dict[str, str], tmp_path: Path) -> None:
    for version in ("3.12", "3.13"):
        shutil.rmtree(tmp_path / "pyenv" / "versions" / f"{version}.1")
    assert check_others(checkout, machine).returncode == 0
    assert runs(checkout, ".venv-3.10").count("-m pytest") == 1


def test_without_another_python_one_line_says_so(checkout: Path, machine: dict[str, str]) -> None:
    done = check_others(checkout, {**machine, "PYENV_ROOT": str(checkout)})
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("==> skipped: this machine has no other Python")


@pytest.mark.parametrize("fault", ["pip", "mypy", "pytest"])
def test_a_failed_check_of_another_python_fails_all(
    checkout: Path, machine: dict[str, str], fault: str
) -> None:
    set_up_first = check_others(checkout, {**machine, "PYENV_ROOT": str(checkout)})
    assert set_up_first.returncode == 0
    assert check_others(checkout, {**machine, "FAULT": fault}).returncode != 0
    assert runs(checkout, ".venv-3.13") == []


def test_quickstart_refuses_what_is_no_setting() -> None:
    script = ROOT / "scripts" / "quickstart.sh"
    done = subprocess.run(["bash", script, "fast"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and "key.sub=value" in done.stderr


def test_git_keeps_the_source_and_ignores_what_is_made(tmp_path: Path) -> None:
    """`data/` in .gitignore would also hide the package `pose/data`."""
    if shutil.which("git") is None:
        pytest.skip("no git on this machine")
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    shutil.copy(ROOT / ".gitignore", tmp_path)
    kept = ["pose/data/dataset.py", "tests/pose/data/test_a.py", "data/README.md", "exp/README.md", ".ci/run"]
    made = ["data/coco/a.jpg", "exp/quickstart/last.pt", ".venv/bin/python", "pose/__pycache__/a.pyc"]
    done = subprocess.run(
        ["git", "-C", tmp_path, "check-ignore", *kept, *made], capture_output=True, text=True
    )
    assert done.stdout.split() == made
