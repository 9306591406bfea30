"""What a search says at its end: the winner, and whether its gain is real."""

import json

import numpy as np
import pytest
from optuna.trial import create_trial
from ruamel.yaml import YAML
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

from cheap_search import LENET, PRESENT, SPACE, declare_search, end, end_each, run_batch_of
from cotejo.execution.executor import Died
from cotejo.params import override_group
from cotejo.tracking.journal import Run
from cotejo.tracking.sender import Tracker
from cotejo.tuning.progress import Board
from cotejo.tuning.search import Confirmed, Searcher, compare, count_tasks, nest, save_search, save_times
from cotejo.tuning.study import find_best, run_study

SEEDS = [7, 8, 9, 10, 11]
NOT_CONFIRMED = Confirmed(None, [])


def confirm(present, best, searched=0.9, **changes):
    return compare(present, best, searched, declare_search(confirm_seeds=SEEDS[: len(present)], **changes))


@pytest.mark.parametrize("confidence", [0.8, 0.95])
@pytest.mark.parametrize("seed", range(3))
def test_the_interval_is_welchs(seed, confidence):
    generator = np.random.default_rng(seed)
    present, best = generator.normal(0.9, 0.01, 5).tolist(), generator.normal(0.92, 0.03, 5).tolist()
    said = confirm(present, best, confidence=confidence)
    welch = CompareMeans(DescrStatsW(best), DescrStatsW(present))
    assert (said.low, said.high) == pytest.approx(welch.tconfint_diff(1 - confidence, usevar="unequal"), rel=1e-9)
    assert said.gain == pytest.approx(np.mean(best) - np.mean(present))
    # of a loss, less is better: the same interval the other way round
    loss = confirm(present, best, confidence=confidence, metric="val_cross_entropy")
    assert (loss.gain, loss.low, loss.high) == pytest.approx((-said.gain, -said.high, -said.low))


def test_the_interval_by_hand():
    # variances 0.0001 and 0.0001, so that the standard error is sqrt(0.0002 / 3); t of 4 degrees of freedom is 2.776
    said = confirm([0.89, 0.90, 0.91], [0.92, 0.93, 0.94])
    assert said.gain == pytest.approx(0.03)
    assert said.low == pytest.approx(0.03 - 2.77645 * (0.0002 / 3) ** 0.5, abs=1e-6)
    assert said.verdict == "real"
    assert said.seeds == [7, 8, 9]
    assert said.present == [0.89, 0.90, 0.91]


@pytest.mark.parametrize(
    ("present", "best", "expected"),
    [
        ([0.80, 0.81, 0.82], [0.90, 0.91, 0.92], "real"),
        ([0.90, 0.91, 0.92], [0.80, 0.81, 0.82], "worse"),
        ([0.80, 0.90, 0.85], [0.86, 0.84, 0.90], "cannot tell"),
        ([0.9, 0.9], [0.9, 0.9], "cannot tell"),
        ([0.9, 0.9], [0.91, 0.91], "cannot tell"),  # no spread: a coarse scale, not certainty
    ],
)
def test_the_verdict_is_what_the_interval_says_for_either_direction(present, best, expected):
    assert confirm(present, best).verdict == expected
    turned = {"real": "worse", "worse": "real"}
    assert confirm(present, best, metric="val_cross_entropy").verdict == turned.get(expected, expected)


@pytest.mark.parametrize(
    ("metric", "searched", "optimism"),
    [
        ("val_accuracy", 0.95, 0.04),  # the search saw 0.95, fresh seeds 0.91: four points were luck
        ("val_accuracy", 0.90, -0.01),
        ("val_cross_entropy", 0.87, 0.04),  # a loss that was lower in the search than it is
        ("val_cross_entropy", 0.92, -0.01),
    ],
)
def test_optimism_is_how_much_better_the_search_saw_it(metric, searched, optimism):
    said = confirm([0.8, 0.81, 0.82], [0.90, 0.91, 0.92], searched, metric=metric)
    assert said.optimism == pytest.approx(optimism)


def test_names_of_groups_are_nested_and_sorted():
    values = {"optimizer.name": "sgd", "batch_size": 32, "optimizer.momentum": 0.9}
    tree = nest(values)
    assert tree == {"batch_size": 32, "optimizer": {"momentum": 0.9, "name": "sgd"}}
    assert list(tree) == ["batch_size", "optimizer"]


class Workers:
    """Ends each training at once, as declared by its name."""

    memory_bytes = None

    def __init__(self, ends):
        self.ends = ends

    def run(self, _function, tasks, _setup, _report):
        return [(place, self.ends[task.name]) for place, task in enumerate(tasks)]


def confirm_with(folder, **ends):
    """Confirms a trial at 0.9 with the seeds 7, 8 and 9; `best_7` says how that training ends, or at which value."""
    ends = {f"confirm {key.replace('_', ' seed ')}": ended for key, ended in ends.items()}
    ends = {name: end(0, value=ended) if isinstance(ended, float) else ended for name, ended in ends.items()}
    run = Run(Tracker(folder / "journal", None), "search", None, {})
    search = declare_search(confirm_seeds=[7, 8, 9], space={"batch_size": SPACE["batch_size"]})
    best = create_trial(value=0.9)
    best.number = 1
    return Searcher(search, LENET, "float32", run, Workers(ends), folder).confirm(best, Board(search, LENET.epochs))


