"""Reads `params.yaml`: every fault reported at once.

A stage asks for the sections that it declares in `dvc.yaml` and gets nothing else, so a stage whose result
depends on a section that DVC doesn't track fails instead of going stale.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from functools import lru_cache, reduce
from operator import getitem
from pathlib import Path
from typing import Any, Generic, Self, TypeVar, cast, overload

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from cotejo.errors import ParamsError
from cotejo.faults import describe_faults, suggest_name
from cotejo.schema.groups import Group
from cotejo.schema.images import Data, Preprocess
from cotejo.schema.operations import OPERATIONS
from cotejo.schema.searches import DIMENSIONS, ChoiceDimension, Search
from cotejo.schema.study import Base, Compare, Evaluate, Params, Runtime
from cotejo.schema.trainings import Finetune, LeNet, Net, ResNet, Transfer

PARAMS_FILE = Path("params.yaml")

G = TypeVar("G", bound=Group)


class _Section(Generic[G]):
    """A section as an attribute of `Sections`; a descriptor, so that each has its own type."""

    def __init__(self, group: type[G]) -> None:
        self.group = group

    def __set_name__(self, owner: "type[Sections]", name: str) -> None:
        self._name = name

    @overload
    def __get__(self, sections: None, owner: "type[Sections]") -> Self: ...

    @overload
    def __get__(self, sections: "Sections", owner: "type[Sections]") -> G: ...

    def __get__(self, sections: "Sections | None", owner: "type[Sections]") -> Self | G:
        return self if sections is None else cast(G, sections.get(self._name))


class Sections:
    """A view of the parameters that holds the declared ones only: whole sections, or `section.key`.

    `runtime` can always be read: it isn't tracked and can't change a result.

    Raises:
        ParamsError: Something undeclared is read.
    """

    base = _Section(Base)
    data = _Section(Data)
    preprocess = _Section(Preprocess)
    lenet = _Section(LeNet)
    resnet = _Section(ResNet)
    transfer = _Section(Transfer)
    finetune = _Section(Finetune)
    search = _Section(Search)
    evaluate = _Section(Evaluate)
    compare = _Section(Compare)
    runtime = _Section(Runtime)

    def __init__(self, params: Params, declared: Sequence[str]) -> None:
        self._groups: dict[str, Group | _Declared] = {}
        keys: dict[str, list[str]] = {}
        for path in declared:
            section, _, key = path.partition(".")
            keys.setdefault(section, []).append(key)
        for section, names in keys.items():
            group: Group = getattr(params, section)
            self._groups[section] = group if "" in names else _Declared(section, group, names)
        self._groups["runtime"] = params.runtime

    def get(self, name: str) -> "Group | _Declared":
        """Returns a section by its name."""
        if name not in self._groups:
            raise _undeclared(name, self._groups)
        return self._groups[name]

    def get_net(self, name: str) -> Net:
        """Returns the section of a network that is trained from scratch, by its name."""
        return cast(Net, self.get(name))

    def flatten(self) -> dict[str, Any]:
        """Returns the tracked values by dotted name, as MLflow and `dvc params` show them."""
        tracked = {name: group.model_dump() for name, group in self._groups.items() if name != "runtime"}
        return dict(flatten(tracked))


class _Declared:
    """The declared keys of a section of which a stage reads only some; stages see the section's own type."""

    def __init__(self, section: str, group: Group, keys: Iterable[str]) -> None:
        self._section = section
        self._values = {key: getattr(group, key) for key in keys}

    def __getattr__(self, key: str) -> object:
        try:
            return self._values[key]
        except KeyError:
            raise _undeclared(f"{self._section}.{key}", [f"{self._section}.{name}" for name in self._values]) from None

    def model_dump(self) -> dict[str, Any]:
        return dict(self._values)


def _undeclared(name: str, declared: Iterable[str]) -> ParamsError:
    return ParamsError(
        expected=f"a section that the stage declares ({', '.join(declared)})",
        received=name,
        advice="Add it to the stage's `params:` in dvc.yaml and to its run_stage() call",
    )


def load_params(sections: Sequence[str], path: Path = PARAMS_FILE) -> Sections:
    """Checks the whole of `params.yaml` and returns the named sections.

    Args:
        sections: The sections that the stage declares in `dvc.yaml`.
        path: The file.

    Raises:
        ParamsError: The file is missing, not YAML, or has faults: all of them, one a line.
    """
    return Sections(parse_params(read_yaml(path), path), sections)


def parse_params(tree: Mapping[str, Any], path: Path = PARAMS_FILE) -> Params:
    """Validates an already read `params.yaml`; raises `ParamsError` as `load_params` does."""
    params, faults = None, list(find_space_faults(tree))
    try:
        params = Params.model_validate(tree)
    except ValidationError as error:
        faults = describe_faults(error, Params, {**DIMENSIONS, **OPERATIONS}) + faults
    if params is None or faults:
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise ParamsError(f"{path} has {count}; nothing was run.\n" + "\n".join(f"  {fault}" for fault in faults))
    return params


