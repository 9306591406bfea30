"""What the measurements say: medians, ratios, targets, the ceiling. Pure numbers."""

from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, NamedTuple

#: What one process found; see the functions that run.py has measured.
Measurement = dict[str, Any]
#: Measurements by opponent, one a round.
Contest = dict[str, list[Measurement]]
#: What a measurement says that the same work took.
Cost = Callable[[Measurement], float]


class Ratio(NamedTuple):
    """How many times as fast one is as the other: the median of the rounds, the lowest, the highest."""

    median: float
    low: float
    high: float


class Target(NamedTuple):
    """A promised ratio; `measured` is None where one of the two couldn't be measured."""

    what: str
    at_least: float
    measured: Ratio | None


class Ceiling(NamedTuple):
    """What a training step's convolutions cost, beside whole steps.

    Attributes:
        dtype: What the convolutions calculate in.
        convolutions_s: The convolutions alone.
        step_s: A step of Cotejo's; None if it wasn't measured.
        keras_s: A step of plain Keras's, in float32.
    """

    dtype: str
    convolutions_s: float
    step_s: float | None
    keras_s: float


def take_train_time(measurement: Measurement) -> float:
    """The median epoch's seconds of training, without the first, which also builds the graph."""
    return median(measurement["train_times_s"][1:])


def take_whole_epoch(measurement: Measurement) -> float:
    """The median epoch's seconds, with all that comes between it and the next."""
    return median(measurement["whole_epochs_s"])


def take_total_time(measurement: Measurement) -> float:
    """The seconds of a whole training."""
    return float(measurement["total_time_s"])


def is_measured(measurements: Sequence[Measurement]) -> bool:
    """Whether an opponent took part, and could."""
    return bool(measurements) and not any("missing" in measurement for measurement in measurements)


def compute_median(measurements: Sequence[Measurement], cost: Cost) -> float:
    """Returns the median of the rounds, in seconds."""
    return median(map(cost, measurements))


def compute_ratio(contest: Contest, ours: str, theirs: str, cost: Cost) -> Ratio | None:
    """Compares two opponents round by round; None if either wasn't measured."""
    pair = contest.get(ours, []), contest.get(theirs, [])
    if not all(map(is_measured, pair)):
        return None
    ratios = [cost(other) / cost(own) for own, other in zip(*pair, strict=True)]
    return Ratio(median(ratios), min(ratios), max(ratios))


def compute_targets(contests: dict[str, Contest]) -> list[Target]:
    """Compares with the promises of the design."""

    def compare(net: str, ours: str, theirs: str) -> Ratio | None:
        return compute_ratio(contests[net], ours, theirs, take_train_time)

    transfer = compute_ratio(contests["transfer"], "cotejo", "keras", take_total_time)
    return [
        Target("LeNet against Keras `fit`", 1.5, compare("lenet", "cotejo", "keras")),
        Target("ResNet against Keras `fit`, float32", 2.0, compare("resnet", "cotejo", "keras")),
        Target("ResNet in bfloat16 against Keras `fit`", 2.5, compare("resnet", "cotejo_bfloat16", "keras")),
        Target("LeNet against PyTorch", 1.3, compare("lenet", "cotejo", "torch")),
        Target("ResNet against PyTorch, float32", 1.3, compare("resnet", "cotejo", "torch")),
        Target("transfer learning against Keras `fit`, nothing cached", 10.0, transfer),
    ]


def compute_ceilings(contest: Contest, steps_per_epoch: int) -> list[Ceiling]:
    """Compares the convolutions alone, with the batch whole or in halves, whichever is faster, with whole steps."""

    def compute_step(name: str) -> float | None:
        measurements = contest.get(name, [])
        return compute_median(measurements, take_train_time) / steps_per_epoch if is_measured(measurements) else None

    def compute_convolutions(dtype: str) -> float:
        names = ("convolutions", "convolutions_in_halves")
        return min(median(measurement[dtype] for measurement in contest[name]) for name in names)

    keras_s = compute_median(contest["keras"], take_train_time) / steps_per_epoch
    ours = {"float32": compute_step("cotejo"), "bfloat16": compute_step("cotejo_bfloat16")}
    return [Ceiling(dtype, compute_convolutions(dtype), step_s, keras_s) for dtype, step_s in ours.items()]


def compute_busy_share(measurement: Measurement, num_workers: int) -> float:
    """Returns the share of the workers' time that trials took; the rest is waiting, asking, telling, sending."""
    return float(measurement["busy_s"] / (num_workers * measurement["total_time_s"]))


def check_same_net(contest: Contest) -> None:
    """Refuses to compare nets that differ in size.

    Raises:
        SystemExit: They do, such as after a change of the net in `params.yaml`.
    """
    found = {
        name: measurement["trainable_parameters"]
        for name, measurements in contest.items()
        for measurement in measurements
        if "trainable_parameters" in measurement
    }
    if len(set(found.values())) > 1:
        raise SystemExit(f"expected the same net of each opponent. Received trainable parameters: {found}.")
