"""What `dvc.yaml` declares, held against what the stages' code reads and imports."""

import ast
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from cotejo.errors import ParamsError
from cotejo.params import PARAMS_FILE, read_yaml
from cotejo.schema import FAMILIES, Params

PIPELINE_FILE = Path("dvc.yaml")
SOURCE = Path("src")
MAX_STAGE_LINES = 40

#: Modules that a stage needn't list in its deps, since they can't change what it computes.
EXEMPT = {
    "cotejo.errors": "says what went wrong",
    "cotejo.faults": "says what is wrong with a value",
    "cotejo.params": "reads values and changes none: DVC tracks the values themselves",
    "cotejo.report.figures.augmentation": "draws a picture that no stage reads",
    "cotejo.schema": "refuses values and changes none",
    "cotejo.stage": "locks, moves and records what a stage has computed",
    "cotejo.tracking": "watches",
    "cotejo.training.progress": "shows what others have measured",
}

#: The house: a module imports only from its own row and the rows above.
ROWS = (
    "errors", "faults", "schema", "params", "data", "models", "tracking", "training", "evaluation", "tuning",
    "comparison", "report", "stage", "pipeline", "cli",
)  # fmt: skip


def check_pipeline(root: Path) -> list[str]:
    """Finds where `dvc.yaml` and the code disagree.

    Args:
        root: The repository's root.

    Returns:
        A line per fault: a missing or needless dep or params section, an import against the layers, a stage's script
        that is too long.
    """
    stages = load_stages(root)
    faults = [fault for name, stage in stages.items() for fault in _check_stage(root, name, stage)]
    faults += [fault for path in sorted((root / SOURCE).rglob("*.py")) for fault in _check_layers(root, path)]
    for script in sorted((root / "stages").glob("*.py")):
        num_lines = len(script.read_text(encoding="utf-8").splitlines())
        if num_lines > MAX_STAGE_LINES:
            faults.append(f"stages/{script.name}: expected at most {MAX_STAGE_LINES} lines. Received: {num_lines}.")
    return faults


def load_stages(root: Path) -> dict[str, Mapping[str, Any]]:
    """Reads the stages of `dvc.yaml`, its `${...}` filled in from `params.yaml`."""
    params = read_yaml(root / PARAMS_FILE)

    def fill(match: re.Match[str]) -> str:
        value: Any = params
        for key in match.group(1).split("."):
            if key not in value:
                raise ParamsError(f"{PIPELINE_FILE} names {match.group(0)}, which {PARAMS_FILE} doesn't hold.")
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


def find_sources(root: Path, command: str) -> set[str]:
    """Lists the source files that a stage's result can depend on.

    Args:
        root: The repository's root.
        command: The stage's command, such as `python stages/train.py lenet`.

    Returns:
        Paths from the root: the script and every module that it imports, directly or not, less the exempt ones.
        `import_module(f"cotejo.models.{FAMILIES[...]}")` stands for every family that the section allows which the
        command's argument names.
    """
    _, script, *arguments = shlex.split(command)
    found = {script}
    waiting = [root / script]
    while waiting:
        for module in find_imports(waiting.pop(), arguments):
            path = _module_path(module)
            if (root / path).exists() and str(path) not in found and not _is_exempt(module):
                found.add(str(path))
                waiting.append(root / path)
    return found


def find_imports(path: Path, arguments: Iterable[str] = ()) -> set[str]:
    """Lists the cotejo modules that a file imports, at its top or within a function."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {name for node in ast.walk(tree) for name in _imported(node, arguments) if name.startswith("cotejo.")}


def find_families(section: str) -> set[str]:
    """Names the modules of `cotejo.models` that can build what a section of `params.yaml` declares."""
    fields = Params.model_fields[section].annotation.model_fields  # type: ignore[union-attr]
    allowed = str(fields["architecture"].annotation)  # a union of literals
    return {family for architecture, family in FAMILIES.items() if f"'{architecture}'" in allowed}


def _imported(node: ast.AST, arguments: Iterable[str]) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        yield node.module
        yield from (f"{node.module}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "import_module":
        prefix = ast.unparse(node.args[0]).partition("{")[0].strip("f'\"")
        yield from (f"{prefix}{family}" for argument in arguments for family in find_families(argument))


def _check_stage(root: Path, name: str, stage: Mapping[str, Any]) -> Iterator[str]:
    where = f"{PIPELINE_FILE}: stages.{name}"
    declared = {dep for dep in stage["deps"] if dep.endswith(".py")}
    needed = find_sources(root, stage["cmd"])
    for path in sorted(needed - declared):
        yield f"{where}.deps: {path} is missing; its change would not re-run the stage."
    for path in sorted(declared - needed):
        yield f"{where}.deps: {path} is not imported; its change would re-run the stage for nothing."
    read = read_sections(root, stage["cmd"])
    if read != set(stage.get("params", ())):
        yield f"{where}.params: expected {sorted(read)}, what run_stage() is given. Received: {stage.get('params')}."


def read_sections(root: Path, command: str) -> set[str]:
    """Returns the sections of `params.yaml` that a stage's script hands to `run_stage`."""
    _, script, *arguments = shlex.split(command)
    tree = ast.parse((root / script).read_text(encoding="utf-8"))
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
    own_row = ROWS.index(module[1])
    for name in sorted(find_imports(path)):
        if _row(name) > own_row:
            yield f"{path.relative_to(root)}: imports {name}, which stands below it in the house (see ROWS)."


def _row(module: str) -> int:
    return ROWS.index(module.split(".")[1])


def _module_path(module: str) -> Path:
    return SOURCE.joinpath(*module.split(".")).with_suffix(".py")


def _is_exempt(module: str) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in EXEMPT)
