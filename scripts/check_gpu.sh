#!/usr/bin/env bash
# Checks a GPU with this project, without data, in at most eight minutes:
#
#   bash scripts/check_gpu.sh [--minutes N] [--output DIR] [--device cpu --smallest]
#
# tests that training and testing give the CPU's numbers in every precision and memory format, then measures
# images per second, MFU and peak memory of the published networks.  Writes gpu.json and gpu.md to the folder
# (default exp/check_gpu).  --device cpu --smallest shows on a machine without a GPU that everything runs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

device=cuda
arguments=(--output exp/check_gpu) # a later --output counts
while [[ $# -gt 0 ]]; do
    case "$1" in
        -h | --help)
            sed -n '2,8s/^# \{0,1\}//p' scripts/check_gpu.sh
            exit 0
            ;;
        --device) device="${2:-}" ;;
    esac
    arguments+=("$1")
    shift
done
set -- "${arguments[@]}"

# shellcheck disable=SC2034  # read by _venv.sh
POSE_EXTRAS=dev
# shellcheck source=scripts/_venv.sh
source scripts/_venv.sh

if [[ "$device" == cuda* ]] && ! "$PYTHON" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    fail "no GPU is visible here (nvidia-smi shows whether the driver sees one, CUDA_VISIBLE_DEVICES may hide" \
        "it); --device cpu --smallest shows that everything runs"
fi

limit=120 # seconds, of a GPU's eight minutes
if [[ "$device" == cpu ]]; then limit=600; fi

say "1 of 2: tests"
POSE_CHECK_DEVICE="${device%%:*}" timeout "$limit" "$PYTHON" -m pytest -q -p no:cacheprovider -m gpu tests/gpu

say "2 of 2: measurements"
"$PYTHON" -m benchmarks.gpu --minutes 5.5 "$@"
