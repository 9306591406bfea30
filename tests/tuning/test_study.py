"""The search: same trials on every run, killed or not, and nothing that a bad trial could end."""

import json
import subprocess
import sys

import numpy as np
import optuna
import pandas as pd
import pytest
import tensorflow as tf
from ruamel.yaml import YAML
from sklearn.datasets import load_digits

from cotejo.data.readers import LabelledImages
from cotejo.errors import ModelError
from cotejo.models.lenet import build_model
from cotejo.params import override_group
from cotejo.schema import Search
from cotejo.tracking.journal import Run
from cotejo.tracking.sender import Tracker
from cotejo.training.fit import Job
from cotejo.training.hardware import Hardware
from cotejo.tuning.objective import build_objective
from cotejo.tuning.study import compute_importances, find_best, run_study, save_study, tabulate_trials
from declared import declare

SPACE = {
    "epochs": {"type": "int", "low": 2, "high": 10, "step": 2},
    "batch_size": {"type": "choice", "choices": [32, 64, 128]},
    "learning_rate": {"type": "float", "low": 1e-4, "high": 1e-1, "log": True},
}
PRESENT = {"epochs": 4, "batch_size": 64, "learning_rate": 1e-3}
LENET = declare("lenet", input_size=16, **PRESENT)


def declare_search(**changes):
    values = {"model": "lenet", "num_trials": 5, "sampler": "tpe", "pruner": "none", "seed": 0, "space": SPACE}
    return Search.model_validate({**values, **changes})


def score(trial, values):
    """A cheap stand-in for training: best at a learning rate of 0.01, whatever the rest."""
    for epoch in (1, 2):
        trial.report(epoch / 10, epoch)
    return 1 / (1 + abs(np.log10(values["learning_rate"]) + 2))


@pytest.fixture
def journal(tmp_path):
    return tmp_path / "checkpoints" / "study.log"


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_the_first_trial_has_the_present_values(journal, sampler):
    study = run_study(declare_search(num_trials=1, sampler=sampler), LENET.model_dump(), score, journal)
    assert study.trials[0].params == PRESENT


@pytest.mark.parametrize(
    "outside",
    [{"learning_rate": 1.0}, {"epochs": 12}, {"epochs": 5}, {"batch_size": 48}],
    ids=["above", "above-int", "between-steps", "no-choice"],
)
def test_a_present_value_outside_the_space_is_left_to_the_sampler(journal, outside):
    study = run_study(declare_search(num_trials=1), {**PRESENT, **outside}, score, journal)
    (key,) = outside
    proposed = dict(study.trials[0].params)
    assert proposed.pop(key) != outside[key]
    assert proposed == {name: value for name, value in PRESENT.items() if name != key}


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_every_proposal_is_within_the_space_and_of_the_type_that_the_section_wants(journal, sampler):
    study = run_study(declare_search(num_trials=15, sampler=sampler), PRESENT, score, journal)
    assert len(study.trials) == 15
    for trial in study.trials:
        settings = override_group(LENET, trial.params, "search.space")
        assert settings.epochs in (2, 4, 6, 8, 10)
        assert settings.batch_size in (32, 64, 128)
        assert 1e-4 <= settings.learning_rate <= 1e-1
    assert len({trial.params["learning_rate"] for trial in study.trials}) == 15


def test_the_same_study_has_the_same_trials_and_another_seed_has_others(tmp_path):
    first, second, other = (
        tabulate_trials(run_study(declare_search(num_trials=12, seed=seed), PRESENT, score, tmp_path / f"{number}.log"))
        for number, seed in enumerate((0, 0, 1))
    )
    pd.testing.assert_frame_equal(first, second, check_exact=True)
    # the first trial has the present values; after it, not one proposal of the other seed comes back
    assert set(first["learning_rate"][1:]).isdisjoint(other["learning_rate"][1:])


def test_a_finished_study_is_not_gone_on_with(journal):
    def never(trial, values):
        raise AssertionError("a trial beyond the budget")

    done = run_study(declare_search(), PRESENT, score, journal)
    again = run_study(declare_search(), PRESENT, never, journal)
    pd.testing.assert_frame_equal(tabulate_trials(again), tabulate_trials(done))


def diverge_or_prune(trial, values):
    """Trial 1 diverges, trial 2 diverges before its first epoch ends, trial 3 is pruned."""
    if trial.number == 2:
        raise ModelError("trial 2: expected a finite training loss. Received: nan in epoch 1")
    trial.report(0.25, 1)
    if trial.number == 1:
        raise ModelError("trial 1: expected a finite training loss. Received: nan in epoch 2")
    trial.report(0.125, 2)
    if trial.number == 3:
        raise optuna.TrialPruned
    return 0.5 + trial.number / 100


