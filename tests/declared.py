"""Sections as `params.yaml` declares them, with what a test changes."""

from functools import cache
from typing import Any

from copied_study import ROOT
from cotejo.params import override_group, parse_params, read_yaml
from cotejo.schema.study import Params


def declare(section: str, **changes: Any) -> Any:
    """Returns a section with some keys changed; a mapping changes the keys that it names and keeps the others.

    Example:
        declare("lenet", epochs=2, schedule={"name": "cosine"})
    """
    group = getattr(read_declared(), section)
    present = group.model_dump()
    merged = {key: {**present[key], **value} if isinstance(value, dict) else value for key, value in changes.items()}
    return override_group(group, merged, section)


@cache
def read_declared() -> Params:
    """Returns what `params.yaml` declares; nobody can change it."""
    return parse_params(read_yaml(ROOT / "params.yaml"))
