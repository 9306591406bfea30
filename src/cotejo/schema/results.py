"""The results of evaluate and the clocks of the stages, as their JSON files hold them: typed, strict, frozen.

A new score is computed in `cotejo.evaluation`, declared in `MeanScores`, and, if the report shows it, declared with its
column in `ModelScores` and given a heading in the report's locales.
"""

from dataclasses import dataclass, field, fields
from typing import Any, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.dataclasses import dataclass as checked_dataclass

from cotejo.errors import CotejoError
from cotejo.faults import describe_faults
from cotejo.schema.groups import List, Record

R = TypeVar("R", bound=BaseModel)
ROW = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, defer_build=True)
#: A clock's number; a whole one stays whole in the report.
Number = int | float


@checked_dataclass(frozen=True, config=ROW)
class Bin:
    """The answers whose confidence is above `low` and at most `high`: their number, mean confidence and accuracy."""

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


@checked_dataclass(frozen=True, config=ROW)
class RiskPoint:
    """The share of errors among the most confident answers; coverage is the share of images that they are."""

    coverage: float
    risk: float


@checked_dataclass(frozen=True, config=ROW)
class Corrupted:
    """The accuracy on corrupted test images, with its interval; severity 0 are the same images as they were."""

    corruption: str
    severity: int
    accuracy: float
    low: float
    high: float


class MeanScores(Record):
    """Scores of one training; of a model their means over its seeds."""

    test_accuracy: float
    test_loss: float  # mean cross-entropy on the test images, in nats
    test_macro_precision: float  # mean over the classes
    test_macro_recall: float
    test_macro_f1: float
    test_weighted_precision: float  # mean over the classes, weighted by their test images
    test_weighted_recall: float
    test_weighted_f1: float
    val_accuracy: float  # of the epoch that was kept, as all of the training's own scores
    val_cross_entropy: float
    val_loss: float  # cross-entropy with label smoothing and penalties
    train_accuracy: float
    train_cross_entropy: float
    train_loss: float
    test_ece: float  # expected calibration error
    test_ece_scaled: float  # the same after temperature scaling
    test_nll_scaled: float  # cross-entropy after temperature scaling, in nats
    temperature: float  # fitted on the validation images
    test_aurc: float  # area under the risk-coverage curve
    test_confidence_gap: float  # mean confidence minus accuracy
    test_selective_risk: float  # share of errors among the surest images
    sample_right: float  # correct answers among `sample_size` test images


class SeedMetrics(MeanScores):
    """One training."""

    seed: int
    model_sha256: str  # SHA-256 of the saved model
    epochs: int
    best_epoch: int  # epoch that was kept
    min_val_epoch: int  # epoch with the lowest cross-entropy on the validation images
    final_gap: float  # cross-entropy on validation minus on training images, last epoch
    test_corrupted_accuracy: float  # mean over all corruptions and severities


class ClassMetrics(Record):
    """Scores of one class, means over the seeds."""

    class_name: str = Field(alias="class")
    precision: float
    recall: float
    f1: float
    support: int  # test images of the class


class Confusion(Record):
    """Answers by true class (rows) and predicted class (columns), summed over the seeds."""

    class_names: List[str]
    counts: List[List[int]]

    @model_validator(mode="after")
    def _check_square(self) -> "Confusion":
        if {len(self.class_names)} != {len(self.counts), *map(len, self.counts)}:
            raise ValueError("counts with one row and column a class")
        return self


class Metrics(MeanScores):
    """`reports/metrics/<model>.json`; intervals are for new images and new seeds, with one exception."""

    test_accuracy_low: float
    test_accuracy_high: float
    test_macro_f1_low: float
    test_macro_f1_high: float
    test_loss_low: float
    test_loss_high: float
    test_confidence_gap_low: float
    test_confidence_gap_high: float
    test_selective_risk_low: float
    test_selective_risk_high: float
    val_accuracy_low: float
    val_accuracy_high: float
    test_accuracy_files_low: float  # for new images and the very same trainings
    test_accuracy_files_high: float
    temperature_low: float
    temperature_high: float
    confidence: float  # of every interval
    sample_size: int
    num_seeds: int
    parameters: int
    trainable_parameters: int
    size_bytes: int  # of the first seed's saved model
    operations: int  # floating-point operations for one image
    dvc_digest: str  # MD5 of models/<model>, as in dvc.lock and in the tags of the training's run
    per_seed: List[SeedMetrics]
    per_class: tuple[ClassMetrics, ...]
    confusion: Confusion
    reliability: List[Bin]  # bins of confidence, as trained
    reliability_scaled: List[Bin]  # bins of confidence, after temperature scaling
    risk_coverage: List[RiskPoint]
    test_corrupted_accuracy: float  # mean over all corruptions and severities
    test_corrupted_accuracy_low: float
    test_corrupted_accuracy_high: float
    robustness: List[Corrupted]

    @model_validator(mode="after")
    def _check_severities(self) -> "Metrics":
        if len({row.severity > 0 for row in self.robustness}) == 1:
            raise ValueError("robustness with rows of images as they are and rows of corrupted ones")
        return self


class ComparedSeed(Record, extra="ignore"):
    """A training, as every version of evaluate has written it."""

    seed: int
    test_accuracy: float


class ComparedMetrics(Record, extra="ignore"):
    """A model, as every version of evaluate has written it: what revisions are compared by."""

    test_accuracy: float
    test_accuracy_low: float
    test_accuracy_high: float
    confidence: float
    test_macro_f1: float
    parameters: int
    per_seed: tuple[ComparedSeed, ...]


class ServedSeed(Record, extra="ignore"):
    """A training among those that one is chosen from to serve."""

    seed: int
    model_sha256: str
    val_cross_entropy: float


