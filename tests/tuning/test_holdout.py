"""The validation images that are held out: who draws them gets the same ones, of each class its share."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cotejo.data.readers import LabelledImages
from cotejo.data.stored import open_stored
from cotejo.errors import DataError
from cotejo.tuning.holdout import draw_holdout, take_images

LABELS = np.repeat([0, 1, 2], [10, 20, 5])


@given(
    counts=st.lists(st.integers(2, 40), min_size=1, max_size=6),
    share=st.floats(0.001, 0.999),
    seed=st.integers(0, 2**32 - 1),
)
def test_each_class_is_on_both_sides_in_its_share_and_each_image_on_one(counts, share, seed):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    holdout = draw_holdout(labels, share, seed)
    both = np.concatenate(holdout)
    assert sorted(both) == list(range(len(labels)))
    assert all((np.diff(rows) > 0).all() for rows in holdout)
    num_held_out = np.bincount(labels[holdout.held_out], minlength=len(counts))
    assert (num_held_out >= 1).all()
    assert (num_held_out < counts).all()
    assert (abs(num_held_out - share * np.array(counts)) <= 1).all()


def test_the_draw_is_a_function_of_labels_share_and_seed():
    holdout = draw_holdout(LABELS, 0.5, 0)
    # as it was when it was written: another draw would resume searches on other images
    assert holdout.held_out.tolist() == [1, 3, 4, 5, 6, 11, 12, 14, 17, 19, 22, 23, 26, 27, 29, 31, 32]
    assert np.array_equal(draw_holdout(LABELS.copy(), 0.5, 0).held_out, holdout.held_out)
    assert not np.array_equal(draw_holdout(LABELS, 0.5, 1).held_out, holdout.held_out)


def test_half_of_each_class_is_held_out():
    selecting, held_out = draw_holdout(LABELS, 0.5, 0)
    assert np.bincount(LABELS[held_out]).tolist() == [5, 10, 2]
    assert np.bincount(LABELS[selecting]).tolist() == [5, 10, 3]


@pytest.mark.parametrize(("share", "expected"), [(0.01, 1), (0.99, 1)])
def test_of_two_images_of_a_class_one_is_on_either_side(share, expected):
    selecting, held_out = draw_holdout(np.array([4, 4]), share, 0)
    assert (len(selecting), len(held_out)) == (1, expected)


def test_a_class_with_one_image_is_refused_in_a_line_that_says_what_to_do():
    with pytest.raises(DataError) as caught:
        draw_holdout(np.array([0, 0, 3]), 0.5, 0)
    assert str(caught.value) == (
        "search.holdout: expected two validation images of each class or more, to have one that chooses and one that "
        "confirms. Received: one of class 3. Set search.holdout to 0 in params.yaml, or raise "
        "preprocess.validation_fraction."
    )


def test_with_a_share_of_0_all_images_choose_and_the_same_ones_confirm():
    holdout = draw_holdout(np.array([0, 0, 3]), 0.0, 0)
    assert holdout.selecting.tolist() == holdout.confirming.tolist() == [0, 1, 2]
    assert holdout.held_out.tolist() == []


def test_with_another_share_those_that_are_held_out_confirm():
    holdout = draw_holdout(LABELS, 0.5, 0)
    assert holdout.confirming is holdout.held_out


def test_taken_images_are_read_as_those_of_an_array(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (len(LABELS), 4, 3, 1), dtype=np.uint8)
    np.save(tmp_path / "images.npy", pixels)
    rows = draw_holdout(LABELS, 0.5, 0).held_out
    taken = take_images(LabelledImages(open_stored(tmp_path / "images.npy"), LABELS), rows)
    expected = pixels[rows]
    assert taken.labels.tolist() == LABELS[rows].tolist()
    assert np.array_equal(taken.images[:], expected)
    assert np.array_equal(taken.images[3:7], expected[3:7])
    assert np.array_equal(taken.images[np.array([5, 0, 2])], expected[[5, 0, 2]])
    for name in ("dtype", "shape", "nbytes"):
        assert getattr(taken.images, name) == getattr(expected, name)
    assert len(taken.images) == len(expected)


def test_all_images_are_taken_as_they_are():
    whole = LabelledImages(np.zeros((3, 1, 1, 1), np.uint8), np.array([0, 0, 3]))
    assert take_images(whole, np.arange(3)) is whole
