"""Figures: what a reader finds in them, and that the same data give the same bytes."""

from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest

from cotejo.report.axes import choose_digits
from cotejo.report.figures import comparison as f
from cotejo.report.figures.confusion import figure_confusion
from cotejo.report.figures.evaluation import figure_predictions
from cotejo.report.figures.samples import figure_samples
from cotejo.report.style import PAPER, render_svg, save_figure
from synthetic_study import CLASS_NAMES, build_comparison, build_histories, build_inputs

HOSTILE_NAMES = ["a <b> & $c$", "_x", "class of a very long name indeed"]


@pytest.fixture(scope="module")
def comparison():
    return build_comparison(**build_inputs(num_samples=300))


def build_images(num_samples, channels=1):
    return np.random.default_rng(0).integers(0, 256, size=(num_samples, 12, 12, channels), dtype=np.uint8)


def build_prob(predicted, num_classes=10):
    prob = np.full((len(predicted), num_classes), 0.1 / (num_classes - 1), dtype=np.float32)
    prob[np.arange(len(predicted)), predicted] = 0.9
    return prob


def build_stages_figures(comparison):
    """Builds the figures of single stages by name."""
    labels = np.arange(40) % 10
    counts = np.array(comparison.models[0].counts)
    per_class = dict.fromkeys(CLASS_NAMES, 6000)
    return {
        "samples": figure_samples(build_images(40), labels, CLASS_NAMES, per_class, columns=4),
        "predictions": figure_predictions(build_images(9), labels[:9], build_prob(labels[1:10]), CLASS_NAMES),
        "confusion": figure_confusion(counts, CLASS_NAMES, normalized=False, title="LeNet"),
    }


def build_report_figures(comparison):
    return f.build_report_figures(comparison, build_histories(), "en")


def read_texts(figure):
    svg = render_svg(figure, "x")
    return [part.split("</text>")[0].split(">", 1)[1] for part in svg.split("<text")[1:]]


# the report's figures as SVG are in its page: `test_the_same_comparison_gives_the_same_page`
@pytest.mark.parametrize("build", [build_stages_figures, pytest.param(build_report_figures, marks=pytest.mark.slow)])
@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_same_data_give_the_same_bytes(tmp_path, build, suffix):
    comparison = build_comparison(**build_inputs(num_samples=300, models=("lenet", "resnet")))
    for turn in ("first", "second"):
        for name, figure in build(comparison).items():
            save_figure(figure, tmp_path / turn / f"{name}{suffix}")
    for path in sorted((tmp_path / "first").iterdir()):
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes(), path.name


def test_files_hold_no_date_and_no_version(comparison, tmp_path):
    figure = f.figure_pairs(comparison)
    for suffix in (".png", ".svg"):
        save_figure(figure, tmp_path / f"figure{suffix}")
        content = (tmp_path / f"figure{suffix}").read_bytes()
        assert b"atplotlib v" not in content
        assert b"<dc:date>" not in content
        assert b"Software" not in content


def test_the_callers_style_stays_as_it_was(comparison, tmp_path):
    with mpl.rc_context({"font.size": 31.0, "axes.grid": False}):
        before = dict(mpl.rcParams)
        figure = f.figure_cost(comparison)
        save_figure(figure, tmp_path / "cost.svg")
        assert dict(mpl.rcParams) == before
    assert "31px" not in (tmp_path / "cost.svg").read_text()


def test_wrong_predictions_have_a_cross_and_the_true_class():
    figure = figure_predictions(build_images(2), np.array([0, 1]), build_prob(np.array([0, 6])), CLASS_NAMES)
    right, wrong = figure.axes[:2]
    assert right.get_title(loc="left") == "✓ T-shirt/top 90%"
    assert wrong.get_title(loc="left") == "✗ Shirt 90%"
    assert wrong.get_xlabel() == "true: Trouser"
    assert "true" not in right.get_xlabel()
    assert wrong.spines["top"].get_visible()
    assert not right.spines["top"].get_visible()


@pytest.mark.parametrize("num_samples", [1, 2, 5, 25])
def test_predictions_of_any_number_of_images_fit(num_samples):
    labels = np.zeros(num_samples, dtype=int)
    figure = figure_predictions(build_images(num_samples, 3), labels, build_prob(labels), CLASS_NAMES)
    assert sum(bool(ax.images) for ax in figure.axes) == num_samples


