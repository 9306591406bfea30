"""Operations that `preprocess.operations` may hold: OpenCV's by name, each with all of its parameters."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from cotejo.errors import DataError
from cotejo.faults import describe_faults

Side = Annotated[int, Field(ge=1, le=4096)]
Kernel = Annotated[int, Field(ge=3, le=99)]
Shade = Annotated[int, Field(ge=0, le=255)]
Percentile = Annotated[float, Field(ge=0, le=100)]


class _Operation(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)


class Resize(_Operation):
    """Resizes to height x width pixels; with `keep_aspect` it fits into them, centred, and the rest is `pad_value`."""

    name: Literal["resize"]
    height: Side
    width: Side
    interpolation: Literal["nearest", "linear", "cubic", "area", "lanczos4"]
    keep_aspect: bool
    pad_value: Shade


class Grayscale(_Operation):
    """Converts three channels to one: 0.299 red + 0.587 green + 0.114 blue; one channel stays as it is."""

    name: Literal["grayscale"]


class EqualizeHistogram(_Operation):
    """Spreads the brightness over 0 to 255 so that each shade is about as frequent; of colours the luma alone."""

    name: Literal["equalize_histogram"]


class Clahe(_Operation):
    """Equalises within `tiles` x `tiles` parts, the contrast bound by `clip_limit`; of colours the luma alone."""

    name: Literal["clahe"]
    clip_limit: Annotated[float, Field(gt=0, le=255)]
    tiles: Annotated[int, Field(ge=1, le=64)]


class _Blur(_Operation):
    kernel_size: Kernel

    @model_validator(mode="after")
    def _check_odd(self) -> Self:
        if self.kernel_size % 2 == 0:
            raise ValueError(f"an odd kernel_size, which has a middle, not {self.kernel_size}")
        return self


class GaussianBlur(_Blur):
    """Blurs with a Gaussian of `sigma` pixels, cut off at `kernel_size`."""

    name: Literal["gaussian_blur"]
    sigma: Annotated[float, Field(gt=0, le=99)]


class MedianBlur(_Blur):
    """Replaces each pixel by the median of `kernel_size` x `kernel_size` around it."""

    name: Literal["median_blur"]


class Canny(_Operation):
    """Draws edges, 255 on 0, in one channel: gradients above `high`, and those above `low` that touch them."""

    name: Literal["canny"]
    low: Annotated[float, Field(ge=0)]
    high: Annotated[float, Field(gt=0)]
    aperture_size: Literal[3, 5, 7]
    l2_gradient: bool

    @model_validator(mode="after")
    def _check_thresholds(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low below high, not low {self.low:g} and high {self.high:g}")
        return self


class Rotate(_Operation):
    """Turns by `angle` degrees, counter-clockwise, about the centre; the size stays and corners are cut off."""

    name: Literal["rotate"]
    angle: Annotated[float, Field(ge=-360, le=360)]
    interpolation: Literal["nearest", "linear", "cubic"]
    pad_value: Shade


class Translate(_Operation):
    """Moves by whole pixels, `right` and `down`; below 0 to the left and up."""

    name: Literal["translate"]
    right: Annotated[int, Field(ge=-4096, le=4096)]
    down: Annotated[int, Field(ge=-4096, le=4096)]
    pad_value: Shade


class Normalize(_Operation):
    """Stretches each picture's values, those of all channels alike, over 0 to 255.

    The percentiles `low` and `high` of its values become 0 and 255; what lies beyond is clipped. 0 and 100 are its
    least and greatest value. A picture in which both are the same stays as it is.
    """

    name: Literal["normalize"]
    low: Percentile
    high: Percentile

    @model_validator(mode="after")
    def _check_percentiles(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low below high, not low {self.low:g} and high {self.high:g}")
        return self


#: The operations by the `name` that a user writes.
OPERATIONS: dict[str, type[BaseModel]] = {
    "resize": Resize,
    "grayscale": Grayscale,
    "equalize_histogram": EqualizeHistogram,
    "clahe": Clahe,
    "gaussian_blur": GaussianBlur,
    "median_blur": MedianBlur,
    "canny": Canny,
    "rotate": Rotate,
    "translate": Translate,
    "normalize": Normalize,
}
Operation = Annotated[
    Resize | Grayscale | EqualizeHistogram | Clahe | GaussianBlur | MedianBlur | Canny | Rotate | Translate | Normalize,
    Field(discriminator="name"),
]


class Size(NamedTuple):
    """Of an image, in pixels."""

    height: int
    width: int


def say_size(shape: Sequence[int]) -> str:
    """Formats an image's size, width first, as `640x480` or `640x480 in colour`.

    Args:
        shape: Height and width, and channels if they are to be said.
    """
    height, width, *channels = shape
    return f"{width}x{height}" + (" in colour" if channels == [3] else "")


def check_operations(operations: Sequence[Operation]) -> None:
    """Refuses a list in which an operation can't do anything, whatever the images are.

    Raises:
        ValueError: One of them makes grey what is grey already, or doesn't fit into the size that one before it makes.
    """
    grey_since = None
    size = None
    for number, operation in enumerate(operations):
        where = f"operations.{number}.{operation.name}"
        if isinstance(operation, Grayscale) and grey_since:
            raise ValueError(f"no {where} after {grey_since}, which leaves one channel")
        if size:
            _check_fits(operation, where, size)
        if isinstance(operation, Grayscale | Canny):
            grey_since = where
        elif isinstance(operation, Resize):
            size = Size(operation.height, operation.width)


def _check_fits(operation: Operation, where: str, size: Size) -> None:
    height, width = size
    made = f"the {say_size(size)} pixels (width x height) that a resize before it makes"
    if isinstance(operation, GaussianBlur | MedianBlur) and operation.kernel_size > min(size):
        raise ValueError(f"{where}.kernel_size within {made}, not {operation.kernel_size}")
    if isinstance(operation, Clahe) and operation.tiles > min(size):
        raise ValueError(f"{where}.tiles of a pixel or more of {made}, not {operation.tiles}")
    if isinstance(operation, Translate) and (abs(operation.right) >= width or abs(operation.down) >= height):
        raise ValueError(
            f"{where} to leave some of {made}, not to move them by right {operation.right} and down {operation.down}"
        )


def parse_operations(entries: Any, where: str) -> tuple[Operation, ...]:  # noqa: ANN401 - whatever a file holds
    """Reads the list that preprocess or a saved model has recorded.

    Args:
        entries: Its content, of JSON.
        where: The file, for the message.

    Raises:
        DataError: It isn't a list of operations.
    """
    try:
        adapter = TypeAdapter(Annotated[tuple[Operation, ...], Field(strict=False)])
        operations: tuple[Operation, ...] = adapter.validate_python(entries)
    except ValidationError as error:
        fault = describe_faults(error, _Operation, OPERATIONS)[0]
        raise DataError(f"{where}: expected the operations of a study. Received: {fault}") from error
    return operations


def dump_operations(operations: Sequence[Operation]) -> list[Mapping[str, Any]]:
    """Returns the list as JSON, for `parse_operations`."""
    return [operation.model_dump() for operation in operations]
