"""Trains transfer-learn's models further: the top layers unfrozen, at a low learning rate."""

from functools import partial
from pathlib import Path

import _source  # noqa: F401
from cotejo.stage import Stage, run_stage
from cotejo.training.finetuning import prepare_finetune
from cotejo.training_stage import train_model

START = Path("models/transfer")


def finetune(stage: Stage) -> None:
    """Writes models/finetune/ and reports/timings/finetune.json."""
    settings, runtime = stage.params.finetune, stage.params.runtime.without_cluster
    build = partial(prepare_finetune, settings, START.resolve())
    train_model(stage, "finetune", settings, build, runtime, sorted(START.rglob("model.keras")))


if __name__ == "__main__":
    run_stage(finetune, "finetune", sections=("base", "finetune"))
