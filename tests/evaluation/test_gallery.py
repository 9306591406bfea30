"""The galleries show the images that they claim to show."""

import numpy as np
import pytest

from cotejo.evaluation.gallery import save_gallery, select_disagreements, select_errors, select_gallery

Y_TRUE = np.array([0, 1, 2, 0, 1])


def of(*rows):
    return np.array([rows], dtype=np.float32)


#: Wrong in images 0 (0.6), 2 (0.9), 3 (0.9) and right in 1 and 4.
A = of([0.4, 0.6, 0.0], [0.1, 0.8, 0.1], [0.9, 0.1, 0.0], [0.0, 0.1, 0.9], [0.0, 1.0, 0.0])
#: Wrong in images 1 (0.5) and 4 (0.7), right elsewhere.
B = of([0.7, 0.2, 0.1], [0.5, 0.3, 0.2], [0.0, 0.2, 0.8], [0.6, 0.3, 0.1], [0.7, 0.3, 0.0])


def test_the_most_confident_errors_come_first_and_of_equal_ones_the_first_image():
    assert select_errors(Y_TRUE, A, 8).tolist() == [2, 3, 0]
    assert select_errors(Y_TRUE, A, 1).tolist() == [2]


def test_the_answer_is_that_of_the_mean_probability_over_seeds():
    # the first seed alone is wrong about image 0 with 0.55; both together answer it right
    seeds = np.array([[[0.45, 0.55], [0.1, 0.9]], [[0.9, 0.1], [0.8, 0.2]]])
    assert select_errors(np.array([0, 0]), seeds[:1], 8).tolist() == [1, 0]
    assert select_errors(np.array([0, 0]), seeds, 8).tolist() == [1]


def test_disagreements_are_right_for_one_and_wrong_for_the_other_the_surest_first():
    assert select_disagreements(Y_TRUE, A, B, 8).tolist() == [4, 1]  # 1.0 + 0.7, then 0.8 + 0.5
    assert select_disagreements(Y_TRUE, B, A, 8).tolist() == [2, 3, 0]  # 1.7, 1.5, 1.3
    assert select_disagreements(Y_TRUE, B, A, 2).tolist() == [2, 3]


def test_models_without_errors_have_nothing_to_show():
    right = np.eye(3)[None, Y_TRUE]
    assert select_errors(Y_TRUE, right, 8).size == 0
    assert select_disagreements(Y_TRUE, right, right, 8).size == 0
    assert select_gallery(Y_TRUE, {"a": right, "b": right}, 8).size == 0


def test_the_gallery_holds_every_image_that_any_two_models_need():
    generator = np.random.default_rng(0)
    y_true = generator.integers(0, 4, 300)
    models = {name: generator.dirichlet(np.ones(4), (seeds, 300)) for name, seeds in (("a", 1), ("b", 2), ("c", 3))}
    gallery = select_gallery(y_true, models, 5)
    expected = set()
    for name, y_prob in models.items():
        expected |= set(select_errors(y_true, y_prob, 5))
        for other, other_prob in models.items():
            if name != other:
                expected |= set(select_disagreements(y_true, y_prob, other_prob, 5))
    assert gallery.tolist() == sorted(expected)


@pytest.mark.parametrize("indices", [[1, 3], []])
def test_the_file_holds_the_images_and_has_the_same_bytes_again(tmp_path, indices):
    images = np.random.default_rng(0).integers(0, 255, (5, 4, 6, 3), dtype=np.uint8)
    chosen = np.array(indices, dtype=np.int64)
    for name in ("one.npz", "other.npz"):
        save_gallery(tmp_path / name, chosen, images)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "other.npz").read_bytes()
    with np.load(tmp_path / "one.npz", allow_pickle=False) as arrays:
        assert (arrays["indices"].dtype, arrays["images"].dtype) == (np.int64, np.uint8)
        assert arrays["indices"].tolist() == indices
        np.testing.assert_array_equal(arrays["images"], images[indices].reshape(-1, 4, 6, 3))
