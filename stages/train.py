"""Trains a model once per seed: python stages/train.py lenet."""

import sys
from pathlib import Path

import _source  # noqa: F401
from cotejo.data.splits import load_dataset, load_split
from cotejo.models.families import load_family
from cotejo.report.figures.augmentation import log_augmented
from cotejo.stage import STATE_FOLDER, Stage, run_stage
from cotejo.training.fit import Job
from cotejo.training.hardware import configure_hardware
from cotejo.training.seeds import log_trained, save_timings, train_seeds

DATA = Path("data/processed")


def train(stage: Stage) -> None:
    """Writes models/<name>/ and reports/timings/<stage>.json."""
    name = stage.name.removeprefix("train-")
    base, settings = stage.params.base, getattr(stage.params, name)
    family = load_family(settings.architecture)
    hardware = configure_hardware(base, side_by_side=not settings.batch_normalization)
    dataset, train_split, val_split = load_dataset(DATA), load_split(DATA, "train"), load_split(DATA, "val")

    def prepare(seed: int) -> Job:
        return Job.of(family.build_model(settings, dataset.image_shape, dataset.num_classes), train_split, val_split)

    stage.run.log_dataset(dataset.name, dataset.digest, DATA)
    log_augmented(stage.run, settings.augmentation, train_split, dataset.class_names, STATE_FOLDER / "figures")
    with stage.checkpoint(dataset.digest) as checkpoints:
        with stage.outputs(f"models/{name}", f"reports/timings/{stage.name}.json") as (folder, timings):
            trained = train_seeds(prepare, settings, base.seeds, hardware, stage.run, checkpoints, folder)
            save_timings(trained, stage.name, hardware, timings)
        log_trained(trained, Path(f"models/{name}"))


if __name__ == "__main__":
    run_stage(train, f"train-{sys.argv[1]}", sections=("base", sys.argv[1]))
