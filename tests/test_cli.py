"""The `cotejo` command: what it prints, what it changes, how it exits."""

import json
import subprocess
from functools import partial
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from command import run_cotejo
from copied_study import ROOT, copy_study
from cotejo.imports import find_sources
from cotejo.params import read_yaml

WINNER = "lenet:\n  batch_size: 64\n  learning_rate: 0.002\n  schedule:\n    name: cosine\n"
PRESENT = {"batch_size": 128, "learning_rate": 0.001, "schedule.name": "constant"}
SUMMARY = {
    "model": "lenet", "metric": "val_accuracy", "epochs": 0, "num_trials": 32, "confidence": 0.95,
    "best": {"number": 7, "value": 0.912,
             "values": {"batch_size": 64, "learning_rate": 0.002, "schedule.name": "cosine"}},
    "present": {"value": 0.9, "values": PRESENT},
    "confirmation": {
        "seeds": [100, 101], "present": [0.9, 0.9], "best": [0.909, 0.907], "gain": 0.008, "low": 0.003, "high": 0.013,
        "verdict": "real", "optimism": 0.004,
    },
    "confirm_failures": [], "num_selecting": 3000, "num_held_out": 3000,
}  # fmt: skip
#: A pipeline of one stage, with its deps to fill in.
DOWNLOAD = """stages:
  one: # the first
    cmd: python stages/download.py
    deps: {}
    params: [data.name, transfer.backbone, transfer.alpha, transfer.weights]
"""


@pytest.fixture
def study(tmp_path) -> Path:
    """A fresh copy of the study: these commands need no MLflow."""
    return copy_study(tmp_path / "study", is_tracked=False)


@pytest.fixture
def cotejo(study, environment):
    return partial(run_cotejo, cwd=study, env=environment)


