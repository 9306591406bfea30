"""Every revision's models in rows, and the difference of each revision from the first, by the report's statistics."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cotejo.comparison.comparison import compute_train_time
from cotejo.comparison.inputs import STAGES_OF_MODEL
from cotejo.comparison.notes import warn_of_few_seeds
from cotejo.comparison.pairs import estimate_pairs
from cotejo.comparison.predictions import check_numbers
from cotejo.comparison.records import Finding, Pair
from cotejo.comparison.verdict import DECIDED, judge_pair
from cotejo.errors import RevisionError
from cotejo.estimation.estimates import adjust_holm
from cotejo.evaluation.scores import score_correct
from cotejo.lineage.digests import LOCK_FILE, Locked, is_within
from cotejo.revisions.results import DATASET, Results

#: Folders of the study's code, in which a dep of a stage is a source file.
CODE = ("src", "stages")
MISSING = object()
#: The verdict on two revisions with the same predictions.
SAME = "same"
#: What a contrast takes from the report's record of a pair as it is.
TAKEN = ("value", "low", "high", "p_value", "p_adjusted", "equivalence_p", "equivalence_p_adjusted", "num_seeds")


class _Tested(NamedTuple):
    model: str
    pair: Pair
    is_identical: bool


@dataclass(frozen=True)
class Change:
    """A parameter of which a revision's model has another value than the first revision's; None where it has none."""

    key: str
    value: Any
    first: Any


@dataclass(frozen=True)
class RevisedModel:
    """A model as one revision has it: means over its seeds. The time is None where no clock was read."""

    model: str
    revision: str
    commit: str | None  # None for the workspace
    test_accuracy: float
    test_accuracy_low: float
    test_accuracy_high: float
    confidence: float  # of the interval around the test accuracy
    num_seeds: int
    test_macro_f1: float
    train_time_s: float | None  # for finetune with transfer-learn's, where it starts from
    parameters: int
    changes: tuple[Change, ...]  # of all stages that the model's result hangs on
    changed_sources: tuple[str, ...]  # their source files that aren't the first revision's


@dataclass(frozen=True)
class Contrast:
    """A model in two revisions on the same test images; the difference is the revision's minus the first's."""

    model: str
    revision: str
    first: str
    value: float
    low: float
    high: float
    p_value: float
    p_adjusted: float  # Holm's, over all contrasts that aren't identical; the one that decides
    equivalence_p: float  # two one-sided tests at the margin
    equivalence_p_adjusted: float  # Holm's likewise
    num_seeds: int  # of the revision that has fewer
    is_identical: bool  # nothing to test: a stage that wasn't run again makes the same bytes
    verdict: Finding
    winner: str | None  # None where it isn't decided, and where there is none


@dataclass(frozen=True)
class SideBySide:
    """Revisions side by side.

    Attributes:
        first: The revision that the others are compared with.
        revisions: All, the first one first.
        confidence: Confidence of the differences; 1 - confidence is the level of every test.
        margin: Accuracy, as a fraction, that doesn't matter.
        dataset: The name and the SHA-256 of the test images, the same for all.
        rows: By model, then by revision.
        contrasts: Differences from the first revision, by model, then by revision.
        warnings: What a reader must know before believing the numbers.
    """

    first: str
    revisions: tuple[str, ...]
    confidence: float
    margin: float
    dataset: Mapping[str, str]
    rows: tuple[RevisedModel, ...]
    contrasts: tuple[Contrast, ...]
    warnings: tuple[Finding, ...]


def build_side_by_side(found: Sequence[Results], models: Sequence[str], confidence: float, margin: float) -> SideBySide:
    """Compares every revision with the first one, model by model.

    Args:
        found: What the revisions hold, the first one first.
        models: The models to compare.
        confidence: Confidence of every difference's interval.
        margin: Accuracy, as a fraction, that doesn't matter.

    Raises:
        RevisionError: The revisions' models were tested on different images, or a number isn't there.
    """
    dataset = _check_same_images(found)
    rows = tuple(_build_row(model, results, found[0]) for model in models for results in found)
    pairs = [tested for model in models for tested in _build_pairs(model, found, confidence, margin)]
    names = tuple(results.name for results in found)
    return SideBySide(
        first=names[0],
        revisions=names,
        confidence=confidence,
        margin=margin,
        dataset=dataset,
        rows=rows,
        contrasts=tuple(_judge(tested, confidence, margin) for tested in _adjust(pairs)),
        warnings=tuple(_find_warnings(rows, found)),
    )


def _check_same_images(found: Sequence[Results]) -> dict[str, str]:
    digests = {}
    for results in found:
        try:
            digest = str(results.dataset["splits"]["test"]["digest"])
            digests[results.name] = {"name": str(results.dataset["name"]), "digest": digest}
        except (LookupError, TypeError):
            raise RevisionError(
                where=f"{results.name}: {DATASET}",
                expected="what preprocess writes",
                received="no digest of the test images",
                advice="Run `dvc repro preprocess` there",
            ) from None
    first = digests[found[0].name]
    if any(other["digest"] != first["digest"] for other in digests.values()):
        received = ", ".join(f"{name} {data['name']} {data['digest'][:8]}" for name, data in digests.items())
        raise RevisionError(
            expected="revisions tested on the same images",
            received=received,
            advice="Compare those whose data, preprocess.test_fraction and preprocess.seed agree",
        )
    return first


def _build_row(model: str, results: Results, first: Results) -> RevisedModel:
    metrics = results.metrics[model]
    # evaluate reads all models, so what came before it is followed from the model's own stage
    differing = [
        *_find_differing("evaluate", results, first, is_followed=False),
        *_find_differing(STAGES_OF_MODEL[model][-1], results, first),
    ]
    changes = {change.key: change for pair in differing for change in _compare_params(*pair)}
    sources = {path for pair in differing for path in _compare_sources(*pair)}
    return RevisedModel(
        model=model,
        revision=results.name,
        commit=results.commit,
        **metrics.model_dump(exclude={"per_seed"}),
        num_seeds=len(metrics.per_seed),
        train_time_s=compute_train_time([results.timings[stage] for stage in STAGES_OF_MODEL[model]]),
        changes=tuple(changes[key] for key in sorted(changes)),
        changed_sources=tuple(sorted(sources)),
    )


def _find_differing(
    stage: str, results: Results, first: Results, *, is_followed: bool = True
) -> Iterator[tuple[Locked, Locked]]:
    """Yields a stage of two revisions, and the stages before it whose outs differ."""
    for each in (results, first):
        if stage not in each.locked:
            raise RevisionError(
                where=each.name,
                expected=f"{stage} in its {LOCK_FILE}",
                received=", ".join(each.locked),
                advice="Run `dvc repro evaluate` there",
            )
    own, old = results.locked[stage], first.locked[stage]
    yield own, old
    read = [path for path, digest in own.deps.items() if is_followed and old.deps.get(path) != digest]
    for maker, locked in results.locked.items():
        if maker in first.locked and any(is_within(path, out) for path in read for out in locked.outs):
            yield from _find_differing(maker, results, first)


def _compare_params(own: Locked, old: Locked) -> Iterator[Change]:
    for key in dict.fromkeys([*own.params, *old.params]):
        if own.params.get(key, MISSING) != old.params.get(key, MISSING):
            yield Change(key, own.params.get(key), old.params.get(key))


def _compare_sources(own: Locked, old: Locked) -> Iterator[str]:
    for path in dict.fromkeys([*own.deps, *old.deps]):
        if path.split("/")[0] in CODE and own.deps.get(path) != old.deps.get(path):
            yield path


def _build_pairs(model: str, found: Sequence[Results], confidence: float, margin: float) -> Iterator[_Tested]:
    y_true = found[0].predictions[model]["y_true"]
    predicted = {results.name: _predict(model, results, y_true) for results in found}
    scores = {name: score_correct(rows == y_true) for name, rows in predicted.items()}
    first, *others = predicted
    for other in others:
        (pair,) = estimate_pairs({name: scores[name] for name in (first, other)}, first, other, confidence, margin)
        is_identical = np.array_equal(predicted[first], predicted[other])
        yield _Tested(
            model,
            replace(pair, low=0.0, high=0.0, p_value=1.0, equivalence_p=0.0) if is_identical else pair,
            is_identical,
        )


def _predict(model: str, results: Results, y_true: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns a revision's predicted classes, shape (num_seeds, num_samples), after checking that they can be compared.

    Of the predictions only what every version has written is asked for, so that an older revision can be compared too.
    """
    arrays = results.predictions[model]
    if not np.array_equal(arrays["y_true"], y_true):
        raise RevisionError(
            where=f"{results.name}: reports/predictions/{model}.npz",
            expected="the true classes of the first revision",
            received="others, though the test images are the same",
            advice="Run `dvc repro --force --single-item evaluate` there",
        )
    check_numbers(model, arrays, results.metrics[model], revision=results.name)
    return np.asarray(arrays["y_prob"].argmax(axis=2))


