"""Trains a new head on a frozen backbone, whose features are computed once."""

from pathlib import Path

import _source  # noqa: F401
from cotejo.data.splits import load_dataset, load_split
from cotejo.models.backbones import find_weights_file
from cotejo.stage import Stage, run_stage
from cotejo.training.features import prepare_transfer
from cotejo.training.fit import configure_tensorflow, log_trained, save_timings, train_seeds

DATA = Path("data/processed")
MODELS = "models/transfer"
TIMINGS = "reports/timings/transfer-learn.json"


def transfer_learn(stage: Stage) -> None:
    """Writes models/transfer/ and reports/timings/transfer-learn.json."""
    base, settings = stage.params.base, stage.params.transfer
    configure_tensorflow(base.threads)
    dataset = load_dataset(DATA)
    weights = find_weights_file(Path("data/weights"))
    prepare = prepare_transfer(settings, weights, dataset, load_split(DATA, "train"), load_split(DATA, "val"))
    stage.run.log_dataset(dataset.name, dataset.digest, DATA)
    with stage.outputs(MODELS, TIMINGS) as (folder, timings_file):
        trained = train_seeds(prepare, settings, base.seeds, folder, stage.run)
        save_timings(trained, stage.name, base.threads, timings_file)
    log_trained(trained, Path(MODELS))


if __name__ == "__main__":
    run_stage(transfer_learn, "transfer-learn", sections=("base", "transfer"))
