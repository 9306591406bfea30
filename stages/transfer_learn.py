"""Trains a new head on a frozen backbone, whose features are computed once."""

from functools import partial
from pathlib import Path

import _source  # noqa: F401
from cotejo.data.splits import load_training_data
from cotejo.execution.words import Data, Setup
from cotejo.models.backbones import find_weights_file
from cotejo.report.figures.augmentation import log_augmented
from cotejo.stage import STATE_FOLDER, Stage, run_stage
from cotejo.training.features import prepare_head
from cotejo.training.seeds import log_trained, save_timings, spread_seeds

DATA = Path("data/processed")
MODELS = "models/transfer"


def transfer_learn(stage: Stage) -> None:
    """Writes models/transfer/ and reports/timings/transfer-learn.json."""
    settings, runtime = stage.params.transfer, stage.params.runtime.at_home
    base = stage.params.base
    setup = Setup.of(base, side_by_side=True)
    weights = find_weights_file(Path(settings.weights_path).resolve())
    build = partial(prepare_head, settings, weights, (STATE_FOLDER / "features").resolve())
    dataset, train_split, _ = load_training_data(DATA)
    data = Data.of(DATA, dataset.digest)
    stage.run.log_dataset(dataset.name, dataset.digest, DATA)
    with stage.checkpoint(dataset.digest, weights) as checkpoints:
        with stage.outputs(MODELS, "reports/timings/transfer-learn.json") as (folder, timings):
            trained = spread_seeds(build, settings, setup, base.seeds, stage.run, checkpoints, folder, data, runtime)
            save_timings(trained, stage.name, timings)
        # after the training, which has to tell TensorFlow its threads before anything else uses it
        log_augmented(stage.run, settings.augmentation, train_split, dataset.class_names, STATE_FOLDER / "figures")
        log_trained(trained, Path(MODELS))


if __name__ == "__main__":
    run_stage(transfer_learn, "transfer-learn", sections=("base", "transfer"))
