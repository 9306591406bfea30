"""The source files that a stage's result can depend on, found by following its imports."""

import ast
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path

from cotejo.errors import StageError
from cotejo.models.families import FAMILIES
from cotejo.schema.study import Params

SOURCE = Path("src")

#: Modules that a stage needn't list in its deps, since they can't change what it computes.
EXEMPT = {
    "cotejo.errors": "says what went wrong",
    "cotejo.execution": "says where something is computed, which changes none of its bits",
    "cotejo.faults": "says what is wrong with a value",
    "cotejo.imports": "names the code that a result depends on",
    "cotejo.lineage": "records where a result comes from",
    "cotejo.masking": "hides passwords in messages",
    "cotejo.params": "reads values and changes none: DVC tracks the values themselves",
    "cotejo.report.figures.augmentation": "draws a picture that no stage reads",
    "cotejo.report.search_page": "writes a page that no stage reads; other words are no reason to search again",
    **dict.fromkeys(
        (f"cotejo.schema.{name}" for name in ("groups", "images", "operations", "searches", "study", "trainings")),
        "refuses values and changes none; which module builds what is said in cotejo.models.families",
    ),
    "cotejo.stage": "locks, moves and records what a stage has computed",
    "cotejo.tracking": "watches",
    "cotejo.terminal": "shows what others have measured",
    "cotejo.training.progress": "shows what others have measured",
    "cotejo.tuning.progress": "shows what workers have measured",
}


def find_sources(root: Path, command: str) -> set[str]:
    """Lists the source files that a stage's result can depend on.

    Args:
        root: The repository's root.
        command: The stage's command, such as `python stages/train.py lenet`.

    Returns:
        Paths from the root: the script and every module that it imports, directly or not, less the exempt ones.
        `import_module(f"cotejo.models.{FAMILIES[...]}")` in any of them stands for every family that the section which
        the command's argument names allows.
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
    return {
        name
        for node in ast.walk(parse_source(path))
        for name in _imported(node, arguments)
        if name.startswith("cotejo.")
    }


def parse_source(path: Path) -> ast.Module:
    """Parses a source file.

    Raises:
        StageError: The file isn't there, or isn't Python.
    """
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError) as error:
        where = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        received = getattr(error, "msg", None) or getattr(error, "strerror", None) or error
        raise StageError(where=f"{path}{where}", expected="Python source", received=received) from None


def find_families(section: str) -> set[str]:
    """Returns the modules of `cotejo.models` that can build a section's architectures."""
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


def _module_path(module: str) -> Path:
    return SOURCE.joinpath(*module.split(".")).with_suffix(".py")


def _is_exempt(module: str) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in EXEMPT)
