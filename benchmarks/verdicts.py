"""Simulates whole studies with known truths, setting by setting: python benchmarks/verdicts.py [--studies N].

A line per setting goes into docs/benchmarks-verdicts.csv as soon as it is known; what stands there already isn't run
again. The table in docs/statistics.md is written from it by --table.
"""

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from simulated_studies import Cell, list_cells, simulate  # noqa: E402

PATH, PAGE = ROOT / "docs/benchmarks-verdicts.csv", ROOT / "docs/statistics.md"
KEYS = ["num_models", "num_images", "num_seeds", "accuracy", "spread", "kind"]
MARKS = ("<!-- simulation -->", "<!-- /simulation -->")
#: Rates of which the lowest counts, and those of which the highest does.
LOWEST, HIGHEST = ("own", "best", "pairs"), ("better", "as_good", "cost")


def name_cell(kind: str, cell: Cell) -> tuple[object, ...]:
    """Returns a setting's place in the table: spreads in points, `mixed` where models differ in theirs."""
    spread = f"{100 * cell.spreads[0]:.1f}" if len(set(cell.spreads)) == 1 else "mixed"
    return (len(cell.accuracies), cell.num_images, cell.num_seeds, cell.accuracies[-1], spread, kind)


def run_cell(work: tuple[str, Cell, int]) -> pd.DataFrame:
    """Simulates a setting and returns its line."""
    kind, cell, num_studies = work
    rates = simulate(cell, num_studies, seed=hash(cell[:3]) % 2**32)
    row = dict(zip(KEYS, name_cell(kind, cell), strict=True)) | {"num_studies": num_studies} | rates._asdict()
    return pd.DataFrame([row])


def run(
    num_studies: int, models: tuple[int, ...], images: tuple[int, ...], seeds: tuple[int, ...], workers: int
) -> None:
    """Simulates what the table doesn't hold yet."""
    done = set()
    if PATH.exists():
        table = pd.read_csv(PATH, dtype={"spread": str})
        done = set(table[KEYS].itertuples(index=False, name=None))
    cells = [
        (kind, cell, num_studies)
        for kind, cell in list_cells(images, seeds, models)
        if name_cell(kind, cell) not in done
    ]
    with ProcessPoolExecutor(workers) as pool:
        for line in pool.map(run_cell, cells):
            line.to_csv(PATH, mode="a", header=not PATH.exists(), index=False, float_format="%.5g")


def write_table() -> None:
    """Writes the worst rates of each number of models, images and seeds into the page."""
    table = pd.read_csv(PATH, dtype={"spread": str})
    groups = table.groupby(["num_models", "num_images", "num_seeds"])
    worst = pd.concat([groups[list(LOWEST)].min(), groups[list(HIGHEST)].max()], axis=1)
    fair = table[table["former_pairs"] >= 0.94].groupby(["num_models", "num_images", "num_seeds"])
    ratio = fair.apply(lambda rows: (rows["half_width"] / rows["former_half_width"]).median(), include_groups=False)
    header = ["models", "images", "seeds", "own", "best", "difference", "better", "as good", "cost", "width"]
    lines = [f"| {' | '.join(header)} |", f"|{'--:|' * len(header)}"]
    for key, row in worst.iterrows():
        rates = [f"{100 * row[name]:.1f}" for name in (*LOWEST, *HIGHEST)]
        width = f"{ratio[key]:.2f}" if key in ratio.index else "\u2013"
        lines.append(f"| {' | '.join([*(f'{number:,}' for number in key), *rates, width])} |")
    page = PAGE.read_text(encoding="utf-8")
    before, after = page.split(MARKS[0])[0], page.split(MARKS[1])[1]
    PAGE.write_text("".join((before, MARKS[0], "\n", "\n".join(lines), "\n", MARKS[1], after)), encoding="utf-8")


def main() -> None:
    """Reads the command line."""

    def numbers(text: str) -> tuple[int, ...]:
        return tuple(int(part) for part in text.split(","))

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--models", type=numbers, default=(2, 4, 10, 20))
    parser.add_argument("--images", type=numbers, default=(30, 100, 1000, 10_000))
    parser.add_argument("--seeds", type=numbers, default=(1, 2, 3, 5))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--table", action="store_true", help="write the page's table and simulate nothing")
    arguments = parser.parse_args()
    if not arguments.table:
        run(arguments.studies, arguments.models, arguments.images, arguments.seeds, arguments.workers)
    write_table()


if __name__ == "__main__":
    main()
