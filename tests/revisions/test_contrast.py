"""The rules of revisions side by side that a real study reaches by luck only, on planted predictions."""

import json

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from cotejo.errors import DataError, RevisionError
from cotejo.lineage.digests import Locked
from cotejo.report.wording import LANGUAGES, Wording
from cotejo.revisions.contrast import build_side_by_side
from cotejo.revisions.rendering import load_words, render
from cotejo.revisions.results import Results
from cotejo.schema.results import ComparedMetrics, StageTimes
from synthetic_study import build_inputs, load

MODELS = ("lenet", "resnet")
NUM_SAMPLES = 1000
STAGES = ("train-lenet", "train-resnet", "evaluate")


def build_results(name, errors, machine="here", test="ab" * 32, num_seeds=1, **locked):
    """A revision whose models err on these images, by model."""
    y_true = np.zeros(NUM_SAMPLES, dtype=np.int64)
    predictions, metrics = {}, {}
    for model in MODELS:
        predicted = np.zeros((num_seeds, NUM_SAMPLES), dtype=int)
        predicted[:, list(errors[model])] = 1
        predictions[model] = {"seeds": np.arange(num_seeds), "y_true": y_true, "y_prob": np.eye(2)[predicted]}
        rows = [{"seed": seed, "test_accuracy": 1 - len(errors[model]) / NUM_SAMPLES} for seed in range(num_seeds)]
        metrics[model] = {"test_accuracy": 0.9, "test_accuracy_low": 0.88, "test_accuracy_high": 0.92,
                          "confidence": 0.95, "test_macro_f1": 0.9, "parameters": 10, "per_seed": rows}  # fmt: skip
    timings = {"machine": machine, "device": "CPU", "threads": 2, "per_seed": [{"seed": 0, "train_time_s": 1.0}]}
    return Results(
        name=name, commit=None, locked={stage: Locked("", {}, {}, {}) for stage in STAGES} | locked,
        dataset={"name": "planted", "class_names": ["x", "y"], "splits": {"test": {"digest": test}}},
        metrics={name: ComparedMetrics.model_validate_json(json.dumps(table)) for name, table in metrics.items()},
        predictions=predictions,
        timings=dict.fromkeys(("train-lenet", "train-resnet"), StageTimes.model_validate_json(json.dumps(timings))),
    )  # fmt: skip


def contrast(*found, models=MODELS, margin=0.001):
    return build_side_by_side(found, models, confidence=0.95, margin=margin)


def test_what_chance_explains_among_several_comparisons_is_not_called_better():
    # 10 against 22 images that only one classifies correctly: p is 0.039, and twice that is above 0.05
    first = build_results("a", {"lenet": range(22), "resnet": range(22)})
    other = build_results("b", {"lenet": range(100, 110), "resnet": range(100, 110)})
    alone, both = contrast(first, other, models=["lenet"]), contrast(first, other)
    assert alone.contrasts[0].p_value == pytest.approx(0.0394, abs=1e-4)
    assert alone.contrasts[0].winner == "b"
    assert [found.p_adjusted for found in both.contrasts] == pytest.approx([0.0789] * 2, abs=1e-4)
    assert [found.winner for found in both.contrasts] == [None, None]
    said = render(both, "table", "en")
    assert "LeNet: Not decided. b scored 1.20 points more (95% interval 0.06 to" in said
    assert "among so many comparisons chance could explain that" in said
    assert "Holm" in said
    assert "Holm" not in render(alone, "table", "en")


@pytest.mark.parametrize(("language", "word"), [("en", "p, adjusted"), ("es", "p ajustada")])
def test_the_table_has_both_p_and_names_the_one_that_decides(language, word):
    first = build_results("a", {"lenet": range(40), "resnet": range(22)})
    other = build_results("b", {"lenet": range(100, 109), "resnet": range(100, 109)})
    found = contrast(first, other)
    own = [row.p_value for row in found.contrasts]
    adjusted = multipletests(own, method="holm")[1]
    assert [row.p_adjusted for row in found.contrasts] == pytest.approx(list(adjusted))
    assert max(adjusted) < 0.05
    assert {row.winner for row in found.contrasts} == {"b"}
    table = render(found, "markdown", language).split("\n\n")[-2].splitlines()
    assert word in table[0]
    for line, p_value, p_adjusted in zip(table[2:], own, adjusted, strict=True):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        say = Wording(language).p_value
        assert cells[4:6] == [say(p_value), say(p_adjusted)]


