"""The sample workflow of docs/pull-requests.md: its steps are shell, and are run as a runner runs them."""

import pytest
from ruamel.yaml import YAML

from copied_study import ROOT, Workplace, copy_study

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


def test_the_page_is_kept_whatever_a_step_before_did(steps):
    assert steps["actions/upload-artifact@v4"]["if"] == "always()"


def test_a_base_branch_without_results_is_a_note_and_no_failure(steps, tmp_path, environment):
    study = copy_study(tmp_path / "study")
    runner = Workplace(study, {**environment, "PYTHONPATH": str(study / "src")})
    runner.run("git", "branch", "origin/main")
    (study / "reports").mkdir()
    (study / "reports/comparison.md").write_text("## The report\n")
    summary = tmp_path / "summary.md"
    variables = {"GITHUB_STEP_SUMMARY": str(summary), "GITHUB_BASE_REF": "main"}
    runner.run("bash", "-e", "-c", steps["Write the summary"]["run"], **variables)
    said = summary.read_text()
    assert said.startswith("## The report\n\n\nNot compared with main:\n\n    cotejo: origin/main: expected reports/")
    assert "Received: a revision that hasn't made it" in said


def test_the_plugins_step_is_one_when_its_marks_are_taken_away():
    text = SAMPLE.read_text().replace("      # - name:", "      - name:").replace("      #   run:", "        run:")
    steps = YAML(typ="safe", pure=True).load(text)["jobs"]["report"]["steps"]
    names = [step.get("name") for step in steps]
    place = names.index("Install DVC's plugin")
    assert steps[place]["run"] == "pip --python .venv install dvc-s3"
    assert names.index("Set up") < place < names.index("Run what isn't up to date")
