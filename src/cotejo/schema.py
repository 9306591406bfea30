"""What each section of `params.yaml` may hold: strict and frozen."""

import posixpath
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

from pydantic import (
    BaseModel,
    ByteSize,
    ConfigDict,
    Field,
    Strict,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from cotejo.operations import Operation, check_operations

T = TypeVar("T")
#: A YAML list, kept as a tuple because the schema is frozen; strict about its items all the same.
List = Annotated[tuple[T, ...], Strict(False), Field(min_length=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Count = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
NotNegative = Annotated[float, Field(ge=0)]
Seconds = Annotated[float, Field(gt=0)]
Confidence = Annotated[float, Field(ge=0.5, lt=1)]
#: What a list of choices may hold.
Scalar = bool | int | float | str
ModelName = Literal["lenet", "resnet", "transfer", "finetune"]
#: The models of the study, in the order in which every table shows them.
MODELS: tuple[ModelName, ...] = get_args(ModelName)
#: Width multipliers that the backbones are published with.
ALPHAS = {"MobileNet": (0.25, 0.5, 0.75, 1.0), "MobileNetV2": (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)}
#: Where download puts a published data set.
PUBLISHED_FOLDER = "data/raw"
OptimizerName = Literal["adam", "adamw", "sgd", "rmsprop", "nadam"]
ScheduleName = Literal["constant", "exponential", "cosine", "step", "plateau"]
Activation = Literal["relu", "leaky_relu", "prelu", "elu", "tanh", "sigmoid", "swish", "step"]
SharedArchitecture = Literal["alexnet", "vgg", "inception", "basic_cnn"]
#: Where an architecture's convolutions and poolings need more pixels than the 8 that any input may have.
MIN_INPUT_SIZES = {"lenet5": 16, "alexnet": 15, "basic_cnn": 10}
#: The least that `runtime.memory_limit` may be: TensorFlow and a small net take nearly all of it.
MIN_MEMORY = ByteSize(1_500_000_000)
#: Where less is better; of the other quantities that a training can watch, more is.
LOSSES = ("loss", "val_loss")


class Group(BaseModel):
    """A section of `params.yaml`."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)


class Base(Group):
    """What every stage with a model shares."""

    seeds: List[Seed]
    threads: Count
    precision: Literal["float32", "mixed_bfloat16"]

    @model_validator(mode="after")
    def _check_seeds_differ(self) -> "Base":
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds that differ: {list(self.seeds)} holds one twice, which would count a run twice")
        return self


class Data(Group):
    """The images under study, and what is done about those that would spoil it."""

    name: Literal["fashion_mnist", "mnist", "kmnist", "cifar10", "digits", "directory"]
    path: Annotated[str, Field(min_length=1)]
    color: Literal["auto", "grey", "rgb"]
    duplicates: Literal["drop", "keep", "fail"]
    on_bad_file: Literal["fail", "skip"]

    @model_validator(mode="after")
    def _check_path(self) -> "Data":
        if self.name != "directory" and self.path != PUBLISHED_FOLDER:
            raise ValueError(f"path {PUBLISHED_FOLDER} with {self.name}, not {self.path}; your own has name: directory")
        if self.path.startswith("~"):
            raise ValueError(f"a path without ~, which nothing here fills in, not {self.path}")
        plain = posixpath.normpath(self.path)
        if self.path != plain:  # dvc.lock would hold another spelling than dvc.yaml
            raise ValueError(f"path {plain}, the plainest spelling, not {self.path}")
        if self.name == "directory" and plain == PUBLISHED_FOLDER:
            raise ValueError(f"the path of your folder with name directory, not {plain}, which download fills")
        return self


class Preprocess(Group):
    """How the images are split, and what is done to each, in this order."""

    validation_fraction: Fraction
    test_fraction: Fraction
    seed: Seed
    operations: Annotated[tuple[Operation, ...], Strict(False)]

    @model_validator(mode="after")
    def _check_operations(self) -> "Preprocess":
        check_operations(self.operations)
        return self


class Optimizer(Group):
    """The optimizer by its Keras name; what isn't declared here, such as Adam's betas, has Keras's default."""

    name: OptimizerName
    momentum: Annotated[float, Field(ge=0, lt=1)]
    nesterov: bool
    weight_decay: NotNegative
    clip_norm: NotNegative

    @model_validator(mode="after")
    def _check_momentum(self) -> "Optimizer":
        if self.momentum and self.name not in ("sgd", "rmsprop"):
            raise ValueError(
                f"momentum 0 with {self.name}, which has its own, not {self.momentum}; only sgd and rmsprop take one"
            )
        if self.nesterov and not (self.name == "sgd" and self.momentum):
            raise ValueError(
                f"nesterov false with {self.name} and momentum {self.momentum}; it needs sgd and a momentum above 0"
            )
        return self


class Schedule(Group):
    """How the learning rate changes; a key that the named schedule doesn't use has no effect."""

    name: ScheduleName
    factor: Fraction
    interval_epochs: Count
    warmup_epochs: Annotated[int, Field(ge=0)]
    final_fraction: Annotated[float, Field(ge=0, lt=1)]


class EarlyStopping(Group):
    """Which epoch's weights are kept, and after how many epochs without a better one training stops."""

    monitor: Literal["val_loss", "val_accuracy", "loss", "accuracy"]
    mode: Literal["min", "max"]
    patience: Annotated[int, Field(ge=0)]
    min_delta: NotNegative
    restore_best: bool

    @model_validator(mode="after")
    def _check_mode(self) -> "EarlyStopping":
        expected = "min" if self.monitor in LOSSES else "max"
        if self.mode != expected:
            better = "less" if expected == "min" else "more"
            raise ValueError(f"mode {expected} for {self.monitor}, of which {better} is better, not {self.mode}")
        return self


class Augmentation(Group):
    """What is changed at random in each training image, each time that it is seen; all at 0 is none."""

    horizontal_flip: bool
    rotation: Annotated[float, Field(ge=0, le=180)]
    zoom: Annotated[float, Field(ge=0, lt=1)]
    translation: Annotated[float, Field(ge=0, lt=1)]
    erasing: Annotated[float, Field(ge=0, le=1)]

    @property
    def is_on(self) -> bool:
        """Whether any image is changed."""
        return any(self.model_dump().values())


class Training(Group):
    """What every trained model declares."""

    epochs: Count
    batch_size: Count
    learning_rate: Annotated[float, Field(gt=0, le=10)]
    optimizer: Optimizer
    schedule: Schedule
    early_stopping: EarlyStopping
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    class_weights: Literal["none", "balanced"]
    augmentation: Augmentation

    @model_validator(mode="after")
    def _check_warmup(self) -> "Training":
        if self.schedule.name == "cosine" and self.schedule.warmup_epochs >= self.epochs:
            raise ValueError(
                f"fewer schedule.warmup_epochs than epochs, not {self.schedule.warmup_epochs} of {self.epochs}"
            )
        return self


class Architecture(Group):
    """How a network is built from layers."""

    architecture: str
    input_size: Annotated[int, Field(ge=8, le=512)]
    activation: Activation
    pooling: Literal["max", "average"]
    batch_normalization: bool
    dropout_rate: Annotated[float, Field(ge=0, lt=1)]
    l1: NotNegative
    l2: NotNegative


class Net(Training, Architecture):
    """What every network that is trained from scratch declares."""

    @model_validator(mode="after")
    def _check_buildable(self) -> "Net":
        least = MIN_INPUT_SIZES.get(self.architecture, 0)
        if self.input_size < least:
            raise ValueError(
                f"input_size of {self.architecture} to be at least {least}, not {self.input_size}; smaller images are "
                "enlarged inside the model"
            )
        if self.activation == "step":
            raise ValueError("an activation with a gradient, not step, which can't be trained")
        return self


class LeNet(Net):
    """The train-lenet stage."""

    architecture: Literal["lenet5", SharedArchitecture]


class ResNet(Net):
    """The train-resnet stage."""

    architecture: Literal["resnet_small", "resnet50_light", SharedArchitecture]


class Transfer(Training):
    """The transfer-learn stage: a frozen backbone and a new head."""

    backbone: Literal["MobileNet", "MobileNetV2"]
    alpha: float
    weights: Literal["imagenet", "random"]
    input_size: Annotated[int, Field(ge=32, le=512)]
    dropout_rate: Annotated[float, Field(ge=0, lt=1)]

    @model_validator(mode="after")
    def _check_alpha(self) -> "Transfer":
        allowed = ALPHAS[self.backbone]
        if self.alpha not in allowed:
            raise ValueError(f"alpha of {self.backbone} to be one of {', '.join(map(str, allowed))}, not {self.alpha}")
        return self


class Finetune(Training):
    """The finetune stage: the transfer model with its top layers unfrozen."""

    unfreeze: Count | Annotated[str, Field(min_length=1)]


#: Of a dimension; more say that a step was mistyped.
MAX_STEPS = 10**9


class _Dimension(Group):
    """What all kinds of dimensions may declare: under which choices of others they are searched at all."""

    when: dict[str, List[Scalar]] = {}
    otherwise: Scalar | None = None

    def is_active(self, values: Mapping[str, Any]) -> bool:
        """Tells whether it is searched beside the values that have been chosen for other dimensions."""
        return all(key in values and values[key] in allowed for key, allowed in self.when.items())

    @model_validator(mode="after")
    def _check_condition(self) -> Self:
        if self.otherwise is not None and not self.when:
            raise ValueError(f"when beside otherwise {self.otherwise!r}, which only a condition needs")
        return self


class IntDimension(_Dimension):
    """A whole number between `low` and `high`, both included; on a log scale if `log`."""

    type: Literal["int"]
    low: Annotated[int, Field(ge=-(2**53), le=2**53)]
    high: Annotated[int, Field(ge=-(2**53), le=2**53)]
    step: Count = 1
    log: bool = False

    @property
    def points(self) -> Sequence[int]:
        """All values."""
        return range(self.low, self.high + 1, self.step)

    @model_validator(mode="after")
    def _check_range(self) -> Self:
        _check_range(self.low, self.high, self.step if self.step > 1 else None, log=self.log)
        return self


class Steps(Sequence[float]):
    """The numbers from `low` to `high` in steps, as a user would write them down: 0.1 + 2 * 0.1 is 0.3."""

    def __init__(self, low: float, high: float, step: float) -> None:
        self.low, self.step = Decimal(str(low)), Decimal(str(step))
        self.num_steps = int((Decimal(str(high)) - self.low) / self.step)

    def __len__(self) -> int:
        return self.num_steps + 1

    def __getitem__(self, index: Any) -> Any:  # noqa: ANN401 - a slice is none of ours
        if not 0 <= index <= self.num_steps:
            raise IndexError(index)
        return float(self.low + index * self.step)

    def __contains__(self, value: object) -> bool:
        if not isinstance(value, int | float):
            return False
        index = round((Decimal(str(value)) - self.low) / self.step)
        return 0 <= index <= self.num_steps and self[index] == value


class FloatDimension(_Dimension):
    """A number between `low` and `high`: in steps if there is a `step`, on a log scale if `log`."""

    type: Literal["float"]
    low: float
    high: float
    step: Annotated[float, Field(gt=0)] | None = None
    log: bool = False

    @property
    def points(self) -> Sequence[float] | None:
        """All values, where a step makes them countable."""
        return Steps(self.low, self.high, self.step) if self.step else None

    @model_validator(mode="after")
    def _check_range(self) -> Self:
        _check_range(self.low, self.high, self.step, log=self.log)
        return self


class ChoiceDimension(_Dimension):
    """One of the listed values."""

    type: Literal["choice"]
    choices: List[Scalar]

    @property
    def points(self) -> Sequence[Any]:
        """All values."""
        return self.choices

    @model_validator(mode="after")
    def _check_choices_differ(self) -> Self:
        if len(set(self.choices)) < len(self.choices):
            raise ValueError(f"choices that differ, not {list(self.choices)}")
        return self


def _check_range(low: float, high: float, step: float | None, *, log: bool) -> None:
    if low >= high:
        raise ValueError(f"low below high, not low {low} and high {high}")
    if log and low <= 0:
        raise ValueError(f"low above 0 on a log scale, not {low}")
    if log and step:
        raise ValueError(f"no step beside log, not {step}")
    if step and (high - low) / step > MAX_STEPS:
        raise ValueError(f"at most {MAX_STEPS:,} steps from low to high, not steps of {step}")
    if step and (Decimal(str(high)) - Decimal(str(low))) % Decimal(str(step)):
        raise ValueError(f"high to be low plus whole steps, not {high} from {low} in steps of {step}")


#: The kinds of a search dimension by the `type` that names them.
DIMENSIONS: dict[str, type[BaseModel]] = {"int": IntDimension, "float": FloatDimension, "choice": ChoiceDimension}
Dimension = Annotated[IntDimension | FloatDimension | ChoiceDimension, Field(discriminator="type")]


class Search(Group):
    """The search stage."""

    model: Literal["lenet", "resnet"]
    num_trials: Count
    timeout_s: NotNegative
    metric: Literal["val_accuracy", "val_cross_entropy"]
    epochs: Annotated[int, Field(ge=0)]
    sampler: Literal["tpe", "random", "grid", "cmaes", "qmc", "nsga2"]
    pruner: Literal["none", "median", "hyperband", "successive_halving"]
    parallel_trials: Count
    threads: Count
    seed: Seed
    confirm_seeds: Annotated[tuple[Seed, ...], Strict(False)]
    confidence: Confidence
    space: Annotated[dict[str, Dimension], Field(min_length=1)]

    @field_validator("space", mode="before")
    @classmethod
    def _flatten_space(cls, space: Any) -> Any:  # noqa: ANN401 - whatever the file holds
        """Takes `optimizer: {name: ...}` for `optimizer.name: ...`; only the former can be set by `dvc exp run -S`."""
        if not isinstance(space, Mapping):
            return space
        dimensions = list(_name_dimensions(space))
        counts = Counter(key for key, _ in dimensions)
        if twice := [key for key, count in counts.items() if count > 1]:
            raise ValueError(f"each parameter once, not {twice[0]} twice")
        return dict(dimensions)

    @property
    def direction(self) -> Literal["maximize", "minimize"]:
        """Which values of the metric are better."""
        return "maximize" if self.metric == "val_accuracy" else "minimize"

    @model_validator(mode="after")
    def _check_conditions(self) -> Self:
        known: dict[str, tuple[Any, ...]] = {}
        for key, dimension in self.space.items():
            for parent, allowed in dimension.when.items():
                if parent not in known:
                    raise ValueError(f"{key}.when to name choices of a choice that stands before it, not {parent}")
                if strange := [value for value in allowed if value not in known[parent]]:
                    raise ValueError(f"{key}.when to allow values that {parent} can have, not {strange}")
            if isinstance(dimension, ChoiceDimension):
                known[key] = dimension.choices
        return self

    @model_validator(mode="after")
    def _check_grid(self) -> Self:
        if self.sampler != "grid":
            return self
        for key, dimension in self.space.items():
            if dimension.points is None:
                raise ValueError(f"a step or choices for {key} in a grid, not any number between two")
        num_points = _count_points(self.space)
        if num_points > self.num_trials - 1:
            raise ValueError(
                f"a grid that num_trials can finish, not {num_points:,} points in {self.num_trials:,} trials, the "
                "first of which has the present values; take wider steps, fewer choices, or another sampler"
            )
        return self

    @model_validator(mode="after")
    def _check_budget(self) -> Self:
        if self.epochs and "epochs" in self.space:
            raise ValueError(f"epochs 0 where the space has epochs, not {self.epochs}; one of them sets the budget")
        if self.sampler == "nsga2" and self.pruner != "none":
            raise ValueError(f"pruner none with nsga2, not {self.pruner}: of two aims neither says when to stop")
        return self

    @model_validator(mode="after")
    def _check_fresh_seeds(self) -> Self:
        seeds = self.confirm_seeds
        if len(set(seeds)) < len(seeds) or self.seed in seeds or len(seeds) == 1:
            raise ValueError(
                f"confirm_seeds to be two or more that differ from each other and from seed {self.seed}, or none, not "
                f"{list(seeds)}"
            )
        return self


def _count_points(space: Mapping[str, "Dimension"]) -> int:
    """Counts the points of a grid, which may be too many to be listed."""
    parents = {parent for dimension in space.values() for parent in dimension.when}
    # by what has been chosen of that on which other dimensions depend
    counts: dict[tuple[tuple[str, Any], ...], int] = {(): 1}
    for key, dimension in space.items():
        spread: dict[tuple[tuple[str, Any], ...], int] = {}
        for chosen, count in counts.items():
            points = dimension.points or () if dimension.is_active(dict(chosen)) else ()
            if key in parents and points:
                spread.update({(*chosen, (key, point)): count for point in points})
            else:
                spread[chosen] = count * (len(points) or 1)
        counts = spread
    return sum(counts.values())


def _name_dimensions(space: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in space.items():
        is_group = isinstance(value, Mapping) and value and all(isinstance(item, Mapping) for item in value.values())
        if is_group:
            yield from _name_dimensions(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


class Evaluate(Group):
    """The evaluate stage."""

    batch_size: Count
    confidence: Confidence
    sample_size: Count
    sample_seed: Seed
    grid_size: Annotated[int, Field(ge=1, le=100)]
    bins: Annotated[int, Field(ge=1, le=100)]
    gallery_size: Annotated[int, Field(ge=1, le=100)]
    corruption_samples: Annotated[int, Field(ge=0)]
    latency_rounds: Count


class Compare(Group):
    """The compare stage."""

    baseline: ModelName
    candidate: ModelName
    confidence: Confidence
    margin: Annotated[float, Field(ge=0, lt=1)]
    language: Literal["en", "es"]

    @model_validator(mode="after")
    def _check_two_models(self) -> "Compare":
        if self.baseline == self.candidate:
            raise ValueError(f"baseline and candidate to differ; both are {self.baseline}")
        return self


class Runtime(Group):
    """How fast and where the study runs: never tracked, changes no result."""

    @property
    def at_home(self) -> "Runtime":
        """The same without a cluster, for what reads files that only this machine is sure to have."""
        return self.model_copy(update={"scheduler": "local"})

    download_timeout_s: Seconds
    workers: Annotated[int, Field(ge=0)]
    scheduler: Annotated[str, Field(pattern="^(local|(tcp|tls)://.+)$")]
    gpus_per_task: Annotated[int, Field(ge=0)]
    memory_limit: ByteSize | None
    tracking: Literal["on", "off"]
    tracking_timeout_s: Seconds

    @field_validator("memory_limit", mode="before")
    @classmethod
    def _check_memory(cls, value: Any) -> Any:  # noqa: ANN401 - whatever the file holds
        if value is None:
            return None
        least = MIN_MEMORY.human_readable(decimal=True)
        is_size = isinstance(value, int | str) and not isinstance(value, bool)
        # ByteSize reads as far as it understands
        if is_size and re.fullmatch(ByteSize.byte_string_pattern, str(value)):
            with suppress(ValidationError):
                limit = TypeAdapter(ByteSize).validate_python(value)
                if limit >= MIN_MEMORY:
                    return limit
        raise ValueError(f"null or a size of {least} or more, such as 4GB; TensorFlow alone takes most of that")


class Params(Group):
    """The whole of `params.yaml`."""

    base: Base
    data: Data
    preprocess: Preprocess
    lenet: LeNet
    resnet: ResNet
    transfer: Transfer
    finetune: Finetune
    search: Search
    evaluate: Evaluate
    compare: Compare
    runtime: Runtime
