"""Images that look alike are found however they were packed, resized or lit, and others aren't."""

import cv2
import numpy as np
import pytest
from sklearn.datasets import load_digits, load_sample_images

from cotejo.data.duplicates import compute_fingerprint, find_near_pairs, identify
from image_folders import draw


def photograph(number, channels=3):
    """A smooth picture such as a camera makes, 160 x 120."""
    small = draw(number, side=8, channels=3)
    return np.clip(cv2.resize(small, (160, 120), interpolation=cv2.INTER_CUBIC), 0, 255)[..., :channels]


def pack(image, quality):
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


CHANGES = {
    "jpeg": lambda image: pack(image, 60),
    "smaller": lambda image: cv2.resize(image, (97, 73), interpolation=cv2.INTER_AREA),
    "brighter": lambda image: (image * 0.8).astype(np.uint8) + 40,
    "noisy": lambda image: np.clip(image + np.random.default_rng(0).normal(0, 4, image.shape), 0, 255).astype(np.uint8),
    "grey": lambda image: cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., np.newaxis],
}


def find(images, others):
    fingerprints = [compute_fingerprint(image) for image in (*images, *others)]
    groups = [0] * len(images) + [1] * len(others)
    return {(pair.first, pair.second - len(images)) for pair in find_near_pairs(fingerprints, groups)}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_in_another_split_is_found_among_others(change):
    images = [photograph(number) for number in range(60)]
    if change == "brighter":
        images = [image // 2 + 40 for image in images]  # so that none is cut off at white
        found = find(images, [image + 30 for image in images])
    else:
        found = find(images, [CHANGES[change](image) for image in images])
    assert found <= {(number, number) for number in range(60)}, "different pictures were taken for copies"
    assert len(found) >= 57


COPIES = {
    "half size": lambda image: cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_CUBIC),
    "JPEG quality 50": lambda image: pack(image, 50),
    "25 grey levels more": lambda image: np.clip(image + 25.0, 0, 255).astype(np.uint8),
    "brightness x 1.15": lambda image: np.clip(image * 1.15, 0, 255).astype(np.uint8),
    "contrast x 1.1": lambda image: np.clip((image - image.mean()) * 1.1 + image.mean(), 0, 255).astype(np.uint8),
}


@pytest.mark.parametrize("copy", COPIES)
def test_most_copies_of_photographs_are_found(copy):
    crops = [
        image[top : top + 300, left : left + 300]
        for image in load_sample_images().images
        for top in range(0, 127, 40)
        for left in range(0, 340, 80)
    ]
    found = find(crops, [COPIES[copy](crop) for crop in crops])
    assert found <= {(number, number) for number in range(40)}, "different crops were taken for copies"
    assert len(found) >= 30


def test_pictures_of_one_split_are_not_compared():
    fingerprints = [compute_fingerprint(photograph(0))] * 4
    assert [tuple(pair) for pair in find_near_pairs(fingerprints, [0, 0, 1, 1])] == [
        (0, 2, 0.0), (0, 3, 0.0), (1, 2, 0.0), (1, 3, 0.0),
    ]  # fmt: skip


def test_handwritten_digits_are_not_called_copies_of_each_other():
    """Small and alike: of these the hash alone takes several for copies."""
    digits = (load_digits().images * 15.9).astype(np.uint8)[..., np.newaxis]
    assert find(digits[:900], digits[900:]) == set()


def test_blank_pictures_are_alike():
    assert find([np.full((8, 8, 1), 200, np.uint8)], [np.full((9, 5, 3), 20, np.uint8)]) == {(0, 0)}


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_images_are_no_trouble(count):
    assert find([photograph(number) for number in range(count)], []) == set()


def test_the_work_is_bound_by_the_number_of_images(monkeypatch):
    """With every picture the same, each with each would be 4.5 million comparisons."""
    from cotejo.data import duplicates

    compared, compare = [], duplicates._compare
    monkeypatch.setattr(duplicates, "_compare", lambda *pair: compared.append(len(pair[0])) or compare(*pair))
    fingerprints = [compute_fingerprint(photograph(0))] * 3000
    find_near_pairs(fingerprints, [number % 2 for number in range(3000)])
    assert sum(compared) <= 3000 * 4 * duplicates.NEIGHBOURS


def test_an_identity_is_of_shape_and_pixels():
    image = draw(0, side=12)[..., np.newaxis]
    assert identify(image) == identify(np.asfortranarray(image.copy()))
    others = [image.reshape(6, 24, 1), image[:, ::-1], image ^ np.uint8(1)]
    assert len({identify(one) for one in (image, *others)}) == 4
