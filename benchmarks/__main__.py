"""All comparisons with the literal way, in one table.

python -m benchmarks [--smallest]
"""

from __future__ import annotations

from benchmarks import (
    aic_score,
    coco_score,
    grouping,
    higher_hrnet,
    multicut,
    paf_groups,
    paf_targets,
    sample,
    tag_loss,
)
from benchmarks.timing import print_rows

PARTS = (sample, tag_loss, higher_hrnet, grouping, paf_targets, paf_groups, multicut, aic_score, coco_score)


def main(arguments: list[str] | None = None) -> None:
    print_rows("benchmarks", __doc__, [part.rows for part in PARTS], arguments)


if __name__ == "__main__":
    main()
