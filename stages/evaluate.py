"""Scores every model on the test images, which no other stage reads."""

from pathlib import Path

import _source  # noqa: F401
from cotejo.data.splits import load_dataset, load_split
from cotejo.evaluation.gallery import save_gallery, select_gallery
from cotejo.evaluation.summary import Splits, evaluate_model, save_evaluation
from cotejo.report.figures.evaluation import save_evaluation_figures
from cotejo.schema import MODELS
from cotejo.stage import Stage, run_stage
from cotejo.training.hardware import configure_hardware

DATA = Path("data/processed")
OUTPUTS = ("reports/metrics", "reports/predictions", "reports/plots", "reports/figures/evaluate", "reports/gallery.npz")


def evaluate(stage: Stage) -> None:
    """Writes metrics/, predictions/, plots/, figures/evaluate/ and gallery.npz in reports/."""
    base, settings = stage.params.base, stage.params.evaluate
    configure_hardware(base)
    splits = Splits(load_dataset(DATA), load_split(DATA, "val"), load_split(DATA, "test"))
    class_names, test = splits.dataset.class_names, splits.test
    with stage.outputs(*OUTPUTS) as (metrics, predictions, plots, figures, gallery):
        results = {name: evaluate_model(Path("models") / name, base.seeds, splits, settings) for name in MODELS}
        for name, result in results.items():
            save_evaluation(result, name, class_names, metrics, predictions, plots)
            scores = {f"{name}/{key}": value for key, value in result.summary.items() if isinstance(value, float)}
            stage.run.log_metrics(scores, is_summary=True)
        save_evaluation_figures(results, test.images, class_names, settings, figures)
        chosen = select_gallery(test.labels, [result.y_prob for result in results.values()], settings.gallery_size)
        save_gallery(gallery, chosen, test.images)
    for path in OUTPUTS:
        stage.run.log_artifact(Path(path))


if __name__ == "__main__":
    run_stage(evaluate, "evaluate", sections=("base", "evaluate"))