def find_space_faults(tree: Mapping[str, Any]) -> Iterator[str]:
    """Says which bounds and choices of the search space the searched model's section would refuse.

    Faults of the search section or the model's section themselves are left to the schema.
    """
    try:
        search = Search.model_validate(tree.get("search"))
        group = Params.model_fields[search.model].annotation.model_validate(tree.get(search.model))  # type: ignore[union-attr]
    except ValidationError:
        return
    known = list_keys(group)
    for key in search.space:
        if key not in known:
            expected = f"Expected one of: {', '.join(known)}.{suggest_name(key, known)}"
            yield f"search.space.{key}: no parameter of {search.model}. {expected}"
    if not set(search.space) <= set(known):
        return
    for key, dimension in search.space.items():
        values = dimension.choices if isinstance(dimension, ChoiceDimension) else (dimension.low, dimension.high)
        for value in values:
            try:
                override_group(group, _surround(search, key, value), f"search.space.{key}")
            except ParamsError as error:
                yield str(error)
                break  # one bound says enough


def _surround(search: Search, key: str, value: object) -> dict[str, Any]:
    """Returns values of the space in which one dimension is searched and has a value; the rest stays as declared."""
    values = {key: value}
    waiting = [key]
    while waiting:
        for parent, allowed in search.space[waiting.pop()].when.items():
            values.setdefault(parent, allowed[0])
            waiting.append(parent)
    for other, dimension in search.space.items():
        if other not in values and dimension.when:
            if dimension.is_active(values):
                values[other] = dimension.choices[0] if isinstance(dimension, ChoiceDimension) else dimension.low
            elif dimension.otherwise is not None and any(parent in values for parent in dimension.when):
                values[other] = dimension.otherwise
    return {**({"epochs": search.epochs} if search.epochs else {}), **values}


def parse_yaml(text: str | bytes) -> Any:  # noqa: ANN401 - whatever the text holds
    """Parses YAML 1.2, the dialect of DVC, in which `1e-3` is a number.

    A stage reads the same files several times, and ruamel.yaml takes most of a second for a `dvc.lock`, so the same
    text again is a copy of the first result.

    Raises:
        YAMLError: It can't be parsed.
    """
    return deepcopy(_parse_once(text))


@lru_cache(maxsize=16)
def _parse_once(text: str | bytes) -> Any:  # noqa: ANN401 - whatever the text holds
    return YAML(typ="safe", pure=True).load(text)


def read_yaml(path: Path) -> dict[str, Any]:
    """Reads a YAML mapping.

    Raises:
        ParamsError: The file is missing, unreadable, empty, or not a mapping.
    """
    try:
        tree = parse_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParamsError(
            where=path,
            expected="the study's parameters",
            received=f"no such file in {Path.cwd()}",
            advice="Run from the repository's root, or restore the file with `git checkout params.yaml`",
        ) from None
    except (YAMLError, UnicodeDecodeError, OSError) as error:
        fault = _first_line(error).removesuffix(".")
        raise ParamsError(where=path, expected="readable YAML", received=fault, advice="Mend that line") from None
    if not isinstance(tree, dict):
        received = "an empty file" if tree is None else f"a {type(tree).__name__}"
        raise ParamsError(
            where=path,
            expected=f"a mapping of sections ({', '.join(Params.model_fields)})",
            received=received,
            advice="Restore it with `git checkout params.yaml`",
        )
    return tree


def override_group(group: G, values: Mapping[str, Any], where: str) -> G:
    """Returns a copy of a group with some values replaced, checked like the file itself.

    Args:
        group: A group of `Params`.
        values: New values by name; `optimizer.name` is that of a group within the group.
        where: The dotted path that an error names.

    Raises:
        ParamsError: A value is out of the field's range.
    """
    tree = group.model_dump()
    for key, value in values.items():
        *path, name = key.split(".")
        reduce(getitem, path, tree)[name] = value
    try:
        return type(group).model_validate(tree)
    except ValidationError as error:
        faults = [fault.partition(": ")[2] for fault in describe_faults(error, type(group))]
        raise ParamsError(f"{where}: {' '.join(faults)}") from None


def list_keys(group: Group) -> list[str]:
    """Lists the names of a group's values; those of a group within it as `optimizer.name`."""
    return [key for key, _ in flatten(group.model_dump())]


def _first_line(error: Exception) -> str:
    if isinstance(error, MarkedYAMLError) and error.problem_mark:
        mark = error.problem_mark
        return f"Received: {error.problem} in line {mark.line + 1}, column {mark.column + 1}."
    return f"Received: {str(error).splitlines()[0]}."


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the values of a tree by dotted name."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", list(value) if isinstance(value, tuple) else value