def test_what_only_the_other_comparisons_keep_from_being_as_good_is_not_decided():
    # the interval ends just within the margin, and Holm doubles the two one-sided tests' p
    first = build_results("a", {"lenet": range(9), "resnet": range(9)})
    other = build_results("b", {"lenet": range(100, 110), "resnet": range(100, 110)})
    margin = 1.02 * max(map(abs, (contrast(first, other).contrasts[0].low, contrast(first, other).contrasts[0].high)))
    alone, both = contrast(first, other, models=["lenet"], margin=margin), contrast(first, other, margin=margin)
    assert alone.contrasts[0].verdict.key == "verdict.equivalent"
    assert [found.winner for found in both.contrasts] == [None, None]
    assert [found.verdict.key for found in both.contrasts] == ["verdict.unclear"] * 2
    assert both.contrasts[0].equivalence_p_adjusted == pytest.approx(2 * both.contrasts[0].equivalence_p)
    assert "| not decided |" in render(both, "markdown", "en")
    assert "| sin decidir |" in render(both, "markdown", "es")


def test_a_comparison_of_equal_predictions_does_not_make_the_others_p_larger():
    first = build_results("a", {"lenet": range(22), "resnet": range(5)})
    other = build_results("b", {"lenet": range(100, 109), "resnet": range(5)})
    found = contrast(first, other).contrasts
    assert [row.winner for row in found] == ["b", None]
    assert found[0].p_adjusted == found[0].p_value


def test_what_differs_by_less_than_matters_is_called_as_good():
    first = build_results("a", {"lenet": range(9), "resnet": ()})
    other = build_results("b", {"lenet": range(100, 110), "resnet": ()})
    for margin, key in ((0.02, "verdict.equivalent"), (0.005, "verdict.unclear")):
        found = contrast(first, other, margin=margin)
        assert (found.contrasts[0].verdict.key, found.contrasts[0].winner) == (key, None)
        assert ("| as good |" in render(found, "markdown", "en")) == (margin == 0.02)


def test_a_revision_can_be_worse():
    found = contrast(build_results("a", {"lenet": range(9)}| {"resnet": ()}),
                     build_results("b", {"lenet": range(100, 140), "resnet": ()})).contrasts[0]  # fmt: skip
    assert (found.winner, found.value) == ("a", pytest.approx(-0.031))


def test_a_branch_may_be_called_like_a_model():
    wrong = {"lenet": range(9), "resnet": ()}
    worse = {"lenet": range(100, 140), "resnet": ()}
    found = contrast(build_results("resnet", wrong), build_results("lenet", worse), build_results("finetune", worse))
    assert [(row.revision, row.winner) for row in found.contrasts[:2]] == [("lenet", "resnet"), ("finetune", "resnet")]
    assert "LeNet: resnet is better than lenet, by 3.10 points" in render(found, "table", "en")


def test_times_from_other_machines_are_warned_of():
    wrong = {"lenet": range(9), "resnet": ()}
    same = contrast(build_results("a", wrong), build_results("b", wrong))
    other = contrast(build_results("a", wrong), build_results("b", wrong, machine="there"))
    assert [row.key for row in same.warnings] == ["warning.single_seed"]
    assert [row.key for row in other.warnings] == ["warning.single_seed", "warning.machines"]


def test_revisions_of_one_and_of_two_seeds_are_warned_of():
    wrong = {"lenet": range(9), "resnet": ()}
    rows = [build_results(name, wrong, num_seeds=count) for name, count in (("a", 1), ("b", 2), ("c", 3), ("d", 2))]
    found = [(row.key, row.values["models"]) for row in contrast(*rows).warnings]
    assert found == [("warning.single_seed", ["a"]), ("warning.two_seeds", ["b", "d"])]


