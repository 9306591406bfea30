"""params.yaml: what is accepted, and what a user reads when something isn't."""

import copy
from itertools import takewhile
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest
from ruamel.yaml import YAML

from cotejo.errors import ParamsError
from cotejo.params import Sections, load_params, parse_params, read_yaml
from cotejo.schema.study import Params

ROOT = Path(__file__).parents[1]
SECTIONS = tuple(Params.model_fields)
#: Dimensions of a search space.
CHOICE = {"type": "choice", "choices": ["adam", "sgd"]}
MOMENTUM = {"type": "float", "low": 0.5, "high": 0.9, "when": {"optimizer.name": ["sgd"]}}
HUNDRED = {"type": "float", "low": 0.0, "high": 0.99, "step": 0.01}
TRAINED = ("lenet", "resnet", "transfer", "finetune")


@pytest.fixture(scope="module")
def committed():
    """The committed file; only to be read."""
    return read_yaml(ROOT / "params.yaml")


@pytest.fixture
def tree(committed):
    return copy.deepcopy(committed)


def change(tree, path, value):
    *parents, key = path.split(".")
    for parent in parents:
        tree = tree[parent]
    tree[key] = value


def refusal(tree):
    with pytest.raises(ParamsError) as caught:
        parse_params(tree)
    return str(caught.value)


def test_the_committed_file_is_valid():
    params = load_params(SECTIONS, ROOT / "params.yaml")
    assert params.lenet.learning_rate == 1e-3
    assert params.base.seeds[0] == 0


LINES = (ROOT / "params.yaml").read_text(encoding="utf-8").splitlines()


def leaves(node, prefix=""):
    """Yields (dotted path, comment) of each value: on the key's own line, and on lines below that hold no key."""
    for key, value in node.items():
        if hasattr(value, "items"):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            number = node.lc.key(key)[0]
            below = takewhile(lambda line: line.startswith(" " * 20), LINES[number + 1 :])
            yield f"{prefix}{key}", " ".join(line.partition("#")[2].strip() for line in (LINES[number], *below))


@pytest.fixture(scope="module")
def comments():
    """Returns the comment of each value; the first model's stand for those that the others leave out."""
    tree = YAML().load(ROOT / "params.yaml")
    comments = dict(leaves(tree))
    for path in comments:
        section, _, key = path.partition(".")
        if section in TRAINED and not comments[path]:
            first = tree[section].lc.line
            head = " ".join(line for line in LINES[first - 2 : first] if line.strip().startswith("#"))
            comments[path] = comments.get(f"lenet.{key}", "") + (head if f"{key}:" in head else "")
    return comments


def test_every_key_of_the_committed_file_has_a_comment(comments):
    # the lines of search.space are explained at its head, where the three types are
    bare = [path for path, said in comments.items() if not said and not path.startswith("search.space.")]
    assert bare == []


def choices_of(group, prefix=""):
    """Yields (dotted path, choices) of every value that the schema chooses from a list of names."""
    for key, field in group.model_fields.items():
        if hasattr(field.annotation, "model_fields"):
            yield from choices_of(field.annotation, f"{prefix}{key}.")
        elif get_origin(field.annotation) is Literal:
            yield f"{prefix}{key}", get_args(field.annotation)


@pytest.mark.parametrize(("path", "choices"), list(choices_of(Params)))
def test_a_comment_lists_every_choice_that_the_schema_knows(comments, path, choices):
    assert [choice for choice in choices if choice not in comments[path]] == []


