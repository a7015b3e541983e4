# Sourced by the scripts beside it, from the repository root: makes a virtual environment with the project in
# it, or does nothing where that is done, and defines PYTHON.  constraints.txt beside it holds the versions of the
# tools that check the code.
#
#   POSE_EXTRAS=dev     also install this group of optional dependencies of pyproject.toml
#   POSE_VENV=PATH      the environment's folder (default .venv)
#   POSE_PYTHON=PATH    the Python to make it with (default: the first one of version 3.10 or later)
#
# shellcheck shell=bash

set -euo pipefail
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-PASSIVE}" # spinning threads starve the workers of a small machine

say() { printf '==> %s\n' "$*"; }
fail() {
    printf 'error: %s\n' "$*" >&2
    exit 2
}

is_recent_python() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1; }

find_python() {
    local candidate
    if [[ -n "${POSE_PYTHON:-}" ]]; then
        is_recent_python "$POSE_PYTHON" || fail "POSE_PYTHON=$POSE_PYTHON is no Python of version 3.10 or later"
        printf '%s\n' "$POSE_PYTHON"
        return
    fi
    for candidate in python3 python3.14 python3.13 python3.12 python3.11 python3.10 python; do
        if is_recent_python "$candidate"; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    fail "found no Python 3.10 or later; install one from https://www.python.org/downloads (or your system's" \
        "package manager), or name it: POSE_PYTHON=/path/to/python bash scripts/quickstart.sh"
}

# What is installed, in a word: changes when the environment has to be brought up to date.
fingerprint() {
    "$PYTHON" - "$1" <<'PYTHON_END'
import hashlib, pathlib, sys
text = b"".join(pathlib.Path(name).read_bytes() for name in ("pyproject.toml", "scripts/constraints.txt"))
text += f"{sys.version} {sys.argv[1]} {pathlib.Path.cwd()}".encode()
print(hashlib.sha256(text).hexdigest())
PYTHON_END
}

make_environment() {
    local base
    base="$(find_python)"
    say "making the virtual environment $VENV with $("$base" --version)"
    if ! "$base" -m venv "$VENV"; then
        rm -f "$PYTHON" # half an environment: the next run starts over
        fail "cannot make a virtual environment in $VENV (on Debian or Ubuntu: sudo apt install python3-venv)"
    fi
}

set_up() {
    local extras="${POSE_EXTRAS:-}" target="." stamp
    VENV="${POSE_VENV:-.venv}"
    PYTHON="$VENV/bin/python"
    if [[ ! -x "$PYTHON" ]]; then
        make_environment
    fi
    is_recent_python "$PYTHON" || fail "the Python in $VENV does not run or is older than 3.10; delete $VENV" \
        "and start again"
    # one stamp per group, so that the tests' environment also serves the quick start without a second install
    stamp="$VENV/pose-installed${extras:+-$extras}"
    if [[ -f "$stamp" && "$(cat "$stamp")" == "$(fingerprint "$extras")" ]]; then
        say "the environment $VENV is up to date"
        return
    fi
    [[ -n "$extras" ]] && target=".[$extras]"
    say "installing the project and what it needs into $VENV (PyTorch is large: about 5 GB, some minutes)"
    "$PYTHON" -m pip install --no-input --disable-pip-version-check --constraint scripts/constraints.txt \
        --editable "$target" ||
        fail "the installation into $VENV failed, see above; run this again when that is mended"
    fingerprint "$extras" >"$stamp"
    if [[ -n "$extras" ]]; then fingerprint "" >"$VENV/pose-installed"; fi
    say "the environment $VENV is ready"
}

set_up
