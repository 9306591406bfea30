"""Turns the images into train, validation and test arrays, and lets none through that would spoil the study."""

from pathlib import Path

import _source  # noqa: F401
from cotejo.data.card import build_card, save_card, warn_left_out
from cotejo.data.collection import collect_images
from cotejo.data.preparation import prepare_images
from cotejo.data.splits import load_split
from cotejo.report.figures.operations import save_operations
from cotejo.report.figures.samples import figure_samples
from cotejo.report.style import save_figure
from cotejo.stage import Stage, run_stage

PROCESSED = "data/processed"
CARD = "reports/data"
FIGURE = "reports/figures/samples.png"


def preprocess(stage: Stage) -> None:
    """Writes data/processed/, the data card in reports/data/, and a picture of samples of each class."""
    data, settings, runtime = stage.params.data, stage.params.preprocess, stage.params.runtime
    collection = collect_images(data, settings)
    with stage.outputs(PROCESSED, CARD, FIGURE) as (folder, card, figure):
        prepared = prepare_images(collection, data, settings.operations, folder, runtime.workers, runtime.memory_limit)
        described = build_card(collection, prepared, data, settings)
        save_card(described, card)
        save_operations(collection, prepared.color, settings.operations, card)
        train = load_split(folder, "train")
        counts = prepared.description["splits"]["train"]["per_class"]
        save_figure(figure_samples(train.images, train.labels, collection.class_names, counts), figure)
    warn_left_out(described)
    stage.run.log_dataset(collection.name, prepared.description["digest"], Path(PROCESSED))
    stage.run.log_metrics(prepared.count_images())
    stage.run.log_artifact(Path(FIGURE), "figures")
    stage.run.log_artifact(Path(PROCESSED, "dataset.json"))
    stage.run.log_artifact(Path(CARD))


if __name__ == "__main__":
    run_stage(preprocess, "preprocess", sections=("data", "preprocess"))