@pytest.mark.parametrize(("backbone", "least"), [("Xception", 71), ("InceptionV3", 75), ("VGG19", 32)])
def test_a_backbone_is_refused_images_smaller_than_keras_builds_it_for(tree, backbone, least):
    tree["transfer"] |= {"backbone": backbone, "alpha": None, "input_size": least}
    assert parse_params(tree).transfer.input_size == least
    change(tree, "transfer.input_size", least - 1)
    assert str(least) in refusal(tree)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("models/finetune/seed-0/model.keras", "copy it to another folder and name the copy"),
        ("./models/lenet/seed-0/model.keras", "such as models/lenet/seed-0/model.keras, not ./models/lenet"),
        ("models/x/../transfer/seed-0/model.keras", "such as models/transfer/seed-0/model.keras, not models/x/.."),
        ("~/model.keras", "expected the plainest spelling of weights_path"),
    ],
)
def test_a_path_that_dvc_could_not_follow_is_no_backbone(tree, path, said):
    tree["transfer"] |= {"weights": f"model:{path}", "weights_path": path}
    assert said in refusal(tree)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("lenet.epochs", 0, "lenet.epochs: expected greater than or equal to 1. Received: 0."),
        ("lenet.learning_rate", -1, "lenet.learning_rate: expected greater than 0. Received: -1."),
        ("lenet.learning_rate", float("nan"), "lenet.learning_rate: expected"),
        ("lenet.learning_rate", 11, "lenet.learning_rate: expected less than or equal to 10. Received: 11."),
        ("lenet.batch_size", "64", "lenet.batch_size: expected a valid integer. Received: '64'."),
        ("lenet.batch_size", 64.0, "lenet.batch_size: expected a valid integer. Received: 64.0."),
        ("lenet.batch_size", True, "lenet.batch_size: expected a valid integer. Received: True."),
        ("lenet", None, "lenet: expected"),
        ("lenet.optimizer.name", "adm", "Did you mean `adam`?"),
        ("resnet.architecture", "resnet50", "Did you mean `resnet50_light`?"),
        ("data.name", "fashion-mnist", "Did you mean `fashion_mnist`?"),
        ("transfer.alpha", 0.3, "alpha of MobileNet to be one of 0.25, 0.5, 0.75, 1.0, not 0.3"),
        ("transfer.alpha", None, "alpha of MobileNet to be one of 0.25, 0.5, 0.75, 1.0, not null"),
        (
            "transfer.backbone",
            "VGG16",
            "transfer: expected alpha of VGG16 to be null, since it comes in one width, not",
        ),
        ("transfer.backbone", "ResNet5O", "Did you mean `ResNet50`?"),
        ("transfer.weights", "imagnet", "weights: expected imagenet, random, or model: and the path of a .keras file."),
        ("transfer.weights", "model:lenet", "the path of a .keras file. Received: 'model:lenet'."),
        (
            "transfer.weights",
            "model:models/lenet/seed-0/model.keras",
            "weights_path models/lenet/seed-0/model.keras with weights model:models/lenet/seed-0/model.keras, not ",
        ),
        ("transfer.weights_path", "data/raw", "expected weights_path data/weights with weights imagenet, not data/raw"),
        ("transfer.pooling", "mean", "transfer.pooling: expected 'average', 'max' or 'flatten'. Received: 'mean'."),
        ("transfer.dense", [256, 0], "transfer.dense.1: expected greater than or equal to 1. Received: 0."),
        ("transfer.activation", "step", "transfer: expected an activation with a gradient, not step"),
        ("transfer.l2", -1.0, "transfer.l2: expected greater than or equal to 0. Received: -1.0."),
        ("finetune.unfreeze", "index:ten", "finetune.unfreeze: expected index: and a number, such as index:100."),
        ("transfer.dropout_rate", 1.0, "transfer.dropout_rate: expected less than 1. Received: 1.0."),
        ("preprocess.validation_fraction", 0.0, "preprocess.validation_fraction: expected greater than 0."),
        ("finetune.unfreeze", 0, "finetune.unfreeze: expected greater than or equal to 1. Received: 0."),
        ("base.seeds", [], "base.seeds: expected"),
        ("base.seeds", [3, 3], "base: expected seeds that differ: [3, 3]"),
        ("base.seeds", [-1], "base.seeds.0: expected greater than or equal to 0. Received: -1."),
        ("base.threads", 0, "base.threads: expected greater than or equal to 1. Received: 0."),
        ("evaluate.confidence", 95, "evaluate.confidence: expected less than 1. Received: 95."),
        ("compare.candidate", "lenet", "baseline and candidate to differ; both are lenet"),
        ("base.precision", "bfloat16", "base.precision: expected 'float32' or 'mixed_bfloat16'. Received: 'bfloat16'."),
        (
            "lenet.optimizer.name",
            "adamax",
            "expected 'adam', 'adamw', 'sgd', 'rmsprop' or 'nadam'. Received: 'adamax'.",
        ),
        ("lenet.optimizer.clip_norm", -1.0, "clip_norm: expected greater than or equal to 0. Received: -1.0."),
        ("lenet.optimizer.weight_decay", -0.1, "weight_decay: expected greater than or equal to 0. Received: -0.1."),
        ("lenet.schedule.name", "cosin", "Did you mean `cosine`?"),
        ("lenet.schedule.factor", 1.0, "lenet.schedule.factor: expected less than 1. Received: 1.0."),
        ("lenet.early_stopping.monitor", "val_acc", "Did you mean `val_accuracy`?"),
        ("lenet.label_smoothing", 1.0, "lenet.label_smoothing: expected less than 1. Received: 1.0."),
        ("lenet.class_weights", "balance", "Did you mean `balanced`?"),
        (
            "lenet.augmentation.rotation",
            200.0,
            "augmentation.rotation: expected less than or equal to 180. Received: 200",
        ),
        ("lenet.augmentation.zoom", 1.0, "lenet.augmentation.zoom: expected less than 1. Received: 1.0."),
        ("lenet.augmentation.horizontal_flip", 1, "horizontal_flip: expected a valid boolean. Received: 1."),
        (
            "lenet.augmentation.rotate",
            15.0,
            "lenet.augmentation.rotate: unknown key. Expected one of: horizontal_flip, rotation",
        ),
        ("lenet.augmentation.rotate", 15.0, "Did you mean `rotation`?"),
        ("lenet.l2", -1e-4, "lenet.l2: expected greater than or equal to 0. Received: -0.0001."),
        ("runtime.download_timeout_s", 0, "runtime.download_timeout_s: expected greater than 0. Received: 0."),
        ("search.model", "transfer", "search.model: expected 'lenet' or 'resnet'. Received: 'transfer'."),
    ],
)
def test_a_value_out_of_range_is_refused_where_it_stands(tree, path, value, said):
    change(tree, path, value)
    message = refusal(tree)
    assert said in message
    assert message.startswith("params.yaml has")


