"""`cotejo compare`, with a Git repository, DVC's cache and DVC experiments that are real."""

import hashlib
import io
import json
import re
import shutil
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from threading import Thread

import numpy as np
import pytest
from ruamel.yaml import YAML
from scipy import stats
from statsmodels.stats.multitest import multipletests

from copied_study import ROOT, Workplace
from cotejo.cli import main
from revised_study import copy_revised_study, run_all

SAMPLE = ROOT / "docs/examples/report.yaml"


@pytest.fixture(scope="module")
def revised(tmp_path_factory, environment):
    """The study with its experiments; only to be read."""
    return copy_revised_study(tmp_path_factory.mktemp("revised") / "study", environment)


@pytest.fixture
def changed(revised, tmp_path):
    """A copy to change."""
    shutil.copytree(revised.folder, tmp_path / "study", symlinks=True)
    return Workplace(tmp_path / "study", revised.environment)


@pytest.fixture(scope="module")
def compared(revised):
    return json.loads(compare(revised, "main", "long", "slow_one", "pair", "--json"))


@pytest.fixture(scope="module")
def predictions(revised, tmp_path_factory):
    """By revision and model, which seeds are right where; read as a person would: each revision checked out."""
    folder = tmp_path_factory.mktemp("checked") / "study"
    shutil.copytree(revised.folder, folder, symlinks=True)
    place, commands, found = Workplace(folder, revised.environment), [], {}
    names = ("main", "long", "slow_one", "pair")
    for name in names:
        commit = find_experiment(place, name) if name in ("long", "pair") else name
        commands += [f"git checkout --quiet --force {commit}", "dvc checkout --quiet --force reports/predictions",
                     f"cp -r reports/predictions ../{name}"]  # fmt: skip
    run_all(place, "\n".join(commands))
    for name in names:
        for model in ("lenet", "resnet"):
            with np.load(folder.with_name(name) / f"{model}.npz") as arrays:
                found[name, model] = arrays["y_prob"].argmax(axis=-1) == arrays["y_true"]
    return found


def find_experiment(place, name):
    refs = place.run("git", "for-each-ref", "--format=%(refname)", "refs/exps").split()
    return place.run("git", "rev-parse", next(ref for ref in refs if ref.endswith(f"/{name}"))).strip()


def compare(place, *arguments, expected=0):
    """Returns what `cotejo compare` prints; without a process of its own, which would import DVC again each time."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(place.folder)
        patch.setattr("sys.argv", ["cotejo", "compare", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
    said = err.getvalue()
    assert ended.value.code == expected, said
    assert said.count("\n") == bool(expected), said
    assert said.startswith("cotejo: ") == bool(expected)
    return said or out.getvalue()


def set_remote(place, address, *settings, file=".dvc/config.local"):
    """Writes what `dvc remote add --default store` does."""
    core = "analytics = false\ncheck_update = false\nremote = store"
    lines = ["[core]", core, "['remote \"store\"']", f"url = {address}", *settings]
    (place.folder / file).write_text("\n".join(lines))


def find(rows, **values):
    (row,) = [row for row in rows if all(row[key] == value for key, value in values.items())]
    return row


def find_line(printed, model, revision):
    """The line of a revision's model in the first table."""
    lines = [line.replace("`", "").strip("| ") for line in printed.splitlines()]
    return next(line for line in lines if re.split(r"  +| \| ", line)[:2] == [model, revision])


def list_files(folder):
    """All that stands in a folder but what Git and DVC keep for themselves."""
    kept = [path for path in sorted(folder.rglob("*")) if path.is_file() and not {".git", "tmp"} & {*path.parts[:-1]}]
    return {str(path.relative_to(folder)): path.read_bytes() for path in kept}


def test_the_first_revision_is_what_the_others_are_compared_with(compared):
    assert (compared["first"], compared["revisions"]) == ("main", ["main", "long", "slow_one", "pair"])
    assert {contrast["first"] for contrast in compared["contrasts"]} == {"main"}
    assert [(row["model"], row["revision"]) for row in compared["rows"]] == [
        (model, name) for model in ("lenet", "resnet") for name in compared["revisions"]
    ]


