"""The study: the same trials on every run, killed or not, and nothing that a bad trial could end."""

import time
from pathlib import Path

import numpy as np
import optuna
import pytest

from cheap_search import GRID, LENET, PRESENT, SPACE, declare_search, end, end_each, run_batch_of
from cotejo.errors import ModelError
from cotejo.params import override_group
from cotejo.tuning import gaussian
from cotejo.tuning.study import find_best, run_study
from cotejo.tuning.tables import compute_importances, tabulate_curves, tabulate_times, tabulate_trials
from declared import declare

#: Each sampler and each pruner at least once.
KINDS = [
    ("tpe", "none"), ("tpe", "median"), ("tpe", "hyperband"), ("tpe", "successive_halving"), ("random", "median"),
    ("gp", "none"), ("gp", "successive_halving"), ("grid", "none"), ("cmaes", "hyperband"),
    ("qmc", "successive_halving"), ("nsga2", "none"),
]  # fmt: skip


@pytest.fixture
def journal(tmp_path):
    return tmp_path / "checkpoints" / "study.log"


def search_whole(search, journal, present=PRESENT):
    """Returns the table of a study's trials."""
    return tabulate_trials(run_study(search, present, run_batch_of(search), journal).study, search, present).to_csv()


def remember(function, describe):
    """Returns a function that computes once what is asked of it again and again.

    Args:
        function: Depends on its arguments alone.
        describe: Of these arguments, all that the result depends on.
    """
    results = {}

    def recall(*arguments):
        key = describe(*arguments)
        if key not in results:
            results[key] = function(*arguments)
        return results[key]

    return recall


def describe_fit(search, trials, seed):
    """Returns all of the trials but their dates and Optuna's numbers for them."""
    kept = ("number", "state", "values", "params", "distributions", "intermediate_values", "user_attrs", "system_attrs")
    return search.model_dump_json(), repr([[getattr(trial, name) for name in kept] for trial in trials]), seed


