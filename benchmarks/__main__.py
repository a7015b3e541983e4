"""All comparisons with the literal way, in one table: python -m benchmarks"""

from __future__ import annotations

from benchmarks import aic_score, grouping, multicut, paf_groups, paf_targets, sample, tag_loss


def main() -> None:
    print(f"{'':<62}{'literal':>10}{'ours':>10}{'ratio':>8}")
    for part in (sample, tag_loss, grouping, paf_targets, paf_groups, multicut, aic_score):
        for what, literal, ours in part.rows():
            print(f"{what:<62}{literal:>7.1f} ms{ours:>7.2f} ms{literal / ours:>7.1f}x")


if __name__ == "__main__":
    main()
