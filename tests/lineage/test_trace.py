"""What `cotejo lineage` says: the trace of a file, a run or an experiment, and where it breaks."""

import json
import shutil

import pytest

from small_pipeline import find_experiment


def test_a_files_trace_goes_from_the_data_to_the_file_and_is_complete(made):
    printed = made.run("cotejo", "lineage", "reports/page.html")
    titles = [line for line in printed.splitlines() if line in ("download", "train", "compare", "tally")]
    assert titles == ["download", "train", "compare"]
    for stage in titles:
        assert f"run     {made.find_run(stage).info.run_id[:8]} {stage} in repro-" in printed
    for kind, path in (("data", "data/raw"), ("model", "models/small"), ("report", "reports/page.html")):
        assert f"  {kind:<8}{path} " in printed
    assert printed.endswith("The trace is complete: 3 stages.\n")
    assert max(map(len, printed.splitlines())) <= 100


def test_what_the_journals_know_is_said_without_mlflow_or_tensorflow(made):
    script = (
        "import sys; from pathlib import Path; from cotejo.lineage.trace import trace; "
        "list(trace(Path(), 'models/small')); "
        "print(sorted({'mlflow', 'tensorflow', 'keras'} & set(sys.modules)))"
    )
    assert made.run("python", "-c", script) == "[]\n"


def test_a_file_within_a_folder_has_the_trace_of_the_folder(made):
    printed = made.trace("models/small/seed-0/model.bin")
    assert "made by train" in printed
    assert "The trace is complete: 2 stages." in printed


def test_a_file_that_changed_since_breaks_the_trace_where_it_was_made(pipeline):
    (pipeline.folder / "models/small/seed-0/model.bin").write_text("another")
    printed = pipeline.trace("reports/page.html")
    assert "models/small has changed since: " in printed
    assert "The trace breaks at train: " in printed


def test_parameters_and_code_that_changed_since_break_the_trace(pipeline):
    pipeline.edit("params.yaml", "margin: 0.01", "margin: 0.25")
    pipeline.edit("stages/download.py", "\n", "\n# changed\n")
    printed = pipeline.trace("reports/page.html")
    assert "compare.margin is 0.25 now, and was 0.01" in printed
    assert "stages/download.py has changed since: " in printed
    assert "The trace breaks at download, compare: " in printed


def test_what_is_not_here_breaks_the_trace(pipeline):
    shutil.rmtree(pipeline.folder / "models")
    assert "models/small isn't here; `dvc checkout`" in pipeline.trace("models/small")


def test_a_run_with_a_dirty_tree_breaks_the_trace_and_a_reused_stage_keeps_its_maker(pipeline):
    pipeline.edit("stages/train.py", "\n", "\n# changed\n")
    download = pipeline.find_run("download").info.run_id
    pipeline.run("dvc", "repro")
    printed = pipeline.trace("reports/page.html")
    assert f"run {download[:8]} download" in printed
    assert "! dirty tree: the code differed from commit" in printed
    assert "The trace breaks at train: " in printed
    assert "made the same outs from other deps" not in printed


@pytest.mark.parametrize("kept", ["journal", "mlflow"])
def test_either_the_journals_or_mlflow_is_enough(pipeline, kept):
    train = pipeline.find_run("train").info.run_id
    if kept == "mlflow":
        shutil.rmtree(pipeline.folder / ".cotejo")
    else:
        (pipeline.folder / "mlflow.db").unlink()
    assert "The trace is complete: 3 stages." in pipeline.trace("reports/page.html")
    printed = pipeline.trace(train[:6])
    assert printed.startswith(f"{train[:8]} train")
    assert "made from it" in printed


def test_runs_without_digests_are_said_to_have_none(pipeline):
    for journal in (pipeline.folder / ".cotejo/journal").glob("*.jsonl"):
        lines = journal.read_text().splitlines(keepends=True)
        journal.write_text("".join(line for line in lines if json.loads(line)["kind"] != "tags"))
    (pipeline.folder / "mlflow.db").unlink()
    printed = pipeline.trace("reports/page.html")
    assert "1 of 1 recorded runs have no digests" in printed
    assert "The trace breaks at download, train, compare: " in printed


