"""What preprocess shows of the declared operations, and that data and figure come from the same list."""

import json

import numpy as np
from PIL import Image

from copied_study import copy_study
from cotejo.report.figures.operations import figure_operations, list_steps
from cotejo.report.style import save_figure
from cotejo.schema.operations import parse_operations
from warm import WarmProcess

ENTRIES = [
    {"name": "resize", "height": 12, "width": 16, "interpolation": "nearest", "keep_aspect": True, "pad_value": 9},
    {"name": "median_blur", "kernel_size": 3},
    {"name": "canny", "low": 50.0, "high": 150.0, "aperture_size": 3, "l2_gradient": False},
]
OPERATIONS = parse_operations(ENTRIES, "test")
IMAGES = [np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8) for shape in [(20, 30, 3), (8, 8, 3)]]


def test_the_figure_shows_each_image_before_and_after_each_operation(tmp_path):
    figure = figure_operations(IMAGES, OPERATIONS)
    save_figure(figure, tmp_path / "operations.png")  # it can be drawn
    assert len(figure.axes) == 2 * 4
    titles = [ax.get_title(loc="left").splitlines() for ax in figure.axes[:4]]
    assert [title[0] for title in titles] == ["original", "resize", "median_blur", "canny"]
    assert titles[2] == ["median_blur", "kernel_size 3"]
    shown = [ax.images[0].get_array() for ax in figure.axes[4:]]
    assert np.array_equal(shown[0], IMAGES[1])
    assert [array.shape for array in shown] == [(8, 8, 3), (12, 16, 3), (12, 16, 3), (12, 16, 3)]
    assert set(np.unique(shown[3])) <= {0, 255}
    assert figure.axes[7].get_xlabel() == "16x12"
    assert figure.axes[4].get_xlabel() == "8x8 in colour"


def test_photos_are_drawn_small_and_labelled_with_their_own_size():
    photos = [np.zeros((3000, 4000, 3), np.uint8), np.zeros((4000, 20, 1), np.uint8)]
    photos[0][:, :2000] = 200
    figure = figure_operations(iter(photos), OPERATIONS[1:2])
    shown = [ax.images[0].get_array() for ax in figure.axes]
    assert [array.shape for array in shown] == [(300, 400, 3), (300, 400, 3), (400, 2, 3), (400, 2, 3)]
    assert (shown[0][:, :199] == 200).all()
    assert (shown[0][:, 201:] == 0).all()
    assert [ax.get_xlabel() for ax in figure.axes] == ["4000x3000 in colour"] * 2 + ["20x4000"] * 2


def test_the_last_step_is_what_a_model_is_given():
    steps = list(list_steps(IMAGES[0], OPERATIONS))
    assert [step.shape for step in steps] == [(20, 30, 3), (12, 16, 3), (12, 16, 3), (12, 16, 1)]


def test_preprocess_applies_the_list_records_it_and_draws_it(tmp_path, environment):
    study = copy_study(tmp_path / "study")
    declared = (study / "params.yaml").read_text(encoding="utf-8")
    entry = "{name: resize, height: 12, width: 12, interpolation: cubic, keep_aspect: true, pad_value: 0}"
    changes = [
        ("fashion_mnist ", "digits "),
        ("weights: imagenet", "weights: random"),
        ("ions: []", f"ions: [{entry}]"),
    ]
    for old, new in changes:
        assert old in declared
        declared = declared.replace(old, new, 1)
    (study / "params.yaml").write_text(declared, encoding="utf-8")
    for script in ("stages/download.py", "stages/preprocess.py"):
        process = WarmProcess([script], study, environment)
        printed = process.communicate()
        assert process.returncode == 0, printed
    described = json.loads((study / "data/processed/dataset.json").read_text())
    assert described["operations"] == [
        {"name": "resize", "height": 12, "width": 12, "interpolation": "cubic", "keep_aspect": True, "pad_value": 0}
    ]
    assert (
        np.load(study / "data/processed/test_images.npy").shape == (360, 12, 12, 1) == (360, *described["image_shape"])
    )
    with Image.open(study / "reports/data/operations.png") as figure:
        assert figure.format == "PNG"
