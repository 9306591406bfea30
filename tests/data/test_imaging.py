"""Each operation against OpenCV called directly, Pillow, or values worked by hand."""

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from PIL import Image

from cotejo.data.imaging import apply_operations
from cotejo.errors import DataError
from cotejo.schema.operations import OPERATIONS, dump_operations, parse_operations

RESIZE = {"name": "resize", "height": 20, "width": 30, "interpolation": "area", "keep_aspect": False, "pad_value": 0}
CLAHE = {"name": "clahe", "clip_limit": 3.0, "tiles": 4}
CANNY = {"name": "canny", "low": 40.0, "high": 120.0, "aperture_size": 3, "l2_gradient": True}
ROTATE = {"name": "rotate", "angle": 30.0, "interpolation": "linear", "pad_value": 128}
EVERY = [
    RESIZE,
    {"name": "equalize_histogram"},
    CLAHE,
    {"name": "gaussian_blur", "kernel_size": 5, "sigma": 1.5},
    {"name": "median_blur", "kernel_size": 3},
    ROTATE,
    {"name": "translate", "right": 2, "down": -1, "pad_value": 9},
    {"name": "normalize", "low": 2.0, "high": 98.0},
    {"name": "grayscale"},
    CANNY,
]


def scene(channels, height=48, width=64):
    """A picture with edges, a ramp and noise."""
    generator = np.random.default_rng(5)
    ramp = np.linspace(40, 160, width)[None, :, None] + np.linspace(0, 40, height)[:, None, None]
    image = ramp + generator.normal(0, 6, (height, width, channels)) + np.arange(channels) * 12
    image[height // 4 : height // 2, width // 3 : width // 2] += 50
    return image.clip(0, 255).astype(np.uint8)


def apply(image, *entries):
    return apply_operations(image, parse_operations(list(entries), "test"))


def test_every_operation_is_tried_here():
    assert sorted({entry["name"] for entry in EVERY}) == sorted(OPERATIONS)


def as_opencv(image):
    return image[..., 0] if image.shape[2] == 1 else image


def on_luma(change):
    def compute(image):
        if image.ndim == 2:
            return change(image)
        luma, red, blue = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb))
        return cv2.cvtColor(cv2.merge([change(luma), red, blue]), cv2.COLOR_YCrCb2RGB)

    return compute


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("entry", "oracle"),
    [
        (RESIZE, lambda image: cv2.resize(image, (30, 20), interpolation=cv2.INTER_AREA)),
        (
            RESIZE | {"interpolation": "lanczos4", "height": 99},
            lambda image: cv2.resize(image, (30, 99), interpolation=cv2.INTER_LANCZOS4),
        ),
        (EVERY[1], on_luma(cv2.equalizeHist)),
        (CLAHE, on_luma(cv2.createCLAHE(clipLimit=3.0, tileGridSize=(4, 4)).apply)),
        (EVERY[3], lambda image: cv2.GaussianBlur(image, (5, 5), 1.5)),
        (EVERY[4], lambda image: cv2.medianBlur(image, 3)),
        (CANNY, lambda image: cv2.Canny(image, 40, 120, apertureSize=3, L2gradient=True)),
        (
            ROTATE,
            lambda image: cv2.warpAffine(
                image, cv2.getRotationMatrix2D((31.5, 23.5), 30, 1), (64, 48), flags=cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_CONSTANT, borderValue=(128, 128, 128),
            ),
        ),
    ],
    ids=lambda value: value["name"] if isinstance(value, dict) else "opencv",
)  # fmt: skip
def test_an_operation_does_what_opencv_does(entry, oracle, channels):
    image = scene(channels)
    before = image.copy()
    made, expected = apply(image, entry), oracle(as_opencv(image))
    assert np.array_equal(made, expected[..., None] if expected.ndim == 2 else expected)
    assert (made.dtype, made.ndim, made.flags.c_contiguous) == (np.uint8, 3, True)
    assert np.array_equal(image, before)
    assert not np.array_equal(made, image)


def test_grayscale_weighs_the_colours_as_pillow_does_and_leaves_grey_alone():
    image = scene(3)
    made = apply(image, {"name": "grayscale"})
    pillow = np.asarray(Image.fromarray(image).convert("L"), np.int16)
    assert made.shape == (48, 64, 1)
    assert abs(made[..., 0] - pillow).max() <= 1  # the two round differently
    assert np.array_equal(apply(scene(1), {"name": "grayscale"}), scene(1))


def test_a_resize_that_keeps_the_aspect_centres_the_picture_on_the_padding():
    tall = np.full((40, 20, 3), 200, np.uint8)
    made = apply(tall, RESIZE | {"height": 10, "width": 10, "keep_aspect": True, "pad_value": 7})
    assert made.shape == (10, 10, 3)
    # 40 x 20 becomes 10 x 5: two columns before it, three behind
    assert (made[:, 2:7] == 200).all()
    assert (made[:, :2] == 7).all()
    assert (made[:, 7:] == 7).all()


def test_a_very_long_picture_keeps_a_row():
    made = apply(np.full((1, 4000, 1), 90, np.uint8), RESIZE | {"height": 8, "width": 8, "keep_aspect": True})
    assert made[:, :, 0].tolist() == [[0] * 8] * 3 + [[90] * 8] + [[0] * 8] * 4


