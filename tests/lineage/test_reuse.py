"""Stages that DVC skipped or took from its cache appear on the run of the session that reused them."""

import json
import os
import time

import pytest

from cotejo.lineage.reuse import link_reused, show_reused
from cotejo.lineage.tags import parse_entries
from once import make_once
from small_pipeline import Pipeline, find_experiment

pytestmark = pytest.mark.slow  # three sessions of DVC


def find_parent(pipeline, run):
    return pipeline.client.get_run(run.data.tags["mlflow.parentRunId"])


def list_reused(run):
    return parse_entries(run.data.tags.get("reused", ""))


def find_ids(pipeline):
    """The newest run of each stage."""
    return {name: pipeline.find_run(name).info.run_id for name in ("download", "train", "compare", "tally")}


def link(pipeline):
    with pipeline.connecting() as delivery:
        return link_reused(pipeline.folder, delivery)


def show(pipeline, parent_id, outs):
    with pipeline.connecting() as delivery:
        return show_reused(delivery, parent_id, {"tally": outs})


@pytest.fixture(scope="module")
def sessions(made):
    """Three sessions: all stages; an experiment of train; tally. Then train as at first, all from DVC's cache."""
    folder = make_once("reuse", lambda folder: make_sessions(made, folder))
    recorded = json.loads((folder / "recorded.json").read_text())
    return Pipeline(folder / "study", made.environment), *recorded


def make_sessions(made, folder):
    first = made.copy(folder / "first")
    ids, linked = [find_ids(first)], [link(first)]
    parents = [find_parent(first, first.find_run("train")).info.run_id]
    before = (first.folder / "params.yaml").read_text()
    pipeline = find_experiment(made).copy(folder / "study")
    ids.append(find_ids(pipeline))
    parents.append(find_parent(pipeline, pipeline.find_run("train")).info.run_id)
    at_the_end = list_reused(pipeline.client.get_run(parents[1]))
    linked.append(link(pipeline))
    pipeline.edit("params.yaml", "sample_seed: 0", "sample_seed: 5")
    pipeline.run("dvc", "repro")
    ids.append(find_ids(pipeline))
    parents.append(find_parent(pipeline, pipeline.find_run("tally")).info.run_id)
    linked.append(link(pipeline))
    (pipeline.folder / "params.yaml").write_text(before.replace("sample_seed: 0", "sample_seed: 5"))
    assert "Running stage" not in pipeline.run("dvc", "repro")
    (folder / "recorded.json").write_text(json.dumps([ids, parents, at_the_end, linked]))


def test_a_session_that_ran_all_reuses_nothing(sessions):
    pipeline, _, parents, _, linked = sessions
    assert list_reused(pipeline.client.get_run(parents[0])) == {}
    assert linked[0] == 0


def test_the_end_of_a_stage_links_those_that_it_depends_on(sessions):
    _, ids, _, at_the_end, _ = sessions
    assert at_the_end == {"download": ids[0]["download"]}


def test_sync_links_the_others(sessions):
    pipeline, ids, parents, _, linked = sessions
    first, second = ids[0], ids[1]
    assert list_reused(pipeline.client.get_run(parents[1])) == {key: first[key] for key in ("download", "tally")}
    assert list_reused(pipeline.client.get_run(parents[2])) == {
        "download": first["download"], "train": second["train"], "compare": second["compare"],
    }  # fmt: skip
    assert linked[1:] == [1, 2]


def test_the_parents_description_links_the_makers(sessions):
    pipeline, ids, parents, _, _ = sessions
    parent = pipeline.client.get_run(parents[1])
    start, _, *lines = parent.data.tags["mlflow.note.content"].splitlines()
    assert start == "Reused, not run again:"
    where = f"#/experiments/{parent.info.experiment_id}/runs"
    assert [line.partition(", run ")[0] for line in lines] == [
        f"- [{stage}]({where}/{ids[0][stage]})" for stage in ("download", "tally")
    ]


def test_a_repro_that_ran_nothing_gets_a_parent_from_sync_once(sessions, tmp_path):
    pipeline, ids, _, _, _ = sessions
    pipeline = pipeline.copy(tmp_path / "study")
    wait_for_lock(pipeline)
    before = len(pipeline.list_runs())
    assert link(pipeline) == 4
    assert link(pipeline) == 0
    assert len(pipeline.list_runs()) == before + 1
    (parent,) = [run for run in pipeline.list_runs() if run.info.run_name.startswith("reused-")]
    assert parent.info.status == "FINISHED"
    assert list_reused(parent) == {**ids[0], "tally": ids[2]["tally"]}


def test_a_return_to_what_a_session_has_made_adds_nothing(sessions, tmp_path):
    pipeline, _, _, _, _ = sessions
    pipeline = pipeline.copy(tmp_path / "study")
    pipeline.edit("params.yaml", "sample_seed: 5", "sample_seed: 0")
    assert "Running stage" not in pipeline.run("dvc", "repro")
    wait_for_lock(pipeline)
    before = len(pipeline.list_runs())
    assert link(pipeline) == 0
    assert len(pipeline.list_runs()) == before


def test_a_stage_is_recorded_once_and_a_users_description_stays(sessions, tmp_path):
    pipeline, ids, parents, _, _ = sessions
    pipeline = pipeline.copy(tmp_path / "study")
    pipeline.client.set_tag(parents[0], "mlflow.note.content", "The first study")
    outs = {"reports/tally.txt": "0" * 32}
    assert show(pipeline, parents[0], outs) == 1
    assert show(pipeline, parents[0], outs) == 0
    assert list_reused(pipeline.client.get_run(parents[0])) == {"tally": "unknown"}
    made = parse_entries(pipeline.client.get_run(ids[0]["tally"]).data.tags["outs"])
    assert show(pipeline, parents[0], made) == 1
    assert show(pipeline, parents[0], made) == 0
    shown = pipeline.client.get_run(parents[0])
    assert list_reused(shown) == {"tally": ids[0]["tally"]}
    assert shown.data.tags["mlflow.note.content"] == "The first study"


def wait_for_lock(pipeline):
    """Makes as if minutes had gone by between the last stage's end and DVC's writing of the lock."""
    os.utime(pipeline.folder / "dvc.lock", (time.time() + 600,) * 2)
