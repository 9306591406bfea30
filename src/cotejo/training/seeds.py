"""One training per seed: side by side where there is room, resumed where a kill has left it, saved, timed, tracked."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from cotejo.data.splits import TrainingData, load_training_data
from cotejo.errors import ModelError
from cotejo.execution.executor import Died, count_workers, open_executor
from cotejo.execution.words import Data, Setup
from cotejo.files import temporary_folder
from cotejo.models.layers import find_precision
from cotejo.schema.study import Runtime
from cotejo.schema.trainings import Training
from cotejo.tracking.children import Child, Children
from cotejo.tracking.journal import Run
from cotejo.training.archive import save_model
from cotejo.training.callbacks import Logs
from cotejo.training.checkpoint import Checkpoints
from cotejo.training.description import describe_serving
from cotejo.training.fit import Build, Prepare, fit
from cotejo.training.hardware import (
    Hardware,
    building,
    check_memory,
    configure_hardware,
    describe_hardware,
    measure_peak_memory,
)
from cotejo.training.progress import open_board, say_epoch


class Trained(NamedTuple):
    """A trained seed.

    Attributes:
        seed: The seed.
        archive: The saved model.
        history: A row per epoch; see `Fit`.
        timing: What a clock measured.
        best_epoch: The epoch (from 1) whose weights were kept.
        parameters: The model's number of them.
        input_shape: Of an image.
        num_classes: Of the probabilities.
        machine: What it was trained on; see `describe_hardware`.
    """

    seed: int
    archive: bytes
    history: pd.DataFrame
    timing: dict[str, Any]
    best_epoch: int
    parameters: int
    input_shape: tuple[int, ...]
    num_classes: int
    machine: dict[str, Any]


class Task(NamedTuple):
    """A seed's training, as another process is given it."""

    seed: int
    name: str
    build: Build
    settings: Training
    setup: Setup
    checkpoints: str


#: Runs all seeds, tells the watch of each one's beginning and epochs, and gives its place and result when it ends.
RunAll = Callable[["Watch"], Iterator[tuple[int, Trained]]]


class Saved(NamedTuple):
    """A trained seed that is in its folder, and its run."""

    run: Run
    trained: Trained


def spread_seeds(
    build: Build,
    settings: Training,
    setup: Setup,
    seeds: Sequence[int],
    run: Run,
    checkpoints: Path,
    folder: Path,
    data: Data,
    runtime: Runtime,
) -> list[Saved]:
    """Does what `train_seeds` does: here, or side by side in other processes, with the same bits.

    Others are used where a cluster is declared, or where this machine has room for more than one.

    Args:
        build: See `Build`.
        settings: The stage's section of `params.yaml`.
        setup: What a process that trains is configured for.
        seeds: One training each.
        run: The stage's run.
        checkpoints: See `train_seeds`.
        folder: An existing folder.
        data: The images.
        runtime: The `runtime` section.

    Raises:
        ModelError: The loss is no longer finite, or the model can't be trained.
        StageError: The cluster can't be reached.
    """
    if runtime.scheduler == "local" and count_workers(runtime, setup.threads, len(seeds)) == 1:
        hardware = configure_hardware(setup._replace(memory_bytes=runtime.memory_limit))
        loaded = load_training_data(Path(data.folder))
        serving = describe_serving(loaded.dataset)
        return train_seeds(build(loaded, hardware), settings, seeds, hardware, run, checkpoints, folder, serving)
    names = [f"{run.name} seed {seed}" for seed in seeds]
    with open_executor(runtime, setup.threads, len(seeds), data) as executor:
        setup = setup._replace(memory_bytes=executor.memory_bytes)
        tasks = [
            Task(seed, name, build, settings, setup, str(checkpoints.resolve()))
            for seed, name in zip(seeds, names, strict=True)
        ]

        def run_all(watch: Watch) -> Iterator[tuple[int, Trained]]:
            def show(place: int, said: Logs | str) -> None:
                if isinstance(said, str):
                    _say(said)
                else:
                    _say(say_epoch(names[place], settings.epochs, said))
                    watch.show(place, said)

            for place in range(len(tasks)):
                watch.begin(place)
            for place, result in executor.run(run_task, tasks, setup, show):
                if isinstance(result, Died):
                    raise ModelError(
                        f"{names[place]}: expected a worker to live through it. Received: {result.reason}. It may need "
                        "more memory: set runtime.workers lower in params.yaml."
                    )
                yield place, result

        return _save(run_all, Watch(names, seeds, settings, run, checkpoints), folder)


def train_seeds(
    prepare: Prepare,
    settings: Training,
    seeds: Sequence[int],
    hardware: Hardware,
    run: Run,
    checkpoints: Path,
    folder: Path,
    serving: Mapping[str, Any] | None = None,
) -> list[Saved]:
    """Trains once per seed; writes `seed-<s>/model.keras` and `seed-<s>/history.csv`, and a tracked run for each.

    Args:
        prepare: See `Prepare`.
        settings: The stage's section of `params.yaml`.
        seeds: One training each.
        hardware: What to train on.
        run: The stage's run; each seed gets a run below it.
        checkpoints: A folder that outlives a kill, of this stage with these inputs.
        folder: An existing folder.
        serving: See `save_model`.

    Raises:
        ModelError: The loss is no longer finite, or the model can't be trained.
    """
    names = [f"{run.name} seed {seed}" for seed in seeds]

    def run_all(watch: Watch) -> Iterator[tuple[int, Trained]]:
        for place, seed in enumerate(seeds):
            watch.begin(place)
            places = Checkpoints(checkpoints / f"seed-{seed}", names[place])
            show = partial(watch.show, place)
            yield place, _train(prepare, settings, seed, hardware, places, serving, show, _say)

    return _save(run_all, Watch(names, seeds, settings, run, checkpoints), folder)


