#!/usr/bin/env bash
# Check the oldest and the newest Python of this machine that scripts/test.sh does not use: import every module,
# check types, run the fast tests (those not marked `slow`):
#
#   bash scripts/test_other_pythons.sh
#
# Pythons are found on the PATH and among those of pyenv.  Each gets an environment of its own, .venv-3.X (5 GB),
# which is deleted after the checks where CI is set.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

supported="3.10 3.11 3.12 3.13 3.14" # from old to new

POSE_EXTRAS=dev
# shellcheck source=scripts/_venv.sh
source scripts/_venv.sh

version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])'; }
has_pip() { "$1" -c 'import ensurepip' >/dev/null 2>&1; } # Debian's Python has it only with python3-venv

# "VERSION PROGRAM" of every supported Python but the one of scripts/test.sh, from old to new.
list_others() {
    local used version program
    used="$(version_of "$PYTHON")"
    for version in $supported; do
        [[ "$version" != "$used" ]] || continue
        for program in "python$version" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version".*/bin/python; do
            if has_pip "$program" && [[ "$(version_of "$program")" == "$version" ]]; then
                printf '%s %s\n' "$version" "$program"
                break
            fi
        done
    done
}

import_all() {
    "$PYTHON" - <<'PYTHON_END'
import importlib, pkgutil, pose
names = [module.name for module in pkgutil.walk_packages(pose.__path__, "pose.")]
for name in names:
    importlib.import_module(name)
print(f"{len(names)} modules")
PYTHON_END
}

check() { # VERSION PROGRAM
    POSE_VENV=".venv-$1" POSE_PYTHON="$2"
    set_up
    say "Python $1: import of every module"
    import_all
    say "Python $1: mypy"
    "$PYTHON" -m mypy
    say "Python $1: fast tests"
    "$PYTHON" -m pytest -q -n auto --maxprocesses 8 --dist loadfile -m "not slow"
    if [[ -n "${CI:-}" ]]; then rm -rf "$VENV"; fi
}

others="$(list_others)"
if [[ -z "$others" ]]; then
    say "skipped: this machine has no other Python (looked for $supported)"
    exit 0
fi
while read -r version program <&3; do
    check "$version" "$program"
done 3< <(printf '%s\n' "$others" | sed -n '1p;$p' | uniq)
