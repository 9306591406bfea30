"""Section `search`: what is searched, and within which bounds."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, Strict, field_validator, model_validator

from cotejo.schema.groups import Confidence, Count, Group, List, NotNegative, Scalar, Seed

#: Most points of a dimension; more mean that a step was mistyped.
MAX_STEPS = 10**9


class _Dimension(Group):
    """Base of all dimensions: under which choices of others they are searched at all."""

    when: dict[str, List[Scalar]] = Field(default_factory=dict)
    otherwise: Scalar | None = None

    def is_active(self, values: Mapping[str, Any]) -> bool:
        """Returns whether it is searched beside the values that have been chosen for other dimensions."""
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
    sampler: Literal["gp", "tpe", "random", "grid", "cmaes", "qmc", "nsga2"]
    pruner: Literal["none", "median", "hyperband", "successive_halving"]
    parallel_trials: Count
    threads: Count
    seed: Seed
    holdout: Annotated[float, Field(ge=0, lt=1)]
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
        """Direction of the metric: which values are better."""
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
                "first of which has the declared values; take wider steps, fewer choices, or another sampler"
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
        if len(set(seeds)) < len(seeds) or len(seeds) == 1:
            raise ValueError(f"confirm_seeds to be two or more that differ from each other, or none, not {list(seeds)}")
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
