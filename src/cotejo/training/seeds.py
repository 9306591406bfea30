"""One training per seed: resumed where a kill has left it, saved, timed, tracked."""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from cotejo.models.layers import find_precision
from cotejo.schema import Training
from cotejo.tracking.journal import Run
from cotejo.training.archive import save_model
from cotejo.training.callbacks import Logs
from cotejo.training.checkpoint import Checkpoints
from cotejo.training.fit import Fit, Job, fit
from cotejo.training.hardware import Hardware, describe_hardware, measure_peak_memory, start_afresh
from cotejo.training.progress import open_board


class Trained(NamedTuple):
    """A trained seed: its run, its row of timings, and the shapes that the model takes and gives."""

    run: Run
    timing: dict[str, Any]
    input_shape: tuple[int, ...]
    num_classes: int


def train_seeds(
    prepare: Callable[[int], Job],
    settings: Training,
    seeds: Sequence[int],
    hardware: Hardware,
    run: Run,
    checkpoints: Path,
    folder: Path,
) -> list[Trained]:
    """Trains once per seed; writes `seed-<s>/model.keras` and `seed-<s>/history.csv`, and a tracked run for each.

    Args:
        prepare: Builds the job of a seed; called after every generator has been seeded with it.
        settings: The stage's section of `params.yaml`.
        seeds: One training each.
        hardware: What to train on.
        run: The stage's run; each seed gets a run below it.
        checkpoints: A folder that outlives a kill, of this stage with these inputs.
        folder: An existing folder.

    Raises:
        ModelError: The loss is no longer finite, or the model can't be trained.
    """
    trained = []
    for seed in seeds:
        start_afresh(seed, hardware)
        with hardware.strategy.scope():
            job = prepare(seed)
        name = f"{run.name} seed {seed}"
        places = Checkpoints(checkpoints / f"seed-{seed}", name)
        with run.start_child(name, places.run) as child:
            places.run = child.uid
            result = _train_seed(job, settings, seed, hardware, child, places)
        target = folder / f"seed-{seed}"
        target.mkdir()
        save_model(job.model, target / "model.keras")
        result.history.to_csv(target / "history.csv", index=False)
        times = _summarize_times(result.times, len(job.train.labels))
        timing = {"seed": seed, "precision": find_precision(job.trained), **times}
        trained.append(Trained(child, timing, job.model.input_shape[1:], job.model.output_shape[-1]))
    return trained


def _train_seed(job: Job, settings: Training, seed: int, hardware: Hardware, run: Run, places: Checkpoints) -> Fit:
    tracked = run.find_last_step()
    board = open_board(run.tracker.folder.with_name("tensorboard") / f"{run.name} {run.uid[:8]}")

    def report(row: Logs) -> None:
        if row["epoch"] > tracked:  # else tracked before its checkpoint was lost, and trained again
            run.log_epoch(row)
            run.flush()
            board(row)

    last = places.last
    if last is None:
        run.log_params({**settings.model_dump(), "seed": seed, "parameters": job.model.count_params()})
    else:
        going_on = "had ended" if last.record["has_ended"] else f"goes on from epoch {last.epoch + 1}"
        print(f"{run.name} {going_on}: found the checkpoint of epoch {last.epoch}", file=sys.stderr, flush=True)
        for row in last.record["rows"]:  # an epoch may have been saved and killed before it was tracked
            report(row)
    result = fit(job, settings, seed, run.name, report, hardware, places)
    if not run.has_ended():
        run.log_metrics({"best_epoch": result.best_epoch, "train_time_s": float(result.times["epoch_time_s"].sum())})
    return result


def log_trained(trained: Sequence[Trained], folder: Path) -> None:
    """Sends the models and histories of all seeds to their runs, from the folder in which they stay."""
    for result in trained:
        target = folder / f"seed-{result.timing['seed']}"
        result.run.log_artifact(target / "history.csv")
        result.run.log_model(target / "model.keras", result.input_shape, result.num_classes)
        result.run.flush()


def save_timings(trained: Sequence[Trained], stage: str, hardware: Hardware, path: Path) -> None:
    """Writes what a clock measured, apart from the metrics, which are the same on every run."""
    timings = {"stage": stage, **describe_hardware(hardware), "per_seed": [result.timing for result in trained]}
    path.write_text(json.dumps(timings, indent=2) + "\n")


def _summarize_times(times: pd.DataFrame, num_samples: int) -> dict[str, Any]:
    # the first epoch of a process also builds the graph
    train_time_s = times["train_time_s"].iloc[1:] if len(times) > 1 else times["train_time_s"]
    return {
        "train_time_s": round(float(times["epoch_time_s"].sum()), 3),
        "epoch_time_s": round(float(times["epoch_time_s"].median()), 3),
        "images_per_s": round(num_samples / float(train_time_s.median())),
        "peak_memory_bytes": measure_peak_memory(),
    }