def test_parameters_of_a_stage_before_count_where_it_has_made_something_else_to_read():
    def lock(raw, zoom, epochs):
        return {
            "preprocess": Locked("", {"preprocess.zoom": zoom}, {}, {"data": raw}),
            "train-lenet": Locked("", {"lenet.epochs": epochs}, {"data/x": raw}, {}),
        }

    wrong = {"lenet": range(9), "resnet": ()}
    first = build_results("a", wrong, **lock("old", 1, 10))
    for digest, expected in (("new", ["lenet.epochs", "preprocess.zoom"]), ("old", ["lenet.epochs"])):
        other = build_results("b", wrong, **lock(digest, 2, 20))
        assert [change.key for change in contrast(first, other, models=["lenet"]).rows[1].changes] == expected


def test_more_changes_than_fit_are_counted_and_the_json_has_all():
    wrong = {"lenet": range(9), "resnet": ()}
    stages = [Locked("", {f"lenet.p{number}": value for number in range(5)}, {}, {}) for value in (1, 2)]
    found = contrast(*(build_results(name, wrong, **{"train-lenet": stage})
                       for name, stage in zip("ab", stages, strict=True)), models=["lenet"])  # fmt: skip
    assert "lenet.p0 2 (1), lenet.p1 2 (1), lenet.p2 2 (1), and 2 more" in render(found, "markdown", "en")
    assert '"lenet.p4"' in render(found, "json", "en")


def test_predictions_of_other_images_or_trainings_than_their_revisions_are_one_line():
    first, other = (build_results(name, {"lenet": range(9), "resnet": ()}) for name in "ab")
    arrays = other.predictions["lenet"]
    arrays["y_true"] = np.ones(NUM_SAMPLES, dtype=np.int64)
    with pytest.raises(
        RevisionError, match=r"^b: reports/predictions/lenet\.npz: expected the true classes of the first"
    ):
        contrast(first, other)
    arrays["y_true"] = np.zeros(NUM_SAMPLES, dtype=np.int64)
    arrays["y_prob"] = np.roll(arrays["y_prob"], 1, axis=2)
    with pytest.raises(DataError, match=r"^b: reports/predictions/lenet\.npz: .* Received: 0: 0\.0090\.") as caught:
        contrast(first, other)
    assert str(caught.value).endswith("Run `dvc repro --force --single-item evaluate` there.")
    arrays["y_prob"][0, 0] = np.nan
    with pytest.raises(DataError, match="sum to 1 for each image"):
        contrast(first, other)


def test_the_training_time_is_the_median_over_the_seeds_of_all_stages_that_a_model_needs():
    inputs = build_inputs(num_samples=200, num_seeds=3)
    for stage, seconds in (("transfer-learn", (10, 30, 20)), ("finetune", (5, 4, 900))):
        for row, taken in zip(inputs["timings"][stage]["per_seed"], seconds, strict=True):
            row["train_time_s"] = taken
    results = build_results("a", {"lenet": (), "resnet": ()})._replace(
        locked={stage: Locked("", {}, {}, {}) for stage in (*inputs["timings"], "evaluate")},
        metrics={name: load(ComparedMetrics, content, name) for name, content in inputs["metrics"].items()},
        timings={
            stage: load(StageTimes, content, stage)
            for stage, content in inputs["timings"].items()
            if stage != "evaluate"
        },
        predictions=inputs["predictions"],
    )
    results.dataset["class_names"] = inputs["dataset"]["class_names"]
    found = contrast(results, models=["transfer", "finetune"])
    assert [row.train_time_s for row in found.rows] == [20, 25]


def test_every_word_stands_in_every_language():
    def list_keys(tree, prefix=""):
        if not isinstance(tree, dict):
            return {prefix}
        return set().union(*(list_keys(value, f"{prefix}/{key}") for key, value in tree.items()))

    assert len({frozenset(list_keys(load_words(language))) for language in LANGUAGES}) == 1
