"""What a run says about where it came from: the digests that DVC has too, the machine, the code."""

import hashlib
import json

import pytest

from cotejo.tracking.dvcfiles import compute_dvc_digest, load_lock
from cotejo.tracking.lineage import DEP, OUT, digest_params, find_gpu_names, tag_key
from warm import WarmProcess


def read_tags(run):
    return {
        kind: {key.removeprefix(kind): value for key, value in run.data.tags.items() if key.startswith(kind)}
        for kind in (DEP, OUT)
    }


def test_digests_of_files_and_folders_are_those_that_dvc_writes(made):
    locked = load_lock(made.folder)
    digests = {path: digest for stage in locked.values() for path, digest in {**stage.deps, **stage.outs}.items()}
    assert {"data/raw", "models/small", "reports/metrics/small.json", "stages/train.py"} <= digests.keys()
    assert {path: compute_dvc_digest(made.folder / path) for path in digests} == digests


@pytest.mark.parametrize("stage", ["download", "train", "compare", "tally"])
def test_a_stages_run_carries_the_digests_of_its_deps_and_outs_as_dvc_lock_has_them(made, stage):
    locked = load_lock(made.folder)[stage]
    assert read_tags(made.find_run(stage)) == {DEP: locked.deps, OUT: locked.outs}


def test_neither_a_seeds_run_nor_the_parent_carries_the_digests_of_a_stage(made):
    seed = made.find_run("train seed 0")
    stage = made.find_run("train")
    parent = made.client.get_run(stage.data.tags["mlflow.parentRunId"])
    assert [read_tags(run) for run in (seed, parent)] == [{DEP: {}, OUT: {}}] * 2


def test_a_stages_run_names_its_parameters_its_data_and_the_machine(made):
    run = made.find_run("train")
    locked = load_lock(made.folder)["train"].params
    assert run.data.tags["params.digest"] == digest_params(locked)
    assert run.data.tags["data.digest"] == "ab" * 32
    assert made.find_run("download").data.tags["data.digest"] == "ab" * 32
    assert run.data.tags["cpu"]
    assert float(run.data.tags["ram_gib"]) > 0.1
    assert run.data.tags["git.dirty"] == "false"


def test_the_digest_of_parameters_is_the_sha256_of_their_sorted_json():
    values = {"lenet.epochs": 3, "base.seeds": [0, 1], "lenet.learning_rate": 1e-3}
    expected = hashlib.sha256(json.dumps(dict(sorted(values.items()))).encode()).hexdigest()
    assert digest_params(values) == expected
    assert digest_params({**values, "lenet.epochs": 4}) != expected


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("models/lenet", "out.models/lenet"),
        ("reports/metrics/lenet.json", "out.reports/metrics/lenet.json"),
        ("data/café (1).csv", "out.data/café _1_.csv"),
        ("a" * 300, "out." + "a" * 246),
        ("../../pictures", "out.../__/pictures"),
        ("/data//flowers/", "out./data/flowers"),
    ],
)
def test_a_path_becomes_a_key_that_mlflow_takes(path, key):
    from mlflow.utils.validation import _validate_tag_name

    assert tag_key(OUT, path) == key
    _validate_tag_name(key)


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
