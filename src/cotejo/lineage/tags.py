"""Records of which experiment, stage, code, parameters, data and machine a run comes from."""

import getpass
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from cotejo.errors import CotejoError, StageError
from cotejo.files import digest_json
from cotejo.lineage.digests import compute_dvc_digest, list_deps, list_outs, load_stages
from cotejo.masking import say_first_line
from cotejo.tracking.journal import Run

GIT_TIMEOUT_S = 10
#: Packages whose version can change a result.
VERSIONED = ("cotejo", "keras", "tensorflow", "numpy", "scikit-learn", "optuna")

#: Files that decide a result, apart from parameters and data.
CODE = ("dvc.yaml", "requirements.lock", "src", "stages")
#: Folders of source files: what a run reads of them is one digest among its tags.
CODE_FOLDERS = ("src", "stages")
#: Tags with the digests of what a run reads (source files apart) and makes, by path as in `dvc.lock`.
DEPS = "deps"
OUTS = "outs"
#: Tags with one digest: of the source files that the run reads, of its parameters, of the data set.
CODE_TAG = "code.digest"
PARAMS_TAG = "params.digest"
DATA_TAG = "data.digest"
#: The file in a folder of data that describes the data set.
DATASET_FILE = "dataset.json"
#: MLflow cuts a longer tag; all digests are in the run's `lineage.json`.
MAX_TAG_LENGTH = 8000
#: An entry of such a tag: a path and its digest, or a stage and a run.
ENTRY = re.compile(r"(?P<name>.+?) (?P<value>[0-9a-f]{32}(?:\.dir)?|unknown)(?:, |$)")


def find_root() -> Path:
    """Returns the repository's root; DVC names it also to an experiment in a folder of its own."""
    return Path(os.environ.get("DVC_ROOT", "")).resolve()


def find_driver() -> psutil.Process | None:
    """Returns the `dvc` process that started this stage, or None if a person started it.

    Raises:
        StageError: `dvc` has gone while this process was starting.
    """
    if "DVC_STAGE" not in os.environ:
        return None
    for process in psutil.Process().parents():
        try:
            if any("dvc" in Path(part).name for part in process.cmdline()):
                return process
        except psutil.Error:
            continue
    raise StageError(
        expected="the dvc process that started this stage", received="none, it has gone", advice="Run dvc again"
    )


def find_session(driver: psutil.Process | None) -> dict[str, Any] | None:
    """Returns the names of the parent run of all stages that one `dvc repro` or DVC experiment runs.

    Args:
        driver: The `dvc` process, or None.

    Returns:
        A unique name, the same in each stage, and a readable one; None for a stage started by hand.
    """
    if driver is None:
        return None
    name = experiment_name() or f"repro-{(git_commit() or 'nogit')[:7]}"
    uid = f"{platform.node()}-{driver.pid}-{driver.create_time():.2f}"
    return {"uid": uid, "name": name, "is_session": True}


def describe_run(stage: str) -> dict[str, str]:
    """Returns the tags of a run at its start, by which a person finds it in MLflow."""
    commit = git_commit()
    tags = {
        "dvc.stage": stage,
        "dvc.exp_name": experiment_name() or "",
        "mlflow.source.name": stage,
        "mlflow.source.git.commit": commit or "",
        "git.dirty": str(is_dirty()).lower() if commit else "",
        "mlflow.user": _find_user(),
    }
    return {key: value for key, value in tags.items() if value}


def _describe_machine() -> dict[str, Any]:
    """Returns the machine, the versions and the experiment's base, for `lineage.json`."""
    return {
        "dvc.exp_baseline_rev": os.environ.get("DVC_EXP_BASELINE_REV", ""),
        "host": platform.node(),
        "cpu": find_cpu_name(),
        "cpu_count": psutil.cpu_count(),
        "ram_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpus": find_gpu_names(),
        "python": platform.python_version(),
        "packages": list_versions(),
    }


def list_versions() -> dict[str, str]:
    """Returns the installed versions of the packages that can change a result."""
    return {package: metadata.version(package) for package in VERSIONED}


