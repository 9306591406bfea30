"""Trains a model once per seed: python stages/train.py lenet."""

import sys
from importlib import import_module
from pathlib import Path

import _source  # noqa: F401
from cotejo.data.splits import load_dataset, load_split
from cotejo.stage import Stage, run_stage
from cotejo.training.fit import Job, configure_tensorflow, log_trained, save_timings, train_seeds

DATA = Path("data/processed")


def train(stage: Stage) -> None:
    """Writes models/<name>/ and reports/timings/<stage>.json."""
    name = stage.name.removeprefix("train-")
    base, settings = stage.params.base, getattr(stage.params, name)
    family = import_module(f"cotejo.models.{name}")
    configure_tensorflow(base.threads)
    dataset = load_dataset(DATA)
    train_split, val_split = load_split(DATA, "train"), load_split(DATA, "val")

    def prepare(seed: int) -> Job:
        model = family.build_model(settings, dataset.image_shape, dataset.num_classes)
        return Job(model, model, train_split, val_split)

    stage.run.log_dataset(dataset.name, dataset.digest, DATA)
    timings = f"reports/timings/{stage.name}.json"
    with stage.outputs(f"models/{name}", timings) as (folder, timings_file):
        trained = train_seeds(prepare, settings, base.seeds, folder, stage.run)
        save_timings(trained, stage.name, base.threads, timings_file)
    log_trained(trained, Path(f"models/{name}"))


if __name__ == "__main__":
    run_stage(train, f"train-{sys.argv[1]}", sections=("base", sys.argv[1]))