class ServedMetrics(Record, extra="ignore"):
    """The trainings that one is chosen from to serve, as older and newer versions of evaluate write them too."""

    dvc_digest: str | None = None
    per_seed: List[ServedSeed]


class ServedModel(Record, extra="ignore"):
    """A model of a comparison, with the MD5 of the trainings that were compared."""

    name: str
    dvc_digest: str


class ServedDataset(Record, extra="ignore"):
    """The data of a comparison, with their SHA-256."""

    digest: str


class ServedComparison(Record, extra="ignore"):
    """`reports/comparison.json`, as far as it names the model to serve."""

    served: str
    dataset: ServedDataset
    models: tuple[ServedModel, ...]


class SeedTimes(Record, extra="ignore"):
    """Time and memory of one training."""

    seed: int
    train_time_s: Number | None = None
    epoch_time_s: Number | None = None  # median over the epochs
    images_per_s: Number | None = None
    peak_memory_bytes: Number | None = None


class StageTimes(Record, extra="ignore"):
    """`reports/timings/<stage>.json` of a training stage; older versions wrote less."""

    machine: str | None = None
    device: str | None = None
    threads: int | None = None
    per_seed: tuple[SeedTimes, ...]


class Latency(Record, extra="ignore"):
    """Times of one model's answers."""

    latency_p50_s: Number | None = None  # median time of an answer for one image
    latency_p95_s: Number | None = None  # time within which 19 of 20 answers for one image came
    throughput_images_per_s: Number | None = None  # images of a batch by the median time of its answer
    batch_size: int | None = None
    num_timed: int | None = None  # answers for one image that were timed


class ServingTimes(Record, extra="ignore"):
    """`reports/timings/evaluate.json`."""

    machine: str | None = None
    device: str | None = None
    threads: int | None = None
    per_model: dict[str, Latency] = Field(default_factory=dict)


class ScoreColumn(NamedTuple):
    """A score's column in the report.

    Attributes:
        table: Name of the table.
        place: Place among the table's columns, from the left.
        heading: Key among the locale's columns.
        form: Filter of the wording that says the number.
        digits: Number of decimals.
    """

    table: Literal["models", "trust"]
    place: int
    heading: str
    form: Literal["number", "percent", "signed_points"]
    digits: int


def _show(*column: Any) -> dict[str, ScoreColumn]:  # noqa: ANN401 - a column's values
    return {"column": ScoreColumn(*column)}


@dataclass(frozen=True)
class ModelScores:
    """Scores of a model in the order of `comparison.json`; some have lost the `test_` of the metrics' names."""

    name: str
    test_accuracy: float = field(metadata=_show("models", 1, "accuracy_interval", "percent", 2))
    test_accuracy_low: float  # for new images and new seeds, as every interval of this record but one
    test_accuracy_high: float
    test_accuracy_files_low: float  # for new images and these very trainings
    test_accuracy_files_high: float
    confidence: float  # of every interval of this record
    test_loss: float = field(metadata=_show("models", 3, "test_loss", "number", 3))
    test_loss_low: float
    test_loss_high: float
    test_macro_precision: float
    test_macro_recall: float
    test_macro_f1: float = field(metadata=_show("models", 2, "macro_f1", "number", 3))
    test_macro_f1_low: float
    test_macro_f1_high: float
    test_weighted_f1: float
    sample_right: float = field(metadata=_show("models", 4, "right", "number", 1))
    sample_size: int
    seed_spread: float | None  # standard deviation over seeds of the test accuracy; None with one
    confidence_gap: float = field(metadata=_show("trust", 1, "confidence_gap", "signed_points", 2))
    confidence_gap_low: float
    confidence_gap_high: float
    selective_risk: float = field(metadata=_show("trust", 3, "surest", "percent", 2))
    selective_risk_low: float
    selective_risk_high: float
    ece: float = field(metadata=_show("trust", 5, "ece", "number", 3))  # a description: few images make it too large
    ece_scaled: float = field(metadata=_show("trust", 6, "ece_scaled", "number", 3))
    nll_scaled: float = field(metadata=_show("trust", 7, "nll_scaled", "number", 3))
    temperature: float = field(metadata=_show("trust", 2, "temperature", "number", 2))
    temperature_low: float
    temperature_high: float
    aurc: float = field(metadata=_show("trust", 8, "aurc", "number", 4))
    corrupted_accuracy: float = field(metadata=_show("trust", 4, "corrupted", "percent", 1))
    corrupted_accuracy_low: float
    corrupted_accuracy_high: float
    parameters: int
    trainable_parameters: int
    size_bytes: int
    dvc_digest: str
    operations: int
    train_accuracy: float
    train_cross_entropy: float
    val_accuracy: float
    val_accuracy_low: float
    val_accuracy_high: float
    val_cross_entropy: float


def list_columns(table: str) -> dict[str, ScoreColumn]:
    """Returns the columns of a table of the report by the score's name, from the left."""
    columns = {each.name: each.metadata["column"] for each in fields(ModelScores) if each.metadata}
    by_place = sorted(columns.items(), key=lambda item: item[1].place)
    return {name: column for name, column in by_place if column.table == table}


def load_result(record: type[R], content: str | bytes, where: str, advice: str, refusal: type[CotejoError]) -> R:
    """Loads the content of a JSON file into a record; a fault raises `refusal` in one line.

    Args:
        record: The record's class.
        content: The file's content.
        where: The file's name in the message.
        advice: The message's last sentence: what to do.
        refusal: The exception.
    """
    try:
        return record.model_validate_json(content)
    except ValidationError as error:
        first, *others = describe_faults(error, record, whole=where, missing="missing.")
        more = f" Other faults: {len(others)}." if others else ""
        raise refusal(f"{where}: {first.removeprefix(f'{where}: ')}{more} {advice}") from None
