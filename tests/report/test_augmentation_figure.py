"""The figure of augmented images: what a reader finds in it, and that the same data give the same bytes."""

import numpy as np
import pytest

from cotejo.report.figures.augmentation import GAP, figure_augmented, tile
from cotejo.report.style import render_svg, save_figure

NAMES = ["a <b> & $c$", "_x", "class of a very long name indeed"]


def build(num_images=3, num_versions=4, channels=1):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, size=(num_images, 6, 9, channels), dtype=np.uint8)
    augmented = rng.integers(0, 256, size=(num_images, num_versions, 6, 9, channels), dtype=np.uint8)
    return images, augmented, np.arange(num_images) % len(NAMES)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_row_holds_the_original_and_then_its_versions(channels):
    images, augmented, labels = build(channels=channels)
    ax = figure_augmented(images, augmented, labels, NAMES).axes[0]
    canvas = ax.images[0].get_array()
    assert canvas.shape == (3 * 8, 5 * 11 + GAP, 3)
    assert np.array_equal(canvas[9:15, 1:10], np.broadcast_to(images[1], (6, 9, 3)))
    left = 11 + GAP + 2 * 11 + 1
    assert np.array_equal(canvas[9:15, left : left + 9], np.broadcast_to(augmented[1, 2], (6, 9, 3)))
    assert (canvas[:, 10 : 11 + GAP + 1] == 255).all()  # between them


def test_rows_are_named_by_class_and_columns_by_what_they_show():
    ax = figure_augmented(*build(), NAMES).axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a <b> & $c$", "_x", "class of a ve…"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["original", "as seen in training"]
    assert list(ax.get_yticks()) == [4, 12, 20]


@pytest.mark.parametrize(("num_images", "num_versions"), [(1, 1), (10, 8)])
def test_any_number_of_images_and_versions_fits(num_images, num_versions):
    figure = figure_augmented(*build(num_images, num_versions), NAMES)
    assert "as seen in training" in render_svg(figure, "x")


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_same_data_give_the_same_bytes(tmp_path, suffix):
    for turn in ("first", "second"):
        save_figure(figure_augmented(*build(), NAMES), tmp_path / f"{turn}{suffix}")
    assert (tmp_path / f"first{suffix}").read_bytes() == (tmp_path / f"second{suffix}").read_bytes()


def test_tiles_stand_in_their_rows_and_columns():
    numbers = np.arange(6, dtype=np.uint8).reshape(2, 3, 1, 1, 1)
    assert np.array_equal(tile(numbers)[1::3, 1::3, 0], [[0, 1, 2], [3, 4, 5]])
