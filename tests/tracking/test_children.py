"""The runs of trainings: each has one, whatever kills the stage above it."""

import pytest

from cotejo.tracking.children import Children
from cotejo.tracking.journal import Run
from cotejo.tracking.journal_file import find_state, parse_records
from cotejo.tracking.outbox.sender import Tracker

ROWS = [{"epoch": epoch, "val_loss": 1 / epoch} for epoch in (1, 2, 3)]


@pytest.fixture
def stage(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    return lambda: Run(Tracker(tmp_path / "journal", lambda _: None), "train", None, {})


def read(child):
    return parse_records(child.run.path.read_bytes())


def list_steps(child):
    return [record["step"] for record in read(child) if record["kind"] == "metrics"]


def test_a_resumed_training_is_the_same_run_below_the_stage_that_resumes_it(stage, tmp_path):
    killed = Children(stage(), tmp_path / "checkpoints").open("seed 0", {"epochs": 3})
    assert killed.log_row(ROWS[0])
    after = stage()
    child = Children(after, tmp_path / "checkpoints").open("seed 0", {"epochs": 3})
    assert child.run.uid == killed.run.uid
    assert [child.log_row(row) for row in ROWS] == [False, True, True]
    child.finish()
    assert list_steps(child) == [1, 2, 3]
    assert find_state(read(child)) == "FINISHED"
    assert [record["parent"]["uid"] for record in read(child) if record["kind"] == "adopt"] == [after.uid]


def test_a_training_that_was_killed_before_its_first_epoch_keeps_its_run(stage, tmp_path):
    first, second = (Children(stage(), tmp_path / "checkpoints").open("seed 0", {}) for _ in range(2))
    assert first.run.uid == second.run.uid


def test_half_a_line_that_a_kill_left_costs_one_run_its_name_and_no_other(stage, tmp_path):
    first = Children(stage(), tmp_path / "checkpoints").open("seed 0", {})
    with (tmp_path / "checkpoints/runs.jsonl").open("ab") as file:
        file.write(b'\n["seed 1", "12')
    after = Children(stage(), tmp_path / "checkpoints")
    opened = {name: after.open(name, {}).run.uid for name in ("seed 0", "seed 1")}
    again = Children(stage(), tmp_path / "checkpoints")
    assert {name: again.open(name, {}).run.uid for name in opened} == opened
    assert opened["seed 0"] == first.run.uid


def test_a_run_that_had_ended_is_moved_below_the_stage_that_resumes_it_and_keeps_its_state(stage, tmp_path):
    ended = Children(stage(), tmp_path / "checkpoints").open("trial 0", {})
    ended.finish("KILLED")
    before = read(ended)
    after = stage()
    children = Children(after, tmp_path / "checkpoints")
    children.adopt("trial 0", "KILLED")
    children.adopt("trial 1", "KILLED")  # of another machine
    *same, moved = read(ended)
    assert same == before, "the end keeps its time"
    assert (moved["kind"], moved["parent"]["uid"]) == ("adopt", after.uid)
    assert len(list((tmp_path / "journal").glob("*.jsonl"))) == 3


def test_a_run_that_was_cut_off_as_it_ended_gets_its_end_below_the_stage_that_resumes_it(stage, tmp_path):
    cut_off = Children(stage(), tmp_path / "checkpoints").open("trial 0", {})
    Children(stage(), tmp_path / "checkpoints").adopt("trial 0", "FAILED", "no such layer")
    assert find_state(read(cut_off)) == "FAILED"
    assert [record["values"] for record in read(cut_off) if record["kind"] == "tags"] == [{"error": "no such layer"}]


def test_what_had_ended_well_before_a_kill_is_not_ended_again(stage, tmp_path):
    Children(stage(), tmp_path / "checkpoints").open("seed 0", {}).finish()
    child = Children(stage(), tmp_path / "checkpoints").open("seed 0", {})
    child.finish()
    assert [record["kind"] for record in read(child)].count("end") == 1


@pytest.mark.parametrize(
    ("error", "state", "said"),
    [(KeyboardInterrupt(), "KILLED", None), (ValueError("no such layer\nat all"), "FAILED", "no such layer")],
)
def test_what_is_open_when_the_stage_ends_ends_with_it(stage, tmp_path, error, state, said):
    children = Children(stage(), tmp_path / "checkpoints")
    ended, still_open = children.open("seed 0", {}), children.open("seed 1", {})
    ended.finish()
    with pytest.raises(type(error)), children.closing():
        raise error
    assert find_state(read(ended)) == "FINISHED"
    assert find_state(read(still_open)) == state
    tags = {
        key: value for record in read(still_open) if record["kind"] == "tags" for key, value in record["values"].items()
    }
    assert tags.get("error") == said