def test_no_runs_at_all_are_said_to_be_none(pipeline):
    shutil.rmtree(pipeline.folder / ".cotejo")
    (pipeline.folder / "mlflow.db").unlink()
    assert "no run of train is recorded, neither in .cotejo/journal nor in MLflow" in pipeline.trace(
        "reports/page.html"
    )
    assert not (pipeline.folder / "mlflow.db").exists()


def test_a_server_that_is_down_is_named_without_its_password(pipeline):
    shutil.rmtree(pipeline.folder / ".cotejo")
    printed = pipeline.run("cotejo", "lineage", "reports/page.html", MLFLOW_TRACKING_URI="http://me:secret@127.0.0.1:9")
    assert printed.startswith("MLflow couldn't be asked (")
    assert "secret" not in printed
    assert "Traceback" not in printed


def test_a_run_leads_back_to_the_data_and_on_to_the_report(made):
    ids = {name: made.find_run(name).info.run_id for name in ("download", "train", "compare")}
    printed = made.trace(ids["train"])
    assert printed.startswith(f"{ids['train'][:8]} train in repro-")
    back, _, forward = printed.partition("The trace is complete: 2 stages.")
    assert f"run {ids['download'][:8]} download" in back
    assert f"made from it {ids['compare'][:8]} compare" in forward
    assert "reports/page.html" in forward
    onward = made.trace(ids["download"][:8]).partition("made from it")[2]
    assert all(ids[name][:8] in onward for name in ("train", "compare"))
    assert "no recorded run was made from it" in made.trace(ids["compare"])


def test_a_seeds_run_is_a_part_of_its_stages(made):
    seed, stage = (made.find_run(name).info.run_id for name in ("train seed 0", "train"))
    printed = made.trace(seed[:8])
    assert printed.startswith(f"{seed[:8]} train seed 0")
    assert f"a part of {stage[:8]} train" in printed


def test_a_sessions_run_lists_its_stages(made):
    session = made.find_run("train").data.tags["mlflow.parentRunId"]
    printed = made.trace(session)
    assert "all stages of one dvc repro or experiment" in printed
    assert all(made.find_run(name).info.run_id[:8] in printed for name in ("download", "train", "compare", "tally"))


def test_an_experiment_is_traced_at_its_own_revision(made, tmp_path):
    pipeline = find_experiment(made).copy(tmp_path / "study")
    train = pipeline.find_run("train").info.run_id
    shutil.copy(made.folder / "params.yaml", pipeline.folder)
    pipeline.run("dvc", "repro")  # as it was, from DVC's cache
    printed = pipeline.trace("two")
    assert printed.startswith("two, a DVC experiment: commit ")
    assert f"{train[:8]} train in two" in printed
    assert "The trace is complete: 4 stages." in printed
    assert "The workspace holds other outs of train, compare; `dvc exp apply two` brings these." in printed
    assert train[:8] not in pipeline.trace("reports/page.html")


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("reports/metrics/smal.json", "Nearest: reports/metrics/small.json."),
        ("deadbeef", "which is none of these."),
        ("stages/train.py", "which no stage makes and train reads."),
        ("", "which is none of these."),
    ],
)
def test_what_is_not_known_is_one_line_and_exit_code_2(made, target, said):
    printed = made.run("cotejo", "lineage", target, expected=2)
    assert printed.startswith("cotejo: ")
    assert printed.count("\n") == 1
    assert said in printed


def test_a_stage_that_never_ran_is_named(pipeline):
    (pipeline.folder / "dvc.lock").unlink()
    printed = pipeline.trace("reports/page.html", expected=2)
    assert "Run `dvc repro compare` first." in printed


def test_a_lock_with_the_marks_of_a_merge_is_refused_by_name(pipeline):
    (pipeline.folder / "dvc.lock").write_text("<<<<<<< HEAD\n" + (pipeline.folder / "dvc.lock").read_text())
    printed = pipeline.trace("reports/page.html", expected=2)
    assert "dvc.lock: expected a readable file" in printed
    assert "Traceback" not in printed
