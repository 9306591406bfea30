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

DATA = Path("data/processed")
FOLDERS = {name: Path("models") / name for name in MODELS}
TABLES = ("reports/metrics", "reports/predictions", "reports/plots")
OUTPUTS = (*TABLES, "reports/figures/evaluate", "reports/gallery.npz", "reports/timings/evaluate.json")


def evaluate(stage: Stage) -> None:
    """Writes metrics/, predictions/, plots/, figures/evaluate/, gallery.npz and timings/evaluate.json in reports/."""
    base, settings = stage.params.base, stage.params.evaluate
    hardware = configure_hardware(Setup.of(base))
    splits = Splits.load(DATA)
    test, class_names = splits.test, splits.dataset.class_names
    with stage.outputs(*OUTPUTS) as (*tables, figures, gallery, timings):
        results = {name: evaluate_model(folder, base.seeds, splits, settings) for name, folder in FOLDERS.items()}
        robustness = measure_robustness(FOLDERS, DATA, base, settings, stage.params.runtime)
        for name, result in results.items():
            result.add_robustness(robustness[name])
            save_evaluation(result, name, class_names, *tables)
            stage.run.log_metrics(result.list_scores(f"{name}/"), is_summary=True)
        save_evaluation_figures(results, test.images, class_names, settings, figures)
        answers = [result.y_prob for result in results.values()]
        save_gallery(gallery, select_gallery(test.labels, answers, settings.gallery_size), test.images)
        latencies = measure_latencies(FOLDERS, base.seeds[0], test.images, settings)
        save_latencies(latencies, hardware, timings)
    for path in OUTPUTS:
        stage.run.log_artifact(Path(path))


if __name__ == "__main__":
    run_stage(evaluate, "evaluate", sections=("base", "evaluate"))
