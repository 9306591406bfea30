"""Renders pydantic's faults in the terms of a file: where, expected, received, what to do."""

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

#: What pydantic adds to a path to tell the members of a union apart; a user looks for the path in the file.
UNION_MARKS = re.compile(r"\[key\]|int|float|choice|str|constrained-.*|function-.*")
#: Characters of a received value that a line repeats.
MAX_RECEIVED = 200


def describe_faults(
    error: ValidationError,
    schema: type[BaseModel],
    tagged: Mapping[str, type[BaseModel]] | None = None,
    *,
    whole: str = "params.yaml",
    missing: str = "missing. Add it; `git diff params.yaml` shows what went.",
) -> list[str]:
    """Returns a line per fault, in the order of the file.

    Args:
        error: What pydantic found.
        schema: What it validated against.
        tagged: Members of a union by the tag that pydantic puts into the path.
        whole: Name of the file, for a fault that has no path in it.
        missing: The message for a key that isn't there.
    """
    grouped: dict[str, list[dict[str, Any]]] = {}
    for fault in error.errors():
        grouped.setdefault(_say_path(fault["loc"]) or whole, []).append(dict(fault))
    # a list is called too short as well when one of its items is refused
    kept = {
        where: faults
        for where, faults in grouped.items()
        if faults[0]["type"] != "too_short" or not any(other.startswith(f"{where}.") for other in grouped)
    }
    return [
        f"{where}: {missing if faults[0]['type'] == 'missing' else _describe(faults, schema, tagged or {})}"
        for where, faults in kept.items()
    ]


def _describe(faults: Sequence[dict[str, Any]], schema: type[BaseModel], tagged: Mapping[str, type[BaseModel]]) -> str:
    fault = faults[0]
    if fault["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        known = _list_known_keys(fault["loc"][:-1], schema, tagged)
        return f"unknown key. Expected one of: {', '.join(known)}.{suggest_name(str(fault['loc'][-1]), known)}"
    if fault["type"] == "json_invalid":  # what was received is the whole file
        return f"expected JSON. Received: {fault['ctx']['error']}."
    # each member of a union has a fault of its own; that of the right type says more than "a valid string"
    telling = [member for member in faults if not member["type"].endswith("_type")] or faults
    expected = ", or ".join(dict.fromkeys(_say_expectation(member) for member in telling))
    if isinstance(fault["input"], dict) and fault["type"] == "value_error":
        return f"expected {expected}."  # the message says what was received, of several keys
    suggestion = ""
    received = fault["input"]
    if fault["type"] in ("literal_error", "union_tag_invalid"):
        received, choices = fault["ctx"].get("tag", received), fault["ctx"].get("expected_tags")
        choices = (choices or fault["ctx"]["expected"]).replace(" or ", ", ").split(", ")
        suggestion = suggest_name(str(received), [choice.strip("'") for choice in choices])
    text = repr(received)
    text = text if len(text) <= MAX_RECEIVED else f"{text[:MAX_RECEIVED]} ..."
    return f"expected {expected}. Received: {text}.{suggestion}"


def _say_expectation(fault: dict[str, Any]) -> str:
    if fault["type"] == "value_error":
        return str(fault["ctx"]["error"]).rstrip(".")
    if fault["type"] == "too_short":
        return "at least one item"
    if fault["type"] == "union_tag_invalid":
        return f"{_say_tag(fault)} to be one of {fault['ctx']['expected_tags']}"
    if fault["type"] == "union_tag_not_found":
        return "a type: int, float or choice" if _say_tag(fault) == "type" else f"a {_say_tag(fault)}"
    if fault["type"] == "model_attributes_type":
        return "a mapping with a name or type and values of its own"
    if fault["type"] == "tuple_type":
        return "a list"
    if fault["type"] == "model_type":
        return "a section with keys of its own"
    message: str = fault["msg"]
    return message.removeprefix("Input should be ").removeprefix("String should have ")


def _say_tag(fault: Mapping[str, Any]) -> str:
    """Returns the key that tells the members of a union apart."""
    return str(fault["ctx"]["discriminator"]).strip("'")


def _say_path(loc: Sequence[Any]) -> str:
    return ".".join(str(part) for part in loc if not UNION_MARKS.fullmatch(str(part)))


def _list_known_keys(loc: Sequence[Any], schema: type[BaseModel], tagged: Mapping[str, type[BaseModel]]) -> list[str]:
    """Lists the keys that the schema allows below a path, in the order of the file."""
    model: Any = schema
    for part in loc:
        fields = getattr(model, "__pydantic_fields__", {})
        if isinstance(part, int):
            model = get_args(model)[0]
        else:
            model = fields[part].annotation if part in fields else tagged.get(part)
    return list(model.__pydantic_fields__)


def suggest_name(name: str, known: Sequence[str]) -> str:
    """Returns the nearest known name as a question, with a space before it, or nothing."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f" Did you mean `{close[0]}`?" if close else ""
