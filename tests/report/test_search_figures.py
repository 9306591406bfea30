"""The figures of a search: their numbers exactly, and that they can be drawn of any search."""

import numpy as np
import pandas as pd
import pytest

from cotejo.report.figures.search import build_search_figures, compute_curves, compute_history, save_search_figures
from cotejo.report.figures.search_cost import compute_front, compute_timeline
from cotejo.report.figures.search_space import compute_parallel, compute_slices
from cotejo.report.searched import find_choice
from cotejo.report.style import render_svg, save_figure
from synthetic_search import PRESENT, declare_search, write_search


def take(searched, numbers, state, values):
    """Replaces the trials of a search."""
    trials = searched.trials.iloc[: len(numbers)].assign(number=numbers, state=state, value=values)
    summary = {**searched.summary, "best": {**searched.summary["best"], "number": 0}}
    return searched._replace(trials=trials, summary=summary)


def take_times(searched, spans):
    rows = [{"number": n, "state": "COMPLETE", "began_s": a, "ended_s": b} for n, (a, b) in enumerate(spans)]
    return searched._replace(times=pd.DataFrame(rows))


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    return write_search(tmp_path_factory.mktemp("search"))


def test_the_best_so_far_is_that_of_completed_trials_alone(searched):
    states = ["COMPLETE", "PRUNED", "COMPLETE", "FAIL", "COMPLETE", "PRUNED"]
    few = take(searched, range(6), states, [0.8, 0.95, 0.7, None, 0.85, 0.6])
    numbers, values = compute_history(few).best
    assert (numbers.tolist(), values.tolist()) == ([0, 4, 5], [0.8, 0.85, 0.85])


def test_the_best_cross_entropy_is_the_lowest(searched):
    fewer = declare_search(metric="val_cross_entropy")
    few = take(searched, range(3), "COMPLETE", [0.5, 0.6, 0.3])._replace(search=fewer)
    numbers, values = compute_history(few).best
    assert (numbers.tolist(), values.tolist()) == ([0, 2, 2], [0.5, 0.3, 0.3])


def test_a_few_hopeless_trials_do_not_squeeze_the_rest(searched):
    few = take(searched, range(6), "COMPLETE", [0.90, 0.91, 0.92, 0.90, 0.89, 0.10])
    info = compute_history(few)
    low, high = info.window
    assert 0.8 < low < 0.89
    assert high > 0.92
    assert info.trials["COMPLETE"][1].tolist() == pytest.approx([0.90, 0.91, 0.92, 0.90, 0.89, low])


def test_a_failed_trial_stands_on_the_worse_edge(searched):
    for metric, edge in (("val_accuracy", 0), ("val_cross_entropy", 1)):
        few = take(searched, range(2), ["COMPLETE", "FAIL"], [0.9, None])._replace(search=declare_search(metric=metric))
        info = compute_history(few)
        assert info.trials["FAIL"][1].tolist() == [info.window[edge]]


def test_a_pruned_curve_ends_where_it_was_stopped(searched):
    info = compute_curves(searched)
    pruned = searched.trials[searched.trials["state"] == "PRUNED"]
    assert len(info.pruned) == len(info.stops) == len(pruned)
    assert [len(curve) for curve in info.pruned] == pruned["epochs_run"].tolist()
    assert info.stops[:, 0].tolist() == pruned["epochs_run"].tolist()
    assert info.present[:, 0].tolist() == list(range(1, PRESENT["epochs"] + 1))


def test_a_panel_has_the_scale_that_was_declared_and_room_for_a_present_value_beside_it(searched):
    scales = {scale.key: scale for scale in compute_slices(searched).scales}
    assert scales["learning_rate"].is_log
    assert (scales["learning_rate"].low, scales["learning_rate"].high) == (1e-4, 1e-1)
    assert scales["batch_size"].labels == ["32", "64", "128", "256"]  # the last is none of the choices
    assert scales["batch_size"].places[0] == 3.0
    assert scales["optimizer.momentum"].labels is None


def test_a_parameter_that_a_trial_did_not_search_has_no_place(searched):
    info = compute_slices(searched)
    scales = {scale.key: scale for scale in info.scales}
    beside_adam = scales["optimizer.name"].places == 0.0
    assert np.isnan(scales["optimizer.momentum"].places[1:][beside_adam[1:]]).all()
    assert np.isfinite(scales["optimizer.momentum"].places[~beside_adam]).all()


