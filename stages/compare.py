"""Compares the models and writes the report, from evaluate's files and the training stages' clocks alone."""

import json
from pathlib import Path

import _source  # noqa: F401
from cotejo.comparison.champion import find_champion
from cotejo.comparison.inputs import check_tested, load_inputs
from cotejo.comparison.verdict import build_comparison
from cotejo.report.render import save_report
from cotejo.stage import Stage, run_stage

DATASET = Path("data/processed/dataset.json")
REPORTS = ("reports/comparison.html", "reports/comparison.json", "reports/comparison.md")


def compare(stage: Stage) -> None:
    """Writes reports/comparison.html, .json and .md; tells MLflow which model the report recommends."""
    settings, transfer = stage.params.compare, stage.params.transfer
    inputs = load_inputs(Path("reports"))
    dataset = json.loads(DATASET.read_text(encoding="utf-8"))
    check_tested(inputs.predictions, dataset)
    comparison = build_comparison(
        metrics=inputs.metrics,
        predictions=inputs.predictions,
        timings=inputs.timings,
        serving=inputs.serving,
        dataset=dataset,
        facts={**stage.describe_code(), "weights": transfer.weights, "backbone": transfer.backbone},
        gallery_size=stage.params.evaluate.gallery_size,
        **settings.model_dump(exclude={"language"}),
    )
    with stage.outputs(*REPORTS) as files:
        save_report(comparison, inputs.histories, settings.language, *files, gallery=inputs.gallery)
    for path in REPORTS:
        stage.run.log_artifact(Path(path), "report", is_summary=True)
    stage.run.log_champion(find_champion(comparison, inputs.metrics))


if __name__ == "__main__":
    sections = ("base", "data", "preprocess", "lenet", "resnet", "transfer", "finetune", "evaluate", "compare")
    run_stage(compare, "compare", sections=sections)
