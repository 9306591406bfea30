"""Turns the published files into train, validation and test arrays."""

import json
from pathlib import Path

import _source  # noqa: F401
from cotejo.data.readers import read_published
from cotejo.data.sources import SOURCES, check_files
from cotejo.data.splits import save_splits, split_published
from cotejo.report.figures.samples import figure_samples
from cotejo.report.style import save_figure
from cotejo.stage import Stage, run_stage

RAW = Path("data/raw")
FIGURE = "reports/figures/samples.png"


def preprocess(stage: Stage) -> None:
    """Writes data/processed/ and a picture of samples of each class."""
    name, settings = stage.params.data.name, stage.params.preprocess
    source = SOURCES[name]
    check_files(name, RAW)
    published = read_published(source.file_format, RAW, len(source.class_names))
    splits = split_published(published, settings.validation_fraction, settings.test_fraction, settings.seed)
    with stage.outputs("data/processed", FIGURE) as (folder, figure):
        described = save_splits(splits, folder, name, source.class_names, json.loads((RAW / "source.json").read_text()))
        train, counts = splits["train"], described["splits"]["train"]["per_class"]
        save_figure(figure_samples(train.images, train.labels, source.class_names, counts), figure)
    stage.run.log_dataset(name, described["digest"], Path("data/processed"))
    stage.run.log_metrics({f"{split}_samples": table["num_samples"] for split, table in described["splits"].items()})
    stage.run.log_artifact(Path(FIGURE), "figures")
    stage.run.log_artifact(Path("data/processed/dataset.json"))


if __name__ == "__main__":
    run_stage(preprocess, "preprocess", sections=("data", "preprocess"))