def _adjust(pairs: Sequence[_Tested]) -> Iterator[_Tested]:
    """Adjusts p over all pairs; the same predictions are no test, and mustn't make the others' p larger."""
    differing = [tested.pair for tested in pairs if not tested.is_identical]
    adjusted = zip(
        adjust_holm(np.array([pair.p_value for pair in differing])),
        adjust_holm(np.array([pair.equivalence_p for pair in differing])),
        strict=True,
    )
    for tested in pairs:
        p, equivalence_p = (1.0, 0.0) if tested.is_identical else map(float, next(adjusted))
        yield tested._replace(pair=replace(tested.pair, p_adjusted=p, equivalence_p_adjusted=equivalence_p))


def _judge(tested: _Tested, confidence: float, margin: float) -> Contrast:
    """Judges by the p values that Holm adjusted: no pair has been declared before the others."""
    model, pair, is_identical = tested
    verdict = judge_pair(pair, confidence, margin)
    if is_identical:
        verdict = Finding(SAME, verdict.values)
    return Contrast(
        model=model,
        revision=pair.candidate,
        first=pair.baseline,
        is_identical=is_identical,
        verdict=verdict,
        winner=str(verdict.values["winner"]) if verdict.key in DECIDED else None,
        **{key: getattr(pair, key) for key in TAKEN},
    )


def _find_warnings(rows: Sequence[RevisedModel], found: Sequence[Results]) -> Iterator[Finding]:
    yield from warn_of_few_seeds([(row.revision, row.num_seeds) for row in rows])
    timed = [timings for results in found for timings in results.timings.values()]
    settings = {(timings.device, timings.threads) for timings in timed}
    if len(settings) > 1 or len({timings.machine for timings in timed} - {None}) > 1:
        yield Finding("warning.machines", {})