def test_a_planted_difference_is_found_with_its_interval_and_p(compared, predictions):
    found = find(compared["contrasts"], model="lenet", revision="long")
    old, new = (predictions[name, "lenet"][0] for name in ("main", "long"))
    assert found["winner"] == "long"
    assert found["value"] == pytest.approx(new.mean() - old.mean())
    # Bonett and Price: an image more that only the one classifies correctly, and one that only the other does
    difference = np.append(new.astype(float) - old, [1, -1])
    error = difference.std() / np.sqrt(2002)
    interval = stats.t.interval(0.95, 1999, difference.mean(), error)
    assert (found["low"], found["high"]) == pytest.approx(interval)
    assert found["p_value"] == pytest.approx(2 * stats.t.sf(difference.mean() / error, 1999), rel=1e-4)


def test_p_is_adjusted_over_all_rows_that_differ(compared):
    tested = [found for found in compared["contrasts"] if not found["is_identical"]]
    assert len(tested) == 4
    adjusted = multipletests([found["p_value"] for found in tested], method="holm")[1]
    assert [found["p_adjusted"] for found in tested] == pytest.approx(list(adjusted))


def test_a_model_that_an_experiment_left_alone_has_the_same_predictions(compared):
    found = find(compared["contrasts"], model="resnet", revision="long")
    assert (found["value"], found["is_identical"], found["winner"]) == (0.0, True, None)
    assert found["verdict"] == {
        "key": "same", "text": "long and main have the same predictions: there is no difference to judge."
    }  # fmt: skip


def test_several_seeds_are_a_mean_and_too_small_a_difference_is_not_called_one(compared, predictions):
    row = find(compared["rows"], model="lenet", revision="pair")
    assert row["num_seeds"] == 2
    assert row["test_accuracy"] == pytest.approx(predictions["pair", "lenet"].mean())
    found = find(compared["contrasts"], model="lenet", revision="pair")
    # of two seeds and of one: new images alone
    assert (found["num_seeds"], found["winner"], found["verdict"]["key"]) == (1, None, "verdict.equivalent")


def test_a_row_names_the_parameters_that_its_model_comes_from_and_no_others(compared):
    changes = {(row["model"], row["revision"]): row["changes"] for row in compared["rows"]}
    assert changes["lenet", "long"] == [{"key": "lenet.epochs", "value": 13, "first": 10}]
    assert changes["resnet", "long"] == []
    assert changes["resnet", "slow_one"] == [{"key": "resnet.epochs", "value": 14, "first": 10}]
    assert changes["lenet", "pair"] == [{"key": "base.seeds", "value": [0, 1], "first": [0]}]


def test_source_files_that_differ_are_counted(changed):
    script = changed.folder / "stages/train.py"
    script.write_text(script.read_text() + "# changed\n")
    changed.run("dvc", "repro")
    printed = compare(changed, "main", "workspace", "--model", "lenet")
    assert "1 source file" in find_line(printed, "LeNet", "workspace")
    assert json.loads(compare(changed, "main", "workspace", "--json"))["rows"][1]["changed_sources"] == [
        "stages/train.py"
    ]


def test_the_row_has_the_times_and_scores_of_its_revision(compared):
    row = find(compared["rows"], model="resnet", revision="slow_one")
    assert (row["train_time_s"], row["parameters"], row["num_seeds"]) == (28.0, 1001, 1)
    assert find(compared["rows"], model="resnet", revision="pair")["train_time_s"] == 20.5  # of 20 s and 21 s
    assert row["test_macro_f1"] == pytest.approx(row["test_accuracy"] - 0.001)


def test_nothing_is_checked_out(revised):
    before = (
        list_files(revised.folder),
        revised.run("git", "status", "--porcelain"),
        revised.run("git", "stash", "list"),
    )
    compare(revised, "slow_one", "long", "workspace")
    assert before == (
        list_files(revised.folder), revised.run("git", "status", "--porcelain"), revised.run("git", "stash", "list")
    )  # fmt: skip


def test_what_is_read_belongs_to_the_revision_when_the_workspace_holds_another(changed, compared):
    shutil.rmtree(changed.folder / "reports")
    shutil.rmtree(changed.folder / "data")
    assert json.loads(compare(changed, "main", "long", "slow_one", "pair", "--json")) == compared


def test_a_tag_a_commit_and_head_are_revisions_too(revised, compared):
    revised_commit = revised.run("git", "rev-parse", "main").strip()
    rows = json.loads(compare(revised, revised_commit[:10], "HEAD", "slow_one~1", "workspace", "--json"))["rows"]
    assert {row["test_accuracy"] for row in rows if row["model"] == "lenet"} == {compared["rows"][0]["test_accuracy"]}
    assert [row["commit"] for row in rows[:4]] == [revised_commit] * 3 + [None]