@pytest.mark.parametrize(
    ("path", "values", "said"),
    [
        (
            "lenet.optimizer",
            {"momentum": 0.9},
            "expected momentum 0 with adam, which has its own, not 0.9; only sgd and rmsprop take one.",
        ),
        (
            "lenet.optimizer",
            {"name": "sgd", "nesterov": True},
            "expected nesterov false with sgd and momentum 0.0; it needs sgd and a momentum above 0.",
        ),
        (
            "lenet.optimizer",
            {"name": "rmsprop", "momentum": 0.9, "nesterov": True},
            "expected nesterov false with rmsprop and momentum 0.9; it needs sgd and a momentum above 0.",
        ),
        ("lenet.early_stopping", {"mode": "max"}, "expected mode min for val_loss, of which less is better, not max."),
        (
            "lenet.early_stopping",
            {"monitor": "val_accuracy"},
            "expected mode max for val_accuracy, of which more is better, not min.",
        ),
        (
            "lenet",
            {"epochs": 3, "schedule": {"name": "cosine", "warmup_epochs": 3}},
            "expected fewer schedule.warmup_epochs than epochs, not 3 of 3.",
        ),
    ],
)
def test_values_that_contradict_each_other_are_refused_in_one_line(tree, path, values, said):
    node = tree
    for key in path.split("."):
        node = node[key]
    for key, value in values.items():
        node[key] = {**node[key], **value} if isinstance(value, dict) else value
    assert refusal(tree).splitlines() == ["params.yaml has 1 fault; nothing was run.", f"  {path}: {said}"]


def test_what_a_named_choice_takes_is_accepted(tree):
    change(tree, "lenet.optimizer", {**tree["lenet"]["optimizer"], "name": "sgd", "momentum": 0.9, "nesterov": True})
    change(tree, "lenet.schedule.warmup_epochs", 99)  # of no effect unless the schedule is cosine
    del tree["search"]["space"]["schedule.name"]  # which it can be in a search
    change(tree, "lenet.early_stopping", {**tree["lenet"]["early_stopping"], "monitor": "val_accuracy", "mode": "max"})
    change(tree, "lenet.augmentation.rotation", 180)
    params = parse_params(tree)
    assert params.lenet.augmentation.is_on
    assert not params.resnet.augmentation.is_on


