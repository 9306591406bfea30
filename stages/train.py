"""Trains a model once per seed: python stages/train.py lenet."""

import sys
from functools import partial

import _source  # noqa: F401
from cotejo.stage import Stage, run_stage
from cotejo.training.nets import prepare_net
from cotejo.training_stage import train_model


def train(stage: Stage) -> None:
    """Writes models/<name>/ and reports/timings/<stage>.json."""
    name = stage.name.removeprefix("train-")
    settings = stage.params.get_net(name)
    train_model(stage, name, settings, partial(prepare_net, settings), stage.params.runtime)


if __name__ == "__main__":
    run_stage(train, f"train-{sys.argv[1]}", sections=("base", sys.argv[1]))
