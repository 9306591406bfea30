"""Searches better settings for one model, on validation data: python stages/search.py lenet."""

import sys
from pathlib import Path

import _source  # noqa: F401
from cotejo.data.splits import load_dataset, load_split
from cotejo.models.families import load_family
from cotejo.report.figures.search import save_search_figures
from cotejo.schema import Net
from cotejo.stage import Stage, run_stage
from cotejo.training.fit import Job
from cotejo.training.hardware import configure_hardware
from cotejo.tuning.objective import build_objective
from cotejo.tuning.study import compute_importances, run_study, save_study, tabulate_trials

DATA = Path("data/processed")


def search(stage: Stage) -> None:
    """Writes reports/search/; nothing else reads it but `cotejo best` and the reader."""
    settings, present = stage.params.search, getattr(stage.params, stage.params.search.model)
    family = load_family(present.architecture)
    hardware = configure_hardware(stage.params.base, side_by_side=not present.batch_normalization)
    dataset, train_split, val_split = load_dataset(DATA), load_split(DATA, "train"), load_split(DATA, "val")

    def prepare(proposed: Net) -> Job:
        return Job.of(family.build_model(proposed, dataset.image_shape, dataset.num_classes), train_split, val_split)

    stage.run.log_dataset(dataset.name, dataset.digest, DATA)
    with stage.checkpoint(dataset.digest) as folder, stage.output("reports/search") as reports:
        objective = build_objective(prepare, present, settings, hardware, stage.run)
        study = run_study(settings, present.model_dump(), objective, folder / "study.log")
        save_study(study, settings, reports)
        save_search_figures(tabulate_trials(study), compute_importances(study, settings.seed), reports)
    stage.run.log_artifact(Path("reports/search"))


if __name__ == "__main__":
    run_stage(search, "search", sections=("base", "search", sys.argv[1]))