def test_a_search_whose_epochs_would_all_be_warm_up_is_refused(tree):
    change(tree, "lenet.schedule", {**tree["lenet"]["schedule"], "name": "cosine", "warmup_epochs": 2})
    tree["search"]["space"] = {"epochs": {"type": "int", "low": 2, "high": 10}}
    assert "search.space.epochs: expected fewer schedule.warmup_epochs than epochs, not 2 of 2." in refusal(tree)


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({"epochs": {"type": "int", "low": 5, "high": 5}}, "search.space.epochs: expected low below high"),
        ({"epochs": {"type": "int", "low": 5, "high": 2}}, "search.space.epochs: expected low below high"),
        ({"learning_rate": {"type": "float", "low": 1e-2, "high": 1e-3}}, "search.space.learning_rate: expected low"),
        (
            {"learning_rate": {"type": "float", "low": 0.0, "high": 0.1, "log": True}},
            "search.space.learning_rate: expected low above 0 on a log scale",
        ),
        ({"batch_size": {"type": "choice", "choices": []}}, "search.space.batch_size.choices: expected"),
        ({"epochz": {"type": "int", "low": 1, "high": 2}}, "Did you mean `epochs`?"),
        ({"epochs": {"type": "integer", "low": 1, "high": 2}}, "search.space.epochs: expected"),
        ({"epochs": {"type": "int", "low": 1, "high": 2, "hihg": 3}}, "search.space.epochs.hihg: unknown key"),
        ({}, "search.space: expected"),
        ({"dropout_rate": {"type": "float", "low": 0.0, "high": 0.5, "step": 0.2}}, "high to be low plus whole steps"),
        ({"dropout_rate": {"type": "float", "low": 0.1, "high": 0.5, "step": 0.1, "log": True}}, "no step beside log"),
        ({"epochs": {"type": "int", "low": 1, "high": 9, "step": 2, "log": True}}, "no step beside log, not 2"),
        ({"epochs": {"type": "int", "low": 0, "high": 9, "log": True}}, "low above 0 on a log scale, not 0"),
        ({"batch_size": {"type": "choice", "choices": [32, 64, 32]}}, "choices that differ, not [32, 64, 32]"),
        ({"epochs": {"low": 1, "high": 9}}, "search.space.epochs: expected a type: int, float or choice"),
        ({"optimizer": {"nam": CHOICE}}, "search.space.optimizer.nam: no parameter of lenet."),
        ({"optimizer": {"nam": CHOICE}}, "Did you mean `optimizer.name`?"),
        ({"optimizer": {"name": CHOICE}, "optimizer.name": CHOICE}, "each parameter once, not optimizer.name twice"),
        ({"optimizer.momentum": MOMENTUM}, "optimizer.momentum.when to name choices of a choice that stands before it"),
        (
            {"optimizer.momentum": MOMENTUM, "optimizer.name": CHOICE},
            "optimizer.momentum.when to name choices of a choice that stands before it, not optimizer.name",
        ),
        (
            {"optimizer.name": CHOICE, "optimizer.momentum": {**MOMENTUM, "when": {"optimizer.name": ["rmsprop"]}}},
            "optimizer.momentum.when to allow values that optimizer.name can have, not ['rmsprop']",
        ),
        (
            {"batch_size": {"type": "choice", "choices": [32, 64], "otherwise": 32}},
            "search.space.batch_size: expected when beside otherwise 32, which only a condition needs",
        ),
        # the present momentum is 0, which is all that adam takes
        (
            {"optimizer.name": CHOICE, "optimizer.momentum": {**MOMENTUM, "otherwise": 0.9}},
            "search.space.optimizer.name: expected momentum 0 with adam, which has its own, not 0.9",
        ),
        # in the range of its type, but not in that of the lenet section
        ({"epochs": {"type": "int", "low": 0, "high": 2}}, "search.space.epochs: expected greater than or equal to 1"),
        ({"epochs": {"type": "float", "low": 1.0, "high": 2.0}}, "search.space.epochs: expected a valid integer"),
        ({"learning_rate": {"type": "float", "low": 1.0, "high": 99.0}}, "search.space.learning_rate: expected less"),
        ({"batch_size": {"type": "choice", "choices": [32, "64"]}}, "search.space.batch_size: expected a valid"),
    ],
)
def test_a_search_space_that_could_not_be_searched_is_refused_in_one_line(tree, space, said):
    tree["search"]["space"] = space
    first, fault = refusal(tree).splitlines()
    assert first == "params.yaml has 1 fault; nothing was run."
    assert said in fault


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sampler": "grid"}, "search: expected a step or choices for learning_rate in a grid, not any number between"),
        (
            {"sampler": "grid", "space": dict.fromkeys(("dropout_rate", "label_smoothing", "l2"), HUNDRED)},
            "search: expected a grid that num_trials can finish, not 1,000,000 points in 32 trials, the first of which "
            "has the declared values; take wider steps, fewer choices, or another sampler.",
        ),
        (
            {"epochs": 5, "space": {"epochs": {"type": "int", "low": 1, "high": 9}}},
            "search: expected epochs 0 where the space has epochs, not 5; one of them sets the budget.",
        ),
        (
            {"sampler": "nsga2", "pruner": "median"},
            "search: expected pruner none with nsga2, not median: of two aims neither says when to stop.",
        ),
        (
            {"confirm_seeds": [5, 6, 5]},
            "expected confirm_seeds to be two or more that differ from each other, or none, not [5, 6, 5].",
        ),
        ({"confirm_seeds": [5]}, "or none, not [5]."),
        ({"holdout": 1.0}, "search.holdout: expected less than 1"),
        ({"holdout": -0.1}, "search.holdout: expected greater than or equal to 0"),
        (
            {"sampler": "tep"},
            "search.sampler: expected 'gp', 'tpe', 'random', 'grid', 'cmaes', 'qmc' or 'nsga2'. Received: ",
        ),
        ({"pruner": "hyperbnd"}, "Did you mean `hyperband`?"),
        ({"num_trials": 0}, "search.num_trials: expected greater than or equal to 1. Received: 0."),
        ({"parallel_trials": 0}, "search.parallel_trials: expected greater than or equal to 1. Received: 0."),
        ({"timeout_s": -1.0}, "search.timeout_s: expected greater than or equal to 0. Received: -1.0."),
        ({"confidence": 1.0}, "search.confidence: expected less than 1. Received: 1.0."),
        ({"metric": "accuracy"}, "Did you mean `val_accuracy`?"),
    ],
)
def test_a_search_that_could_not_be_run_is_refused_in_one_line(tree, changes, said):
    tree["search"].update(changes)
    first, fault = refusal(tree).splitlines()
    assert first == "params.yaml has 1 fault; nothing was run."
    assert said in fault