def test_the_same_seeds_train_the_best_and_the_present_values(tmp_path):
    said = confirm_with(tmp_path, present_7=0.7, best_7=0.8, present_8=0.71, best_8=0.81, present_9=0.72, best_9=0.82)
    assert (said.confirmation.present, said.confirmation.best) == ([0.7, 0.71, 0.72], [0.8, 0.81, 0.82])
    assert (said.confirmation.verdict, said.failures) == ("real", [])


def test_where_a_seed_fails_the_others_are_compared_and_nothing_is_claimed(tmp_path, capsys):
    said = confirm_with(tmp_path, present_7=0.7, best_7=0.8, present_8=0.71, best_8=Died("it was killed"),
                        present_9=0.72, best_9=0.82)  # fmt: skip
    assert (said.confirmation.seeds, said.confirmation.verdict) == ([7, 9], "cannot tell")
    reason = (
        "confirm best seed 8: expected a worker to live through it. Received: it was killed. It may need more memory."
    )
    assert said.failures == [reason]
    assert f"search: this seed confirms nothing: {reason}\n" in capsys.readouterr().err


def test_where_the_present_values_fail_with_every_seed_the_reasons_are_kept(tmp_path):
    failed = end(0, "FAIL", kind="a training that can't go on")
    said = confirm_with(
        tmp_path, present_7=failed, best_7=0.8, present_8=failed, best_8=0.8, present_9=failed, best_9=0.8
    )
    assert said == Confirmed(None, [failed.reason] * 3)


def save(search, run_batch, folder, confirmed=NOT_CONFIRMED):
    ended = run_study(search, PRESENT, run_batch, folder / "study.log")
    summary = save_search(ended, confirmed, search, PRESENT, folder)
    save_times(ended, folder / "times.json")
    return ended, summary


def test_what_is_saved_can_be_pasted_into_the_section_that_was_searched(tmp_path):
    search = declare_search()
    ended, _ = save(search, run_batch_of(search), tmp_path)
    best = find_best(ended.study)
    text = (tmp_path / "best_params.yaml").read_text(encoding="utf-8")
    assert text.startswith(f"# validation accuracy {best.value:.4f}, the best of 14 trials\nlenet:\n")
    saved = YAML(typ="safe", pure=True).load(text)["lenet"]
    assert saved["optimizer"].keys() == {"name", "momentum"}, "momentum, whether it was searched or not"
    assert saved["learning_rate"] == best.params["learning_rate"]
    flat = {key: value for key, value in saved.items() if not isinstance(value, dict)}
    assert override_group(LENET, flat, "lenet").learning_rate == best.params["learning_rate"]


def test_the_summary_says_all_that_a_report_needs_and_has_no_clock_in_it(tmp_path):
    search = declare_search(confirm_seeds=[7, 8])
    confirmation = confirm([0.8, 0.81], [0.9, 0.91])
    ended, summary = save(search, run_batch_of(search), tmp_path, Confirmed(confirmation, ["seed 9: no memory."]))
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    assert summary["num_by_state"] == {"COMPLETE": 13, "PRUNED": 0, "FAIL": 1}
    assert summary["epochs_run"] == 13 * 9
    assert (summary["ended_by"], summary["metric"], summary["direction"]) == ("num_trials", "val_accuracy", "maximize")
    assert summary["best"]["number"] == find_best(ended.study).number
    assert summary["present"]["value"] == ended.study.trials[0].value
    assert summary["confirmation"]["verdict"] == confirmation.verdict
    assert summary["confirm_failures"] == ["seed 9: no memory."]
    assert [trial["number"] for trial in json.loads((tmp_path / "times.json").read_text())["trials"]] == list(range(14))


def test_present_values_that_fail_have_no_value_and_the_search_still_has_a_winner(tmp_path):
    failed = {"state": "FAIL", "kind": "too little memory", "rows": [{"epoch": 1, "val_accuracy": 0.5}]}
    search = declare_search(num_trials=2, space={"batch_size": SPACE["batch_size"]})
    _, summary = save(search, end_each(failed, {"value": 0.6}), tmp_path)
    assert summary["present"]["value"] is None
    assert summary["best"]["number"] == 1


def test_where_the_present_values_win_they_are_the_winner(tmp_path):
    search = declare_search(num_trials=3)
    _, summary = save(search, end_each({"value": 0.9}, {"value": 0.5}, {"value": 0.6}), tmp_path)
    assert summary["best"]["number"] == 0
    assert summary["best"]["values"]["learning_rate"] == PRESENT["learning_rate"]
    assert summary["best"]["values"]["optimizer.name"] == PRESENT["optimizer"]["name"]


@pytest.mark.parametrize(("seeds", "expected"), [([], 4), ([7, 8, 9], 6)])
def test_as_many_trainings_run_side_by_side_as_a_batch_or_the_confirmation_has(seeds, expected):
    assert count_tasks(declare_search(confirm_seeds=seeds)) == expected
