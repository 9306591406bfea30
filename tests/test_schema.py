"""What a section is refused for before anything runs, and what its values mean."""

import copy
from decimal import Decimal
from functools import cache

import pytest
from pydantic import TypeAdapter

from copied_study import ROOT
from cotejo.errors import ParamsError
from cotejo.params import parse_params, read_yaml
from cotejo.schema.results import (
    ComparedMetrics,
    ComparedSeed,
    Metrics,
    SeedMetrics,
    ServedMetrics,
    ServedSeed,
    list_columns,
)
from cotejo.schema.searches import Dimension, Steps


@cache
def read_committed():
    """The committed file; only to be read."""
    return read_yaml(ROOT / "params.yaml")


def parse(section, **changes):
    tree = copy.deepcopy(read_committed())
    tree[section].update(changes)
    return getattr(parse_params(tree), section)


@pytest.mark.parametrize(("architecture", "least"), [("lenet5", 16), ("alexnet", 15), ("basic_cnn", 10), ("vgg", 8)])
def test_an_input_too_small_for_the_architecture_is_refused(architecture, least):
    assert parse("lenet", architecture=architecture, input_size=least).input_size == least
    with pytest.raises(ParamsError) as caught:
        parse("lenet", architecture=architecture, input_size=least - 1)
    if architecture != "vgg":  # 7 is below any input's least
        assert str(caught.value).splitlines()[1].strip() == (
            f"lenet: expected input_size of {architecture} to be at least {least}, not {least - 1}; smaller images are "
            "enlarged inside the model."
        )


@pytest.mark.parametrize("section", ["lenet", "resnet"])
def test_an_activation_that_can_not_be_trained_is_refused(section):
    with pytest.raises(ParamsError) as caught:
        parse(section, activation="step")
    expected = f"{section}: expected an activation with a gradient, not step, which can't be trained."
    assert str(caught.value).splitlines()[1].strip() == expected


STEPS = [("0.1", "0.5", "0.1"), ("0", "1", "0.05"), ("-0.3", "0.3", "0.2"), ("1e-4", "5e-4", "1e-4")]


@pytest.mark.parametrize(("low", "high", "step"), STEPS)
def test_steps_are_the_numbers_that_a_user_would_write_down(low, high, step):
    points = list(Steps(float(low), float(high), float(step)))
    count = round((float(high) - float(low)) / float(step)) + 1
    assert points == [float(Decimal(low) + place * Decimal(step)) for place in range(count)]
    assert points[-1] == float(high)


@pytest.mark.parametrize(
    ("dimension", "points"),
    [
        ({"type": "int", "low": 2, "high": 8, "step": 3}, [2, 5, 8]),
        ({"type": "int", "low": -1, "high": 1}, [-1, 0, 1]),
        ({"type": "float", "low": 0.1, "high": 0.4, "step": 0.1}, [0.1, 0.2, 0.3, 0.4]),
        ({"type": "choice", "choices": [True, "a", 2]}, [True, "a", 2]),
    ],
)
def test_a_countable_dimension_lists_its_points(dimension, points):
    assert list(TypeAdapter(Dimension).validate_python(dimension).points) == points


def test_a_range_without_steps_has_no_points():
    assert TypeAdapter(Dimension).validate_python({"type": "float", "low": 0.0, "high": 1.0}).points is None


@pytest.mark.parametrize(("metric", "direction"), [("val_accuracy", "maximize"), ("val_cross_entropy", "minimize")])
def test_a_metric_has_the_direction_in_which_it_is_better(metric, direction):
    assert parse("search", metric=metric).direction == direction


@pytest.mark.parametrize(
    ("declared", "size_bytes"),
    [(None, None), ("2GB", 2 * 10**9), ("2 gib", 2**31), ("1.5GB", 15 * 10**8), (3_000_000_000, 3 * 10**9)],
)
def test_a_memory_limit_is_a_size_with_a_unit_or_none(declared, size_bytes):
    assert parse("runtime", memory_limit=declared).memory_limit == size_bytes


@pytest.mark.parametrize("name", ["my flowers", "café-2", "a" * 250, None])
def test_mlflow_names_are_any_text_that_mlflow_takes(name):
    assert parse("tracking", experiment=name, model=name).model == name


@pytest.mark.parametrize("name", ["a/b", "models:x", "o'clock", " flowers", "", "a" * 251, "a\nb"])
def test_a_name_that_mlflow_refuses_is_refused_in_one_line(name):
    with pytest.raises(ParamsError) as caught:
        parse("tracking", model=name)
    (line,) = str(caught.value).splitlines()[1:]
    assert line.startswith("  tracking.model: expected null or a name of at most 250 characters without / : quotes")


@pytest.mark.parametrize("declared", ["1GB", "0.8 GiB", "lots", "2GB or so", "4 bananas", 8, True, [4], -3])
def test_a_memory_limit_in_which_tensorflow_does_not_fit_is_refused_in_one_line(declared):
    with pytest.raises(ParamsError) as caught:
        parse("runtime", memory_limit=declared)
    assert str(caught.value).splitlines()[1:] == [
        "  runtime.memory_limit: expected null or a size of 1.5GB or more, such as 4GB; TensorFlow alone takes most of "
        f"that. Received: {declared!r}."
    ]


@pytest.mark.parametrize(("part", "whole"), [
    (ComparedMetrics, Metrics), (ComparedSeed, SeedMetrics), (ServedMetrics, Metrics), (ServedSeed, SeedMetrics),
])  # fmt: skip
def test_what_is_read_of_other_versions_is_what_evaluate_writes(part, whole):
    assert part.model_fields.keys() <= whole.model_fields.keys()


def test_every_score_of_the_report_is_in_the_metrics():
    shown = [name for table in ("models", "trust") for name in list_columns(table)]
    assert len(shown) >= 12
    assert {name if name in Metrics.model_fields else f"test_{name}" for name in shown} <= Metrics.model_fields.keys()
