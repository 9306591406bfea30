"""What a run says about where it came from: the digests that DVC has too, the machine, the code."""

import hashlib
import importlib
import importlib.metadata
import json
import platform
from pathlib import Path

import pytest

from cotejo.lineage.digests import compute_dvc_digest, load_lock
from cotejo.lineage.tags import MAX_TAG_LENGTH, digest_code, digest_params, find_gpu_names, join_entries, parse_entries
from warm import WarmProcess


def read_tags(run):
    return [parse_entries(run.data.tags.get(kind, "")) for kind in ("deps", "outs")]


def read_lineage(pipeline, run, folder):
    return json.loads(Path(pipeline.client.download_artifacts(run.info.run_id, "lineage.json", folder)).read_text())


def test_digests_of_files_and_folders_are_those_that_dvc_writes(made):
    locked = load_lock(made.folder)
    digests = {path: digest for stage in locked.values() for path, digest in {**stage.deps, **stage.outs}.items()}
    assert {"data/raw", "models/small", "reports/metrics/small.json", "stages/train.py"} <= digests.keys()
    assert {path: compute_dvc_digest(made.folder / path) for path in digests} == digests


@pytest.mark.parametrize("stage", ["download", "train", "compare", "tally"])
def test_a_stages_run_carries_the_digests_of_its_deps_and_outs_as_dvc_lock_has_them(made, stage):
    locked = load_lock(made.folder)[stage]
    run = made.find_run(stage)
    read = {path: digest for path, digest in locked.deps.items() if not path.startswith("stages/")}
    assert read_tags(run) == [read, locked.outs]
    assert run.data.tags["code.digest"] == digest_code(locked.deps)


@pytest.mark.parametrize("name", ["download", "train", "train seed 0"])
def test_a_run_has_at_most_15_tags_that_a_person_can_filter_by(made, name):
    run = made.find_run(name)
    session = made.client.get_run(made.find_run("train").data.tags["mlflow.parentRunId"])
    assert all(len(shown.data.tags) <= 15 for shown in (run, session))
    assert run.data.tags["dvc.stage"] == name.split()[0]


def test_lineage_json_has_every_digest_the_versions_and_the_machine(made, tmp_path):
    locked = load_lock(made.folder)["train"]
    lineage = read_lineage(made, made.find_run("train"), tmp_path)
    assert (lineage["deps"], lineage["outs"]) == (locked.deps, locked.outs)
    assert lineage["packages"]["keras"] == importlib.metadata.version("keras")
    assert lineage["cpu"]
    assert lineage["ram_gib"] > 0.1
    assert lineage["host"] == platform.node()


def test_neither_a_seeds_run_nor_the_parent_carries_the_digests_of_a_stage(made):
    seed = made.find_run("train seed 0")
    stage = made.find_run("train")
    parent = made.client.get_run(stage.data.tags["mlflow.parentRunId"])
    assert [read_tags(run) for run in (seed, parent)] == [[{}, {}]] * 2


def test_a_stages_run_has_digests_of_its_parameters_and_its_data(made):
    run = made.find_run("train")
    locked = load_lock(made.folder)["train"].params
    assert run.data.tags["params.digest"] == digest_params(locked)
    assert run.data.tags["data.digest"] == "ab" * 32
    assert made.find_run("download").data.tags["data.digest"] == "ab" * 32
    assert run.data.tags["git.dirty"] == "false"


def test_the_digest_of_parameters_is_the_sha256_of_their_sorted_json():
    values = {"lenet.epochs": 3, "base.seeds": [0, 1], "lenet.learning_rate": 1e-3}
    expected = hashlib.sha256(json.dumps(dict(sorted(values.items()))).encode()).hexdigest()
    assert digest_params(values) == expected
    assert digest_params({**values, "lenet.epochs": 4}) != expected


def test_paths_of_any_spelling_are_read_back_from_a_tag():
    digests = {
        "models/lenet": 16 * "3f" + ".dir",
        "data/café, (1).csv": 16 * "00",
        "a 0123456789abcdef0123456789abcdef/b": 16 * "9a",
        "../../pictures": 16 * "12" + ".dir",
    }
    assert parse_entries(join_entries(digests)) == digests


def test_a_tag_that_mlflow_would_cut_ends_with_a_whole_entry():
    digests = {f"reports/metrics/model-{number}.json": 16 * "3f" for number in range(500)}
    tag = join_entries(digests)
    assert len(tag) <= MAX_TAG_LENGTH == importlib.import_module("mlflow.utils.validation").MAX_TAG_VAL_LENGTH
    assert len(parse_entries(tag)) > 100
    assert parse_entries(tag).items() <= digests.items()


def test_gpus_are_named_from_what_their_driver_shows(tmp_path):
    for number, name in enumerate(["NVIDIA H100 80GB HBM3", "NVIDIA A10"]):
        (tmp_path / f"0000:0{number}:00.0").mkdir()
        (tmp_path / f"0000:0{number}:00.0/information").write_text(f"Model: \t\t {name}\nIRQ:   \t\t 31\n")
    assert find_gpu_names(tmp_path) == ["NVIDIA H100 80GB HBM3", "NVIDIA A10"]
    assert find_gpu_names(tmp_path / "none") == []


def test_a_stage_whose_dvc_yaml_is_damaged_by_then_ends_well_and_says_what_is_missing(pipeline):
    (pipeline.folder / "dvc.yaml").write_text("stages: [")
    _, printed = WarmProcess(["stages/tally.py"], pipeline.folder, pipeline.environment).communicate()
    assert "warning: not every digest of tally can be recorded" in printed
    assert pipeline.find_run("tally").info.status == "FINISHED"
