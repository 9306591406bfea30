"""What the reliability figure shows, and that the same data give the same bytes."""

import matplotlib as mpl
import pytest
from PIL import Image

from cotejo.report.figures.reliability import figure_reliability
from cotejo.report.style import save_figure


def build_bin(low, count, confidence, accuracy):
    return {"low": low, "high": low + 0.25, "count": count, "confidence": confidence, "accuracy": accuracy}


SUMMARY = {
    "num_seeds": 1, "temperature": 1.75, "test_ece": 0.123, "test_ece_scaled": 0.0149,
    "reliability": [build_bin(0.5, 3, 0.6, 0.4), build_bin(0.75, 4000, 0.95, 0.9)],
    "reliability_scaled": [build_bin(0.25, 1, 0.45, 0.0), build_bin(0.5, 1200, 0.7, 0.8)],
}  # fmt: skip


@pytest.fixture
def panels():
    figure = figure_reliability(SUMMARY, "lenet")
    return figure, figure.axes[:2], figure.axes[2:]


def test_the_titles_give_temperature_and_calibration_errors(panels):
    _, panels, _ = panels
    assert [ax.get_title(loc="left") for ax in panels] == ["lenet: as trained", "temperature 1.75"]
    errors = [[text.get_text() for text in ax.texts] for ax in panels]
    assert errors == [["calibration error 12.3 points"], ["calibration error 1.5 points"]]


def test_of_several_seeds_the_numbers_are_said_to_be_means():
    figure = figure_reliability({**SUMMARY, "num_seeds": 3}, "lenet")
    assert figure.axes[0].texts[0].get_text() == "calibration error 12.3 points\n(mean of 3 seeds)"


def test_a_gap_reaches_from_accuracy_to_confidence_and_its_hatch_tells_which_way(panels):
    _, axes, _ = panels
    before, after = ([bar for bar in ax.patches if bar.get_hatch()] for ax in axes)
    ends = [[(bar.get_y(), bar.get_y() + bar.get_height()) for bar in bars] for bars in (before, after)]
    assert ends[0] == [pytest.approx((0.4, 0.6)), pytest.approx((0.9, 0.95))]
    assert ends[1] == [pytest.approx((0.0, 0.45)), pytest.approx((0.8, 0.7))]
    assert before[0].get_hatch() == before[1].get_hatch() == after[0].get_hatch() != after[1].get_hatch()


def test_the_smallest_and_the_largest_bin_are_seen(panels):
    _, _, counts = panels
    assert [[bar.get_height() for bar in ax.patches] for ax in counts] == [[3, 4000], [1, 1200]]
    for ax in counts:
        low, high = ax.get_ylim()
        assert (low < 1, high > 4000, ax.get_yscale()) == (True, True, "log")


def test_same_data_give_the_same_bytes_and_leave_the_callers_style(tmp_path):
    style = dict(mpl.rcParams)
    for turn in ("first", "second"):
        save_figure(figure_reliability(SUMMARY, "lenet"), tmp_path / f"{turn}-reliability.png")
    assert (tmp_path / "first-reliability.png").read_bytes() == (tmp_path / "second-reliability.png").read_bytes()
    with Image.open(tmp_path / "first-reliability.png") as image:
        assert image.width < 1300  # a third of which is read on a page
    assert dict(mpl.rcParams) == style
