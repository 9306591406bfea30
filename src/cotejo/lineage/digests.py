"""Reads `dvc.yaml` and `dvc.lock`, and computes the digests that DVC would give to the present files."""

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml.error import YAMLError

from cotejo.errors import ParamsError
from cotejo.files import digest_bytes, digest_file
from cotejo.params import PARAMS_FILE, flatten, parse_yaml, read_yaml

PIPELINE_FILE = Path("dvc.yaml")
LOCK_FILE = Path("dvc.lock")
#: What brings back a `dvc.lock` that was whole when it was committed.
RESTORE = f"Restore it with `git checkout {LOCK_FILE}`"
#: Digests and commits are shown this short.
SHORT = 8


class Locked(NamedTuple):
    """Entry of a stage in `dvc.lock`: its command, values by dotted name, and digests by path."""

    command: str
    params: dict[str, Any]
    deps: dict[str, str]
    outs: dict[str, str]


class Difference(NamedTuple):
    """A difference from a stage's entry in `dvc.lock`: its path, a line of text, and whether a file is only missing."""

    path: str
    text: str
    is_missing: bool = False


def load_stages(root: Path) -> dict[str, Mapping[str, Any]]:
    """Reads the stages of `dvc.yaml`, its `${...}` filled in from `params.yaml`."""
    params = read_yaml(root / PARAMS_FILE)

    def fill(match: re.Match[str]) -> str:
        value: Any = params
        for key in match.group(1).split("."):
            if key not in value:
                raise ParamsError(
                    where=PIPELINE_FILE,
                    expected=f"keys of {PARAMS_FILE}",
                    received=f"{match.group(0)}, which isn't one",
                )
            value = value[key]
        return str(value)

    def resolve(node: Any) -> Any:  # noqa: ANN401 - any YAML
        if isinstance(node, str):
            return re.sub(r"\$\{([\w.]+)\}", fill, node)
        if isinstance(node, dict):
            return {key: resolve(value) for key, value in node.items()}
        return [resolve(item) for item in node] if isinstance(node, list) else node

    stages: dict[str, Mapping[str, Any]] = resolve(read_yaml(root / PIPELINE_FILE)["stages"])
    return stages


