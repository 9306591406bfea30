"""A trial as a worker trains it: in a process of its own, on the bundled digits."""

import pickle
import subprocess
import sys

import pytest
from filelock import FileLock
from optuna.trial import TrialState, create_trial

from cheap_search import declare_search
from cotejo.tuning.tasks import Setup, Task
from declared import declare

#: With a weight decay of 10, a learning rate of 10 diverges within two epochs.
LENET = declare("lenet", input_size=16, batch_size=128, epochs=3, optimizer={"weight_decay": 10.0})
#: A worker: takes a task a line, and the number of epochs after which it is stopped.
WORKER = """
import pickle, sys
import numpy as np
from sklearn.datasets import load_digits
from cotejo.data.readers import LabelledImages
from cotejo.data.splits import Dataset, TrainingData

from cotejo.tuning.tasks import run_trial

bundled = load_digits()
images = np.rint(bundled.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]
train, val = (LabelledImages(images[part], bundled.target[part]) for part in (slice(1000), slice(1000, 1300)))
loaded = TrainingData(Dataset("digits", list("0123456789"), (8, 8, 1), ""), train, val)
for line in sys.stdin:
    task, stopped_after = pickle.loads(bytes.fromhex(line))
    reported = []

    def report(row):
        reported.append(row)
        if len(reported) == stopped_after:
            raise KeyboardInterrupt

    try:
        outcome = run_trial(task, loaded, report)
    except KeyboardInterrupt:
        outcome = None
    print("outcome", pickle.dumps((outcome, reported)).hex(), flush=True)
"""


@pytest.fixture(scope="module")
def run(environment):
    """Returns a function that has a worker run a trial, and gives its outcome and what it has reported."""
    pipe, command = subprocess.PIPE, [sys.executable, "-c", WORKER]
    worker = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)

    def run_task(task, stopped_after=0):
        print(pickle.dumps((task, stopped_after)).hex(), file=worker.stdin, flush=True)
        for line in worker.stdout:
            if line.startswith("outcome "):
                return pickle.loads(bytes.fromhex(line.split()[1]))  # noqa: S301 - our own worker's
        raise AssertionError(f"the worker ended with {worker.wait()}")

    with worker:
        yield run_task
    assert worker.returncode == 0


def describe(folder, *, known=None, **changes):
    """Returns a task; `values` are what the trial changes."""
    values = changes.pop("values", {"learning_rate": 2e-3})
    search = declare_search(**{"pruner": "successive_halving" if known is not None else "none", **changes})
    setup = Setup(1, "float32", side_by_side=True)
    return Task("trial 4", 4, search, LENET, values, 0, 3, known, str(folder), setup)


@pytest.fixture(scope="module")
def whole(run, tmp_path_factory):
    """A trial that ran to its end."""
    return run(describe(tmp_path_factory.mktemp("whole")))


def without_times(outcome):
    return outcome._replace(times_s=(0.0, 0.0))


def test_the_value_is_the_metric_of_the_epoch_that_is_kept(whole, run, tmp_path):
    outcome, reported = whole
    assert outcome.state == "COMPLETE"
    assert [row["epoch"] for row in reported] == [1, 2, 3]
    assert reported == outcome.rows
    kept = min(outcome.rows, key=lambda row: row["val_loss"])
    assert outcome.value == kept["val_accuracy"]
    assert outcome.times_s[0] < outcome.times_s[1]
    other, _ = run(describe(tmp_path, metric="val_cross_entropy"))
    assert other.value == min(row["val_cross_entropy"] for row in other.rows)


def test_the_arithmetic_is_that_of_every_epoch_there_and_back(whole):
    # by hand: convolutions to 12 x 12 x 6 and 2 x 2 x 16 of 5 x 5 pixels, dense layers 16-120-84-10; a multiply-add
    # counts as two, and a step back as twice a step forward
    by_hand = 2 * (12 * 12 * 6 * 25 + 2 * 2 * 16 * 25 * 6 + 16 * 120 + 120 * 84 + 84 * 10)
    outcome, _ = whole
    assert outcome.cost / (3 * 1000 * len(outcome.rows)) == pytest.approx(by_hand, rel=0.05)


