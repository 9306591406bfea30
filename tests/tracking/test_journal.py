"""The record of a run: what has been written stays, whatever ended the process that wrote it."""

import json
import subprocess
import sys
import tempfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotejo.masking import mask_addresses
from cotejo.tracking.journal import Run
from cotejo.tracking.journal_file import append_records, parse_records
from cotejo.tracking.outbox.sender import Tracker
from waiting import start_child


@pytest.fixture
def stage(tmp_path):
    """A stage whose records stay on this machine."""
    return Run(Tracker(tmp_path / "journal", lambda _: None), "train-lenet", None, {"host": "laptop"})


def stop_seed(stage):
    """A seed that is stopped after two epochs; its run."""
    with start_child(stage, "seed 0") as child:
        for epoch in (1, 2):
            child.log_metrics({"val_loss": 1 / epoch}, step=epoch)
        raise KeyboardInterrupt(child)


@pytest.fixture
def stopped(stage):
    with pytest.raises(KeyboardInterrupt) as caught:
        stop_seed(stage)
    return caught.value.args[0]


def read(run):
    return [json.loads(line) for line in run.path.read_text(encoding="utf-8").splitlines()]


def list_kinds(run):
    return [record["kind"] for record in read(run)]


def test_a_resumed_run_adds_to_the_journal_that_it_has(stage, stopped):
    before = stopped.path.read_bytes()
    assert read(stopped)[-1]["state"] == "KILLED"
    assert not stopped.has_ended()
    with start_child(stage, "seed 0", stopped.uid) as again:
        assert again.path == stopped.path
        assert again.find_last_step() == 2
        again.log_metrics({"val_loss": 0.3}, step=3)
    assert stopped.path.read_bytes().startswith(before)
    assert list_kinds(stopped) == ["start", "metrics", "metrics", "end", "resume", "metrics", "end"]
    assert read(stopped)[-1]["state"] == "FINISHED"


def test_a_run_that_had_ended_well_stays_as_it_is(stage):
    with start_child(stage, "seed 0") as child:
        child.log_metrics({"val_loss": 1.0}, step=1)
    before = child.path.read_bytes()
    with start_child(stage, "seed 0", child.uid) as again:
        assert again.has_ended()
    assert child.path.read_bytes() == before


@pytest.mark.parametrize(
    "torn",
    [b'{"kind": "metrics", "time_ms": 17', b"{", '{"name": "\u00e9'.encode()[:-1]],
    ids=["half", "brace", "letter"],
)
def test_a_torn_last_record_is_cut_off_when_the_run_is_resumed(stage, stopped, torn):
    whole = stopped.path.read_bytes()
    stopped.path.write_bytes(whole + torn)
    with start_child(stage, "seed 0", stopped.uid):
        pass
    assert stopped.path.read_bytes().startswith(whole)
    assert list_kinds(stopped)[-3:] == ["end", "resume", "end"]


FULL_DISK = """
import resource
from pathlib import Path
from cotejo.tracking.journal import Run
from cotejo.tracking.outbox.sender import Tracker

soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
run = Run(Tracker(Path("journal"), lambda _: None), "seed 0", None, {}, "seed-0")
# room for half of the next record, and enough again when somebody has made some
resource.setrlimit(resource.RLIMIT_FSIZE, (run.path.stat().st_size + 20, hard))
for step in (1, 2):
    run.log_metrics({"val_loss": 1.0}, step)
assert run.find_last_step() == 0
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
run.finish("FAILED")
"""


def test_a_full_disk_costs_records_and_one_warning_but_not_the_run(tmp_path):
    done = subprocess.run([sys.executable, "-c", FULL_DISK], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stderr == (
        "warning: expected to write what is tracked to journal/seed-0.jsonl. Received: File too large. The run "
        "continues; what can't be written will be missing in MLflow. Free some space.\n"
    )
    run = Run(Tracker(tmp_path / "journal", lambda _: None), "seed 0", None, {}, "seed-0")
    assert list_kinds(run) == ["start", "end", "resume"]


def test_a_start_that_could_not_be_written_is_written_with_the_next_record(tmp_path, capsys):
    (tmp_path / "journal").write_text("a file in the place of the folder")
    run = Run(Tracker(tmp_path / "journal", lambda _: None), "seed 0", None, {})
    run.log_params({"epochs": 1})
    run.flush()
    assert not run.has_ended()
    assert capsys.readouterr().err.count("warning: ") == 1
    (tmp_path / "journal").unlink()
    run.log_params({"epochs": 2})
    assert list_kinds(run) == ["start", "params"]


@pytest.mark.parametrize(
    "left", [b"", b"\0" * 512, b'{"kind": "sta', b"\0\0\n"], ids=["empty", "zeros", "half", "line"]
)
def test_a_journal_that_lost_its_start_gets_another(stage, stopped, left):
    stopped.path.write_bytes(left)
    with start_child(stage, "seed 0", stopped.uid) as again:
        again.log_metrics({"val_loss": 0.3}, step=3)
    kept = [json.loads(line) for line in stopped.path.read_bytes().splitlines() if line != b"\0\0"]
    assert [record["kind"] for record in kept] == ["start", "metrics", "end"]
    assert kept[0]["uid"] == stopped.uid
    assert again.find_last_step() == 3


@pytest.mark.parametrize("bad", [b"{{{", b"17", b"null", b'{"time_ms": 1}', b"\xff"])
def test_a_spoilt_line_is_passed_over(stage, stopped, bad):
    first, rest = stopped.path.read_bytes().split(b"\n", 1)
    stopped.path.write_bytes(first + b"\n" + bad + b"\n" + rest)
    with start_child(stage, "seed 0", stopped.uid) as again:
        assert again.find_last_step() == 2
        assert not again.has_ended()
    assert again.has_ended()


def test_a_run_that_had_ended_well_stays_finished_when_what_comes_after_is_stopped(stage):
    with start_child(stage, "seed 0") as child:
        pass
    with pytest.raises(KeyboardInterrupt), start_child(stage, "seed 0", child.uid):
        raise KeyboardInterrupt
    assert [record["state"] for record in read(child) if record["kind"] == "end"] == ["FINISHED"]


@given(st.text(), st.sampled_from(['bad "https://h/x?token=abc"', "http://a:b@h\\", "x"]))
def test_whatever_an_error_says_its_record_can_be_read_again(text, address):
    with tempfile.TemporaryFile() as journal:
        append_records(journal, [{"kind": "tags", "values": {"error": address + text}, "path": ["/é", 1, None]}])
        journal.seek(0)
        (record,) = parse_records(journal.read())
    assert record["path"] == ["/é", 1, None]
    assert record["values"]["error"] == mask_addresses(address + text)
