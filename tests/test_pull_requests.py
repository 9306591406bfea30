"""The sample workflow of docs/pull-requests.md: its steps are shell, and are run as a runner runs them."""

import pytest
from ruamel.yaml import YAML

from copied_study import ROOT

SAMPLE = ROOT / "docs/examples/report.yaml"


@pytest.fixture(scope="module")
def steps():
    workflow = YAML(typ="safe", pure=True).load(SAMPLE)
    assert workflow["on"] == "pull_request"
    return {step.get("name", step.get("uses")): step for step in workflow["jobs"]["report"]["steps"]}


def test_the_sample_is_not_active():
    assert not list(ROOT.glob(".github/workflows/*"))


def test_the_sample_may_only_read():
    assert YAML(typ="safe", pure=True).load(SAMPLE)["permissions"] == {"contents": "read"}


def test_the_whole_history_is_checked_out(steps):
    assert steps["actions/checkout@v4"]["with"]["fetch-depth"] == 0


def test_the_environment_is_made_by_a_target_that_the_makefile_has(steps):
    assert "make setup" in steps["Set up"]["run"]
    assert "\nsetup: " in (ROOT / "Makefile").read_text()
    assert steps["Run what isn't up to date"]["run"] == "dvc repro --pull compare"
    assert "\n  compare:\n" in (ROOT / "dvc.yaml").read_text()
