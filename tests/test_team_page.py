"""What docs/team.md tells a team to type exists in the MLflow that is installed."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import environment_variables

PAGE = (Path(__file__).parents[1] / "docs" / "team.md").read_text()


@pytest.fixture(scope="module")
def options():
    command = [sys.executable, "-m", "mlflow", "server", "--help"]
    return set(re.findall(r"--[a-z-]+", subprocess.run(command, capture_output=True, text=True, check=True).stdout))


def test_mlflow_knows_each_option_of_the_server(options):
    (arguments,) = re.findall(r"mlflow server (.*?)\n\n", PAGE, re.DOTALL)
    told = set(re.findall(r"--[a-z-]+", arguments))
    assert {"--app-name", "--allowed-hosts", "--artifacts-destination"} <= told <= options


def test_mlflow_knows_each_variable(options):
    told = set(re.findall(r"\bMLFLOW_[A-Z_]+", PAGE))
    assert {"MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_TRACKING_URI"} <= told
    of_options = {"MLFLOW_" + option.strip("-").replace("-", "_").upper() for option in options}
    assert told <= of_options | set(vars(environment_variables))
