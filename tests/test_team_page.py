"""What docs/team.md tells a team to type exists in the MLflow that is installed."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from mlflow import environment_variables

# MLflow's own pydantic models, when its command line is imported
pytestmark = pytest.mark.filterwarnings("ignore:.*AnyType")

PAGE = (Path(__file__).parents[1] / "docs" / "team.md").read_text()


@pytest.fixture(scope="module")
def options():
    from mlflow.cli import cli  # only here: it imports all of MLflow

    printed = CliRunner().invoke(cli, ["server", "--help"], catch_exceptions=False)
    assert printed.exit_code == 0
    return set(re.findall(r"--[a-z-]+", printed.stdout))


def test_mlflow_knows_each_option_of_the_server(options):
    (arguments,) = re.findall(r"mlflow server (.*?)\n\n", PAGE, re.DOTALL)
    told = set(re.findall(r"--[a-z-]+", arguments))
    assert {"--app-name", "--allowed-hosts", "--artifacts-destination"} <= told <= options


def test_mlflow_knows_each_variable(options):
    told = set(re.findall(r"\bMLFLOW_[A-Z_]+", PAGE))
    assert {"MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_TRACKING_URI"} <= told
    of_options = {"MLFLOW_" + option.strip("-").replace("-", "_").upper() for option in options}
    assert told <= of_options | set(vars(environment_variables))
