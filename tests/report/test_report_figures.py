"""What a reader finds in the figures of certainty, trust, cost and overfitting."""

from dataclasses import replace

import pytest
from matplotlib.colors import to_hex

from cotejo.report.figures.certainty import figure_seeds
from cotejo.report.figures.cost import choose_marks, figure_cost
from cotejo.report.figures.curves import figure_curves
from cotejo.report.figures.trust import figure_reliability, figure_risk, figure_robustness
from cotejo.report.style import MODEL_COLOURS, THEMED, choose_looks, render_svg
from synthetic_study import build_comparison, build_histories, build_inputs


@pytest.fixture(scope="module")
def comparison():
    return build_comparison(**build_inputs(num_samples=300, num_seeds=3))


def read_lines(ax, marker):
    return [line for line in ax.lines if line.get_marker() == marker]


def test_every_seed_is_a_dot_beside_both_intervals(comparison):
    ax = figure_seeds(comparison).axes[0]
    dots = read_lines(ax, "o")
    assert [list(line.get_xdata()) for line in dots] == [
        [seed.test_accuracy for seed in model.seeds] for model in comparison.models
    ]
    drawn = [tuple(line.get_xdata()) for line in ax.lines if len(line.get_xdata()) == 2]
    for model in comparison.models:
        assert (model.test_accuracy_low, model.test_accuracy_high) in drawn
        assert (model.test_accuracy, model.test_accuracy) in drawn
        assert (model.test_accuracy_files_low, model.test_accuracy_files_high) in drawn
    assert ax.get_yticklabels()[0].get_text() == "LeNet"


def test_an_interval_of_two_seeds_does_not_press_all_else_into_a_dot(comparison):
    wide = replace(comparison.models[0], test_accuracy_low=0.1, test_accuracy_high=0.999)
    ax = figure_seeds(replace(comparison, models=(wide, *comparison.models[1:]))).axes[0]
    low, high = ax.get_xlim()
    assert low > 0.7
    arrows = [*read_lines(ax, "<"), *read_lines(ax, ">")]
    assert len(arrows) == 2  # where the axis cuts it
    assert all(low <= line.get_xdata()[0] <= high for line in arrows)


@pytest.mark.parametrize("num_seeds", [1, 3])
def test_only_the_interval_of_these_trainings_has_upright_ends(num_seeds):
    comparison = build_comparison(**build_inputs(num_samples=300, num_seeds=num_seeds))
    ax = figure_seeds(comparison).axes[0]
    assert [tuple(line.get_xdata()) for line in read_lines(ax, "|")] == [
        (model.test_accuracy_files_low, model.test_accuracy_files_high) for model in comparison.models
    ]
    assert len(read_lines(ax, "o")) == 4


def test_the_pareto_front_is_a_staircase_through_its_filled_models(comparison):
    figure = figure_cost(comparison)
    assert [ax.get_title(loc="left") for ax in figure.axes] == [
        "Training time", "Time for one image", "Parameters", "Operations per image", "File", "Peak memory"
    ]  # fmt: skip
    for ax, (cost, front) in zip(figure.axes, comparison.fronts.items(), strict=True):
        stairs = [line for line in ax.lines if line.get_drawstyle() == "steps-post"]
        assert list(stairs[0].get_xdata()) == sorted(getattr(comparison.get_model(name), cost) for name in front)
        assert list(stairs[0].get_ydata()) == sorted(comparison.get_model(name).test_accuracy for name in front)
        filled = {line.get_xdata()[0] for line in ax.lines if line.get_marker() not in ("None", "") and
                  to_hex(line.get_markerfacecolor()) != "#ffffff"}  # fmt: skip
        assert filled == {getattr(comparison.get_model(name), cost) for name in front}