@pytest.mark.parametrize(
    "parallel_trials", [pytest.param(1, marks=pytest.mark.slow), 3, pytest.param(4, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(("sampler", "pruner"), KINDS)
def test_a_study_killed_between_or_within_any_two_records_has_the_same_trials(
    tmp_path, monkeypatch, sampler, pruner, parallel_trials
):
    search = declare_search(sampler=sampler, pruner=pruner, parallel_trials=parallel_trials)
    expected = search_whole(search, tmp_path / "whole.log")
    assert search_whole(search, tmp_path / "again.log") == expected
    # each study that was killed asks the Gaussian process what the whole one did, which takes it long
    monkeypatch.setattr(gaussian, "fit", remember(gaussian.fit, describe_fit))
    describe_proposal = lambda model, running, seed: (id(model), repr(running), seed)  # noqa: E731
    monkeypatch.setattr(gaussian, "propose", remember(gaussian.propose, describe_proposal))
    lines = (tmp_path / "whole.log").read_bytes().splitlines(keepends=True)
    assert len(lines) == 1 + expected.count("\n") - 1, "one of the study, and one of each trial"
    for kept in range(len(lines)):
        killed = tmp_path / f"killed-{kept}.log"
        torn = lines[kept][: len(lines[kept]) * kept // len(lines)]  # nothing of it, and nearly all
        killed.write_bytes(b"".join(lines[:kept]) + torn)
        assert search_whole(search, killed) == expected
        assert len(killed.read_bytes().splitlines()) == len(lines), "nothing is written down twice"


# the test above stops each kind at the borders of batches too
@pytest.mark.parametrize(
    ("sampler", "pruner"),
    [pytest.param(*kind, marks=() if kind == ("tpe", "hyperband") else pytest.mark.slow) for kind in KINDS],
)
def test_a_study_stopped_after_every_batch_has_the_same_trials(tmp_path, sampler, pruner):
    search = declare_search(sampler=sampler, pruner=pruner, parallel_trials=3)
    expected = search_whole(search, tmp_path / "whole.log")
    run_batch = run_batch_of(search)

    def run_one(proposals, known, calls=[]):  # noqa: B006 - counts over all of them
        calls.append(len(known))
        if len(calls) % 2 == 0:
            raise KeyboardInterrupt
        return run_batch(proposals, known)

    for _ in range(20):
        try:
            ended = run_study(search, PRESENT, run_one, tmp_path / "stopped.log")
            break
        except KeyboardInterrupt:
            pass
    assert tabulate_trials(ended.study, search, PRESENT).to_csv() == expected


@pytest.mark.parametrize("sampler", ["gp", "tpe", "random", "cmaes", "qmc", "nsga2"])
def test_another_seed_proposes_other_trials(tmp_path, sampler):
    tables = []
    for seed in (0, 1):
        search = declare_search(sampler=sampler, seed=seed)
        study = run_study(search, PRESENT, run_batch_of(search), tmp_path / f"{seed}.log").study
        tables.append(tabulate_trials(study, search, PRESENT))
    # the first trial has the declared values; after it, not one proposal of the other seed comes back
    assert set(tables[0]["learning_rate"][1:]).isdisjoint(tables[1]["learning_rate"][1:])
    if sampler != "nsga2":  # whose children have their parents' values
        assert all(table["learning_rate"].nunique() == 14 for table in tables), "and none comes twice"


@pytest.mark.parametrize(("sampler", "pruner"), KINDS)
def test_every_proposal_is_one_that_the_section_takes(journal, sampler, pruner):
    search = declare_search(sampler=sampler, pruner=pruner)
    proposed = []

    def run_batch(proposals, known):
        proposed.extend(proposals)
        return run_batch_of(search)(proposals, known)

    run_study(search, PRESENT, run_batch, journal)
    assert [proposal.number for proposal in proposed] == list(range(len(proposed)))
    assert proposed[0].values == {}
    for _, values in proposed[1:]:
        settings = override_group(LENET, values, "search.space")
        assert settings.batch_size in (32, 64, 128)
        assert 1e-4 <= settings.learning_rate <= 1e-1
        assert 0 <= settings.dropout_rate <= 0.5
        # sgd has its momentum searched, and adam what `otherwise` says
        assert (0.5 <= settings.optimizer.momentum <= 0.9) == (settings.optimizer.name == "sgd")
        assert values.keys() >= {"optimizer.name", "optimizer.momentum"}


@pytest.mark.parametrize("sampler", ["gp", "tpe", "cmaes", "qmc", "nsga2"])
@pytest.mark.parametrize("outside", [{}, {"learning_rate": 5.0, "batch_size": 7}], ids=["within", "outside"])
def test_the_first_trial_has_the_present_values_within_the_space_or_not(journal, sampler, outside):
    present = declare("lenet", epochs=2, batch_size=64).model_dump() | outside
    search = declare_search(num_trials=5, sampler=sampler)
    numbers = []

    def run_batch(proposals, known):
        numbers.extend(proposals)
        return [end(number, value=0.5) for number, _ in proposals]

    study = run_study(search, present, run_batch, journal).study
    assert numbers[0] == (0, {})
    first = tabulate_trials(study, search, present).iloc[0]
    for key in ("learning_rate", "batch_size", "dropout_rate"):
        assert first[key] == present[key]
    assert first["optimizer.name"] == "adam"


def test_present_values_outside_the_space_keep_no_dimension_from_being_learnt(tmp_path):
    """A sampler models what all trials have: a first one without a learning rate would leave it to chance."""
    present = PRESENT | {"learning_rate": 5.0}
    search = declare_search(
        num_trials=60, sampler="cmaes", space={key: SPACE[key] for key in ("learning_rate", "dropout_rate")}
    )
    run_batch = run_batch_of(search)
    study = run_study(search, present, run_batch, tmp_path / "study.log").study
    late = [abs(np.log10(trial.params["learning_rate"]) + 2) for trial in study.trials[-20:]]
    assert np.mean(late) < 0.35, "chance would be 0.83 away from the best on average"


def test_the_budget_of_epochs_is_each_trials(journal):
    search = declare_search(num_trials=4, epochs=3, space={"dropout_rate": SPACE["dropout_rate"]})
    study = run_study(search, PRESENT, run_batch_of(search), journal).study
    assert tabulate_trials(study, search, PRESENT)["epochs_run"].to_list() == [3, 3, 3, 3]
    assert "epochs" not in study.trials[1].params


@pytest.mark.parametrize("num_trials", [1, 3, 4, 5, 8])
@pytest.mark.parametrize("parallel_trials", [1, 4, 9])
def test_the_budget_is_met_exactly(journal, num_trials, parallel_trials):
    search = declare_search(num_trials=num_trials, parallel_trials=parallel_trials, sampler="random")
    sizes = []

    def run_batch(proposals, known):
        sizes.append(len(proposals))
        return run_batch_of(search)(proposals, known)

    ended = run_study(search, PRESENT, run_batch, journal)
    assert ended.by == "num_trials"
    assert len(ended.study.trials) == sum(sizes) == num_trials
    assert max(sizes) <= parallel_trials
    # a study that has ended isn't resumed
    run_study(search, PRESENT, run_batch, journal)
    assert sum(sizes) == num_trials


def test_a_grid_ends_with_its_last_point_and_has_each_once(journal):
    search = declare_search(sampler="grid", num_trials=100)
    ended = run_study(search, PRESENT, run_batch_of(search), journal)
    assert ended.by == "grid"
    points = [tuple(trial.params.items()) for trial in ended.study.trials[1:]]
    assert len(points) == len(set(points)) == 9
    assert points[:3] == [
        (("batch_size", 32), ("optimizer.name", "adam")),
        (("batch_size", 32), ("optimizer.name", "sgd"), ("optimizer.momentum", 0.5)),
        (("batch_size", 32), ("optimizer.name", "sgd"), ("optimizer.momentum", 0.9)),
    ]


def test_a_study_out_of_time_ends_at_a_batchs_border_and_says_so(journal):
    # a trial takes ten seconds, one after the other, and an hour passes between two of them: a kill
    search = declare_search(timeout_s=35.0, parallel_trials=2)

    def run_batch(proposals, known):
        late = 3600 * (len(known) > 0)
        return [
            end(number, value=0.5, times_s=(1e9 + late + 10 * number, 1e9 + late + 10 * number + 10))
            for number, _ in proposals
        ]

    ended = run_study(search, PRESENT, run_batch, journal)
    assert (ended.by, len(ended.study.trials)) == ("timeout_s", 4)
    assert run_study(search, PRESENT, run_batch, journal).by == "timeout_s"


@pytest.fixture
def summer_time(monkeypatch):
    """Central Europe's clock, which was put forward at 1711846800 seconds after 1970."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
        time.tzset()
        yield 1711846800
    time.tzset()


def test_clocks_that_are_put_forward_take_nothing_of_a_studys_time(journal, summer_time):
    search = declare_search(timeout_s=300.0, parallel_trials=2, num_trials=4)

    def run_batch(proposals, known):
        return [end(n, value=0.5, times_s=(summer_time - 15 + 10 * n, summer_time - 5 + 10 * n)) for n, _ in proposals]

    assert run_study(search, PRESENT, run_batch, journal).by == "num_trials"


FAILS = {"state": "FAIL", "kind": "too little memory"}
DIVERGES = {"state": "FAIL", "kind": "a training that can't continue"}
ENDS = {"value": 0.5}


@pytest.mark.parametrize("parallel_trials", [1, 3, 4])
def test_three_failures_of_a_kind_in_a_row_stop_the_search_with_their_cause(journal, parallel_trials):
    search = declare_search(num_trials=10, parallel_trials=parallel_trials)
    run_batch = end_each(ENDS, FAILS, FAILS, FAILS, *[ENDS] * 6)
    for _ in range(2):  # whoever starts it anew is told the same
        with pytest.raises(ModelError) as caught:
            run_study(search, PRESENT, run_batch, journal)
        assert str(caught.value) == (
            "search: expected trials that can be trained. Received: 3 in a row with too little memory; the last: "
            "trial 3: too little memory. Set runtime.workers lower and remove .cotejo/checkpoints/search-* to begin "
            "anew, or change the space."
        )


@pytest.mark.parametrize(
    "outcomes",
    [
        [ENDS, FAILS, FAILS, ENDS, FAILS, FAILS, ENDS, ENDS],
        [ENDS, FAILS, DIVERGES, FAILS, DIVERGES, DIVERGES, FAILS, ENDS],
        [ENDS, FAILS, FAILS, {"state": "PRUNED"}, FAILS, ENDS, ENDS, ENDS],
        [ENDS, ENDS, ENDS, ENDS, ENDS, FAILS, FAILS, FAILS],
    ],
    ids=["two", "of two kinds", "a pruned one between", "the last three"],
)
@pytest.mark.parametrize("parallel_trials", [1, 4])
def test_other_failures_do_not_stop_it(journal, outcomes, parallel_trials):
    search = declare_search(num_trials=8, parallel_trials=parallel_trials)
    study = run_study(search, PRESENT, end_each(*outcomes), journal).study
    assert [trial.state.name for trial in study.trials] == [outcome.get("state", "COMPLETE") for outcome in outcomes]
    assert find_best(study).number == 0


def test_any_other_error_ends_the_search_and_what_has_ended_stays(journal):
    search = declare_search(parallel_trials=2)

    def run_batch(proposals, known):
        if known:
            raise ZeroDivisionError
        return run_batch_of(search)(proposals, known)

    with pytest.raises(ZeroDivisionError):
        run_study(search, PRESENT, run_batch, journal)
    assert len(optuna.load_study(study_name=None, storage=_read(journal)).trials) == 2


def _read(journal: Path) -> optuna.storages.JournalStorage:
    return optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(journal)))


def test_a_lock_that_a_kill_has_left_costs_no_time(journal):
    search = declare_search(num_trials=2)
    expected = search_whole(search, journal)
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:2]))
    journal.with_name("study.log.lock").symlink_to(journal)
    assert search_whole(search, journal) == expected  # Optuna waits half a minute, and warns


def test_the_file_says_nothing_twice_and_optuna_reads_it(journal):
    search = declare_search(sampler="qmc", pruner="hyperband")
    study = run_study(search, PRESENT, run_batch_of(search), journal).study
    text = journal.read_text()
    assert "fixed_params" not in text
    assert text.count('"op_code":4') == len(study.trials) == 14
    read = optuna.load_study(study_name="search", storage=_read(journal))
    assert [trial.params for trial in read.trials] == [trial.params for trial in study.trials]
    assert read.best_value == find_best(study).value


@pytest.mark.parametrize(("metric", "expected"), [("val_accuracy", 2), ("val_cross_entropy", 0)])
def test_the_best_trial_is_the_first_complete_one_with_the_best_metric(journal, metric, expected):
    values = [0.25, 0.5, 0.75, 0.75, 0.25]
    search = declare_search(num_trials=6, metric=metric)
    better = {"state": "PRUNED", "rows": [{"epoch": 1, "val_accuracy": 0.9, "val_cross_entropy": 0.1}]}
    study = run_study(search, PRESENT, end_each(*({"value": value} for value in values), better), journal).study
    assert find_best(study).number == expected


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        ({"state": "PRUNED"}, "Received: 2 pruned, 0 failed.*search.pruner to none"),
        (FAILS, r"(?s)Received: 0 pruned, 2 failed.*first that failed: trial 0: too little memory"),
    ],
    ids=["pruned", "failed"],
)
def test_a_search_without_a_finished_trial_is_an_error(journal, outcome, said):
    study = run_study(declare_search(num_trials=2), PRESENT, end_each(outcome, outcome), journal).study
    with pytest.raises(ModelError, match=said):
        find_best(study)


def test_of_two_aims_the_table_names_the_trials_that_no_other_beats(journal):
    search = declare_search(num_trials=4, sampler="nsga2")
    outcomes = [{"value": 0.5, "cost": 2e9}, {"value": 0.7, "cost": 3e9}, {"value": 0.6, "cost": 4e9}, FAILS]
    study = run_study(search, PRESENT, end_each(*outcomes), journal).study
    table = tabulate_trials(study, search, PRESENT)
    assert table["on_front"].to_list() == [True, True, False, False]
    assert table["giga_operations"].to_list() == [2.0, 3.0, 4.0, 0.0]
    assert find_best(study).number == 1


def test_the_tables_have_the_last_value_of_a_trial_that_did_not_end_and_every_epoch(journal):
    def rows(*accuracies):
        return [{"epoch": epoch, "val_accuracy": value} for epoch, value in enumerate(accuracies, start=1)]

    outcomes = [
        {"value": 0.5, "rows": rows(0.5, 0.4)},
        {"state": "FAIL", "kind": "a training that can't continue", "rows": rows(0.25)},
        {"state": "FAIL", "kind": "a training that can't continue"},
        {"state": "PRUNED", "rows": rows(0.1, 0.125)},
    ]
    search = declare_search(num_trials=4, space={"learning_rate": SPACE["learning_rate"]})
    study = run_study(search, PRESENT, end_each(*outcomes), journal).study
    table = tabulate_trials(study, search, PRESENT)
    assert list(table.columns) == ["number", "state", "value", "epochs_run", "giga_operations", "learning_rate"]
    assert table["state"].to_list() == ["COMPLETE", "FAIL", "FAIL", "PRUNED"]
    assert table["value"].to_list() == pytest.approx([0.5, 0.25, np.nan, 0.125], nan_ok=True)
    assert table["epochs_run"].to_list() == [2, 1, 0, 2]
    curves = tabulate_curves(study)
    assert list(curves.itertuples(index=False, name=None)) == [
        (0, 1, 0.5), (0, 2, 0.4), (1, 1, 0.25), (3, 1, 0.1), (3, 2, 0.125)
    ]  # fmt: skip
    assert tabulate_times(study)[1] == {"number": 1, "state": "FAIL", "began_s": 10.0, "ended_s": 20.0}


def test_importances_find_the_parameter_that_decides(journal):
    few = ("learning_rate", "batch_size", "optimizer", "optimizer.momentum")
    search = declare_search(num_trials=25, sampler="random", space={key: SPACE[key] for key in few})
    study = run_study(search, PRESENT, run_batch_of(search), journal).study
    importances = compute_importances(study, seed=0)
    assert max(importances, key=importances.get) == "learning_rate"
    assert sum(importances.values()) == pytest.approx(1)
    assert set(importances) == {"learning_rate", "batch_size", "optimizer.name"}, "what all trials have"
    assert compute_importances(study, seed=0) == importances


def test_importances_that_cannot_be_told_are_left_out(journal):
    search = declare_search(num_trials=3)
    study = run_study(search, PRESENT, end_each(ENDS, ENDS, ENDS), journal).study
    assert compute_importances(study, seed=0) == {}


def test_a_grid_is_the_same_whatever_the_seed(tmp_path):
    tables = [
        search_whole(declare_search(sampler="grid", seed=seed, space=GRID), tmp_path / f"{seed}.log") for seed in (0, 1)
    ]
    assert tables[0] == tables[1]
