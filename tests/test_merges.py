"""Two branches with results of their own are merged by plain Git."""

from pathlib import Path

import pytest

from copied_study import ROOT, Workplace
from cotejo.lineage.digests import Locked, load_lock
from small_pipeline import GIT

LOCK = """schema: '2.0'
stages:
  compare:
    cmd: python stages/compare.py
    deps:
    - path: models/lenet
      md5: {lenet}
      size: 1
    - path: models/resnet
      md5: {resnet}
      size: 2
    outs:
    - path: reports/page.html
      md5: {page}
"""


@pytest.fixture
def merged(tmp_path: Path, environment: dict[str, str]) -> Workplace:
    """A folder in which one branch has trained lenet again, the other one resnet, and a merge has failed."""
    place = Workplace(tmp_path, environment)

    def commit(**digests: str) -> None:
        (tmp_path / "dvc.lock").write_text(LOCK.format(**digests))
        place.run(*GIT, "add", "--all")
        place.run(*GIT, "commit", "--quiet", "--message", "results")

    (tmp_path / ".gitattributes").write_bytes((ROOT / ".gitattributes").read_bytes())
    place.run("git", "init", "--quiet", "--initial-branch", "main")
    commit(lenet="a", resnet="a", page="a")
    place.run("git", "checkout", "--quiet", "-b", "other")
    commit(lenet="a", resnet="b", page="b")
    place.run("git", "checkout", "--quiet", "main")
    commit(lenet="c", resnet="a", page="c")
    place.run(*GIT, "merge", "other", expected=1)
    return place


def test_a_merge_never_records_results_that_nobody_has_computed(merged):
    deps = {"models/lenet": "c", "models/resnet": "a"}
    assert load_lock(merged.folder) == {
        "compare": Locked("python stages/compare.py", {}, deps, {"reports/page.html": "c"})
    }


def test_a_merge_of_two_results_is_left_to_a_person(merged):
    assert merged.run("git", "status", "--porcelain").split() == ["UU", "dvc.lock"]