def test_a_conditional_dimension_is_checked_beside_the_choices_that_it_needs(tree):
    tree["search"]["space"] = {
        "optimizer": {"name": {"type": "choice", "choices": ["adam", "sgd"]}},
        "optimizer.momentum": {**MOMENTUM, "otherwise": 0.0},
        "optimizer.nesterov": {"type": "choice", "choices": [False, True], "when": {"optimizer.name": ["sgd"]}},
    }
    assert list(parse_params(tree).search.space) == ["optimizer.name", "optimizer.momentum", "optimizer.nesterov"]
    tree["search"]["space"]["optimizer.momentum"]["when"] = {"optimizer.name": ["adam"]}
    assert "search.space.optimizer.momentum: expected momentum 0 with adam" in refusal(tree)


def test_a_grid_counts_the_points_that_its_conditions_leave(tree):
    tree["search"].update(
        sampler="grid",
        num_trials=5,
        space={
            "optimizer.name": {"type": "choice", "choices": ["adam", "sgd"]},
            "optimizer.momentum": {**MOMENTUM, "step": 0.2, "otherwise": 0.0},
        },
    )
    parse_params(tree)  # adam, and sgd with each of three
    tree["search"]["num_trials"] = 4
    assert "not 4 points in 4 trials" in refusal(tree)


