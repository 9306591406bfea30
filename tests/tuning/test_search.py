"""What a search writes at its end: the winner, and whether its gain is real."""

import json

import numpy as np
import pytest
from optuna.trial import create_trial
from ruamel.yaml import YAML

from cheap_search import LENET, PRESENT, SPACE, declare_search, end, end_each, run_batch_of
from cotejo.estimation.estimates import estimate_differences, summarize_scores
from cotejo.execution.executor import Died
from cotejo.params import override_group
from cotejo.tracking.journal import Run
from cotejo.tracking.outbox.sender import Tracker
from cotejo.tuning.confirmation import estimate_gain
from cotejo.tuning.holdout import draw_holdout
from cotejo.tuning.progress import Board
from cotejo.tuning.search import Confirmed, Searcher, count_tasks, nest, save_search, save_times
from cotejo.tuning.study import find_best, run_study

NOT_CONFIRMED = Confirmed(None, [])
#: Of 35 validation images of three classes, 17 are held out.
HOLDOUT = draw_holdout(np.repeat([0, 1, 2], [10, 20, 5]), 0.5, 0)


def answer(accuracy, num_images=1000):
    """Returns the scores of a training that has the first images correct, and no other."""
    return np.arange(num_images) < round(accuracy * num_images)


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
        assert all(task.confirms for task in tasks)
        return [(place, self.ends[task.name]) for place, task in enumerate(tasks)]


def confirm_with(folder, **ends):
    """Confirms a trial at 0.9 with the seeds 7, 8 and 9; `best_7` is how that training ends, or with which accuracy."""
    ends = {f"confirm {key.replace('_', ' seed ')}": ended for key, ended in ends.items()}
    ends = {
        name: end(0, value=ended, scores=answer(ended)) if isinstance(ended, float) else ended
        for name, ended in ends.items()
    }
    run = Run(Tracker(folder / "journal", None), "search", None, {})
    search = declare_search(confirm_seeds=[7, 8, 9], space={"batch_size": SPACE["batch_size"]})
    best = create_trial(value=0.9)
    best.number = 1
    return Searcher(search, LENET, "float32", run, Workers(ends), folder).confirm(best, Board(search, LENET.epochs))


def test_the_same_seeds_train_the_best_and_the_present_values(tmp_path):
    said = confirm_with(tmp_path, present_7=0.7, best_7=0.8, present_8=0.71, best_8=0.81, present_9=0.72, best_9=0.82)
    assert (said.confirmation.present, said.confirmation.best) == ([0.7, 0.71, 0.72], [0.8, 0.81, 0.82])
    assert (said.confirmation.verdict, said.failures) == ("real", [])
    assert (said.confirmation.seeds, said.confirmation.optimism) == ([7, 8, 9], pytest.approx(0.09))


def test_the_interval_is_that_of_the_scores_that_the_trainings_return(tmp_path):
    accuracies = {"present_7": 0.7, "best_7": 0.71, "present_8": 0.69, "best_8": 0.72, "present_9": 0.7, "best_9": 0.7}
    said = confirm_with(tmp_path, **accuracies).confirmation
    declared, winner = (
        summarize_scores(np.array([answer(accuracies[f"{which}_{seed}"]) for seed in (7, 8, 9)]))
        for which in ("present", "best")
    )
    (low,), (high,) = estimate_differences([(declared, winner)]).compute_intervals(0.95)
    assert (said.low, said.high) == (low, high)
    assert said.gain == pytest.approx((0.01 + 0.03 + 0) / 3)


def test_where_a_seed_fails_the_others_are_compared_and_nothing_is_claimed(tmp_path, capsys):
    said = confirm_with(tmp_path, present_7=0.7, best_7=0.8, present_8=0.71, best_8=Died("it was killed"),
                        present_9=0.72, best_9=0.82)  # fmt: skip
    assert (said.confirmation.seeds, said.confirmation.verdict) == ([7, 9], "not decided")
    reason = (
        "confirm best seed 8: expected a worker to live through it. Received: it was killed. It may need more memory."
    )
    assert said.failures == [reason]
    assert f"search: this seed confirms nothing: {reason}\n" in capsys.readouterr().err


def test_where_the_present_values_fail_with_every_seed_the_reasons_are_kept(tmp_path):
    failed = end(0, "FAIL", kind="a training that can't continue")
    said = confirm_with(
        tmp_path, present_7=failed, best_7=0.8, present_8=failed, best_8=0.8, present_9=failed, best_9=0.8
    )
    assert said == Confirmed(None, [failed.reason] * 3)


def save(search, run_batch, folder, confirmed=NOT_CONFIRMED):
    ended = run_study(search, PRESENT, run_batch, folder / "study.log")
    summary = save_search(ended, confirmed, search, PRESENT, HOLDOUT, folder)
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
    confirmation = estimate_gain([7, 8], [answer(0.8), answer(0.81)], [answer(0.9), answer(0.91)], 0.9, search)
    ended, summary = save(search, run_batch_of(search), tmp_path, Confirmed(confirmation, ["seed 9: no memory."]))
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    assert summary["num_by_state"] == {"COMPLETE": 13, "PRUNED": 0, "FAIL": 1}
    assert summary["epochs_run"] == 13 * 9
    assert (summary["ended_by"], summary["metric"], summary["direction"]) == ("num_trials", "val_accuracy", "maximize")
    assert summary["best"]["number"] == find_best(ended.study).number
    assert summary["present"]["value"] == ended.study.trials[0].value
    assert summary["confirmation"]["verdict"] == confirmation.verdict == "real"
    assert (summary["num_selecting"], summary["num_held_out"]) == (18, 17)
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
def test_as_many_trainings_run_in_parallel_as_a_batch_or_the_confirmation_has(seeds, expected):
    assert count_tasks(declare_search(confirm_seeds=seeds)) == expected
