"""A trial as a worker trains it: in a process of its own, on the bundled digits."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
from filelock import FileLock
from optuna.trial import TrialState, create_trial

from cheap_search import declare_search
from cotejo.tuning.tasks import Setup, TrialTask
from declared import declare

#: Of the worker's 300 validation images, by class.
NUM_HELD_OUT = 150
#: With a weight decay of 10, a learning rate of 10 diverges within two epochs.
LENET = declare("lenet", input_size=16, batch_size=128, epochs=3, optimizer={"weight_decay": 10.0})
#: A worker: takes a task a line, the number of epochs after which it is stopped, and whether the images that no trial
#: may see are spoiled: others than they were, with other labels.
WORKER = """
import pickle, sys
import numpy as np
from sklearn.datasets import load_digits
from cotejo.data.readers import LabelledImages
from cotejo.data.splits import Dataset, TrainingData

from cotejo.tuning import trial
from cotejo.tuning.holdout import draw_holdout
from cotejo.tuning.tasks import run_trial

bundled = load_digits()
images = np.rint(bundled.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]
train, val = (LabelledImages(images[part], bundled.target[part]) for part in (slice(1000), slice(1000, 1300)))
dataset = Dataset("digits", list("0123456789"), (8, 8, 1), "")
for line in sys.stdin:
    task, stopped_after, are_spoiled = pickle.loads(bytes.fromhex(line))
    holdout = draw_holdout(val.labels, task.search.holdout, task.search.seed)
    trial.draw_holdout = lambda *_: holdout  # the draw reads the labels, of which some are about to change
    shown = LabelledImages(val.images.copy(), val.labels.copy())
    if are_spoiled:
        shown.images[holdout.held_out] = 255 - shown.images[holdout.held_out]
        shown.labels[holdout.held_out] = (shown.labels[holdout.held_out] + 1) % 10
    loaded = TrainingData(dataset, train, shown)
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
    """Returns a function that has a worker run a trial, and returns its outcome and the rows that it reported."""
    pipe, command = subprocess.PIPE, [sys.executable, "-c", WORKER]
    worker = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)

    def run_task(task, stopped_after=0, *, are_spoiled=False):
        print(pickle.dumps((task, stopped_after, are_spoiled)).hex(), file=worker.stdin, flush=True)
        for line in worker.stdout:
            if line.startswith("outcome "):
                return pickle.loads(bytes.fromhex(line.split()[1]))  # noqa: S301 - our own worker's
        raise AssertionError(f"the worker ended with {worker.wait()}")

    with worker:
        yield run_task
    assert worker.returncode == 0


def describe(folder, *, known=None, confirms=False, **changes):
    """Returns a task; `values` are what the trial changes."""
    values = changes.pop("values", {"learning_rate": 2e-3})
    search = declare_search(**{"pruner": "successive_halving" if known is not None else "none", **changes})
    setup = Setup(1, "float32", split_batch=True)
    return TrialTask("trial 4", 4, search, LENET, values, 0, 3, known, str(folder), setup, confirms)


@pytest.fixture(scope="module")
def whole(run, tmp_path_factory):
    """A trial that ran to its end."""
    return run(describe(tmp_path_factory.mktemp("whole")))


@pytest.fixture(scope="module")
def confirming(run, tmp_path_factory):
    """The same training as one that confirms."""
    return run(describe(tmp_path_factory.mktemp("confirming"), confirms=True))


def without_times(outcome):
    """Returns an outcome to be compared: arrays as bytes, and no times."""
    scores = None if outcome.scores is None else (outcome.scores.dtype, outcome.scores.tobytes())
    return outcome._replace(times_s=(0.0, 0.0), scores=scores)


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
    assert outcome.scores is other.scores is None


def test_no_trial_reads_the_images_that_are_held_out(run, whole, tmp_path):
    outcome, _ = run(describe(tmp_path), are_spoiled=True)
    assert without_times(outcome) == without_times(whole[0])