@pytest.fixture
def mixed(journal):
    return run_study(declare_search(), PRESENT, diverge_or_prune, journal)


def test_a_diverging_trial_fails_with_its_reason_and_the_search_goes_on_to_its_budget(mixed):
    assert [trial.state.name for trial in mixed.trials] == ["COMPLETE", "FAIL", "FAIL", "PRUNED", "COMPLETE"]
    assert mixed.trials[1].user_attrs["reason"].endswith("Received: nan in epoch 2")


def test_the_table_has_the_last_reported_value_of_a_trial_that_did_not_end(mixed):
    table = tabulate_trials(mixed)
    assert list(table.columns) == ["number", "state", "value", "epochs_run", "batch_size", "epochs", "learning_rate"]
    assert table["number"].to_list() == [0, 1, 2, 3, 4]
    assert table["value"].to_list() == pytest.approx([0.5, 0.25, np.nan, 0.125, 0.54], nan_ok=True)
    assert table["epochs_run"].to_list() == [2, 1, 0, 2, 2]


def test_the_best_trial_is_the_complete_one_with_the_highest_value(mixed):
    assert find_best(mixed).value == 0.54


def test_any_other_exception_ends_the_search(journal):
    def fail(trial, values):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_study(declare_search(), PRESENT, fail, journal)


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (optuna.TrialPruned(), "Received: 3 pruned, 0 failed.*search.pruner to none"),
        (ModelError("expected a finite loss. Received: nan"), r"(?s)Received: 0 pruned, 3 failed.*Received: nan"),
    ],
    ids=["pruned", "failed"],
)
def test_a_search_without_a_finished_trial_is_an_error_and_writes_nothing(journal, tmp_path, outcome, said):
    def end(trial, values):
        raise outcome

    search = declare_search(num_trials=3)
    study = run_study(search, PRESENT, end, journal)
    (tmp_path / "reports").mkdir()
    with pytest.raises(ModelError, match=said):
        save_study(study, search, tmp_path / "reports")
    assert list((tmp_path / "reports").iterdir()) == []


@pytest.mark.parametrize(
    ("pruner", "expected"), [("median", ["COMPLETE"] * 5 + ["PRUNED"]), ("none", ["COMPLETE"] * 6)]
)
def test_the_median_pruner_stops_a_trial_that_is_worse_than_the_earlier_ones(journal, pruner, expected):
    def worsen(trial, values):
        trial.report(-trial.number, 1)
        if trial.should_prune():
            raise optuna.TrialPruned
        return 0.0

    study = run_study(declare_search(num_trials=6, pruner=pruner), PRESENT, worsen, journal)
    assert [trial.state.name for trial in study.trials] == expected


def test_what_is_saved_can_be_pasted_into_the_section_that_was_searched(tmp_path, journal):
    search = declare_search(num_trials=8)
    study = run_study(search, PRESENT, score, journal)
    save_study(study, search, tmp_path)
    text = (tmp_path / "best_params.yaml").read_text(encoding="utf-8")
    assert text.startswith(f"# validation accuracy {study.best_value:.4f}, the best of 8 trials\nlenet:\n")
    saved = YAML(typ="safe", pure=True).load(text)
    assert saved == {"lenet": study.best_params}
    assert override_group(LENET, saved["lenet"], "lenet").learning_rate == study.best_params["learning_rate"]
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "trials.csv"), tabulate_trials(study))


def test_importances_find_the_parameter_that_decides(journal):
    importances = compute_importances(run_study(declare_search(num_trials=15), PRESENT, score, journal), seed=0)
    assert max(importances, key=importances.get) == "learning_rate"
    assert sum(importances.values()) == pytest.approx(1)
    assert set(importances) == set(SPACE)


def test_importances_that_cannot_be_told_are_left_out(journal):
    study = run_study(declare_search(num_trials=3), PRESENT, lambda trial, values: 0.5, journal)
    assert compute_importances(study, seed=0) == {}