@pytest.mark.parametrize(
    ("text", "choices", "place"),
    [("64.0", (32, 64), 1), ("64", (32, 64), 1), ("True", (False, True), 1), ("None", ("None", "NA"), 0),
     ("", (32, 64), None), ("96", (32, 64), None), ("1.0", ("1", "1.0"), 1), ("0.5", (0.5, 1), 0)],
)  # fmt: skip
def test_a_choice_is_found_by_what_the_table_says_of_it(text, choices, place):
    assert find_choice(text, choices) == place


def test_lines_run_from_the_worst_to_the_best_trial_and_end_at_its_value(searched):
    info = compute_parallel(searched)
    completed = searched.trials[searched.trials["state"] == "COMPLETE"]
    low, high = info.window
    ends = low + info.lines[:, -1] * (high - low)
    assert ends.tolist() == pytest.approx(sorted(np.clip(completed["value"], low, high)))
    assert info.lines.shape == (len(completed), 6)
    rate = [scale.key for scale in info.scales].index("learning_rate")
    # 1e-3 lies a third of the way from 1e-4 to 1e-1
    assert info.lines[info.present, rate] == pytest.approx(1 / 3)


def test_no_trial_beats_one_on_the_front(tmp_path):
    searched = write_search(tmp_path, search=declare_search(sampler="nsga2", pruner="none"))
    info = compute_front(searched)
    for cost, value in info.front:
        better = info.others[(info.others[:, 0] <= cost) & (info.others[:, 1] > value)]
        assert not len(better)
    assert len(info.front) + len(info.others) == (searched.trials["state"] == "COMPLETE").sum()


def test_trials_at_the_same_time_stand_in_lanes_of_their_own(searched):
    info = compute_timeline(take_times(searched, [(0, 10), (0, 4), (4, 9), (9, 12), (10, 11)]))
    assert info.num_lanes == 2
    assert info.bars["COMPLETE"][:, 2].tolist() == [0, 1, 1, 1, 0]
    assert info.duration_s == 12


def test_the_night_between_a_kill_and_the_next_start_is_cut_out(searched):
    info = compute_timeline(take_times(searched, [(0, 100), (0, 90), (40_000, 40_100)]))
    assert len(info.breaks) == 1
    assert info.duration_s == pytest.approx(200 + 0.03 * 200)
    assert compute_timeline(take_times(searched, [(0, 100), (110, 200)])).breaks == []


def test_every_figure_of_any_search_is_drawn(tmp_path):
    # the usual one's are drawn below, and on its page
    nsga = write_search(tmp_path / "a", search=declare_search(sampler="nsga2", pruner="none"))
    entropy = write_search(tmp_path / "b", search=declare_search(metric="val_cross_entropy"))
    one = write_search(tmp_path / "c", num_trials=1, importances={})
    for name, case in (("nsga", nsga), ("entropy", entropy), ("one", one)):
        figures = build_search_figures(case, "en")
        assert all("<svg" in render_svg(figure, name) for figure in figures.values())
        if name != "entropy":
            save_search_figures(figures, tmp_path / name)
    assert "front.png" in {path.name for path in (tmp_path / "nsga").iterdir()}
    assert {path.name for path in (tmp_path / "one").iterdir()} == {
        "history.png", "curves.png", "slices.png", "parallel.png"
    }  # fmt: skip


def test_files_are_the_same_on_every_run_and_hold_no_clock(tmp_path, searched):
    later = searched._replace(times=searched.times.assign(ended_s=searched.times["ended_s"] + 5))
    for turn, case in (("first", searched), ("second", later)):
        save_search_figures(build_search_figures(case, "en"), tmp_path / turn)
    for path in sorted((tmp_path / "first").iterdir()):
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes(), path.name
    assert not (tmp_path / "first/timeline.png").exists()


@pytest.mark.slow
def test_figures_of_ten_thousand_trials_stay_below_a_megabyte(tmp_path):
    searched = write_search(tmp_path, num_trials=10_000)
    for name, figure in build_search_figures(searched, "en").items():
        save_figure(figure, tmp_path / f"{name}.png")
        assert len(render_svg(figure, name)) < 1_000_000, name
