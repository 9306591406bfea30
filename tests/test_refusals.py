"""What DVC prints of a study that can't be run: what is wrong and what to do, before anything is written."""

import pytest

from copied_study import Workplace

NOWHERE = "http://127.0.0.1:9"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("lenet.epochs=0", "lenet.epochs: expected greater than or equal to 1. Received: 0."),
        # what is said of each is tested in test_params.py
        pytest.param(
            "resnet.learning_rate=-1",
            "resnet.learning_rate: expected greater than 0. Received: -1.",
            marks=pytest.mark.slow,
        ),
        pytest.param("+lenet.epochz=3", "lenet.epochz: unknown key.", marks=pytest.mark.slow),
    ],
)
def test_a_bad_override_is_refused_by_name(study, environment, override, message):
    printed = Workplace(study, environment).run("dvc", "exp", "run", "-S", override, expected=255)
    assert message in printed
    assert "Traceback" not in printed
    assert not (study / "data/raw").exists()


def test_without_network_and_mirror_download_says_what_to_do(study, environment, tmp_path):
    variables = {"HTTP_PROXY": NOWHERE, "HTTPS_PROXY": NOWHERE, "KERAS_HOME": str(tmp_path / "keras")}
    printed = Workplace(study, environment).run("dvc", "repro", "download", expected=255, **variables)
    assert "train-images-idx3-ubyte.gz could not be had." in printed
    assert "COTEJO_MIRROR" in printed
    assert "`make demo` needs no download" in printed
    assert "Traceback" not in printed
