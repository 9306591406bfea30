"""Edits `params.yaml` line by line: ruamel.yaml, which keeps comments too, takes longer than most tests."""

import re
from pathlib import Path


def edit_params(path: Path, section: str, **values: object) -> None:
    """Writes other values in a section of `params.yaml`.

    Args:
        path: The file.
        section: A section, without the keys of groups in it.
        values: By key; each key has to be in the section.
    """
    text = path.read_text(encoding="utf-8")
    found = re.search(rf"^{section}:.*\n((?: .*\n|\n)*)", text, re.MULTILINE)
    assert found, f"{path} has no section {section}"
    body = found[1]
    for key, value in values.items():
        body, count = re.subn(rf"^  {key}: [^ #\n]+", f"  {key}: {value}", body, flags=re.MULTILINE)
        assert count == 1, f"{section}.{key} isn't in {path}"
    path.write_text(text[: found.start(1)] + body + text[found.end(1) :], encoding="utf-8")


def switch_tracking_off(study: Path) -> None:
    """Spares a stage MLflow, which isn't what the test is about."""
    edit_params(study / "params.yaml", "runtime", tracking="off")
