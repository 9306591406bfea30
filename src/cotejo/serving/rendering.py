"""Predictions as text, a piece at a time: a table, JSON or CSV. docs/predict.md documents the latter two."""

import csv
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from rich.cells import cell_len, set_cell_size

from cotejo.data.decoding import show_path
from cotejo.serving.pictures import Fault

Style = Literal["table", "json", "csv"]
#: Version of the JSON's form; it rises when a key goes or changes its meaning, not with a new key.
SCHEMA_VERSION = 1
#: Decimals of a confidence: more depend on the processor.
DECIMALS = 6
#: How `show_path`, which faults have their names from, writes a byte that isn't UTF-8.
NO_UNICODE = re.compile(r"\\udc([89a-f][0-9a-f])")


class Prediction(NamedTuple):
    """Prediction for a picture: classes and their probabilities, the most probable first."""

    path: Path
    ranked: Sequence[tuple[str, float]]


class Renderer(Protocol):
    """Writes predictions one after the other; the pieces make one document."""

    def begin(self) -> str:
        """Returns what comes before the first prediction."""

    def add(self, prediction: Prediction) -> str:
        """Returns a prediction."""

    def end(self, faults: Sequence[Fault]) -> str:
        """Returns what comes after the last one."""


def choose_renderer(
    style: Style, model: dict[str, Any], files: Sequence[Path], class_names: Sequence[str], top: int
) -> Renderer:
    """Chooses how predictions are written.

    Args:
        style: The form.
        model: What the JSON says of the model.
        files: All pictures, by which the table is as wide as it has to be.
        class_names: The model's classes.
        top: Classes of each prediction.
    """
    if style == "json":
        return _Json(model)
    return _Csv(top) if style == "csv" else _TextTable(files, class_names, top)


class _TextTable:
    def __init__(self, files: Sequence[Path], class_names: Sequence[str], top: int) -> None:
        self.file_width = max((cell_len(_show_file(path)) for path in files), default=4)
        self.class_width = max(5, *(cell_len(show_path(name)) for name in class_names))
        self.top = top

    def begin(self) -> str:
        return self._join("file", "class", "confidence", "then" if self.top > 1 else "")

    def add(self, prediction: Prediction) -> str:
        (name, confidence), *rest = prediction.ranked
        others = ", ".join(f"{show_path(other)} {share:.2%}" for other, share in rest)
        return self._join(_show_file(prediction.path), show_path(name), f"{confidence:.2%}", others)

    def end(self, _: Sequence[Fault]) -> str:
        return ""

    def _join(self, file: str, name: str, confidence: str, others: str) -> str:
        columns = (set_cell_size(file, self.file_width), set_cell_size(name, self.class_width), f"{confidence:>10}")
        return "  ".join((*columns, others)).rstrip() + "\n"


class _Json:
    """One object; a line per prediction, so that it can be written while pictures are still classified."""

    def __init__(self, model: dict[str, Any]) -> None:
        self.model = model
        self.separator = "\n"

    def begin(self) -> str:
        return f'{{"schema_version": {SCHEMA_VERSION},\n"model": {_dump(self.model)},\n"predictions": ['

    def add(self, prediction: Prediction) -> str:
        top = [{"class": name, "confidence": _round(share)} for name, share in prediction.ranked]
        line = f"{self.separator}  {_dump({'file': _say_file(prediction.path), **top[0], 'top': top})}"
        self.separator = ",\n"
        return line

    def end(self, faults: Sequence[Fault]) -> str:
        said = (fault._replace(file=NO_UNICODE.sub(r"\\x\1", fault.file)) for fault in faults)
        errors = ",\n".join(f"  {_dump(fault._asdict())}" for fault in said)
        return f'\n],\n"errors": [{f"{chr(10)}{errors}{chr(10)}" if errors else ""}]}}\n'


class _Csv:
    def __init__(self, top: int) -> None:
        self.top = top

    def begin(self) -> str:
        others = (f"{column}_{place}" for place in range(2, self.top + 1) for column in ("class", "confidence"))
        return self._join(["file", "class", "confidence", *others])

    def add(self, prediction: Prediction) -> str:
        ranked = (value for name, share in prediction.ranked for value in (name, f"{share:.{DECIMALS}f}"))
        return self._join([_say_file(prediction.path), *ranked])

    def end(self, _: Sequence[Fault]) -> str:
        return ""

    def _join(self, values: Sequence[str]) -> str:
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(values)
        return line.getvalue()


def _say_file(path: Path) -> str:
    """Returns a path as it is, without bytes that are no Unicode, which no form can hold."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _show_file(path: Path) -> str:
    """Returns a path as one line of text."""
    return show_path(_say_file(path))


def _dump(value: Any) -> str:  # noqa: ANN401 - any JSON
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _round(share: float) -> float:
    return round(share, DECIMALS)
