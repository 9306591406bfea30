"""What a net's section is refused for before anything runs."""

from importlib import import_module

import pytest

from copied_study import ROOT
from cotejo.errors import ParamsError
from cotejo.models.families import FAMILIES
from cotejo.params import parse_params, read_yaml
from cotejo.schema import MIN_INPUT_SIZES


def parse(section, **changes):
    tree = read_yaml(ROOT / "params.yaml")
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


@pytest.mark.parametrize(("architecture", "family"), FAMILIES.items())
def test_the_least_input_is_the_one_that_the_family_asks_for(architecture, family):
    asked = getattr(import_module(f"cotejo.models.{family}"), "MIN_INPUT_SIZE", 8)
    assert MIN_INPUT_SIZES.get(architecture, 8) == asked
