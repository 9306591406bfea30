"""What preprocess.operations is refused for before anything runs."""

import pytest

from copied_study import ROOT
from cotejo.errors import DataError, ParamsError
from cotejo.params import load_params, parse_params, read_yaml
from cotejo.schema.operations import OPERATIONS, parse_operations

RESIZE = {"name": "resize", "height": 16, "width": 24, "interpolation": "area", "keep_aspect": True, "pad_value": 0}
CANNY = {"name": "canny", "low": 40, "high": 120, "aperture_size": 3, "l2_gradient": False}
GREY = {"name": "grayscale"}


def parse(*entries):
    tree = read_yaml(ROOT / "params.yaml")
    tree["preprocess"]["operations"] = list(entries)
    return parse_params(tree).preprocess.operations


def refusal(*entries):
    with pytest.raises(ParamsError) as caught:
        parse(*entries)
    head, *faults = str(caught.value).splitlines()
    assert head.startswith("params.yaml has")
    return [fault.strip() for fault in faults]


def test_the_study_declares_none():
    assert load_params(["preprocess"], ROOT / "params.yaml").preprocess.operations == ()


def test_a_list_in_order_is_accepted():
    operations = parse(RESIZE, GREY, RESIZE | {"height": 8})
    assert [operation.name for operation in operations] == ["resize", "grayscale", "resize"]


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_is_named_in_the_message_on_an_unknown_one(name):
    (fault,) = refusal(GREY, {"name": "sharpen"})
    assert fault.startswith("preprocess.operations.1: expected name to be one of 'resize', 'grayscale'")
    assert f"'{name}'" in fault
    assert fault.endswith("Received: 'sharpen'.")


def test_a_mistyped_operation_or_parameter_gets_the_nearest_name():
    (fault,) = refusal({"name": "gausian_blur", "kernel_size": 3, "sigma": 1.0})
    assert fault.endswith("Received: 'gausian_blur'. Did you mean `gaussian_blur`?")
    missing, unknown = refusal({"name": "gaussian_blur", "kernel": 3, "sigma": 1.0})
    assert missing.startswith("preprocess.operations.0.gaussian_blur.kernel_size: missing.")
    assert unknown == (
        "preprocess.operations.0.gaussian_blur.kernel: unknown key. Expected one of: kernel_size, name, sigma. "
        "Did you mean `kernel_size`?"
    )


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("grayscale", "operations.0: expected a mapping with a name or type and values of its own. Received: 'graysc"),
        ({"nam": "grayscale"}, "operations.0: expected a name. Received: {'nam': 'grayscale'}."),
        (RESIZE | {"height": 16.0}, "operations.0.resize.height: expected a valid integer. Received: 16.0."),
        (RESIZE | {"width": 0}, "operations.0.resize.width: expected greater than or equal to 1. Received: 0."),
        (RESIZE | {"interpolation": "bilinear"}, "Received: 'bilinear'. Did you mean `linear`?"),
        (RESIZE | {"keep_aspect": 1}, "operations.0.resize.keep_aspect: expected a valid boolean. Received: 1."),
        (RESIZE | {"pad_value": 256}, "operations.0.resize.pad_value: expected less than or equal to 255."),
        ({"name": "median_blur", "kernel_size": 4}, "expected an odd kernel_size, which has a middle, not 4."),
        (CANNY | {"low": 120}, "operations.0.canny: expected low below high, not low 120 and high 120."),
        (CANNY | {"aperture_size": 4}, "operations.0.canny.aperture_size: expected 3, 5 or 7. Received: 4."),
        ({"name": "normalize", "low": 60, "high": 40}, "expected low below high, not low 60 and high 40."),
        ({"name": "clahe", "clip_limit": 0, "tiles": 8}, "clahe.clip_limit: expected greater than 0. Received: 0"),
    ],
)
def test_a_parameter_that_can_not_be_is_refused_where_it_stands(entry, said):
    (fault,) = refusal(entry)
    assert said in fault


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([GREY, GREY], "no operations.1.grayscale after operations.0.grayscale, which leaves one channel."),
        ([CANNY, RESIZE, GREY], "no operations.2.grayscale after operations.0.canny, which leaves one channel."),
        (
            [RESIZE, {"name": "median_blur", "kernel_size": 17}],
            "operations.1.median_blur.kernel_size within the 24x16 pixels (width x height) that a resize "
            "before it makes, not 17.",
        ),
        (
            [RESIZE, {"name": "clahe", "clip_limit": 2.0, "tiles": 32}],
            "operations.1.clahe.tiles of a pixel or more of the 24x16 pixels (width x height) that a resize "
            "before it makes, not 32.",
        ),
        (
            [RESIZE, {"name": "translate", "right": 0, "down": -16, "pad_value": 0}],
            "operations.1.translate to leave some of the 24x16 pixels (width x height) that a resize "
            "before it makes, not to move them "
            "by right 0 and down -16.",
        ),
    ],
)
def test_what_can_not_work_together_is_refused_before_anything_runs(entries, said):
    assert refusal(*entries) == [f"preprocess: expected {said}"]


def test_what_a_file_has_recorded_is_refused_by_its_name_where_it_is_damaged():
    with pytest.raises(
        DataError, match=r"dataset\.json: expected the operations of a study\. Received: 0\.resize\.wid"
    ):
        parse_operations([{**RESIZE, "width": "24"}], "dataset.json")
    with pytest.raises(DataError, match="Did you mean `resize`"):
        parse_operations([{"name": "resise"}], "dataset.json")