def test_one_revision_is_a_table_without_a_comparison(revised):
    printed = compare(revised, "long")
    assert "83.05%" in find_line(printed, "LeNet", "long")
    assert "decided" not in printed.lower()
    assert "Holm" not in printed


def test_models_are_asked_for_by_name(revised):
    printed = compare(revised, "main", "slow_one", "--model", "resnet")
    assert "ResNet: slow_one is better than main, by 4.60 points of test accuracy" in printed
    assert "LeNet" not in printed


def test_all_forms_say_the_same_numbers(revised, compared):
    plain, markdown = (compare(revised, "main", "long", "slow_one", "pair", *more) for more in ((), ("--markdown",)))
    for text in (plain, markdown):
        for row in compared["rows"]:
            line = find_line(text, {"lenet": "LeNet", "resnet": "ResNet"}[row["model"]], row["revision"])
            for value in (row["test_accuracy"], row["test_accuracy_low"], row["test_accuracy_high"]):
                assert f"{100 * value:.2f}%" in line
    assert [verdict["verdict"]["text"] for verdict in compared["contrasts"]] == [
        line.partition(": ")[2] for line in plain.splitlines() if re.match("(LeNet|ResNet): ", line)
    ]


def test_markdown_has_whole_tables_and_names_as_code(revised):
    printed = compare(revised, "main", "slow_one", "--format", "markdown")
    assert printed.startswith("## `main` and `slow_one`, side by side\n")
    assert "- **ResNet:** `slow_one` is better than `main`, by 4.60 points" in printed
    tables = [block.splitlines() for block in printed.split("\n\n") if block.startswith("|")]
    assert [len(table) for table in tables] == [2 + 4, 2 + 2]
    for table in tables:
        assert len({line.count(" | ") for line in table}) == 1
        assert set(table[1]) == set("| -:")


def test_the_language_can_be_chosen_and_is_else_that_of_the_report(changed):
    spanish = compare(changed, "main", "slow_one", "--language", "es")
    assert "ResNet: slow_one es mejor que main por 4,60 puntos" in spanish
    params = changed.folder / "params.yaml"
    params.write_text(params.read_text().replace("language: en", "language: es"))
    assert compare(changed, "main", "slow_one") == spanish


def test_one_seed_is_warned_of(revised):
    assert "⚠ One training each of main and long: what follows" in compare(revised, "main", "long")


def test_other_test_images_are_refused(revised):
    printed = compare(revised, "main", "split", expected=2)
    assert (
        "expected revisions tested on the same images. Received: main planted test0000, split planted test7000."
        in printed
    )


@pytest.mark.parametrize(("name", "nearest"), [("lonk", "long"), ("slow_on", "slow_one"), ("workspac", "workspace")])
def test_an_unknown_name_is_answered_with_the_nearest(revised, name, nearest):
    printed = compare(revised, "main", name, expected=2)
    assert f"Received: {name!r}, which is none that is known. Did you mean `{nearest}`?" in printed


@pytest.mark.parametrize("name", ["", "main:params.yaml", "HEAD~99", "0123456"])
def test_what_is_no_commit_is_unknown(revised, name):
    assert "which is none that is known" in compare(revised, name, expected=2)


def test_a_name_given_twice_is_refused(revised):
    assert "expected each revision once. Received: main more often." in compare(revised, "main", "main", expected=2)


def test_an_experiment_whose_name_is_taken_twice_is_refused(changed):
    commit = find_experiment(changed, "long")
    for place in ("aa/" + 38 * "0", "bb/" + 38 * "1"):
        changed.run("git", "update-ref", f"refs/exps/{place}/twice", commit)
    assert "expected one experiment of that name. Received: twice" in compare(changed, "main", "twice", expected=2)


def test_a_revision_without_results_is_distinguished_from_one_whose_files_have_gone(changed):
    bare = compare(changed, "bare", "main", expected=2)
    assert "bare: expected reports/metrics/lenet.json in its dvc.lock. Received: a revision that hasn't made it" in bare
    shutil.rmtree(changed.folder / ".dvc/cache")
    gone = compare(changed, "main", "workspace", expected=2)
    assert "main: expected data/processed/dataset.json in Git or DVC's cache" in gone
    assert "`dvc fetch --all-commits`" in gone


