"""Trains a model once per seed: in parallel where there is room, resumed after a kill, saved, timed and tracked."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from scipy.special import stdtrit

from cotejo.data.splits import TrainingData, load_training_data
from cotejo.errors import ModelError
from cotejo.execution.executor import Died, Executor, count_workers, open_executor
from cotejo.execution.messages import PreparedData, Setup
from cotejo.files import temporary_folder
from cotejo.models.layers import find_precision
from cotejo.params import flatten
from cotejo.schema.study import Base, Runtime
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

#: Confidence of the intervals over the seeds in MLflow; that of the report's is declared in `params.yaml`.
CONFIDENCE = 0.95


class Trained(NamedTuple):
    """A trained seed.

    Attributes:
        seed: The seed.
        archive: The saved model.
        history: A row per epoch; see `Fit`.
        timing: What a clock measured.
        best_epoch: The epoch (from 1) whose weights were kept.
        parameters: The model's number of them.
        input_shape: Shape of an image.
        num_classes: Number of classes.
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


class SeedTask(NamedTuple):
    """A seed's training, as another process receives it."""

    seed: int
    name: str
    build: Build
    settings: Training
    setup: Setup
    checkpoints: str


class SavedSeed(NamedTuple):
    """A trained seed whose files are in its folder, and its run."""

    run: Run
    trained: Trained


class SeedTrainings:
    """Trainings of a model, one per seed; each has a run in MLflow and a page in TensorBoard.

    Each writes `seed-<s>/model.keras` and `seed-<s>/history.csv`.

    Args:
        section: Name of the model's section of `params.yaml`.
        settings: That section.
        seeds: The seeds.
        run: The stage's run; each seed gets a run below it.
        checkpoints: A folder that outlives a kill, of this stage with these inputs.
        folder: An existing folder, for the models and histories.
    """

    def __init__(
        self, section: str, settings: Training, seeds: Sequence[int], run: Run, checkpoints: Path, folder: Path
    ) -> None:
        checkpoints.mkdir(parents=True, exist_ok=True)
        self.section = section
        self.settings = settings
        self.seeds = seeds
        self.names = [f"{run.name} seed {seed}" for seed in seeds]
        self.checkpoints = checkpoints
        self.folder = folder
        self.children = Children(run, checkpoints)
        self.boards = run.tracker.folder.with_name("tensorboard")
        self.opened: dict[int, tuple[Child, Callable[[Logs], None]]] = {}

    def train(self, build: Build, base: Base, data: PreparedData, runtime: Runtime) -> list[SavedSeed]:
        """Trains all seeds: here one after the other, or in parallel in other processes, with the same bits.

        Other processes are used where a cluster is declared, or where this machine has room for more than one.

        Args:
            build: See `Build`.
            base: The `base` section.
            data: The images.
            runtime: The `runtime` section.

        Raises:
            ModelError: The loss is no longer finite, or the model can't be trained.
            StageError: The cluster can't be reached.
        """
        setup = Setup.of(base, split_batch=not self.settings.uses_batch_statistics)
        if runtime.scheduler == "local" and count_workers(runtime, setup.threads, len(self.seeds)) == 1:
            hardware = configure_hardware(setup._replace(memory_bytes=runtime.memory_limit))
            images = load_training_data(Path(data.folder))
            return self.train_here(build(images, hardware), hardware, describe_serving(images.dataset))
        with open_executor(runtime, setup.threads, len(self.seeds), data) as executor:
            setup = setup._replace(memory_bytes=executor.memory_bytes)
            return self._save(self._run_parallel(executor, build, setup))

    def train_here(
        self, prepare: Prepare, hardware: Hardware, serving: Mapping[str, Any] | None = None
    ) -> list[SavedSeed]:
        """Trains all seeds in this process.

        Args:
            prepare: See `Prepare`.
            hardware: What to train on.
            serving: See `save_model`.

        Raises:
            ModelError: The loss is no longer finite, or the model can't be trained.
        """
        return self._save(self._run_here(prepare, hardware, serving))

    def _run_here(
        self, prepare: Prepare, hardware: Hardware, serving: Mapping[str, Any] | None
    ) -> Iterator[tuple[int, Trained]]:
        for place, (seed, name) in enumerate(zip(self.seeds, self.names, strict=True)):
            self._open(place)
            checkpoints = Checkpoints(_name_checkpoints(self.checkpoints, seed), name)
            report = partial(self._log_epoch, place)
            yield place, _train(prepare, self.settings, seed, hardware, checkpoints, serving, report, _say)

    def _run_parallel(self, executor: Executor, build: Build, setup: Setup) -> Iterator[tuple[int, Trained]]:
        folder = str(self.checkpoints.resolve())
        tasks = [
            SeedTask(seed, name, build, self.settings, setup, folder)
            for seed, name in zip(self.seeds, self.names, strict=True)
        ]
        for place in range(len(tasks)):
            self._open(place)
        for place, result in executor.run(run_task, tasks, setup, self._report):
            if isinstance(result, Died):
                raise ModelError(
                    where=self.names[place],
                    expected="a worker to live through it",
                    received=result.reason,
                    advice="It may need more memory: set runtime.workers lower in params.yaml",
                )
            yield place, result

    def _open(self, place: int) -> None:
        name, seed = self.names[place], self.seeds[place]
        params = dict(flatten({self.section: self.settings.model_dump()}))
        child = self.children.open(name, {**params, "seed": seed})
        self.opened[place] = child, open_board(self.boards / f"{name} {child.run.uid[:8]}")

    def _report(self, place: int, reported: Logs | str) -> None:
        """Prints what a worker reports, a message or an epoch; logs the epoch."""
        if isinstance(reported, str):
            _say(reported)
        else:
            _say(say_epoch(self.names[place], self.settings.epochs, reported))
            self._log_epoch(place, reported)

    def _log_epoch(self, place: int, row: Logs) -> None:
        """Logs an epoch; one that was saved and logged before a kill comes again, and is left out."""
        child, write_to_board = self.opened[place]
        if child.log_row(row):
            write_to_board(row)

    def _save(self, results: Iterable[tuple[int, Trained]]) -> list[SavedSeed]:
        saved = {}
        with self.children.closing():
            for place, trained in results:
                target = self.folder / f"seed-{trained.seed}"
                target.mkdir()
                (target / "model.keras").write_bytes(trained.archive)
                trained.history.to_csv(target / "history.csv", index=False)
                saved[place] = SavedSeed(self._close(place, trained), trained)
        return [saved[place] for place in sorted(saved)]

    def _close(self, place: int, trained: Trained) -> Run:
        """Logs how a seed ended, and returns its run."""
        child, _ = self.opened[place]
        if not child.run.has_ended():
            child.run.log_params({"parameters": trained.parameters})
            child.run.log_metrics({"best_epoch": trained.best_epoch, "train_time_s": trained.timing["train_time_s"]})
        child.finish()
        return child.run


