"""Trains a model in a stage: the shared part of the three stages that train."""

from collections.abc import Iterable
from pathlib import Path

from cotejo.data.splits import load_training_data
from cotejo.execution.messages import PreparedData
from cotejo.files import STATE_FOLDER
from cotejo.report.figures.augmentation import log_augmented
from cotejo.schema.study import Runtime
from cotejo.schema.trainings import Training
from cotejo.stage import Stage
from cotejo.training.fit import Build
from cotejo.training.seeds import SeedTrainings, log_trained, save_timings

DATA = Path("data/processed")


def train_model(
    stage: Stage,
    name: str,
    settings: Training,
    build: Build,
    runtime: Runtime,
    starts_from: Iterable[Path | None] = (),
) -> None:
    """Trains a model once per seed; writes `models/<name>/` and `reports/timings/<stage>.json`.

    Args:
        stage: The running stage.
        name: Name of the model, and of its section of `params.yaml`.
        settings: The model's section of `params.yaml`.
        build: See `Build`.
        runtime: How and where to train.
        starts_from: Files beside the images on which the result depends; None for one that there isn't.
    """
    dataset, train_split, _ = load_training_data(DATA)
    stage.run.log_dataset(dataset.name, dataset.digest, DATA)
    with stage.checkpoint(dataset.digest, *starts_from) as checkpoints:
        with stage.outputs(f"models/{name}", f"reports/timings/{stage.name}.json") as (folder, timings):
            trainings = SeedTrainings(name, settings, stage.params.base.seeds, stage.run, checkpoints, folder)
            trained = trainings.train(build, stage.params.base, PreparedData.of(DATA, dataset.digest), runtime)
            save_timings(trained, stage.name, timings)
        # after the training, which has to tell TensorFlow its threads before anything else uses it
        log_augmented(stage.run, settings.augmentation, train_split, dataset.class_names, STATE_FOLDER / "figures")
        log_trained(stage.run, trained, Path("models") / name)
