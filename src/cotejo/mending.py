"""Writes the source deps of `dvc.yaml` from the imports; every other byte of it stays."""

import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from cotejo.errors import ParamsError
from cotejo.lineage.digests import PIPELINE_FILE, list_deps, load_stages
from cotejo.params import parse_yaml
from cotejo.pipeline import compare_deps


class DepsChange(NamedTuple):
    """The deps that a stage gets and loses, as `dvc.yaml` writes them, sorted."""

    added: list[str]
    removed: list[str]

    def __str__(self) -> str:
        parts = {"added": self.added, "removed": self.removed}
        return "; ".join(f"{verb} {', '.join(deps)}" for verb, deps in parts.items() if deps)


class Edit(NamedTuple):
    """Text that replaces what stands between two positions."""

    start: int
    end: int
    text: str


def mend_deps(root: Path) -> list[str]:
    """Adds the missing source deps of each stage, sorted in, and removes those that it doesn't import.

    Args:
        root: The repository's root.

    Returns:
        A line per changed stage.

    Raises:
        ParamsError: The deps of a stage can't be edited without something else, such as an alias. Nothing is written.
    """
    path = root / PIPELINE_FILE
    stages = load_stages(root)
    text = path.read_bytes().decode()
    written = parse_yaml(text)["stages"]
    changes = {name: _find_change(root, written[name], stage) for name, stage in stages.items()}
    changes = {name: change for name, change in changes.items() if change != ([], [])}
    if not changes:
        return []
    nodes = _list_fields(_list_fields(YAML(typ="safe", pure=True).compose(text))["stages"])
    mended = _apply(text, [edit for name in changes for edit in _edit(text, nodes[name], changes[name])])
    if not _is_as_meant(text, mended, changes):
        raise ParamsError(
            where=PIPELINE_FILE,
            expected="for each stage a list of deps of its own, one a line or [a, b]",
            received=f"another form at one of {', '.join(changes)}",
            advice="Nothing was written; edit the deps named below by hand",
        )
    partial = path.with_name(f".part-{path.name}")
    partial.write_bytes(mended.encode())
    shutil.copymode(path, partial)
    partial.replace(path)
    return [f"{PIPELINE_FILE}: stages.{name}.deps: {change}" for name, change in changes.items()]


def _find_change(root: Path, written: Mapping[str, Any], stage: Mapping[str, Any]) -> DepsChange:
    """Compares a stage, as it is written and with its `${...}` filled in, with its imports."""
    missing, needless = compare_deps(root, stage)
    # a module imported because of the command's argument is named by it: src/cotejo/models/${search.model}.py
    arguments = dict(zip(stage["cmd"].split(), written["cmd"].split(), strict=False))
    paths = [Path(dep) for dep in missing]
    added = [path.with_name(f"{arguments.get(path.stem, path.stem)}.py").as_posix() for path in paths]
    names = zip(list_deps(written), list_deps(stage), strict=True)
    return DepsChange(sorted(added), sorted(name for name, dep in names if dep in needless))


def _edit(text: str, stage: Node, change: DepsChange) -> Iterator[Edit]:
    """Lists the edits that change the deps of a stage."""
    deps = _list_fields(stage).get("deps")
    if not isinstance(deps, SequenceNode) or not deps.value:
        return
    items = [(_find_name(item), item.start_mark.index, item.end_mark.index) for item in deps.value]
    names = [name for name, _, _ in items]
    if deps.flow_style:
        kept = [text[start:end] for name, start, end in items if name not in change.removed]
        for dep in change.added:
            kept.insert(_find_place(dep, kept), dep)
        yield Edit(deps.start_mark.index, deps.end_mark.index, f"[{', '.join(kept)}]")
        return
    for name, start, end in items:
        if name in change.removed:
            yield Edit(_find_line(text, start), _find_next_line(text, end), "")
    for dep in change.added:
        place = _find_place(dep, names)
        _, start, end = items[max(place - 1, 0)]
        line = text[_find_line(text, start) : start] + dep + "\n"
        position = _find_next_line(text, end) if place else _find_line(text, start)
        yield Edit(position, position, line)


def _find_place(dep: str, names: Iterable[str]) -> int:
    """Returns the place of a new dep: before the first that sorts after it."""
    names = list(names)
    return next((place for place, name in enumerate(names) if name > dep), len(names))


def _find_line(text: str, position: int) -> int:
    return text.rfind("\n", 0, position) + 1


def _find_next_line(text: str, position: int) -> int:
    return text.find("\n", position) + 1 or len(text)


def _apply(text: str, edits: Iterable[Edit]) -> str:
    parts = []
    position = 0
    for start, end, new in sorted(edits, key=lambda edit: edit[:2]):  # several at one position keep their order
        parts += [text[position:start], new]
        position = end
    return "".join([*parts, text[position:]])


def _is_as_meant(text: str, mended: str, changes: Mapping[str, DepsChange]) -> bool:
    """Returns whether a text differs from another one by these changes and nothing else."""
    expected = parse_yaml(text)
    for name, change in changes.items():
        stage = expected["stages"][name]
        kept = [dep for dep in stage.get("deps") or () if dep not in change.removed]
        stage["deps"] = [*kept, *change.added]
    try:
        received = parse_yaml(mended)
    except YAMLError:
        return False
    for stage in (*expected["stages"].values(), *received["stages"].values()):
        stage["deps"] = sorted(stage.get("deps") or (), key=str)
    return bool(received == expected)


def _list_fields(node: Node) -> dict[str, Node]:
    return {key.value: value for key, value in node.value} if isinstance(node, MappingNode) else {}


def _find_name(item: Node) -> str:
    """Returns the path of a dep, which may have settings of its own: `path: {...}`."""
    return str(item.value[0][0].value if isinstance(item, MappingNode) else item.value)
