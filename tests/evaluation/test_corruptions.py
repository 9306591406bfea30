"""Corrupted images: as strong as declared, the same for the same image, whatever stands beside it."""

import numpy as np
import pytest
from matplotlib.colors import rgb_to_hsv
from scipy import ndimage
from sklearn.datasets import load_digits, load_sample_image

from cotejo.evaluation.corruptions import CORRUPTIONS, SEVERITIES, STRENGTHS, corrupt

GREY = np.rint(load_digits().images[:40] * (255 / 16)).astype(np.uint8)[..., np.newaxis]
#: A photograph at a quarter of its size, and 40 pieces of it.
PHOTO = load_sample_image("china.jpg")[:320, :640].reshape(80, 4, 160, 4, 3).mean(axis=(1, 3))
COLOUR = np.rint(  # 32 x 32 pixels each
    np.stack([PHOTO[top : top + 32, left : left + 32] for top in range(0, 48, 6) for left in range(0, 125, 25)])
)
IMAGES = {"grey": GREY, "colour": COLOUR.astype(np.uint8)}


def apply(images, corruption, severity, seed=0, first=0):
    return corrupt(images, corruption, severity, seed, np.arange(first, first + len(images)))


def find_distance(images, others):
    """The mean over the images of the root of the mean squared difference."""
    return np.sqrt(((images.astype(float) - others) ** 2).mean(axis=(1, 2, 3)))


@pytest.mark.parametrize("corruption", CORRUPTIONS)
@pytest.mark.parametrize("kind", IMAGES)
def test_a_higher_severity_is_further_from_the_original(kind, corruption):
    images = IMAGES[kind]
    corrupted = [apply(images, corruption, severity) for severity in SEVERITIES]
    for changed in corrupted:
        assert (changed.shape, changed.dtype) == (images.shape, np.uint8)
    distances = np.array([find_distance(images, changed).mean() for changed in corrupted])
    # 8 pixels are moved by one at every severity
    is_same = kind == "grey" and corruption == "translation"
    assert (np.diff(distances) > (-1e-12 if is_same else 0)).all()
    assert distances[0] > 0.5


@pytest.mark.parametrize("corruption", CORRUPTIONS)
@pytest.mark.parametrize("kind", IMAGES)
def test_an_image_is_corrupted_in_the_same_way_whatever_else_is_corrupted(kind, corruption):
    images = IMAGES[kind]
    together = corrupt(images, corruption, 4, 7, np.arange(100, 140))
    for place in (0, 13, 39):
        alone = corrupt(images[place : place + 1], corruption, 4, 7, np.array([100 + place]))
        np.testing.assert_array_equal(alone[0], together[place])
    turned = corrupt(images[::-1], corruption, 4, 7, np.arange(139, 99, -1))
    np.testing.assert_array_equal(turned[::-1], together)


@pytest.mark.parametrize("corruption", ["noise", "translation"])
def test_what_is_drawn_depends_on_the_seed_and_on_which_image_it_is(corruption):
    same = np.repeat(IMAGES["colour"][:1], 20, axis=0)
    corrupted = apply(same, corruption, 3)
    assert len(np.unique(corrupted.reshape(20, -1), axis=0)) == (20 if corruption == "noise" else 4)
    assert (apply(same, corruption, 3, seed=1) != corrupted).any()
    assert (apply(same, corruption, 3, first=20) != corrupted).any()
    np.testing.assert_array_equal(apply(same, corruption, 3), corrupted)


def test_two_corruptions_of_an_image_do_not_share_what_they_draw_but_two_severities_do():
    flat = np.full((1, 64, 64, 1), 128, np.uint8)
    weak, strong = (apply(flat, "noise", severity).astype(float) - 128 for severity in (1, 5))
    assert np.corrcoef(weak.ravel(), strong.ravel())[0, 1] > 0.99
    assert strong.std() / weak.std() == pytest.approx(0.10 / 0.04, rel=0.01)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_noise_has_the_declared_deviation_and_no_shift(severity):
    deviation = (0.04, 0.06, 0.08, 0.09, 0.10)[severity - 1]
    noise = apply(np.full((50, 28, 28, 3), 128, np.uint8), "noise", severity).astype(float) - 128
    count = noise.size
    assert noise.std() == pytest.approx(255 * deviation, rel=5 / np.sqrt(2 * count))
    assert abs(noise.mean()) < 5 * 255 * deviation / np.sqrt(count)
    # neither channels nor images are given the same noise
    assert abs(np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]) < 5 / np.sqrt(count / 3)
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 5 / np.sqrt(count / 50)


@pytest.mark.parametrize("level", [0, 1, 100, 255])
def test_images_of_one_level_are_changed_by_noise_and_brightness_alone(level):
    flat = np.full((3, 28, 28, 1), level, np.uint8)
    for corruption in ("blur", "contrast", "translation"):
        np.testing.assert_array_equal(apply(flat, corruption, 5), flat)
    assert apply(flat, "noise", 5).std() > 5
    np.testing.assert_array_equal(apply(flat, "brightness", 4), np.full_like(flat, min(255, level + 51)))