@pytest.fixture
def installed(study, environment):
    """The installed command, in a process of its own."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["cotejo", *arguments], cwd=study, env=environment, capture_output=True, text=True, check=False
        )

    return run


def write_winner(study: Path, text: str = WINNER, **summary) -> None:
    (study / "reports/search").mkdir(parents=True)
    (study / "reports/search/best_params.yaml").write_text(text)
    (study / "reports/search/summary.json").write_text(json.dumps({**SUMMARY, **summary}))


def test_check_finds_no_fault_in_the_study(installed):
    done = installed("check")
    assert (done.returncode, done.stderr) == (0, "")
    assert "9 stages" in done.stdout


def test_check_reports_all_faults_at_once(cotejo, study):
    path = study / "dvc.yaml"
    text = path.read_text().replace("      - src/cotejo/models/lenet.py\n", "").replace("[base, lenet]", "[lenet]")
    path.write_text(text)
    done = cotejo("check")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 2


def test_check_says_in_one_line_what_a_section_within_a_section_can_not_be(cotejo, study):
    path = study / "params.yaml"
    path.write_text(path.read_text().replace("    momentum: 0.0 ", "    momentum: 0.9 "))
    done = cotejo("check")
    assert done.returncode == 2
    assert "  lenet.optimizer: expected momentum 0 with adam, which has its own, not 0.9" in done.stderr
    assert "params.yaml has 1 fault;" in done.stderr


def test_check_outside_a_study_says_where_to_run_it(cotejo, study):
    (study / "params.yaml").unlink()
    done = cotejo("check")
    assert done.returncode == 2
    assert done.stderr.startswith("params.yaml: expected the study's parameters")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["download", "search", "compare"])
def test_check_fix_writes_the_committed_deps_from_the_imports_alone(cotejo, study, name):
    path = study / "dvc.yaml"
    committed = path.read_bytes()
    before, head, rest = path.read_text().partition(f"\n  {name}:\n")
    body, tail, after = rest.partition("    params:")
    kept = [line for line in body.splitlines(keepends=True) if ".py" not in line or "python" in line]
    path.write_text(before + head + "".join([*kept, "      - stages/train.py\n"]) + tail + after)
    done = cotejo("check", "--fix")
    assert path.read_bytes() == committed
    assert (done.returncode, done.stderr) == (0, "")
    change, end = done.stdout.splitlines()
    assert change.startswith(f"dvc.yaml: stages.{name}.deps: added ")
    assert change.endswith("; removed stages/train.py")
    assert end.endswith("no fault found")


def test_check_fix_changes_several_stages_at_once_and_nothing_the_second_time(cotejo, study):
    path = study / "dvc.yaml"
    committed = path.read_bytes()
    path.write_text(
        path.read_text()
        .replace("      - src/cotejo/models/lenet.py\n", "", 1)
        .replace("      - stages/train.py\n", "      - stages/download.py\n      - stages/train.py\n")
        .replace("      - src/cotejo/report/wording.py\n", "")
        .replace("      - stages/compare.py\n", "      - stages/zoo.py\n")
    )
    assert cotejo("check", "--fix").stdout.splitlines()[:-1] == [
        "dvc.yaml: stages.train-lenet.deps: added src/cotejo/models/lenet.py; removed stages/download.py",
        "dvc.yaml: stages.train-resnet.deps: removed stages/download.py",
        "dvc.yaml: stages.compare.deps: added src/cotejo/report/wording.py, stages/compare.py; removed stages/zoo.py",
    ]
    assert path.read_bytes() == committed
    state = path.stat()
    assert len(cotejo("check", "--fix").stdout.splitlines()) == 1
    assert path.stat() == state


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"def f(:\n", "line 1: expected Python source. Received: invalid syntax."),
        (b"\xff\xfe", "expected Python source"),
        (None, "expected Python source. Received: No such file or directory."),
    ],
)
def test_a_source_file_that_can_not_be_read_is_named_in_one_line(cotejo, study, content, said):
    script = study / "stages/download.py"
    script.unlink() if content is None else script.write_bytes(content)
    for options in ((), ("--fix",)):
        done = cotejo("check", *options)
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert "stages/download.py" in line
        assert said in line


def test_check_fix_follows_a_new_import(cotejo, study):
    script, path = study / "stages/download.py", study / "dvc.yaml"
    script.write_text(
        script.read_text().replace("from cotejo.stage", "from cotejo.data import card\nfrom cotejo.stage")
    )
    before = path.read_text().splitlines()
    assert cotejo("check", "--fix").returncode == 0
    after = path.read_text().splitlines()
    assert "      - src/cotejo/data/card.py" in after[: after.index("      - src/cotejo/data/sources.py")]
    rest = iter(after)
    assert all(line in rest for line in before)  # in their order


def test_check_fix_leaves_what_a_person_has_to_mend(cotejo, study):
    path = study / "dvc.yaml"
    committed = path.read_bytes()
    broken = path.read_text().replace("params: [base, lenet]", "params: [lenet]")
    path.write_text(broken.replace("      - src/cotejo/models/lenet.py\n", ""))
    done = cotejo("check", "--fix")
    assert done.returncode == 2
    assert done.stdout == "dvc.yaml: stages.train-lenet.deps: added src/cotejo/models/lenet.py\n"
    (fault,) = done.stderr.splitlines()
    assert "stages.train-lenet.params: expected ['base', 'lenet']" in fault
    assert path.read_bytes() == committed.replace(b"[base, lenet]", b"[lenet]")


def test_check_fix_keeps_the_form_of_a_list_and_the_comments_in_it(cotejo, study):
    path = study / "dvc.yaml"
    path.write_text(DOWNLOAD.format("[stages/download.py,  src/cotejo/data/weights.py]"))
    assert cotejo("check", "--fix").returncode == 0
    sources = sorted(find_sources(study, "python stages/download.py") - {"stages/download.py"})
    others = [name for name in sources if name != "src/cotejo/data/weights.py"]
    assert "src/cotejo/data/sources.py" in others
    assert path.read_text() == DOWNLOAD.format(f"[{', '.join(others)}, stages/download.py, src/cotejo/data/weights.py]")
    lines = "\n    # the script\n    - stages/download.py # this one\n    # the end"
    path.write_text(DOWNLOAD.format(lines))
    assert cotejo("check", "--fix").returncode == 0
    added = "".join(f"\n    - {name}" for name in sources)
    assert path.read_text() == DOWNLOAD.format(lines.replace("\n    - s", f"{added}\n    - s"))


def test_check_fix_writes_nothing_where_two_stages_share_a_list(cotejo, study):
    path = study / "dvc.yaml"
    text = DOWNLOAD.format("&shared [stages/download.py]")
    path.write_text(
        text
        + text.partition("stages:\n")[2].replace("  one:", "  two:").replace("&shared [stages/download.py]", "*shared")
    )
    before = path.read_bytes()
    done = cotejo("check", "--fix")
    assert done.returncode == 2
    first, *faults = done.stderr.splitlines()
    assert first.startswith("dvc.yaml: expected for each stage a list of deps of its own")
    assert len(faults) == 2 * (len(find_sources(study, "python stages/download.py")) - 1)
    assert path.read_bytes() == before
    assert list(study.glob(".part*")) == []


def test_best_shows_the_gain_and_the_changes_and_changes_nothing(cotejo, study):
    write_winner(study)
    before = (study / "params.yaml").read_text()
    done = cotejo("best")
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "The search found better settings: validation accuracy 0.80 points higher with two fresh seeds on 3,000 "
        "held-out images (95% interval +0.30 to +1.30; above 0 is better).",
        "The search measured 91.20% for its winner; with fresh seeds it is 90.80% on average on held-out images. The "
        "0.40 points between them were luck of trainings and images: the best of many trials looks better than it is.",
        "In the search, validation accuracy: 90.00% with the declared values, 91.20% in trial 7.",
        "  lenet.batch_size: 128 -> 64",
        "  lenet.learning_rate: 0.001 -> 0.002",
        "  lenet.schedule.name: constant -> cosine",
    ]
    assert (study / "params.yaml").read_text() == before


def test_best_apply_changes_the_values_and_keeps_every_comment(cotejo, study):
    write_winner(study)
    before = (study / "params.yaml").read_text().splitlines()
    assert cotejo("best", "--apply").returncode == 0
    after = (study / "params.yaml").read_text().splitlines()
    changed = [new for old, new in zip(before, after, strict=True) if old != new]
    assert [line.split("#")[0].strip() for line in changed] == [
        "batch_size: 64",
        "learning_rate: 0.002",
        "name: cosine",
    ]
    assert all("#" in line for line in changed)
    assert "nothing was written" in cotejo("best", "--apply").stdout
    assert (study / "params.yaml").read_text().splitlines() == after


def test_best_says_when_the_present_values_have_won(cotejo, study):
    present = "lenet:\n  batch_size: 128\n  learning_rate: 0.001\n"
    write_winner(study, present, best={"number": 0, "value": 0.9, "values": PRESENT}, confirmation=None)
    before = (study / "params.yaml").read_text()
    done = cotejo("best", "--apply")
    assert done.returncode == 0
    assert done.stdout.startswith("The declared values are the best found: none of the 31 other trials")
    assert "nothing was written" in done.stdout
    assert (study / "params.yaml").read_text() == before


def test_best_says_what_has_been_changed_since_the_search(cotejo, study):
    write_winner(study)
    path = study / "params.yaml"
    path.write_text(path.read_text().replace("  batch_size: 128 ", "  batch_size: 32 ", 1))
    assert "since the search: lenet.batch_size was 128, it is 32 now." in cotejo("best").stdout


def test_best_says_that_the_search_was_on_other_images(cotejo, study):
    write_winner(study)
    lock = read_yaml(ROOT / "dvc.lock")
    YAML().dump(lock, study / "dvc.lock")
    assert "other images" not in cotejo("best").stdout
    (made,) = [out for out in lock["stages"]["preprocess"]["outs"] if out["path"] == "data/processed"]
    made["md5"] = f"{'0' * 32}.dir"
    YAML().dump(lock, study / "dvc.lock")
    assert "The search was run on other images than the study has now: `dvc repro search`" in cotejo("best").stdout


def test_best_refuses_a_parameter_that_the_study_does_not_have(cotejo, study):
    write_winner(study, "lenet:\n  optimizer:\n    warmth: 3\n")
    before = (study / "params.yaml").read_text()
    done = cotejo("best", "--apply")
    assert done.returncode == 2
    assert "expected parameters that params.yaml has. Received: lenet.optimizer.warmth." in done.stderr
    assert (study / "params.yaml").read_text() == before


def test_best_apply_refuses_a_value_that_the_schema_refuses(cotejo, study):
    write_winner(study, "lenet:\n  batch_size: 0\n")
    before = (study / "params.yaml").read_text()
    done = cotejo("best", "--apply")
    assert done.returncode == 2
    assert "lenet.batch_size: expected greater than or equal to 1. Received: 0." in done.stderr
    assert (study / "params.yaml").read_text() == before
    assert sorted(path.name for path in study.glob(".params*")) == []


def test_best_before_any_search_says_what_to_run(installed):
    done = installed("best")
    assert done.returncode == 2
    assert "Run `dvc repro search` first." in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "Missing argument 'REV_OR_EXP...'"),
        (("main", "--model", "lenett"), "'lenett' is not one of 'lenet', 'resnet', 'transfer', 'finetune'"),
        (("main", "--format", "html"), "'html' is not one of 'table', 'markdown', 'json'"),
    ],
)
def test_compare_says_what_it_can_be_asked(cotejo, arguments, said):
    done = cotejo("compare", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_compare_in_a_study_without_results_says_what_to_run(cotejo):
    done = cotejo("compare", "workspace")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("cotejo: workspace: expected reports/metrics/lenet.json in its dvc.lock.")
    assert done.stderr.endswith("Run `dvc repro evaluate`.\n")