def test_a_learning_rate_far_too_high_fails_with_its_reason(run, tmp_path):
    outcome, reported = run(describe(tmp_path, values={"learning_rate": 10.0}))
    assert (outcome.state, outcome.value, outcome.kind) == ("FAIL", None, "a training that can't go on")
    assert outcome.reason.startswith("trial 4: expected a finite training loss. Received: ")
    assert len(reported) == len(outcome.rows) < 3


def test_values_that_do_not_go_together_fail_with_their_reason(run, tmp_path):
    outcome, reported = run(describe(tmp_path, values={"optimizer.momentum": 0.9}))
    assert (outcome.state, outcome.kind, reported) == ("FAIL", "values that don't go together", [])
    assert outcome.reason.startswith("trial 4: expected momentum 0 with adam, which has its own, not 0.9")


@pytest.mark.parametrize("stopped_after", [1, 2, 3])
def test_a_stopped_trial_goes_on_at_its_last_epoch_and_ends_as_if_it_had_not_been(run, whole, tmp_path, stopped_after):
    _, before = run(describe(tmp_path), stopped_after)
    dates = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.ckpt")}
    outcome, reported = run(describe(tmp_path))
    assert without_times(outcome) == without_times(whole[0])
    assert reported == outcome.rows, "all of them, once: whoever goes on knows nothing of what was reported"
    assert reported[:stopped_after] == before
    trained_again = [path for path, date in dates.items() if path.exists() and path.stat().st_mtime_ns != date]
    assert trained_again == []


def test_a_trial_that_falls_behind_is_stopped_and_after_a_kill_stopped_again(run, tmp_path):
    ahead = [
        create_trial(
            state=TrialState.COMPLETE, value=1.0, intermediate_values={1: 1.0}, system_attrs={"completed_rung_0": 1.0}
        )
        for _ in range(4)
    ]
    outcome, reported = run(describe(tmp_path, known=ahead))
    assert (outcome.state, outcome.value, len(reported)) == ("PRUNED", None, 1)
    assert outcome.marks == {"completed_rung_0": reported[0]["val_accuracy"]}
    again, _ = run(describe(tmp_path, known=ahead))
    assert without_times(again) == without_times(outcome)


def test_a_trial_that_early_stopping_has_ended_is_not_pruned_any_more(run, tmp_path):
    # the first of all after an epoch, the last of all after three, where it stops by itself
    marks = {"completed_rung_0": 0.0, "completed_rung_1": 1.0}
    known = [create_trial(state=TrialState.COMPLETE, value=1.0, system_attrs=marks) for _ in range(4)]
    values = {"epochs": 9, "early_stopping.patience": 2, "early_stopping.min_delta": 100.0}
    task = describe(tmp_path, known=known, values=values)
    outcome, reported = run(task)
    assert (outcome.state, outcome.value, len(reported)) == ("COMPLETE", reported[0]["val_accuracy"], 3)
    assert "completed_rung_1" in outcome.marks
    again, _ = run(task)
    assert without_times(again) == without_times(outcome)
    outlasting, _ = run(describe(tmp_path / "patient", known=known, values={"epochs": 9}))
    assert (outlasting.state, len(outlasting.rows)) == ("PRUNED", 3)


def test_beside_a_worker_that_was_cut_off_it_is_trained_in_a_folder_of_its_own(run, whole, tmp_path):
    with FileLock(tmp_path / ".lock"):
        outcome, _ = run(describe(tmp_path))
    assert without_times(outcome) == without_times(whole[0])
    assert not list(tmp_path.glob("*.ckpt"))


def test_without_a_folder_of_checkpoints_it_is_trained_all_the_same(run, whole, tmp_path):
    (tmp_path / "file").touch()
    outcome, _ = run(describe(tmp_path / "file" / "trial-4"))
    assert without_times(outcome) == without_times(whole[0])