def test_brightness_by_hand():
    # (grey) 0.2 x 255 = 51 is added, and white stays white
    grey = np.array([0, 100, 204, 250], np.uint8).reshape(1, 2, 2, 1)
    assert apply(grey, "brightness", 4).ravel().tolist() == [51, 151, 255, 255]
    # (colour) the brightest channel gets 51 more, and the others grow in proportion: 100 -> 151 is times 1.51
    colour = np.array([[100, 50, 0], [0, 0, 0], [255, 51, 0]], np.uint8).reshape(1, 1, 3, 3)
    assert apply(colour, "brightness", 4).reshape(3, 3).tolist() == [[151, 76, 0], [51, 51, 51], [255, 51, 0]]


def test_brightness_changes_the_value_of_hsv_alone():
    before, after = (
        rgb_to_hsv(images / 255) for images in (IMAGES["colour"], apply(IMAGES["colour"], "brightness", 3))
    )
    np.testing.assert_allclose(after[..., 2], np.minimum(before[..., 2] + 0.15, 1), atol=0.5 / 255 + 1e-6)
    bright = before[..., 2] > 0.2  # hue and saturation of dark pixels are lost in rounding
    np.testing.assert_allclose(after[bright][:, 1], before[bright][:, 1], atol=0.02)


def test_contrast_by_hand():
    # the mean is 100; of each distance, 0.4 is left
    image = np.array([0, 50, 100, 250], np.uint8).reshape(1, 2, 2, 1)
    assert apply(image, "contrast", 3).ravel().tolist() == [60, 80, 100, 160]
    # each channel has a mean of its own, and so has each image
    pair = np.stack([np.full((2, 2, 1), 10), np.full((2, 2, 1), 200)], axis=0).astype(np.uint8)
    np.testing.assert_array_equal(apply(pair, "contrast", 5), pair)
    two = np.concatenate([image, np.full_like(image, 200)], axis=3)
    assert apply(two, "contrast", 3)[..., 1].ravel().tolist() == [200] * 4


def test_a_translation_by_hand():
    # 0.1 x 28 = 2.8: three pixels along each axis, in one of four directions; the border is repeated
    image = np.arange(28 * 28).reshape(1, 28, 28, 1) % 251
    image = image.astype(np.uint8)
    moved = corrupt(np.repeat(image, 12, axis=0), "translation", 3, 0, np.arange(12))
    padded = np.pad(image[0, ..., 0], 3, mode="edge")
    possible = [padded[top : top + 28, left : left + 28] for top in (0, 6) for left in (0, 6)]
    directions = [[np.array_equal(result[..., 0], other) for other in possible].index(True) for result in moved]
    assert set(directions) == {0, 1, 2, 3}
    np.testing.assert_array_equal(moved[directions.index(0)][3:, 3:], image[0, :-3, :-3])  # down and to the right


@pytest.mark.parametrize(
    ("size", "expected"),
    [(28, [1, 2, 3, 4, 5]), (32, [1, 2, 3, 4, 6]), (8, [1, 1, 1, 1, 1]), (100, [4, 7, 10, 14, 18])],
)
def test_a_translation_grows_with_the_image(size, expected):
    image = np.zeros((1, size, size, 1), np.uint8)
    image[0, size // 2, size // 2] = 255
    for severity, pixels in zip(SEVERITIES, expected, strict=True):
        _, row, column, _ = np.argwhere(apply(image, "translation", severity))[0]
        assert (abs(row - size // 2), abs(column - size // 2)) == (pixels, pixels)


@pytest.mark.parametrize(("size", "scale"), [(8, 1), (28, 1), (32, 1), (64, 2)])
def test_blur_is_scipys_with_a_width_that_grows_with_the_image(size, scale):
    images = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), dtype=np.uint8)
    for severity, sigma in zip(SEVERITIES, (0.4, 0.6, 0.7, 0.8, 1.0), strict=True):
        expected = np.empty(images.shape)
        for place in np.ndindex(2, 3):
            channel = images[place[0], ..., place[1]].astype(float)
            # one axis after the other, each with the kernel's own formula
            for axis in (0, 1):
                channel = ndimage.correlate1d(channel, make_kernel(sigma * scale), axis=axis, mode="nearest")
            expected[place[0], ..., place[1]] = channel
        np.testing.assert_allclose(apply(images, "blur", severity), expected, atol=0.5 + 1e-3)


def make_kernel(sigma):
    radius = int(4 * sigma + 0.5)
    weights = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * sigma**2))
    return weights / weights.sum()


def test_the_strengths_are_those_of_the_benchmark_for_small_images():
    # gaussian_noise, gaussian_blur, brightness and contrast of make_cifar_c.py
    published = {
        "noise": (0.04, 0.06, 0.08, 0.09, 0.10),
        "blur": (0.4, 0.6, 0.7, 0.8, 1),
        "brightness": (0.05, 0.1, 0.15, 0.2, 0.3),
        "contrast": (0.75, 0.5, 0.4, 0.3, 0.15),
    }
    assert {name: STRENGTHS[name] for name in published} == published
    assert (*published, "translation") == CORRUPTIONS
