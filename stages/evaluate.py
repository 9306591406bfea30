"""Scores every model on the test images, which no other stage reads."""

from pathlib import Path

import _source  # noqa: F401
from cotejo.evaluation.gallery import save_gallery, select_gallery
from cotejo.evaluation.latency import measure_latencies, save_latencies
from cotejo.evaluation.robustness import measure_robustness
from cotejo.evaluation.summary import Splits, evaluate_model, save_evaluation
from cotejo.execution.messages import Setup
from cotejo.report.figures.evaluation import save_evaluation_figures
from cotejo.schema.groups import MODELS
from cotejo.stage import Stage, run_stage
from cotejo.training.hardware import configure_hardware

DATA, FOLDERS = Path("data/processed"), {name: Path("models") / name for name in MODELS}
TABLES = ("reports/metrics", "reports/predictions", "reports/plots")
OUTPUTS = (*TABLES, "reports/figures/evaluate", "reports/gallery.npz", "reports/timings/evaluate.json")


def evaluate(stage: Stage) -> None:
    """Writes metrics/, predictions/, plots/, figures/evaluate/, gallery.npz and timings/evaluate.json in reports/."""
    base, settings, hardware = stage.params.base, stage.params.evaluate, configure_hardware(Setup.of(stage.params.base))
    splits = Splits.load(DATA)
    with stage.outputs(*OUTPUTS) as (*tables, figures, gallery, timings):
        results = {name: evaluate_model(folder, base.seeds, splits, settings) for name, folder in FOLDERS.items()}
        for name, robustness in measure_robustness(FOLDERS, DATA, base, settings, stage.params.runtime).items():
            results[name].add_robustness(robustness)
            save_evaluation(results[name], name, splits.dataset.class_names, *tables)
            stage.run.log_metrics(results[name].list_scores(f"{name}/"), is_summary=True)
        save_evaluation_figures(results, splits.test.images, splits.dataset.class_names, settings, figures)
        answers = [result.y_prob for result in results.values()]
        save_gallery(gallery, select_gallery(splits.test.labels, answers, settings.gallery_size), splits.test.images)
        save_latencies(measure_latencies(FOLDERS, base.seeds[0], splits.test.images, settings), hardware, timings)
    for path in OUTPUTS:
        stage.run.log_artifact(Path(path))


if __name__ == "__main__":
    run_stage(evaluate, "evaluate", sections=("base", "evaluate"))