def run_task(task: Task, data: TrainingData, report: Callable[[Logs | str], None]) -> Trained:
    """Trains a seed, on a worker; reports its epochs, and what it has to say to a person."""
    hardware = configure_hardware(task.setup)
    places = Checkpoints(Path(task.checkpoints) / f"seed-{task.seed}", task.name)
    serving = describe_serving(data.dataset)
    return _train(task.build(data, hardware), task.settings, task.seed, hardware, places, serving, report, report)


class Watch:
    """Has a tracked run, and a page of TensorBoard's, for each seed.

    Args:
        names: The seeds' runs.
        seeds: The seeds.
        settings: The stage's section of `params.yaml`.
        run: The stage's run.
        checkpoints: A folder that outlives a kill, of this stage with these inputs.
    """

    def __init__(
        self, names: Sequence[str], seeds: Sequence[int], settings: Training, run: Run, checkpoints: Path
    ) -> None:
        checkpoints.mkdir(parents=True, exist_ok=True)
        self.names = names
        self.params = [{**settings.model_dump(), "seed": seed} for seed in seeds]
        self.children = Children(run, checkpoints)
        self.boards = run.tracker.folder.with_name("tensorboard")
        self.watched: dict[int, tuple[Child, Callable[[Logs], None]]] = {}

    def begin(self, place: int) -> None:
        """Opens the run of a seed."""
        child = self.children.open(self.names[place], self.params[place])
        self.watched[place] = child, open_board(self.boards / f"{self.names[place]} {child.run.uid[:8]}")

    def show(self, place: int, row: Logs) -> None:
        """Tracks an epoch; one that was saved and tracked before a kill comes again, and is left out."""
        child, board = self.watched[place]
        if child.log_row(row):
            board(row)

    def end(self, place: int, trained: Trained) -> Run:
        """Tracks how a seed ended, and returns its run."""
        child, _ = self.watched[place]
        if not child.run.has_ended():
            child.run.log_params({"parameters": trained.parameters})
            child.run.log_metrics({"best_epoch": trained.best_epoch, "train_time_s": trained.timing["train_time_s"]})
        child.finish()
        return child.run


def _save(run_all: RunAll, watch: Watch, folder: Path) -> list[Saved]:
    saved = {}
    with watch.children.closing():
        for place, trained in run_all(watch):
            target = folder / f"seed-{trained.seed}"
            target.mkdir()
            (target / "model.keras").write_bytes(trained.archive)
            trained.history.to_csv(target / "history.csv", index=False)
            saved[place] = Saved(watch.end(place, trained), trained)
    return [saved[place] for place in sorted(saved)]


def _train(
    prepare: Prepare,
    settings: Training,
    seed: int,
    hardware: Hardware,
    places: Checkpoints,
    serving: Mapping[str, Any] | None,
    report: Callable[[Logs], None],
    say: Callable[[str], None],
) -> Trained:
    with building(seed, hardware):
        job = prepare(seed)
    if last := places.last:
        going_on = "had ended" if last.record["has_ended"] else f"goes on from epoch {last.epoch + 1}"
        say(f"{places.name} {going_on}: found the checkpoint of epoch {last.epoch}")
        for row in last.record["rows"]:  # an epoch may have been saved and killed before it was tracked
            report(row)
    result = fit(job, settings, seed, places.name, report, hardware, places)
    check_memory(places.name, hardware.memory_bytes, "batch_size or input_size", say)
    with temporary_folder() as own:
        save_model(job.model, path := own / "model.keras", serving)
        archive = path.read_bytes()
    times = _summarize_times(result.times, len(job.train.labels))
    return Trained(
        seed,
        archive,
        result.history,
        {"seed": seed, "precision": find_precision(job.trained), **times},
        result.best_epoch,
        job.model.count_params(),
        job.model.input_shape[1:],
        job.model.output_shape[-1],
        describe_hardware(hardware),
    )


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def log_trained(saved: Sequence[Saved], folder: Path) -> None:
    """Sends the models and histories of all seeds to their runs, from the folder in which they stay."""
    for run, trained in saved:
        target = folder / f"seed-{trained.seed}"
        run.log_artifact(target / "history.csv")
        run.log_model(target / "model.keras", trained.input_shape, trained.num_classes)
        run.flush()


def save_timings(saved: Sequence[Saved], stage: str, path: Path) -> None:
    """Writes what a clock measured, apart from the metrics, which are the same on every run."""
    machine = saved[0].trained.machine  # a cluster's may differ from seed to seed
    timings = {"stage": stage, **machine, "per_seed": [trained.timing for _, trained in saved]}
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
