"""Trains a new head on a frozen backbone, whose features are computed once."""

from pathlib import Path

import _source  # noqa: F401
from cotejo.data.splits import load_dataset, load_split
from cotejo.models.backbones import find_weights_file
from cotejo.report.figures.augmentation import log_augmented
from cotejo.stage import STATE_FOLDER, Stage, run_stage
from cotejo.training.features import prepare_transfer
from cotejo.training.hardware import configure_hardware
from cotejo.training.seeds import log_trained, save_timings, train_seeds

DATA = Path("data/processed")
MODELS = "models/transfer"


def transfer_learn(stage: Stage) -> None:
    """Writes models/transfer/ and reports/timings/transfer-learn.json."""
    base, settings = stage.params.base, stage.params.transfer
    hardware = configure_hardware(base, side_by_side=True)
    dataset, train_split, val_split = load_dataset(DATA), load_split(DATA, "train"), load_split(DATA, "val")
    weights = find_weights_file(Path("data/weights"))
    prepare = prepare_transfer(settings, weights, dataset, train_split, val_split, STATE_FOLDER / "features", hardware)
    stage.run.log_dataset(dataset.name, dataset.digest, DATA)
    log_augmented(stage.run, settings.augmentation, train_split, dataset.class_names, STATE_FOLDER / "figures")
    with stage.checkpoint(dataset.digest, weights) as checkpoints:
        with stage.outputs(MODELS, "reports/timings/transfer-learn.json") as (folder, timings):
            trained = train_seeds(prepare, settings, base.seeds, hardware, stage.run, checkpoints, folder)
            save_timings(trained, stage.name, hardware, timings)
        log_trained(trained, Path(MODELS))


if __name__ == "__main__":
    run_stage(transfer_learn, "transfer-learn", sections=("base", "transfer"))