def test_a_cost_that_no_clock_has_measured_has_no_panel():
    inputs = build_inputs(num_samples=300, num_seeds=1)
    comparison = build_comparison(**inputs | {"timings": {}})
    titles = [ax.get_title(loc="left") for ax in figure_cost(comparison).axes if ax.axison]
    assert titles == ["Parameters", "Operations per image", "File"]


@pytest.mark.parametrize(
    ("low", "high", "is_time", "expected"),
    [
        (30_000, 700_000, False, [30_000, 100_000, 300_000]),
        (0.0006, 0.011, True, [0.001, 0.003, 0.01]),
        (24, 1100, True, [30, 120, 600]),
        (2.0e6, 3.0e6, False, [2e6]),
    ],
)
def test_marks_of_a_cost_are_few_and_round(low, high, is_time, expected):
    assert choose_marks(low, high, is_time=is_time) == pytest.approx(expected)


def test_reliability_shows_every_bin_before_and_after_scaling(comparison):
    figure = figure_reliability(comparison.models)
    for ax, model in zip(figure.axes, comparison.models, strict=True):
        for line, bins in zip(ax.lines[1:], (model.reliability, model.reliability_scaled), strict=True):
            assert list(line.get_xdata()) == [item.confidence for item in bins]
            assert list(line.get_ydata()) == [item.accuracy for item in bins]
        assert [text.get_text() for text in ax.get_legend().get_texts()] == ["as trained", "scaled"]


def test_risk_and_robustness_have_a_line_per_model_in_its_colour(comparison):
    ax = figure_risk(comparison.models).axes[0]
    assert [line.get_color() for line in ax.lines] == list(MODEL_COLOURS.values())
    assert list(ax.lines[0].get_ydata()) == [point.risk for point in comparison.models[0].risk_coverage]
    panels = figure_robustness(comparison.models, language="es").axes
    assert [ax.get_title(loc="left") for ax in panels] == [
        "Ruido", "Desenfoque", "Brillo", "Contraste", "Desplazamiento", ""
    ]  # fmt: skip
    for ax, corruption in zip(panels, ("noise", "blur", "brightness", "contrast", "translation"), strict=False):
        for line, model in zip(ax.lines, comparison.models, strict=True):
            assert list(line.get_xdata()) == [0, 1, 2, 3, 4, 5]
            assert list(line.get_ydata())[1:] == [
                row.accuracy for row in model.robustness if row.corruption == corruption
            ]


def test_curves_mark_the_lowest_validation_loss_and_say_the_gap_at_the_end():
    comparison = build_comparison(**build_inputs(num_samples=300, num_seeds=3))
    seeds = {model.name: model.seeds for model in comparison.models}
    histories = build_histories(num_seeds=3)
    ax = figure_curves(histories, metric="cross_entropy", seeds=seeds).axes[0]
    dots = read_lines(ax, "o")
    assert [line.get_xdata()[0] for line in dots] == [seed.min_val_epoch for seed in comparison.models[0].seeds]
    assert ax.get_title(loc="right") == "gap at the end +0.13"
    plain = figure_curves(histories, metric="accuracy").axes[0]
    assert plain.get_title(loc="right") == ""
    assert not read_lines(plain, "o")


def test_drawn_colours_are_the_pages_so_that_they_can_turn_dark(comparison):
    svg = render_svg(figure_risk(comparison.models), "x")
    for name in ("ink", "grey", "rule", "paper", "blue", "vermillion", "green", "purple"):
        assert f"var(--plot-{name},{THEMED[name]})".lower() in svg.lower()
    assert not {colour for colour in THEMED.values() if f": {colour}".lower() in svg.lower()}


def test_models_that_are_not_the_studys_are_distinguished_too():
    names = [f"lenet@{number}" for number in range(30)]
    looks = choose_looks(names)
    assert len({(look["color"], look["marker"]) for look in looks.values()}) == 30
    assert choose_looks(["resnet", "lenet"])["lenet"]["color"] == MODEL_COLOURS["lenet"]