@pytest.mark.parametrize(("angle", "turns"), [(90.0, 1), (-90.0, 3), (180.0, 2), (360.0, 0)])
@pytest.mark.parametrize("interpolation", ["nearest", "linear", "cubic"])
def test_a_quarter_turn_of_a_square_moves_each_pixel_counter_clockwise(angle, turns, interpolation):
    image = scene(3, 31, 31)
    made = apply(image, ROTATE | {"angle": angle, "interpolation": interpolation})
    assert np.array_equal(made, np.rot90(image, turns))


def test_translate_moves_by_whole_pixels_and_fills_the_rest():
    image = np.arange(12, dtype=np.uint8).reshape(3, 4, 1)
    made = apply(image, {"name": "translate", "right": 1, "down": -2, "pad_value": 99})
    assert made[..., 0].tolist() == [[99, 8, 9, 10], [99] * 4, [99] * 4]
    left = apply(image, {"name": "translate", "right": -3, "down": 0, "pad_value": 5})
    assert left[..., 0].tolist() == [[3, 5, 5, 5], [7, 5, 5, 5], [11, 5, 5, 5]]


@pytest.mark.parametrize(("right", "down"), [(-4, 0), (4, 0), (0, 3), (1, -3), (99, 99)])
def test_a_picture_that_would_be_moved_out_of_sight_is_refused(right, down):
    image = np.zeros((3, 4, 1), np.uint8)
    with pytest.raises(DataError) as caught:
        apply(image, {"name": "translate", "right": right, "down": down, "pad_value": 5})
    said = str(caught.value)
    assert said.startswith(f"expected a picture of which translate by right {right} and down {down} leaves some. ")
    assert "Received: 4x3 (width x height). Declare a resize before it" in said


def test_normalize_stretches_all_channels_alike_over_the_whole_range():
    image = np.array([[[50, 60, 70], [80, 90, 100]]], np.uint8)
    made = apply(image, {"name": "normalize", "low": 0, "high": 100})
    assert made.tolist() == [[[0, 51, 102], [153, 204, 255]]]
    # OpenCV's own rounds in single precision
    theirs = cv2.normalize(scene(3), None, 0, 255, cv2.NORM_MINMAX)
    assert abs(apply(scene(3), {"name": "normalize", "low": 0, "high": 100}).astype(int) - theirs).max() <= 1


def test_normalize_clips_beyond_its_percentiles_and_leaves_an_even_picture_alone():
    image = scene(3)
    low, high = np.percentile(image, [5, 95])
    made = apply(image, {"name": "normalize", "low": 5, "high": 95})
    expected = np.interp(image, [low, high], [0, 255])
    assert abs(made - expected).max() <= 0.5
    assert (made[image < low] == 0).all()
    assert (made[image > high] == 255).all()
    even = np.full((3, 3, 1), 77, np.uint8)
    assert np.array_equal(apply(even, {"name": "normalize", "low": 5, "high": 95}), even)


def test_operations_are_applied_in_their_order():
    image = scene(3)
    blur, stretch = EVERY[3], EVERY[7]
    assert np.array_equal(apply(image, blur, stretch), apply(apply(image, blur), stretch))
    assert not np.array_equal(apply(image, blur, stretch), apply(image, stretch, blur))


def test_the_same_picture_gives_the_same_bytes_alone_or_among_many_in_threads():
    images = [scene(3, 48 + row, 64) for row in range(40)]
    alone = [apply(image, *EVERY).tobytes() for image in images]
    cv2.setNumThreads(4)  # as whoever used OpenCV before may have left it
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda image: apply(image, *EVERY).tobytes(), images))
    assert together == alone


def test_no_operation_is_the_picture_itself():
    image = scene(3)
    assert apply(image) is image


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)]
)
def test_what_is_no_picture_is_refused(image):
    with pytest.raises(DataError, match=r"expected uint8 pixels of shape \(height, width, channels\)"):
        apply(image, RESIZE)


@pytest.mark.parametrize("entry", [EVERY[3], EVERY[4] | {"kernel_size": 5}, CLAHE | {"tiles": 5}])
def test_a_picture_too_small_for_an_operation_is_refused_in_words(entry):
    with pytest.raises(DataError) as caught:
        apply(scene(1, 4, 9), entry)
    said = str(caught.value)
    assert said.startswith(f"expected a picture of at least 5x5 pixels for {entry['name']} with ")
    assert "Received: 9x4 (width x height). Declare a resize before it in preprocess.operations" in said


@pytest.mark.parametrize("entry", EVERY, ids=lambda entry: entry["name"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_of_a_few_pixels_is_changed_or_refused_in_words(entry, channels):
    sizes = [(height, width) for height in range(1, 7) for width in range(1, 7)]
    refused = {}
    for size in sizes:
        try:
            made = apply(scene(channels, *size), entry)
        except DataError as error:
            refused[size] = str(error)
        else:
            assert made.shape[:2] == ((20, 30) if entry is RESIZE else size)
    assert all(f"Received: {width}x{height} (width x height)." in said for (height, width), said in refused.items())
    assert len(refused) < len(sizes)


def test_the_list_is_read_back_as_it_was_written_down():
    operations = parse_operations(EVERY, "test")
    assert parse_operations(dump_operations(operations), "test") == operations