def test_all_faults_are_reported_at_once_each_on_a_line_of_its_own(tree):
    change(tree, "lenet.epochs", 0)
    change(tree, "lenet.learning_rate", -1)
    change(tree, "lenet.epochz", 3)
    change(tree, "resnet.batch_size", "64")
    change(tree, "search.space.epochs", {"type": "int", "low": 9, "high": 1})
    del tree["compare"]
    first, *faults = refusal(tree).splitlines()
    assert first == "params.yaml has 6 faults; nothing was run."
    assert [fault.split(":")[0].strip() for fault in faults] == [
        "lenet.epochs",
        "lenet.learning_rate",
        "lenet.epochz",
        "resnet.batch_size",
        "search.space.epochs",
        "compare",
    ]


def test_values_that_the_section_would_refuse_are_reported_with_all_other_faults(tree):
    change(tree, "resnet.epochs", 0)
    space = {"epochs": {"type": "int", "low": 0, "high": 2}, "batch_size": {"type": "choice", "choices": [0, -4]}}
    change(tree, "search.space", space)
    message = refusal(tree)
    assert message.startswith("params.yaml has")
    for fault in ("resnet.epochs", "search.space.epochs", "search.space.batch_size"):
        assert f"{fault}: expected greater than or equal to 1" in message


def test_an_unknown_key_in_the_search_space_is_answered_by_the_keys_there_are(tree):
    change(tree, "search.space.epochs", {"type": "int", "low": 1, "high": 2, "hihg": 3})
    assert "type, low, high, step, log. Did you mean `high`?" in refusal(tree)


def test_one_faulty_seed_is_one_fault(tree):
    change(tree, "base.seeds", [-1])
    assert refusal(tree).startswith("params.yaml has 1 fault;")


def test_an_unknown_key_is_answered_by_the_keys_there_are_and_the_nearest_one(tree):
    tree["lenet"]["epochz"] = 3
    assert (
        "lenet.epochz: unknown key. Expected one of: architecture, input_size, activation, pooling, "
        "batch_normalization, dropout_rate, l1, l2, epochs, batch_size, learning_rate, optimizer, schedule, "
        "early_stopping, label_smoothing, class_weights, augmentation. Did you mean `epochs`?"
    ) in refusal(tree)


def test_an_unknown_section_is_answered_by_the_nearest_one(tree):
    tree["lennet"] = {}
    assert f"lennet: unknown key. Expected one of: {', '.join(SECTIONS)}. Did you mean `lenet`?" in refusal(tree)


@pytest.mark.parametrize("missing", ["lenet", "lenet.epochs", "lenet.optimizer.name", "search.space"])
def test_what_is_missing_is_named(tree, missing):
    *parents, key = missing.split(".")
    node = tree
    for parent in parents:
        node = node[parent]
    del node[key]
    assert f"{missing}: missing. Add it" in refusal(tree)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "Received: an empty file"),
        (b"# nothing but a comment\n", "Received: an empty file"),
        (b"- lenet\n- resnet\n", "Received: a list"),
        (b"lenet: {epochs: 1\nresnet:\n", "in line 2"),
        (
            b"lenet:\n  epochs: 1\n  epochs: 2\n",
            'duplicate key "epochs" with value "2" (original value: "1") in line 3',
        ),
        (b"lenet:\n\tepochs: 1\n", "in line 2"),
        (b"base: !!python/object/apply:os.system [exit]\n", "in line 1"),
        (b"\xff\xfe\x00", "expected readable YAML"),
    ],
    ids=["empty", "comment", "list", "broken", "duplicate", "tab", "python-tag", "not-text"],
)
def test_a_file_that_is_not_a_mapping_of_sections_is_refused(tmp_path, content, said):
    file = tmp_path / "params.yaml"
    file.write_bytes(content)
    with pytest.raises(ParamsError) as caught:
        load_params(("base",), file)
    assert said in str(caught.value)
    assert str(file) in str(caught.value)


def test_a_missing_file_says_where_it_was_looked_for_and_how_to_get_it_back(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ParamsError, match=r"params\.yaml: expected the study.s parameters.*git checkout params\.yaml"
    ) as caught:
        load_params(("base",))
    assert str(tmp_path) in str(caught.value)