def run_task(task: SeedTask, data: TrainingData, report: Callable[[Logs | str], None]) -> Trained:
    """Trains a seed on a worker; reports its epochs and messages."""
    hardware = configure_hardware(task.setup)
    checkpoints = Checkpoints(_name_checkpoints(Path(task.checkpoints), task.seed), task.name)
    serving = describe_serving(data.dataset)
    return _train(task.build(data, hardware), task.settings, task.seed, hardware, checkpoints, serving, report, report)


def _name_checkpoints(folder: Path, seed: int) -> Path:
    return folder / f"seed-{seed}"


def _train(
    prepare: Prepare,
    settings: Training,
    seed: int,
    hardware: Hardware,
    checkpoints: Checkpoints,
    serving: Mapping[str, Any] | None,
    report: Callable[[Logs], None],
    say: Callable[[str], None],
) -> Trained:
    with building(seed, hardware):
        job = prepare(seed)
    if last := checkpoints.last:
        resumed = "had ended" if last.record["has_ended"] else f"resumed from epoch {last.epoch + 1}"
        say(f"{checkpoints.name} {resumed}: loaded the checkpoint of epoch {last.epoch}")
        for row in last.record["rows"]:  # an epoch may have been saved and killed before it was tracked
            report(row)
    result = fit(job, settings, seed, checkpoints.name, report, hardware, checkpoints)
    check_memory(checkpoints.name, hardware.memory_bytes, "batch_size or input_size", say)
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


def log_trained(stage: Run, saved: Sequence[SavedSeed], folder: Path) -> None:
    """Logs models and histories of all seeds to their runs, and the mean over the seeds to the stage's run.

    Args:
        stage: The stage's run.
        saved: The trained seeds.
        folder: Folder in which the models and histories stay.
    """
    stage.log_metrics(_average_seeds([trained.history for _, trained in saved]))
    for run, trained in saved:
        target = folder / f"seed-{trained.seed}"
        run.log_artifact(target / "history.csv")
        run.log_model(target / "model.keras", trained.input_shape, trained.num_classes)
        run.flush()


def save_timings(saved: Sequence[SavedSeed], stage: str, path: Path) -> None:
    """Writes what a clock measured, apart from the metrics, which are the same on every run."""
    machine = saved[0].trained.machine  # a cluster's may differ from seed to seed
    timings = {"stage": stage, **machine, "per_seed": [trained.timing for _, trained in saved]}
    path.write_text(json.dumps(timings, indent=2) + "\n")


def _average_seeds(histories: Sequence[pd.DataFrame]) -> dict[str, float]:
    """Returns means over the seeds of the kept epochs' scores; of several seeds also Student's interval."""
    kept = pd.DataFrame([history[history["kept"]].iloc[0] for history in histories])
    scores = kept.drop(columns=["epoch", "kept", "learning_rate"], errors="ignore").astype(float)
    averages = {str(name): float(scores[name].mean()) for name in scores}
    if len(scores) > 1:
        quantile = float(stdtrit(len(scores) - 1, (1 + CONFIDENCE) / 2))
        reach = quantile * scores.std(ddof=1) / len(scores) ** 0.5
        for name in tuple(averages):
            averages |= {f"{name}_low": averages[name] - reach[name], f"{name}_high": averages[name] + reach[name]}
    return averages


def _summarize_times(times: pd.DataFrame, num_samples: int) -> dict[str, Any]:
    # the first epoch of a process also builds the graph
    train_time_s = times["train_time_s"].iloc[1:] if len(times) > 1 else times["train_time_s"]
    return {
        "train_time_s": round(float(times["epoch_time_s"].sum()), 3),
        "epoch_time_s": round(float(times["epoch_time_s"].median()), 3),
        "images_per_s": round(num_samples / float(train_time_s.median())),
        "peak_memory_bytes": measure_peak_memory(),
    }