def test_a_trials_value_is_the_validation_accuracy_of_its_best_epoch(journal, tmp_path):
    bundled = load_digits()
    images = np.rint(bundled.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]
    train = LabelledImages(images[:200], bundled.target[:200])
    val = LabelledImages(images[200:260], np.random.default_rng(1).permutation(bundled.target[200:260]))

    def prepare(settings):
        return Job.of(build_model(settings, (8, 8, 1), 10), train, val)

    hardware = Hardware("CPU", 2, 1, "float32", tf.distribute.get_strategy())
    run = Run(Tracker(tmp_path / "journal", lambda _: None), "search", None, {})
    search = declare_search(num_trials=1)
    study = run_study(search, PRESENT, build_objective(prepare, LENET, search, hardware, run), journal)

    records = [json.loads(line) for path in (tmp_path / "journal").iterdir() for line in path.read_text().splitlines()]
    epochs = [record["values"] for record in records if "val_loss" in record.get("values", {})]
    assert len(epochs) == PRESENT["epochs"]
    best = min(epochs, key=lambda epoch: epoch["val_loss"])
    assert study.best_value == best["val_accuracy"]
    assert list(study.trials[0].intermediate_values.values()) == [epoch["val_accuracy"] for epoch in epochs]
    assert [record["name"] for record in records if record["kind"] == "start"].count("trial 0") == 1


KILL = """
import os, signal, sys
from pathlib import Path
import optuna
from optuna.storages.journal import JournalFileBackend
from cotejo.errors import ModelError
from cotejo.schema import Search
from cotejo.tuning.study import run_study, save_study

search = Search.model_validate(
    {
        "model": "lenet", "num_trials": 13, "sampler": "tpe", "pruner": "median", "seed": 7,
        "space": {
            "epochs": {"type": "int", "low": 2, "high": 10},
            "batch_size": {"type": "choice", "choices": [32, 64, 128]},
            "learning_rate": {"type": "float", "low": 1e-4, "high": 1e-1, "log": True},
        },
    }
)
present = {"epochs": 4, "batch_size": 64, "learning_rate": 1e-3}
append_logs = JournalFileBackend.append_logs

def objective(trial, values):
    if values["learning_rate"] > 0.06:
        raise ModelError("expected a finite training loss. Received: nan")
    for epoch in (1, 2):
        trial.report(values["learning_rate"] * epoch, epoch)
        if epoch == 1 and trial.should_prune():
            raise optuna.TrialPruned
    return values["learning_rate"] * 3 + values["epochs"] / 1_000

def live(folder, num_writes):
    '''Searches in a process that kill -9 ends just before its next write after so many; returns whether it was.'''
    if (pid := os.fork()) == 0:
        written = 0
        def append(self, logs):
            nonlocal written
            if written == num_writes:
                os.kill(os.getpid(), signal.SIGKILL)
            written += 1
            append_logs(self, logs)
        JournalFileBackend.append_logs = append
        study = run_study(search, present, objective, folder / "study.log")
        save_study(study, search, folder)
        (folder / "writes").write_text(str(written))
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    if status and os.WTERMSIG(status) != signal.SIGKILL:
        sys.exit(f"the search failed with {status}")
    return status != 0

def search_with_kills(name, lives):
    folder = Path(name)
    folder.mkdir()
    killed = sum(live(folder, num_writes) for num_writes in lives)
    return killed, (folder / "trials.csv").read_bytes() + (folder / "best_params.yaml").read_bytes()

_, expected = search_with_kills("whole", [None])
for state in (b"COMPLETE", b"PRUNED", b"FAIL"):
    if state not in expected:
        sys.exit(f"the test needs a study with {state}")
total = int(Path("whole/writes").read_text())
# a kill at every moment that leaves another file, and a study that hardly lives
for moment in range(total):
    killed, received = search_with_kills(f"killed-{moment}", [moment, None])
    if killed != 1 or received != expected:
        sys.exit(f"killed after {moment} of {total} writes: other trials")
killed, received = search_with_kills("again-and-again", [9] * 40 + [None])
if killed < 10 or received != expected:
    sys.exit(f"killed {killed} times: other trials")
print(total, "moments")
"""


def test_a_killed_study_ends_with_the_same_trials(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", KILL], cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("moments\n")


@pytest.mark.parametrize("num_lost", [1, 20, 200])
def test_a_study_whose_last_records_a_full_disk_tore_ends_with_the_same_trials(journal, num_lost):
    done = tabulate_trials(run_study(declare_search(), PRESENT, score, journal))
    journal.write_bytes(journal.read_bytes()[:-num_lost])
    again = run_study(declare_search(), PRESENT, score, journal)
    pd.testing.assert_frame_equal(tabulate_trials(again), done, check_exact=True)