def log_inputs(run: Run, stage: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """Records what a stage starts from: digests as tags, and everything in `lineage.json`.

    Args:
        run: The stage's run.
        stage: Name of the stage in `dvc.yaml`; one that isn't there, tried by hand, has no deps.
        params: Declared parameters by dotted name.

    Returns:
        The content of `lineage.json`, to which `log_outs` adds; empty without tracking.
    """
    if not run.tracker.is_on:
        return {}
    deps = _digest_declared(stage, list_deps)
    lineage = {
        **run.tags,
        **_describe_machine(),
        PARAMS_TAG: digest_params(params),
        DATA_TAG: _find_data_digest(deps),
        CODE_TAG: digest_code(deps) if deps else "",
        DEPS: deps,
    }
    inputs = join_entries({path: digest for path, digest in deps.items() if not is_code(path)})
    _log_tags(run, {**{key: lineage[key] for key in (PARAMS_TAG, DATA_TAG, CODE_TAG)}, DEPS: inputs})
    run.log_lineage(lineage)
    return lineage


def log_outs(run: Run, stage: str, lineage: Mapping[str, Any]) -> None:
    """Records what a stage has made: digests as tags, and everything in `lineage.json`.

    Args:
        run: The stage's run.
        stage: Name of the stage in `dvc.yaml`.
        lineage: What `log_inputs` has returned.
    """
    if not run.tracker.is_on:
        return
    outs = _digest_declared(stage, list_outs)
    data = _find_data_digest(outs) or lineage.get(DATA_TAG, "")
    _log_tags(run, {DATA_TAG: data, OUTS: join_entries(outs)})
    run.log_lineage({**lineage, DATA_TAG: data, OUTS: outs})


def join_entries(values: Mapping[str, str]) -> str:
    """Returns a tag that a person can read: `models/lenet 3fa9..., reports/timings/train-lenet.json 81c2...`.

    Example:
        >>> parse_entries(join_entries({"models/lenet": 16 * "3f" + ".dir", "data": 16 * "00"}))["models/lenet"]
        '3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f3f.dir'
    """
    joined = ""
    for name, value in values.items():
        entry = f"{name} {value}"
        if len(joined) + len(entry) + 2 > MAX_TAG_LENGTH:
            break
        joined += f", {entry}" if joined else entry
    return joined


def parse_entries(tag: str) -> dict[str, str]:
    """Returns the values of a tag that `join_entries` has made, by name."""
    return {match["name"]: match["value"] for match in ENTRY.finditer(tag)}


def is_code(path: str) -> bool:
    """Returns whether a dep is a source file of the study."""
    return path.split("/")[0] in CODE_FOLDERS


def digest_code(deps: Mapping[str, str]) -> str:
    """Returns one digest of all source files among a stage's deps, given by path."""
    return digest_json({path: digest for path, digest in deps.items() if is_code(path)})


def digest_params(params: Mapping[str, Any]) -> str:
    """Returns the SHA-256 of parameters, whatever their order."""
    return digest_json(params)


def find_cpu_name() -> str:
    """Returns the processor's name, such as `AMD EPYC`, or its architecture where the system has no name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def find_gpu_names(drivers: Path = Path("/proc/driver/nvidia/gpus")) -> list[str]:
    """Returns the names of the GPUs that NVIDIA's driver lists, without starting any of its programs."""
    try:
        shown = [path.read_text(encoding="utf-8") for path in sorted(drivers.glob("*/information"))]
    except OSError:
        return []
    return [line.partition(":")[2].strip() for text in shown for line in text.splitlines() if line.startswith("Model:")]


def _digest_declared(stage: str, list_paths: Callable[[Mapping[str, Any]], list[str]]) -> dict[str, str]:
    """Returns the digests of a stage's declared paths that are there."""
    try:
        paths = list_paths(load_stages(Path()).get(stage, {}))
    except (CotejoError, LookupError, TypeError, AttributeError) as error:
        _warn(stage, error)
        return {}
    digests = {}
    for path in paths:
        try:
            digest = compute_dvc_digest(Path(path))
        except OSError as error:
            _warn(path, error)
            continue
        if digest:
            digests[path] = digest
    return digests


def _find_data_digest(paths: Iterable[str]) -> str:
    """Returns the SHA-256 in the description of a data set among these paths; an empty string without one."""
    for path in map(Path, paths):
        file = path if path.name == DATASET_FILE else path / DATASET_FILE
        try:
            return str(json.loads(file.read_bytes())["digest"])
        except (OSError, ValueError, LookupError, TypeError):
            continue
    return ""


def _log_tags(run: Run, tags: Mapping[str, str]) -> None:
    values = {key: value for key, value in tags.items() if value}
    if values:
        run.log_tags(values)


def _warn(what: str, error: Exception) -> None:
    print(
        f"warning: not every digest of {what} can be recorded ({say_first_line(error)}). The run continues; "
        "`cotejo lineage` will miss it.",
        file=sys.stderr,
    )


def _find_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user needs no name
        return "unknown"


def experiment_name() -> str | None:
    """Returns the name of the DVC experiment that runs the stage; None outside one."""
    return os.environ.get("DVC_EXP_NAME")


def git_commit() -> str | None:
    """Returns the commit that the working tree is based on, or None outside Git."""
    return ask_git("rev-parse", "HEAD")


def is_dirty() -> bool:
    """Returns whether the code differs from the commit; parameters have a digest of their own."""
    return bool(ask_git("status", "--porcelain", "--", *CODE))


def ask_git(*arguments: str) -> str | None:
    """Returns what `git` prints, or None outside Git or where it refuses."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, check=True, timeout=GIT_TIMEOUT_S)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace").strip()  # names of files may be in another encoding