def test_samples_have_a_row_per_class_with_its_count():
    labels = np.array([0, 0, 0, 2])
    figure = figure_samples(build_images(4), labels, ["a", "b", "c"], {"a": 12_000, "c": 7}, columns=2)
    ax = figure.axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a\n12,000", "b\n0", "c\n7"]
    canvas = ax.images[0].get_array()
    assert canvas.shape == (3 * 14, 2 * 14, 3)
    assert np.array_equal(canvas[1:13, 15:27, 0], build_images(4)[1, :, :, 0])
    assert (canvas[14:28] == 255).all()  # the class without images


def test_samples_of_photos_and_of_many_classes_stay_a_picture_that_can_be_looked_at():
    photos = np.zeros((3, 700, 1000, 3), np.uint8)
    names = [f"{number}: $1 or $2^" for number in range(300)]
    figure = figure_samples(photos, np.arange(3), names, {}, columns=2)
    canvas = figure.axes[0].images[0].get_array()
    assert canvas.shape == (40 * (88 + 2), 2 * (125 + 2), 3)
    assert "0: $1 or $2^" in read_texts(figure), "a price was taken for a formula"


def test_confusion_shows_counts_or_percent_of_the_row():
    counts = np.array([[1, 2, 0], [0, 1000, 5], [0, 0, 0]])
    names = ["a", "b", "c"]
    plain = [text.get_text() for text in figure_confusion(counts, names, normalized=False).axes[0].texts]
    share = [text.get_text() for text in figure_confusion(counts, names, normalized=True).axes[0].texts]
    assert plain == ["1", "2", "1,000", "5"]
    assert share == ["33", "67", "100"]  # 5 of 1005 is below 1%, and the last row is empty


def test_curves_have_a_line_per_seed_and_whole_epochs():
    figure = f.figure_curves(build_histories(num_seeds=3, epochs=4), metric="cross_entropy", language="es")
    for ax in figure.axes:
        assert [line.get_linestyle() for line in ax.lines] == ["--", "-"] * 3
        assert [text.get_text() for text in ax.get_legend().get_texts()] == ["entrenamiento", "validación"]
        assert all(float(tick).is_integer() for tick in ax.get_xticks())
    assert figure.axes[0].get_ylabel() == "Entropía cruzada"


def test_curves_on_one_axis_are_of_plain_cross_entropy(comparison):
    histories = build_histories()
    ax = f.build_report_figures(comparison, histories, "en")["loss"].axes[0]
    first = histories["lenet"].query("seed == 0")
    assert ax.lines[0].get_ydata().tolist() == first["cross_entropy"].tolist()
    assert ax.lines[1].get_ydata().tolist() == first["val_cross_entropy"].tolist()


def test_curves_of_one_epoch_are_dots():
    figure = f.figure_curves(build_histories(epochs=1), metric="accuracy")
    assert {line.get_marker() for line in figure.axes[0].lines} == {"o"}


def test_filled_dots_are_the_clear_differences(comparison):
    ax = f.figure_f1_differences(comparison.differences, "lenet", "resnet").axes[0]
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    assert [dot.get_markerfacecolor() != PAPER for dot in dots] == [row.is_clear for row in comparison.differences]
    assert [dot.get_xdata()[0] for dot in dots] == [row.value for row in comparison.differences]


def test_filled_dots_are_the_decided_pairs(comparison):
    pairs = tuple(
        replace(pair, value=0.02, low=0.001, high=0.039, p_value=0.02, p_adjusted=0.12 if place else 0.025)
        for place, pair in enumerate(comparison.pairs)
    )
    ax = f.figure_pairs(replace(comparison, pairs=pairs)).axes[0]
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    # every interval excludes 0; the adjusted p decides none but the verdict's pair
    assert [dot.get_markerfacecolor() != PAPER for dot in dots] == [True] + [False] * 5


def test_class_names_are_text_and_nothing_else(tmp_path):
    counts = np.eye(3, dtype=int) * 5
    texts = read_texts(figure_confusion(counts, HOSTILE_NAMES, normalized=True))
    assert "a &lt;b&gt; &amp; $c$" in texts
    assert "class of a ve…" in texts


def test_ids_of_two_figures_do_not_collide(comparison):
    one, two = (set(render_svg(f.figure_cost(comparison), name).split(' id="')[1:]) for name in ("a", "b"))
    assert all(part.startswith("a-") for part in one)
    assert all(part.startswith("b-") for part in two)


@pytest.mark.parametrize(
    ("ticks", "digits"), [([0, 1, 2], 0), ([0, 0.5, 1], 1), ([0.8, 0.825, 0.85], 3), ([10, 20], 0), ([0.9], 0)]
)
def test_ticks_get_the_decimals_that_tell_them_apart(ticks, digits):
    assert choose_digits(ticks) == digits
