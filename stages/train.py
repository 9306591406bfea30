"""Trains a model once per seed: python stages/train.py lenet."""

import sys
from functools import partial
from pathlib import Path

import _source  # noqa: F401
from cotejo.data.splits import load_training_data
from cotejo.execution.words import Data, Setup
from cotejo.report.figures.augmentation import log_augmented
from cotejo.stage import STATE_FOLDER, Stage, run_stage
from cotejo.training.nets import prepare_net
from cotejo.training.seeds import log_trained, save_timings, spread_seeds

DATA = Path("data/processed")


def train(stage: Stage) -> None:
    """Writes models/<name>/ and reports/timings/<stage>.json."""
    name = stage.name.removeprefix("train-")
    base, settings, runtime = stage.params.base, stage.params.get_net(name), stage.params.runtime
    setup = Setup.of(base, side_by_side=not settings.batch_normalization)
    build = partial(prepare_net, settings)
    dataset, train_split, _ = load_training_data(DATA)
    data = Data.of(DATA, dataset.digest)
    stage.run.log_dataset(dataset.name, dataset.digest, DATA)
    with stage.checkpoint(dataset.digest) as checkpoints:
        with stage.outputs(f"models/{name}", f"reports/timings/{stage.name}.json") as (folder, timings):
            trained = spread_seeds(build, settings, setup, base.seeds, stage.run, checkpoints, folder, data, runtime)
            save_timings(trained, stage.name, timings)
        # after the training, which has to tell TensorFlow its threads before anything else uses it
        log_augmented(stage.run, settings.augmentation, train_split, dataset.class_names, STATE_FOLDER / "figures")
        log_trained(trained, Path(f"models/{name}"))


if __name__ == "__main__":
    run_stage(train, f"train-{sys.argv[1]}", sections=("base", sys.argv[1]))
