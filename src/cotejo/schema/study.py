"""The other sections, and `params.yaml` as a whole."""

import re
from contextlib import suppress
from typing import Annotated, Any, Literal

from pydantic import ByteSize, Field, TypeAdapter, ValidationError, field_validator, model_validator

from cotejo.schema.groups import Confidence, Count, Group, List, ModelName, Seconds, Seed
from cotejo.schema.images import Data, Preprocess
from cotejo.schema.searches import Search
from cotejo.schema.trainings import Finetune, LeNet, ResNet, Transfer

#: The least that `runtime.memory_limit` may be: TensorFlow and a small net take nearly all of it.
MIN_MEMORY = ByteSize(1_500_000_000)
#: MLflow refuses a slash and a colon in a model's name, and its filters end at a quote.
MAX_NAME = 250
UNNAMEABLE = re.compile(r"[/:'\"`\n]")


class Base(Group):
    """Settings that every stage with a model shares."""

    seeds: List[Seed]
    threads: Count
    precision: Literal["float32", "mixed_bfloat16"]

    @model_validator(mode="after")
    def _check_seeds_differ(self) -> "Base":
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds that differ: {list(self.seeds)} holds one twice, which would count a run twice")
        return self


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
    """Settings of how fast and where the study runs: never tracked, they change no result."""

    @property
    def without_cluster(self) -> "Runtime":
        """The same on this machine alone, for what reads files that only this machine is sure to have."""
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


class Tracking(Group):
    """Names of the study in MLflow; None stands for the name of the repository's folder."""

    experiment: str | None
    model: str | None

    @field_validator("experiment", "model")
    @classmethod
    def _check_name(cls, name: str | None) -> str | None:
        if name is None or (name.strip() == name != "" and len(name) <= MAX_NAME and not UNNAMEABLE.search(name)):
            return name
        raise ValueError(f"null or a name of at most {MAX_NAME} characters without / : quotes and spaces around it")


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
    tracking: Tracking