def test_numbers_are_read_as_dvc_reads_them(tmp_path):
    # YAML 1.1 reads the first as a string and the second as 8
    (tmp_path / "params.yaml").write_text("rate: 1e-3\nseed: 010\nswitch: no\n")
    assert read_yaml(tmp_path / "params.yaml") == {"rate": 1e-3, "seed": 10, "switch": "no"}


def test_a_stage_cannot_read_a_section_that_it_does_not_declare():
    params = load_params(("base", "lenet"), ROOT / "params.yaml")
    assert params.lenet.architecture == "lenet5"
    with pytest.raises(
        ParamsError,
        match=r"expected a section that the stage declares \(base, lenet, runtime, tracking\)\. Received: resnet\.",
    ):
        _ = params.resnet


def test_stages_see_every_section_with_its_own_type():
    types = {name: attribute.group for name, attribute in vars(Sections).items() if hasattr(attribute, "group")}
    assert types == {name: field.annotation for name, field in Params.model_fields.items()}


def test_a_net_is_read_by_its_name_and_only_if_it_is_declared():
    params = load_params(("base", "lenet"), ROOT / "params.yaml")
    assert params.get_net("lenet") is params.lenet
    with pytest.raises(ParamsError, match=r"Received: resnet\."):
        params.get_net("resnet")


def test_runtime_can_always_be_read_and_is_never_tracked():
    params = load_params(("data.name",), ROOT / "params.yaml")
    assert params.runtime.download_timeout_s > 0
    assert list(params.flatten()) == ["data.name"]


def test_flattened_values_have_the_dotted_names_that_dvc_shows(tree):
    flat = load_params(("base", "lenet"), ROOT / "params.yaml").flatten()
    assert flat["base.seeds"] == tree["base"]["seeds"]
    assert flat["lenet.optimizer.name"] == tree["lenet"]["optimizer"]["name"]
    # in the order of the file
    assert list(flat) == [
        path for path, _ in leaves(YAML().load(ROOT / "params.yaml")) if path.startswith(("base.", "lenet."))
    ]


def test_a_value_cannot_be_changed_once_read():
    params = load_params(("lenet",), ROOT / "params.yaml")
    with pytest.raises(ValueError, match="frozen"):
        params.lenet.epochs = 3


def test_a_stage_may_declare_single_keys_of_a_section(tmp_path):
    sections = load_params(["data.name", "transfer.alpha", "transfer.weights"], ROOT / "params.yaml")
    assert sections.transfer.alpha == 0.25
    assert set(sections.flatten()) == {"data.name", "transfer.alpha", "transfer.weights"}
    with pytest.raises(ParamsError, match=r"\(transfer.alpha, transfer.weights\)\. Received: transfer.epochs\."):
        _ = sections.transfer.epochs


@pytest.mark.parametrize(
    ("name", "path", "said"),
    [
        ("mnist", "photos", "data: expected path data/raw with mnist, not photos; your own has name: directory."),
        ("directory", "data/raw", "data: expected the path of your folder with name directory, not data/raw"),
        ("directory", "./photos/", "data: expected path photos, the plainest spelling, not ./photos/."),
        ("directory", "~/photos", "data: expected a path without ~, which nothing here fills in, not ~/photos."),
        ("directory", ".", "data: expected the path of a folder of images, not ., which holds the study itself."),
        (
            "directory",
            "../..",
            "data: expected the path of a folder of images, not ../.., which holds the study itself.",
        ),
        (
            "directory",
            "data",
            "data: expected the path of a folder of images alone, not data: data/raw is the study's own",
        ),
        ("directory", "data/processed", "alone, not data/processed: data/processed is the study's own"),
        ("directory", "models/lenet", "alone, not models/lenet: models is the study's own"),
        ("directory", "", "data.path: expected at least 1 character. Received: ''."),
    ],
)
def test_a_path_that_dvc_would_read_otherwise_is_refused(tree, name, path, said):
    tree["data"] |= {"name": name, "path": path}
    assert said in refusal(tree)


@pytest.mark.parametrize(
    "path", ["photos", "data/photos", "models of cars", "my photos/été", "../photos", "/data/photos", "$HOME"]
)
def test_a_folder_may_be_anywhere(tree, path):
    tree["data"] |= {"name": "directory", "path": path}
    assert parse_params(tree).data.path == path
