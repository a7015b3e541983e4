#!/usr/bin/env bash
# Style, types and tests on one Python, as continuous integration runs them:
#
#   bash scripts/test.sh [arguments of pytest]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

POSE_EXTRAS=dev
# shellcheck source=scripts/_venv.sh
source scripts/_venv.sh

say "ruff check"
"$PYTHON" -m ruff check .
say "mypy"
"$PYTHON" -m mypy
say "pytest"
# one process per core, at most 8; the tests of a file share what they set up
if [[ $# -eq 0 ]]; then set -- -q -n auto --maxprocesses 8 --dist loadfile; fi
exec "$PYTHON" -m pytest "$@"
