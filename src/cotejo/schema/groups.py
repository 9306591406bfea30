"""Base of every section of `params.yaml`."""

from typing import Annotated, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, Strict

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


class Record(BaseModel):
    """Values of declared types, frozen; other keys are refused. It is built when first used: start-up stays fast."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)


class Group(Record):
    """A section of `params.yaml`."""
