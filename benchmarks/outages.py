"""Measures what an MLflow that can't be had costs a stage: python benchmarks/outages.py [--quick].

A stage of simulated epochs, 50 ms of work each, runs in a copy of the study under each fault, in turns. The table says
the wall time of its epochs, the ratio to that without a fault, and the seconds from the last epoch to the exit.
"""

import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # a processor is left to MLflow
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import numpy as np

from copied_study import copy_study
from mlflow_faults import FAULTS, SIZE, Ended, start_epochs, wait_for_end

EPOCH_S = 0.05
ROUNDS, NUM_EPOCHS = 3, 200
HIDDEN = ("MLFLOW_", "DVC_", "PYTHONPATH")


def main() -> None:
    """Measures and prints the table."""
    is_quick = sys.argv[1:] == ["--quick"]
    rounds, num_epochs = (1, 20) if is_quick else (ROUNDS, NUM_EPOCHS)
    num_products = count_products()
    found: dict[str, list[Ended]] = {name: [] for name in FAULTS}
    for number in range(rounds):
        for name in FAULTS:
            found[name].append(measure(name, num_epochs, num_products))
            print(f"round {number + 1}/{rounds}  {name}  {found[name][-1]}", file=sys.stderr, flush=True)
    print(f"{num_epochs} epochs of {1000 * EPOCH_S:.0f} ms, median of {rounds}\n")
    print("| MLflow | epochs, s | ratio | exit, s |\n|---|---|---|---|")
    for name, ended in found.items():
        epochs_s = median(item.epochs_s for item in ended)
        ratio = median(item.epochs_s / none.epochs_s for item, none in zip(ended, found["none"], strict=True))
        print(f"| {name} | {epochs_s:.2f} | {ratio:.3f} | {median(item.end_s for item in ended):.1f} |")


def count_products() -> int:
    """Returns how many matrix products take as long as an epoch's work on this machine, alone."""
    matrix = np.ones((SIZE, SIZE)) / SIZE
    times_s = []
    for _ in range(20):
        began_s = time.perf_counter()
        matrix = matrix @ matrix
        times_s.append(time.perf_counter() - began_s)
    return round(EPOCH_S / min(times_s))


def measure(name: str, num_epochs: int, num_products: int) -> Ended:
    """Runs the stage once under a fault, in a study whose database exists."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(HIDDEN)}
    with tempfile.TemporaryDirectory() as folder:
        study = copy_study(Path(folder) / "study", tracking_timeout_s=5)
        wait_for_end(start_epochs(study, kept, 1))  # whose first start would be measured otherwise
        with FAULTS[name](study) as variables:
            ended = wait_for_end(start_epochs(study, {**kept, **variables}, num_epochs, num_products=num_products))
    if ended.code:
        sys.exit(ended.stderr)
    return ended


if __name__ == "__main__":
    main()
