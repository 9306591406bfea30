"""Sections `lenet`, `resnet`, `transfer` and `finetune`: what is built and how it is trained."""

import posixpath
import re
from typing import Annotated, Literal

from pydantic import Field, Strict, field_validator, model_validator

from cotejo.pretrained import BACKBONES, BackboneName
from cotejo.schema.groups import Count, Fraction, Group, NotNegative

#: Before the path of a model that serves as a backbone.
OWN_MODEL = "model:"
#: Where the download stage leaves a backbone's weights.
WEIGHTS_FOLDER = "data/weights"
#: Before the number of a layer, where a name or a count could stand.
LAYER_INDEX = "index:"
OptimizerName = Literal["adam", "adamw", "sgd", "rmsprop", "nadam"]
ScheduleName = Literal["constant", "exponential", "cosine", "step", "plateau"]
Activation = Literal["relu", "leaky_relu", "prelu", "elu", "tanh", "sigmoid", "swish", "step"]
SharedArchitecture = Literal["alexnet", "vgg", "inception", "basic_cnn"]
#: The least `input_size` of which an architecture's convolutions and poolings leave something; of others it is 1.
MIN_INPUT_SIZES = {
    "lenet5": 16,  # the second pooling has a window left
    "alexnet": 15,  # so has the third
    "basic_cnn": 10,  # so has the second
    "vgg": 8,  # each of three stacks halves height and width
}
#: Where less is better; of the other quantities that a training can watch, more is.
LOSSES = ("loss", "val_loss")


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
    """Schedule of the learning rate; a key that the named schedule doesn't use has no effect."""

    name: ScheduleName
    factor: Fraction
    interval_epochs: Count
    warmup_epochs: Annotated[int, Field(ge=0)]
    final_fraction: Annotated[float, Field(ge=0, lt=1)]


class EarlyStopping(Group):
    """Rule of which epoch's weights are kept, and after how many epochs without a better one training stops."""

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
    """Random changes to each training image, each time that it is seen; all at 0 is none."""

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
    """Settings of every trained model."""

    epochs: Count
    batch_size: Count
    learning_rate: Annotated[float, Field(gt=0, le=10)]
    optimizer: Optimizer
    schedule: Schedule
    early_stopping: EarlyStopping
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    class_weights: Literal["none", "balanced"]
    augmentation: Augmentation

    @property
    def uses_batch_statistics(self) -> bool:
        """Whether the training normalises by the statistics of the whole batch, which therefore can't be split.

        A backbone's batch normalisation is held in inference mode.
        """
        return False

    @model_validator(mode="after")
    def _check_warmup(self) -> "Training":
        if self.schedule.name == "cosine" and self.schedule.warmup_epochs >= self.epochs:
            raise ValueError(
                f"fewer schedule.warmup_epochs than epochs, not {self.schedule.warmup_epochs} of {self.epochs}"
            )
        return self


class Architecture(Group):
    """Settings of a network's layers."""

    architecture: str
    input_size: Annotated[int, Field(ge=8, le=512)]
    activation: Activation
    pooling: Literal["max", "average"]
    batch_normalization: bool
    dropout_rate: Annotated[float, Field(ge=0, lt=1)]
    l1: NotNegative
    l2: NotNegative


class Net(Training, Architecture):
    """Settings of a network that is trained from scratch."""

    @property
    def uses_batch_statistics(self) -> bool:
        """Whether a layer normalises by the statistics of the whole batch, which therefore can't be split."""
        return self.batch_normalization

    @model_validator(mode="after")
    def _check_buildable(self) -> "Net":
        least = MIN_INPUT_SIZES.get(self.architecture, 1)
        if self.input_size < least:
            raise ValueError(
                f"input_size of {self.architecture} to be at least {least}, not {self.input_size}; smaller images are "
                "enlarged inside the model"
            )
        _check_gradient(self.activation)
        return self


