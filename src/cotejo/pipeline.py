"""Checks `dvc.yaml` against what the stages' code reads and imports."""

import ast
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cotejo.imports import SOURCE, find_imports, find_sources, parse_source
from cotejo.lineage.digests import PIPELINE_FILE, list_deps, load_stages

#: The house: a module imports only from its own row and the rows above.
ROWS = (
    "errors",
    "files",
    "masking",
    "terminal",
    "upstream",
    "faults",
    "pretrained",
    "estimation",
    "schema",
    "params",
    "data",
    "models",
    "tracking",
    "lineage",
    "execution",
    "training",
    "evaluation",
    "tuning",
    "comparison",
    "report",
    "imports",
    "stage",
    "training_stage",
    "pipeline",
    "mending",
    "serving",
    "revisions",
    "cli",
)
#: Builtin functions that calculate.
CALCULATING = ("sum", "min", "max", "round", "abs")


def check_pipeline(root: Path) -> list[str]:
    """Finds where `dvc.yaml` and the code disagree.

    Args:
        root: The repository's root.

    Returns:
        A line per fault: a missing or needless dep or params section, an import against the layers, arithmetic in a
        stage's script.
    """
    stages = load_stages(root)
    faults = [fault for name, stage in stages.items() for fault in _check_stage(root, name, stage)]
    faults += [fault for path in sorted((root / SOURCE).rglob("*.py")) for fault in _check_layers(root, path)]
    for script in sorted((root / "stages").glob("*.py")):
        faults += _find_arithmetic(script)
    return faults


def _find_arithmetic(script: Path) -> Iterator[str]:
    """Finds calculations in a stage's script; a path is joined with `/`, and a text with `+`."""
    for node in ast.walk(parse_source(script)):
        is_operation = isinstance(node, ast.BinOp | ast.AugAssign) and not isinstance(node.op, ast.Div | ast.Add)
        is_call = isinstance(node, ast.Call) and getattr(node.func, "id", "") in CALCULATING
        if is_operation or is_call:
            received = f"`{ast.unparse(node)}`"
            yield f"stages/{script.name}: expected no arithmetic. Received: {received}. Move it into {SOURCE}/."


def _check_stage(root: Path, name: str, stage: Mapping[str, Any]) -> Iterator[str]:
    where = f"{PIPELINE_FILE}: stages.{name}"
    missing, needless = compare_deps(root, stage)
    for path in missing:
        yield f"{where}.deps: {path} is missing; its change would not re-run the stage."
    for path in needless:
        yield f"{where}.deps: {path} is not imported; its change would re-run the stage for nothing."
    read = read_sections(root, stage["cmd"])
    if read != set(stage.get("params", ())):
        yield f"{where}.params: expected {sorted(read)}, what run_stage() is given. Received: {stage.get('params')}."


def compare_deps(root: Path, stage: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Lists the source files that a stage imports and doesn't declare, and those that it declares and doesn't import.

    Args:
        root: The repository's root.
        stage: The stage of `dvc.yaml`, its `${...}` filled in.
    """
    declared = {dep for dep in list_deps(stage) if dep.endswith(".py")}
    needed = find_sources(root, stage["cmd"])
    return sorted(needed - declared), sorted(declared - needed)


def read_sections(root: Path, command: str) -> set[str]:
    """Returns the sections of `params.yaml` that a stage's script hands to `run_stage`."""
    _, script, *arguments = shlex.split(command)
    tree = parse_source(root / script)
    for node in ast.walk(tree):
        # `sections=(...)` in the call, or on a line of its own before it
        is_named = (isinstance(node, ast.keyword) and node.arg == "sections") or (
            isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "sections"
        )
        value = getattr(node, "value", None)
        if is_named and isinstance(value, ast.Tuple):
            # a section is a literal, or sys.argv[1]: the command's argument
            return {str(item.value) if isinstance(item, ast.Constant) else arguments[0] for item in value.elts}
    return set()


def _check_layers(root: Path, path: Path) -> Iterator[str]:
    module = path.relative_to(root / SOURCE).with_suffix("").parts
    if len(module) < 2 or module[-1] in ("__init__", "__main__"):
        return
    if module[1] not in ROWS:
        yield f"{path.relative_to(root)}: expected a module of {', '.join(ROWS)}. Add {module[1]} to ROWS."
        return
    own_row = ROWS.index(module[1])
    for name in sorted(find_imports(path)):
        row = name.split(".")[1]
        # what has no row is named where it stands
        if row in ROWS and ROWS.index(row) > own_row:
            yield f"{path.relative_to(root)}: imports {name}, which stands below it in the house (see ROWS)."
