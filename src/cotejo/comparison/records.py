"""Records of a comparison, frozen: everything that a report shows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cotejo.schema.results import Bin, Corrupted, ModelScores, RiskPoint

#: Costs by which models are compared, all of them fields of `Model`: less is better.
COSTS = ("train_time_s", "latency_p50_s", "parameters", "operations", "size_bytes", "peak_memory_bytes")


@dataclass(frozen=True)
class Seed:
    """One training: its test result, and what it measured in the epoch that was kept.

    Of the losses only plain cross-entropy: label smoothing and penalties make losses of different models incomparable.
    """

    seed: int
    test_accuracy: float
    test_loss: float
    test_ece: float
    temperature: float
    epochs: int
    best_epoch: int  # the one that was kept
    min_val_epoch: int  # the one with the lowest cross-entropy on the validation images
    test_corrupted_accuracy: float  # mean over all corruptions and severities
    final_gap: float  # of the last epoch: cross-entropy on validation minus on training images
    train_accuracy: float
    train_cross_entropy: float
    val_accuracy: float
    val_cross_entropy: float


@dataclass(frozen=True)
class Confused:
    """A true class that was often taken for another one."""

    true_class: str
    predicted_class: str
    count: int
    share: float  # of the images of the true class


@dataclass(frozen=True)
class Clock:
    """Machine and number of answers of a measured latency."""

    machine: str | None
    device: str | None
    threads: int | None
    batch_size: int
    num_timed: int  # single images


@dataclass(frozen=True)
class Model(ModelScores):
    """One model: means over its seeds, of times medians. What a clock measures, and memory, is None without a clock."""

    accuracy_gap: float  # running training accuracy minus validation accuracy of the kept epoch
    train_time_s: float | None  # for finetune with transfer-learn's, where it starts from
    train_time_low_s: float | None  # of the seed that took the shortest time
    train_time_high_s: float | None
    epoch_time_s: float | None
    images_per_s: float | None
    peak_memory_bytes: float | None  # the highest of the seeds and stages
    latency_p50_s: float | None  # of one image
    latency_p95_s: float | None
    throughput_images_per_s: float | None  # of a batch
    answers_clock: Clock | None  # of the three above; None without one
    machine: str | None  # processor and cores; None also in timings from before it was written
    device: str | None
    threads: int | None
    seeds: tuple[Seed, ...]
    confused: tuple[Confused, ...]
    class_names: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]  # rows true, columns predicted, summed over seeds
    reliability: tuple[Bin, ...]
    reliability_scaled: tuple[Bin, ...]
    risk_coverage: tuple[RiskPoint, ...]
    robustness: tuple[Corrupted, ...]
    chosen_low: float | None = None  # of the accuracy, if this model was chosen as the best of all: wider for that
    chosen_high: float | None = None


@dataclass(frozen=True)
class McNemar:
    """One training of each model on the same test images: how often only one of the two is correct."""

    seed_baseline: int
    seed_candidate: int
    only_baseline: int
    only_candidate: int
    p_value: float


@dataclass(frozen=True)
class Pair:
    """Two models on the same test images; the difference is candidate minus baseline."""

    baseline: str
    candidate: str
    num_seeds: int  # of the model that has fewer
    value: float
    low: float  # for new images and new seeds; with one seed for new images and these trainings
    high: float
    files_low: float  # for new images and these very trainings
    files_high: float
    all_low: float  # holds for one model against all others at once
    all_high: float
    p_value: float
    p_adjusted: float  # over all pairs, see `adjust_declared`: it decides
    image_share: float | None  # of the variance, that of the test images; the rest is the seeds'. None with one seed
    equivalence_p: float  # two one-sided tests at the margin
    equivalence_p_adjusted: float  # over all pairs, as above
    detectable: float | None = None  # the true difference that a study like this one would find four times in five
    detectable_high: float | None = None  # with the upper 80% bounds of the seeds' variances
    mcnemar: tuple[McNemar, ...] = ()  # a row per pair of seeds, in order


class _WithInterval:
    """A value with an interval from `low` to `high`."""

    low: float
    high: float

    @property
    def is_clear(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Claim(_WithInterval):
    """The verdict's pair by another score than accuracy: an exploratory question, candidate minus baseline."""

    baseline: float
    candidate: float
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class ClassDifference(_WithInterval):
    """The F1 score of a class for baseline and candidate; the difference is candidate minus baseline."""

    class_name: str
    support: int
    baseline: float
    candidate: float
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class GalleryImage:
    """A test image of the gallery: what it is, and what models take it for (mean probability over their seeds)."""

    index: int
    true_class: str
    predicted: Mapping[str, str]  # class by model
    confidence: Mapping[str, float]  # by model, in the predicted class


@dataclass(frozen=True)
class Finding:
    """A conclusion without words: `key` names its wording in the locales, `values` fill it in."""

    key: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Answer:
    """One question of the study and the findings that answer it."""

    question: str
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class Comparison:
    """The whole comparison: what the report shows, and nothing that it doesn't."""

    baseline: str
    candidate: str
    confidence: float  # of the differences; that of a model's own intervals is the model's
    margin: float  # accuracy that a reader would give up for a cheaper model
    verdict: Finding
    cost: tuple[Finding, ...]
    warnings: tuple[Finding, ...]
    answers: tuple[Answer, ...]
    recommendations: tuple[Finding, ...]
    notes: tuple[Finding, ...]
    models: tuple[Model, ...]
    pairs: tuple[Pair, ...]  # the verdict's first
    claims: Mapping[str, Claim]  # by score: val_cross_entropy, confidence_gap, corrupted_accuracy
    served: str  # the model that predict, export and the registry serve: the best on the validation images
    served_ties: tuple[str, ...]  # models that those images don't separate from it
    differences: tuple[ClassDifference, ...]
    fronts: Mapping[str, tuple[str, ...]]  # by cost, the models that no other beats in both accuracy and cost
    errors: Mapping[str, tuple[GalleryImage, ...]]  # by model, its most confident errors
    disagreements: tuple[GalleryImage, ...]  # of the verdict's pair: first what only the baseline classifies correctly
    dataset: Mapping[str, Any]
    facts: Mapping[str, Any]

    @property
    def is_timed(self) -> bool:
        """Whether every model has a recorded training time."""
        return all(model.train_time_s is not None for model in self.models)

    def get_model(self, name: str) -> Model:
        """Returns the row of a model that takes part."""
        return next(model for model in self.models if model.name == name)

    def get_pair(self, first: str, second: str) -> Pair:
        """Returns the pair of two models, in whichever order it was compared."""
        return next(pair for pair in self.pairs if {pair.baseline, pair.candidate} == {first, second})
