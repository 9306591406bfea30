"""Trains a new head on a frozen backbone, whose features are computed once."""

from functools import partial
from pathlib import Path

import _source  # noqa: F401
from cotejo.files import STATE_FOLDER
from cotejo.models.weights import find_weights_file
from cotejo.stage import Stage, run_stage
from cotejo.training.features import prepare_head
from cotejo.training_stage import train_model


def transfer_learn(stage: Stage) -> None:
    """Writes models/transfer/ and reports/timings/transfer-learn.json."""
    settings = stage.params.transfer
    weights = find_weights_file(Path(settings.weights_path).resolve())
    build = partial(prepare_head, settings, weights, (STATE_FOLDER / "features").resolve())
    train_model(stage, "transfer", settings, build, stage.params.runtime.without_cluster, [weights])


if __name__ == "__main__":
    run_stage(transfer_learn, "transfer-learn", sections=("base", "transfer"))
