"""What each section of `params.yaml` may hold: strict and frozen."""

from typing import Annotated, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, Strict, model_validator

T = TypeVar("T")
#: A YAML list, kept as a tuple because the schema is frozen; strict about its items all the same.
List = Annotated[tuple[T, ...], Strict(False), Field(min_length=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Count = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
NotNegative = Annotated[float, Field(ge=0)]
Seconds = Annotated[float, Field(gt=0)]
ModelName = Literal["lenet", "resnet", "transfer", "finetune"]
#: The models of the study, in the order in which every table shows them.
MODELS: tuple[ModelName, ...] = get_args(ModelName)
#: Width multipliers that the backbones are published with.
ALPHAS = {"MobileNet": (0.25, 0.5, 0.75, 1.0), "MobileNetV2": (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)}
SearchKey = Literal["epochs", "batch_size", "learning_rate"]
OptimizerName = Literal["adam", "adamw", "sgd", "rmsprop", "nadam"]
ScheduleName = Literal["constant", "exponential", "cosine", "step", "plateau"]
Activation = Literal["relu", "leaky_relu", "prelu", "elu", "tanh", "sigmoid", "swish", "step"]
SharedArchitecture = Literal["alexnet", "vgg", "inception", "basic_cnn"]
#: Where an architecture's convolutions and poolings need more pixels than the 8 that any input may have.
MIN_INPUT_SIZES = {"lenet5": 16, "alexnet": 15, "basic_cnn": 10}
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
    """The images under study."""

    name: Literal["fashion_mnist", "mnist", "kmnist", "cifar10", "digits"]


class Preprocess(Group):
    """How the images are split."""

    validation_fraction: Fraction
    test_fraction: Fraction
    seed: Seed


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


class IntDimension(Group):
    """A whole number between `low` and `high`, both included."""

    type: Literal["int"]
    low: int
    high: int
    step: Count = 1

    @model_validator(mode="after")
    def _check_range(self) -> "IntDimension":
        if self.low >= self.high:
            raise ValueError(f"low below high, not low {self.low} and high {self.high}")
        return self


class FloatDimension(Group):
    """A number between `low` and `high`, drawn on a log scale if `log`."""

    type: Literal["float"]
    low: float
    high: float
    log: bool = False

    @model_validator(mode="after")
    def _check_range(self) -> "FloatDimension":
        if self.low >= self.high:
            raise ValueError(f"low below high, not low {self.low} and high {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"low above 0 on a log scale, not {self.low}")
        return self


class ChoiceDimension(Group):
    """One of the listed values."""

    type: Literal["choice"]
    choices: List[int | float | str]


#: The kinds of a search dimension by the `type` that names them.
DIMENSIONS: dict[str, type[BaseModel]] = {"int": IntDimension, "float": FloatDimension, "choice": ChoiceDimension}
Dimension = Annotated[IntDimension | FloatDimension | ChoiceDimension, Field(discriminator="type")]


class Search(Group):
    """The search stage."""

    model: Literal["lenet", "resnet"]
    num_trials: Count
    sampler: Literal["tpe", "random"]
    pruner: Literal["none", "median"]
    seed: Seed
    space: Annotated[dict[SearchKey, Dimension], Field(min_length=1)]


class Evaluate(Group):
    """The evaluate stage."""

    batch_size: Count
    confidence: Annotated[float, Field(ge=0.5, lt=1)]
    sample_size: Count
    sample_seed: Seed
    grid_size: Annotated[int, Field(ge=1, le=100)]


class Compare(Group):
    """The compare stage."""

    baseline: ModelName
    candidate: ModelName
    confidence: Annotated[float, Field(ge=0.5, lt=1)]
    margin: Annotated[float, Field(ge=0, lt=1)]
    language: Literal["en", "es"]

    @model_validator(mode="after")
    def _check_two_models(self) -> "Compare":
        if self.baseline == self.candidate:
            raise ValueError(f"baseline and candidate to differ; both are {self.baseline}")
        return self


class Runtime(Group):
    """How fast and where the study runs: never tracked, changes no result."""

    download_timeout_s: Seconds
    tracking: Literal["on", "off"]
    tracking_timeout_s: Seconds


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
