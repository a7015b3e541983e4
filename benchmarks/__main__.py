"""All comparisons in one table: the literal way of the published systems, or of what stands beside the part,
against ours; hot and cold, processor and wall time.

    python -m benchmarks [--smallest]

A new part is a module with `rows(smallest)` and an entry in PARTS.  Each is also a command of its own.
"""

from __future__ import annotations

import importlib.util
import os
import sys

import torch

from benchmarks import (
    aic_score,
    archives,
    coco_score,
    demo,
    grouping,
    higher_hrnet,
    machine,
    multicut,
    paf_groups,
    paf_targets,
    reading,
    runtimes,
    sample,
    startup,
    steps,
    tag_loss,
)
from benchmarks.timing import command_line, print_table
from pose.errors import user_facing

PARTS = (
    sample,
    tag_loss,
    higher_hrnet,
    steps,
    runtimes,
    grouping,
    paf_targets,
    paf_groups,
    multicut,
    aic_score,
    coco_score,
    reading,
    archives,
    startup,
    demo,
)

PEERS = {  # packages that some rows need
    "pycocotools": "COCO's AP and reading against pycocotools",
    "faster_coco_eval": "COCO's AP by faster-coco-eval",
    "hotcoco": "COCO's AP by hotcoco",
}


def unmeasured() -> list[str]:
    """What this machine cannot measure, a sentence each."""
    found = machine.describe()
    sentences = []
    if not torch.cuda.is_available():
        sentences.append(
            "everything on a GPU: there is none here; bash scripts/check_gpu.sh on a machine with one"
        )
    for feature, missing in (("avx512_bf16", "bf16 on this CPU at speed"), ("amx_bf16", "bf16 by AMX")):
        if feature not in found.features:
            sentences.append(f"{missing}: the CPU has no {feature}")
    sentences += [
        f"{what}: the package {name} is not installed"
        for name, what in PEERS.items()
        if importlib.util.find_spec(name) is None
    ]
    if hasattr(os, "getloadavg") and os.getloadavg()[0] > 1:
        sentences.append(
            f"wall time: {os.getloadavg()[0]:.1f} other processes want this machine's {os.cpu_count()} cores"
        )
    return sentences


def main(arguments: list[str] | None = None) -> None:
    options = command_line("benchmarks", __doc__).parse_args(arguments)
    print(machine.describe())
    missing = unmeasured()  # before the benchmarks are a load themselves
    print_table([part.rows for part in PARTS], options.smallest)
    print("not measured:", *(f"  {sentence}" for sentence in missing or ["nothing"]), sep="\n")


if __name__ == "__main__":
    sys.exit(user_facing(main)())