def test_what_has_gone_from_the_workspace_is_named(changed):
    shutil.rmtree(changed.folder / "reports/predictions")
    printed = compare(changed, "main", "workspace", expected=2)
    assert "workspace: expected reports/predictions/lenet.npz in this folder" in printed
    assert "`dvc checkout`, or `dvc repro evaluate`" in printed


@pytest.mark.parametrize("path", ["reports/predictions/lenet.npz", "reports/metrics/lenet.json"])
def test_files_of_the_workspace_that_are_not_those_of_its_lock_are_refused(changed, path):
    file = changed.folder / path
    content = file.read_bytes()
    file.unlink()  # a link to the cache must not be written through
    file.write_bytes(content + b" ")
    printed = compare(changed, "main", "workspace", expected=2)
    assert f"workspace: expected {path.removesuffix('/lenet.npz')} as dvc.lock records it" in printed


def test_metrics_in_git_that_are_not_those_of_the_lock_are_refused(changed):
    file = changed.folder / "reports/metrics/lenet.json"
    file.write_text(file.read_text().replace("0.79", "0.99"))
    changed.run("git", "commit", "--quiet", "--all", "--message", "better numbers")
    printed = compare(changed, "slow_one", "main", expected=2)
    assert "main: expected reports/metrics/lenet.json as dvc.lock records it" in printed


def test_a_damaged_file_is_named(changed):
    content = (changed.folder / "reports/predictions/lenet.npz").read_bytes()
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    file = changed.folder / ".dvc/cache/files/md5" / digest[:2] / digest[2:]
    file.chmod(0o644)
    file.write_bytes(b"PK\x03\x04 half of it")
    assert "main: reports/predictions/lenet.npz: expected what evaluate writes" in compare(changed, "main", expected=2)


@pytest.mark.parametrize(
    ("path", "damage", "received"),
    [
        ("metrics/lenet.json", {"test_macro_f1": None}, "test_macro_f1: expected a valid number. Received: None."),
        ("metrics/lenet.json", {"per_seed": None}, "per_seed: expected a list. Received: None."),
        ("metrics/lenet.json", None, "test_accuracy: missing. Other faults: 6."),
        ("timings/train-lenet.json", {"per_seed": [{"seed": 0, "train_time_s": "long"}]},
         "per_seed.0.train_time_s: expected a valid integer, or a valid number. Received: 'long'."),
    ],
)  # fmt: skip
def test_results_of_another_form_are_one_line_that_names_file_and_key(changed, path, damage, received):
    file, lock = changed.folder / "reports" / path, changed.folder / "dvc.lock"
    before = file.read_bytes()
    after = json.dumps({} if damage is None else json.loads(before) | damage).encode()
    file.unlink()  # a link to the cache must not be written through
    file.write_bytes(after)
    old, new = (hashlib.md5(content, usedforsecurity=False).hexdigest() for content in (before, after))
    lock.write_text(lock.read_text().replace(old, new))
    stage = "evaluate" if path.startswith("metrics") else "train-lenet"
    assert f"workspace: reports/{path}: {received} Run `dvc repro {stage}` there." in compare(
        changed, "workspace", expected=2
    )


@pytest.mark.parametrize(
    ("name", "advice"),
    [("main", "Name a commit that has it whole: `git log main -- dvc.lock`"),
     ("workspace", "Restore it with `git checkout dvc.lock`")],
)  # fmt: skip
@pytest.mark.parametrize("content", [b"<<<<<<< ours\n", b"stages: \xff\xfe\n"])
def test_a_broken_lock_is_named_with_its_revision(changed, name, advice, content):
    (changed.folder / "dvc.lock").write_bytes(content)
    if name == "main":
        changed.run("git", "commit", "--quiet", "--all", "--message", "half a merge")
    printed = compare(changed, "slow_one", name, expected=2)
    assert f"cotejo: {name}: dvc.lock: expected a readable file" in printed
    assert advice in printed


