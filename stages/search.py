"""Searches better settings for one model, on validation data: python stages/search.py lenet."""

import sys
from pathlib import Path

import _source  # noqa: F401
from cotejo.data.splits import load_dataset, load_split
from cotejo.execution.executor import open_executor
from cotejo.execution.messages import PreparedData
from cotejo.report.search_page import save_search_report
from cotejo.stage import Stage, run_stage
from cotejo.tuning.holdout import draw_holdout
from cotejo.tuning.progress import open_board
from cotejo.tuning.search import Searcher, count_tasks, save_search, save_times

DATA = Path("data/processed")
OUTPUTS = ("reports/search", "reports/timings/search.json", "reports/search.html", "reports/figures/search")


def search(stage: Stage) -> None:
    """Writes reports/search/, its page and its figures, and reports/timings/search.json."""
    settings, dataset = stage.params.search, load_dataset(DATA)
    present, data = stage.params.get_net(settings.model), PreparedData.of(DATA, dataset.digest)
    holdout = draw_holdout(load_split(DATA, "val").labels, settings.holdout, settings.seed)
    stage.run.log_dataset(dataset.name, dataset.digest, DATA)
    with stage.checkpoint(dataset.digest) as folder, open_board(settings, present.epochs) as board:
        with open_executor(stage.params.runtime, settings.threads, count_tasks(settings), data) as executor:
            searcher = Searcher(settings, present, stage.params.base.precision, stage.run, executor, folder)
            ended, confirmed = searcher.search_and_confirm(board)
        with stage.outputs(*OUTPUTS) as (reports, timings, page, figures):
            save_search(ended, confirmed, settings, present.model_dump(), holdout, reports)
            save_times(ended, timings)
            (reports / "study.log").write_bytes((folder / "study.log").read_bytes())
            save_search_report(settings, reports, timings, {**stage.describe_code(), "dataset": dataset}, page, figures)
    stage.run.log_artifact(Path("reports/search"))
    stage.run.log_artifact(Path("reports/search.html"), "report", is_summary=True)


if __name__ == "__main__":
    run_stage(search, "search", sections=("base.precision", "search", sys.argv[1]))