def _check_gradient(activation: Activation) -> None:
    if activation == "step":
        raise ValueError("an activation with a gradient, not step, which can't be trained")


class LeNet(Net):
    """The train-lenet stage."""

    architecture: Literal["lenet5", SharedArchitecture]


class ResNet(Net):
    """The train-resnet stage."""

    architecture: Literal["resnet_small", "resnet50_light", SharedArchitecture]


class Transfer(Training):
    """The transfer-learn stage: a frozen backbone and a new head."""

    backbone: BackboneName
    alpha: float | None
    weights: str
    weights_path: Annotated[str, Field(min_length=1)]
    input_size: Annotated[int, Field(ge=32, le=512)]
    pooling: Literal["average", "max", "flatten"]
    dense: Annotated[tuple[Count, ...], Strict(False)]
    activation: Activation
    dropout_rate: Annotated[float, Field(ge=0, lt=1)]
    l2: NotNegative
    output: Literal["softmax", "sigmoid"]

    @field_validator("weights")
    @classmethod
    def _check_weights(cls, weights: str) -> str:
        if weights not in ("imagenet", "random") and not re.fullmatch(f"{OWN_MODEL}.+[.]keras", weights):
            raise ValueError(f"imagenet, random, or {OWN_MODEL} and the path of a .keras file")
        return weights

    @property
    def has_own_backbone(self) -> bool:
        """Whether a model of ours serves as the backbone, so that none is taken by its name."""
        return self.weights.startswith(OWN_MODEL)

    @model_validator(mode="after")
    def _check_backbone(self) -> "Transfer":
        published = BACKBONES[self.backbone]
        if self.alpha not in published.alphas:
            allowed = ", ".join(map(str, published.alphas))
            wanted = "null, since it comes in one width" if published.alphas == (None,) else f"one of {allowed}"
            received = "null" if self.alpha is None else self.alpha
            raise ValueError(f"alpha of {self.backbone} to be {wanted}, not {received}")
        if self.input_size < published.least_size:
            raise ValueError(
                f"input_size of {self.backbone} to be at least {published.least_size}, not {self.input_size} (it was "
                f"trained on {published.input_size}); smaller images are enlarged inside the model"
            )
        return self

    @model_validator(mode="after")
    def _check_weights_path(self) -> "Transfer":
        # DVC can follow a path that stands by itself, and nothing that it would have to cut out of `weights`
        wanted = self.weights.removeprefix(OWN_MODEL) if self.has_own_backbone else WEIGHTS_FOLDER
        if self.weights_path != wanted:
            raise ValueError(f"weights_path {wanted} with weights {self.weights}, not {self.weights_path}")
        plain = posixpath.normpath(wanted)
        if wanted != plain or wanted.startswith("~"):  # dvc.lock would hold another spelling than dvc.yaml
            raise ValueError(f"the plainest spelling of weights_path, such as {plain}, not {wanted}")
        if wanted.startswith(("models/transfer/", "models/finetune/")):
            raise ValueError(
                f"weights of another model than {wanted}, which transfer-learn itself writes or finetune makes of it; "
                "copy it to another folder and name the copy"
            )
        return self

    @model_validator(mode="after")
    def _check_activation(self) -> "Transfer":
        _check_gradient(self.activation)
        return self


class Finetune(Training):
    """The finetune stage: the transfer model with its top layers unfrozen."""

    unfreeze: Count | Annotated[str, Field(min_length=1)]

    @field_validator("unfreeze")
    @classmethod
    def _check_index(cls, unfreeze: int | str) -> int | str:
        if isinstance(unfreeze, str) and unfreeze.startswith(LAYER_INDEX):
            number = unfreeze.removeprefix(LAYER_INDEX)
            if not (number.isascii() and number.isdigit()):
                raise ValueError(f"{LAYER_INDEX} and a number, such as {LAYER_INDEX}100")
        return unfreeze
