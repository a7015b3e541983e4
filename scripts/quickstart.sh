#!/usr/bin/env bash
# From a clone to a trained and tested network, without a download of data:
#
#   bash scripts/quickstart.sh [key.sub=value ...]
#
# makes .venv, draws a little data set, trains on it, tests, and names what came out.  Start it again at any
# time: it goes on where it was.  key.sub=value changes a setting of a new training: train.batch_size=8.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

name=quickstart
config=configs/synthetic/ae_small.yaml

for argument in "$@"; do
    case "$argument" in
        -h | --help)
            sed -n '2,8s/^# \{0,1\}//p' scripts/quickstart.sh
            exit 0
            ;;
        *=*) ;;
        *)
            echo "error: cannot read '$argument'; settings are written key.sub=value, for example train.batch_size=8" >&2
            exit 2
            ;;
    esac
done

if [[ $# -gt 0 && -d "exp/$name" ]]; then
    echo "error: exp/$name has its settings already; delete that folder to train with others, or give none" >&2
    exit 2
fi

# shellcheck source=scripts/_venv.sh
source scripts/_venv.sh

say "1 of 4: drawing the data set (nothing to do where it is there)"
"$PYTHON" -m pose.tools.synthesize

if [[ -d "exp/$name" ]]; then
    say "2 of 4: exp/$name exists: training goes on where it stopped (to start over, delete that folder)"
    "$PYTHON" -m pose.train -c "$name"
else
    say "2 of 4: training; Ctrl-C is safe, the next start goes on"
    "$PYTHON" -m pose.train -e "$name" --config "$config" "$@"
fi

# in float32, so that the numbers are those of the README whatever the processor computes in
say "3 of 4: testing at one scale"
"$PYTHON" -m pose.test -c "$name" -m single --save-pictures 8 test.precision=fp32

say "4 of 4: testing at several scales, mirrored too"
"$PYTHON" -m pose.test -c "$name" -m multi test.precision=fp32

say "done; what came out:"
for file in pictures-single.png curves.png metrics-{single,multi}.json results-{single,multi}.json best.pt last.pt; do
    if [[ -e "exp/$name/$file" ]]; then printf '    exp/%s/%s\n' "$name" "$file"; fi
done
