"""Searches better settings for one model, on validation data: python stages/search.py lenet."""

import sys
from pathlib import Path

import _source  # noqa: F401
from cotejo.data.splits import load_dataset, load_split
from cotejo.execution.executor import open_executor
from cotejo.execution.messages import PreparedData
from cotejo.report.search_page import PAGES, save_search_report
from cotejo.stage import Stage, run_stage
from cotejo.tuning.holdout import draw_holdout
from cotejo.tuning.progress import open_board
from cotejo.tuning.search import Searcher, count_tasks, save_search, save_times

DATA = Path("data/processed")
OUTPUTS = ("reports/search", "reports/timings/search.json", "reports/figures/search", *PAGES)


def search(stage: Stage) -> None:
    """Writes reports/search/, its pages and figures, and reports/timings/search.json."""
    settings, precision, dataset = stage.params.search, stage.params.base.precision, load_dataset(DATA)
    net, data = stage.params.get_net(settings.model), PreparedData.of(DATA, dataset.digest)
    holdout = draw_holdout(load_split(DATA, "val").labels, settings.holdout, settings.seed)
    stage.run.log_dataset(dataset.name, dataset.digest, DATA)
    with stage.checkpoint(dataset.digest) as folder, open_board(settings, net.epochs) as board:
        with open_executor(stage.params.runtime, settings.threads, count_tasks(settings), data) as executor:
            ended, confirmed = Searcher(settings, net, precision, stage.run, executor, folder).search_and_confirm(board)
        with stage.outputs(*OUTPUTS) as (reports, times, figures, *pages):
            save_search(ended, confirmed, settings, net.model_dump(), holdout, reports)
            save_times(ended, times)
            (reports / "study.log").write_bytes((folder / "study.log").read_bytes())
            save_search_report(settings, reports, times, {**stage.describe_code(), "dataset": dataset}, pages, figures)
    stage.run.log_artifact(Path("reports/search"))
    for page in PAGES:
        stage.run.log_artifact(Path(page), "report", is_summary=True)


if __name__ == "__main__":
    run_stage(search, "search", sections=("base.precision", "search", sys.argv[1]))