@pytest.mark.parametrize(("address", "plugin"), [("ssh://a.invalid/x", "dvc-ssh"), ("s3://bucket/x", "dvc-s3")])
def test_a_remote_whose_plugin_is_missing_is_one_line_with_its_name(changed, address, plugin):
    if find_spec(plugin.replace("-", "_")):
        pytest.skip(f"{plugin} is installed")
    set_remote(changed, address)
    assert "a revision that hasn't made it" in compare(changed, "bare", "main", expected=2)
    shutil.rmtree(changed.folder / ".dvc/cache")
    printed = compare(changed, "main", "slow_one", expected=2)
    assert "main: expected data/processed/dataset.json in Git or DVC's cache" in printed
    assert f"Run `pip install {plugin}`." in printed


def test_a_remote_that_refuses_is_distinguished_from_one_that_has_nothing(changed):
    shutil.rmtree(changed.folder / ".dvc/cache")
    for status, said in ((401, "the remote `store` can't be read: ClientResponseError: 401"), (404, "none. Run `dvc")):
        with serve(status) as port:
            address = f"http://127.0.0.1:{port}/x"
            set_remote(changed, address)
            assert said in compare(changed, "main", "slow_one", expected=2)
    # nobody listens there any more
    printed = compare(changed, "main", "slow_one", expected=2)
    assert f"the remote `store` can't be read: ClientConnectorError: Cannot connect to host 127.0.0.1:{port}" in printed
    set_remote(changed, address, "auth = basic")
    assert "the remote can't be read: ConfigError: HTTP 'basic'" in compare(changed, "main", "slow_one", expected=2)


@contextmanager
def serve(status):
    """A server that answers everything so; gives its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.end_headers()

        do_HEAD = do_GET  # noqa: N815 - the name that http.server calls

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def test_outside_a_repository_it_says_where_to_run(tmp_path, revised):
    shutil.copy(revised.folder / "params.yaml", tmp_path)
    assert "expected a folder under Git and DVC" in compare(
        Workplace(tmp_path, revised.environment), "main", expected=2
    )


def test_it_never_imports_tensorflow(revised):
    script = (
        "import sys; from cotejo.cli import commands; "
        "commands(['compare', 'main', 'long', '--json'], standalone_mode=False); "
        "sys.exit(bool({'tensorflow', 'keras', 'mlflow'} & set(sys.modules)))"
    )
    revised.run("python", "-c", script)


def test_what_only_the_remote_holds_is_read_there(changed, tmp_path, compared):
    set_remote(changed, tmp_path / "store")
    changed.run("dvc", "push", "--quiet", "--all-commits")
    shutil.rmtree(changed.folder / ".dvc/cache")
    assert json.loads(compare(changed, "main", "slow_one", "--json"))["contrasts"][1]["winner"] == "slow_one"


@pytest.mark.slow
def test_the_sample_workflow_writes_the_report_and_what_the_pull_request_changes(revised, tmp_path):
    """A runner's clone: it has no cache and no branch of its own but the pull request's."""
    source, clone = tmp_path / "source", tmp_path / "clone"
    shutil.copytree(revised.folder, source, symlinks=True)
    origin = Workplace(source, revised.environment)
    set_remote(origin, tmp_path / "store", file=".dvc/config")
    origin.run("git", "commit", "--quiet", "--all", "--message", "the remote")
    origin.run("git", "switch", "--quiet", "slow_one")
    origin.run("git", "merge", "--quiet", "--no-edit", "main")
    origin.run("dvc", "push", "--quiet", "--all-commits")
    origin.run("git", "clone", "--quiet", "--branch", "slow_one", str(source), str(clone))
    runner = Workplace(clone, {**revised.environment, "PYTHONPATH": str(clone / "src")})
    (clone / "reports").mkdir(exist_ok=True)
    (clone / "reports/comparison.md").write_text("## The report\n\nIts last line.")
    steps = {step.get("name"): step for step in
             YAML(typ="safe", pure=True).load(SAMPLE)["jobs"]["report"]["steps"]}  # fmt: skip
    variables = {"GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"), "GITHUB_BASE_REF": "main"}
    # this study ends with evaluate
    repro = steps["Run what isn't up to date"]["run"].replace(" compare", " evaluate")
    assert "Running stage" not in runner.run("bash", "-e", "-c", repro, **variables)
    runner.run("bash", "-e", "-c", steps["Write the summary"]["run"], **variables)
    summary = (tmp_path / "summary.md").read_text()
    assert summary.startswith("## The report\n\nIts last line.\n\n## `origin/main` and `workspace`, side by side\n")
    assert "**ResNet:** `workspace` is better than `origin/main`, by 4.60 points" in summary