def test_a_training_that_confirms_is_scored_on_the_held_out_images_and_chooses_its_epoch_by_the_others(
    run, whole, confirming, tmp_path
):
    outcome, _ = confirming
    assert outcome.rows == whole[0].rows
    assert (outcome.scores.dtype, outcome.scores.shape) == (np.bool_, (NUM_HELD_OUT,))
    assert outcome.value == outcome.scores.mean() != whole[0].value
    spoiled, _ = run(describe(tmp_path, confirms=True), are_spoiled=True)
    assert spoiled.rows == outcome.rows
    assert spoiled.value < 0.3 < outcome.value


def test_scores_of_cross_entropy_are_losses(run, tmp_path):
    outcome, _ = run(describe(tmp_path, confirms=True, metric="val_cross_entropy"))
    assert (outcome.scores.dtype, outcome.scores.shape) == (np.float32, (NUM_HELD_OUT,))
    assert (outcome.scores >= 0).all()
    assert outcome.value == outcome.scores.mean(dtype=np.float64)


@pytest.mark.parametrize("metric", ["val_accuracy", "val_cross_entropy"])
def test_without_held_out_images_the_scores_are_those_of_the_images_that_chose(run, tmp_path, metric):
    outcome, _ = run(describe(tmp_path, confirms=True, metric=metric, holdout=0.0))
    kept = min(outcome.rows, key=lambda row: row["val_loss"])
    assert outcome.scores.shape == (300,)
    assert outcome.value == pytest.approx(kept[metric], rel=1e-5)


@pytest.mark.parametrize("stopped_after", [2, 3])
def test_a_stopped_training_that_confirms_ends_with_the_same_scores(run, confirming, tmp_path, stopped_after):
    run(describe(tmp_path, confirms=True), stopped_after)
    outcome, _ = run(describe(tmp_path, confirms=True))
    assert without_times(outcome) == without_times(confirming[0])


def test_the_arithmetic_is_that_of_every_epoch_there_and_back(whole):
    # by hand: convolutions to 12 x 12 x 6 and 2 x 2 x 16 of 5 x 5 pixels, dense layers 16-120-84-10; a multiply-add
    # counts as two, and a step back as twice a step forward
    by_hand = 2 * (12 * 12 * 6 * 25 + 2 * 2 * 16 * 25 * 6 + 16 * 120 + 120 * 84 + 84 * 10)
    outcome, _ = whole
    assert outcome.cost / (3 * 1000 * len(outcome.rows)) == pytest.approx(by_hand, rel=0.05)


def test_a_learning_rate_far_too_high_fails_with_its_reason(run, tmp_path):
    outcome, reported = run(describe(tmp_path, values={"learning_rate": 10.0}))
    assert (outcome.state, outcome.value, outcome.kind) == ("FAIL", None, "a training that can't continue")
    assert outcome.reason.startswith("trial 4: expected a finite training loss. Received: ")
    assert len(reported) == len(outcome.rows) < 3


def test_values_that_do_not_go_together_fail_with_their_reason(run, tmp_path):
    outcome, reported = run(describe(tmp_path, values={"optimizer.momentum": 0.9}))
    assert (outcome.state, outcome.kind, reported) == ("FAIL", "values that don't go together", [])
    assert outcome.reason.startswith("trial 4: expected momentum 0 with adam, which has its own, not 0.9")


@pytest.mark.parametrize(
    "stopped_after", [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(3, marks=pytest.mark.slow)]
)
def test_a_stopped_trial_is_resumed_at_its_last_epoch_and_ends_as_if_it_had_not_been(
    run, whole, tmp_path, stopped_after
):
    _, before = run(describe(tmp_path), stopped_after)
    dates = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.ckpt")}
    outcome, reported = run(describe(tmp_path))
    assert without_times(outcome) == without_times(whole[0])
    assert reported == outcome.rows, "all of them, once: whoever resumes knows nothing of what was reported"
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
