"""Scores every model on the test images, which no other stage reads."""

from pathlib import Path

import _source  # noqa: F401
from cotejo.data.splits import load_dataset, load_split
from cotejo.evaluation.metrics import draw_sample
from cotejo.evaluation.summary import evaluate_model, save_evaluation
from cotejo.execution.words import Setup
from cotejo.report.figures.evaluation import save_evaluation_figures
from cotejo.schema import MODELS
from cotejo.stage import Stage, run_stage
from cotejo.training.hardware import configure_hardware

DATA = Path("data/processed")
OUTPUTS = ("reports/metrics", "reports/predictions", "reports/plots", "reports/figures/evaluate")


def evaluate(stage: Stage) -> None:
    """Writes reports/metrics/, reports/predictions/, reports/plots/ and reports/figures/evaluate/."""
    base, settings = stage.params.base, stage.params.evaluate
    configure_hardware(Setup.of(base))
    dataset, test = load_dataset(DATA), load_split(DATA, "test")
    shown = draw_sample(len(test.labels), settings.grid_size, settings.sample_seed)
    with stage.outputs(*OUTPUTS) as (metrics, predictions, plots, figures):
        for name in MODELS:
            result = evaluate_model(Path("models") / name, base.seeds, test, dataset, settings)
            save_evaluation(result, name, dataset.class_names, metrics, predictions, plots)
            save_evaluation_figures(result, name, test.images, shown, dataset.class_names, figures)
            scores = {f"{name}/{key}": value for key, value in result.summary.items() if isinstance(value, float)}
            stage.run.log_metrics(scores, is_summary=True)
    for folder in OUTPUTS:
        stage.run.log_artifact(Path(folder))


if __name__ == "__main__":
    run_stage(evaluate, "evaluate", sections=("base", "evaluate"))