def load_lock(root: Path) -> dict[str, Locked]:
    """Reads `dvc.lock`, which isn't there before the first stage has ended; stages in the order of their making."""
    try:
        return parse_lock((root / LOCK_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(error) from None


def parse_lock(text: str | bytes, name: str = str(LOCK_FILE), advice: str = RESTORE) -> dict[str, Locked]:
    """Returns the stages of a `dvc.lock`, those that make something before those that read it.

    Args:
        text: What it holds.
        name: What an error calls it.
        advice: What to do where it isn't one.

    Raises:
        ParamsError: It isn't one.
    """
    found = {}
    try:
        for stage, entry in ((parse_yaml(text) or {}).get("stages") or {}).items():
            values = {key: value for file in (entry.get("params") or {}).values() for key, value in file.items()}
            found[stage] = Locked(
                str(entry["cmd"]), dict(flatten(values)), _read_digests(entry, "deps"), _read_digests(entry, "outs")
            )
    except (YAMLError, LookupError, TypeError, AttributeError) as error:  # the marks of a merge, for instance
        raise _unreadable(error, name, advice) from None
    return {stage: found[stage] for stage in sort_stages(found)}


def list_deps(declared: Mapping[str, Any]) -> list[str]:
    """Lists the paths that a stage of `dvc.yaml` reads."""
    return [_path_of(item) for item in declared.get("deps") or ()]


def list_outs(declared: Mapping[str, Any]) -> list[str]:
    """Lists the paths that a stage of `dvc.yaml` makes: outs, metrics and plots."""
    return [_path_of(item) for kind in ("outs", "metrics", "plots") for item in declared.get(kind) or ()]


def is_within(path: str, folder: str) -> bool:
    """Returns whether a path is a folder or below it."""
    return path == folder or path.startswith(f"{folder}/")


def find_sources_of(name: str, stages: Mapping[str, Locked]) -> set[str]:
    """Returns the stages whose outs a stage reads, without the stages before those."""
    return {
        other
        for other, locked in stages.items()
        for out in locked.outs
        for dep in stages[name].deps
        if other != name and (is_within(dep, out) or is_within(out, dep))
    }


def find_upstream(names: Iterable[str], stages: Mapping[str, Locked]) -> set[str]:
    """Returns the stages on which others depend, directly or not, without those themselves."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        new = find_sources_of(waiting.pop(), stages) - found
        found |= new
        waiting += new
    return found


def sort_stages(stages: Mapping[str, Locked]) -> list[str]:
    """Sorts stages so that each comes after those that it depends on, else in their order."""
    placed: dict[str, None] = {}

    def place(name: str, above: tuple[str, ...]) -> None:
        needed = find_sources_of(name, stages)
        for other in stages:
            # DVC refuses a circle; a lock that was edited by hand may hold one
            if other in needed and other not in placed and other not in above:
                place(other, (*above, other))
        placed[name] = None

    for name in stages:
        if name not in placed:
            place(name, (name,))
    return list(placed)


def compute_dvc_digest(path: Path) -> str | None:
    """Returns the MD5 that DVC gives to a file, or (with `.dir` at its end) to a folder; None for what isn't there.

    A folder's is that of a JSON list of its files' digests and paths from it, sorted by path: see `Tree.as_bytes` in
    `dvc_data/hashfile/tree.py`. DVC's own function takes a quarter of a second to import. `.dvcignore` is not read:
    a folder that holds something ignored gets another digest here than in `dvc.lock`.
    """
    if path.is_dir():
        files = {
            file.relative_to(path).as_posix(): digest_file(file, "md5")
            for folder, _, names in os.walk(path)
            for file in (Path(folder, name) for name in names)
        }
        listed = [{"md5": files[name], "relpath": name} for name in sorted(files)]
        return digest_bytes(json.dumps(listed).encode(), kind="md5") + ".dir"
    return digest_file(path, "md5") if path.exists() else None


def find_changes(
    root: Path, name: str, declared: Mapping[str, Any], stages: Mapping[str, Locked]
) -> Iterator[Difference]:
    """Yields the differences from a stage's entry in `dvc.lock`.

    Args:
        root: The study's folder.
        name: The stage.
        declared: The stage in `dvc.yaml`.
        stages: All of `dvc.lock`.
    """
    locked = stages[name]
    if " ".join(str(declared["cmd"]).split()) != " ".join(locked.command.split()):
        yield Difference("cmd", f"the command is `{declared['cmd']}` now, and was `{locked.command}`")
    made = {path: (other, digest) for other in stages for path, digest in stages[other].outs.items()}
    for path in list_deps(declared):
        other, digest = made.get(path, ("", ""))
        if other and path in locked.deps and digest != locked.deps[path]:
            text = f"{path} was {locked.deps[path][:SHORT]} when it was read; {other} has made {digest[:SHORT]} since"
            yield Difference(path, text)
        elif not other:  # what a stage makes is looked at where it is made
            yield from _compare(root, path, locked.deps)
    for path in list_outs(declared):
        yield from _compare(root, path, locked.outs)
    yield from find_param_changes(root, declared, locked)


def find_param_changes(root: Path, declared: Mapping[str, Any], locked: Locked) -> Iterator[Difference]:
    """Yields the stage's values in `params.yaml` that differ from those in `dvc.lock`."""
    present = dict(flatten(read_yaml(root / PARAMS_FILE)))
    sections = [item for item in declared.get("params") or () if isinstance(item, str)]
    now = {key: value for key, value in present.items() if any(_is_below(key, section) for section in sections)}
    for key in dict.fromkeys([*locked.params, *now]):
        old, new = locked.params.get(key), now.get(key)
        if (key in locked.params) != (key in now) or old != new:
            yield Difference(key, f"{key} is {_say(key, now)} now, and was {_say(key, locked.params)}")


def _compare(root: Path, path: str, digests: Mapping[str, str]) -> Iterator[Difference]:
    present = compute_dvc_digest(root / path)
    if path not in digests:
        yield Difference(path, f"{path} isn't in {LOCK_FILE}: declared since")
    elif present is None:
        yield Difference(path, f"{path} isn't here; `dvc checkout` or `git checkout` may bring it", is_missing=True)
    elif present != digests[path]:
        yield Difference(
            path, f"{path} has changed since: {digests[path][:SHORT]} in {LOCK_FILE}, {present[:SHORT]} now"
        )


def _unreadable(error: Exception, name: str = str(LOCK_FILE), advice: str = RESTORE) -> ParamsError:
    return ParamsError(
        where=name,
        expected="a readable file that DVC has written",
        received=type(error).__name__,
        advice=advice,
    )


def _say(key: str, values: Mapping[str, Any]) -> str:
    return str(values[key]) if key in values else "not there"


def _is_below(key: str, section: str) -> bool:
    return key == section or key.startswith(f"{section}.")


def _read_digests(entry: Mapping[str, Any], kind: str) -> dict[str, str]:
    return {item["path"]: str(item["md5"]) for item in entry.get(kind) or () if "md5" in item}


def _path_of(item: str | Mapping[str, Any]) -> str:
    return item if isinstance(item, str) else str(next(iter(item)))
