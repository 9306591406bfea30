"""Which DVC experiment, stage, code, parameters, data and machine a run came from."""

import getpass
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from cotejo.errors import CotejoError, StageError
from cotejo.files import digest_json
from cotejo.masking import say_first_line
from cotejo.tracking.dvcfiles import compute_dvc_digest, list_deps, list_outs, load_stages
from cotejo.tracking.journal import Run

GIT_TIMEOUT_S = 10
#: Packages whose version can change a result.
VERSIONED = ("cotejo", "keras", "tensorflow", "numpy", "scikit-learn", "optuna")

#: What decides a result, apart from parameters and data.
CODE = ("dvc.yaml", "requirements.lock", "src", "stages")

#: What the tags begin with that hold the digest of a dep or an out, as `dvc.lock` has it; its path follows.
DEP = "dep."
OUT = "out."
#: The file in a folder of data that names what is in it.
DATASET_FILE = "dataset.json"
#: MLflow takes no more tags at once.
MAX_TAGS = 100
#: MLflow takes no tag whose key is longer.
MAX_KEY_LENGTH = 250


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
    """Names the parent run of all stages that one `dvc repro` or one DVC experiment runs.

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
    """Returns the tags that say where a run came from."""
    commit = git_commit()
    tags = {
        "dvc.stage": stage,
        "dvc.exp_name": experiment_name() or "",
        "dvc.exp_baseline_rev": os.environ.get("DVC_EXP_BASELINE_REV", ""),
        "mlflow.source.name": stage,
        "mlflow.source.git.commit": commit or "",
        "git.dirty": str(is_dirty()).lower() if commit else "",
        "mlflow.user": _find_user(),
        "host": platform.node(),
        "cpu": find_cpu_name(),
        "cpu_count": str(psutil.cpu_count()),
        "ram_gib": f"{psutil.virtual_memory().total / 2**30:.1f}",
        "gpus": ", ".join(find_gpu_names()),
        "python": platform.python_version(),
        **list_versions(),
    }
    return {key: value for key, value in tags.items() if value}


def list_versions() -> dict[str, str]:
    """Returns the installed versions of the packages that can change a result."""
    return {package: metadata.version(package) for package in VERSIONED}


def log_inputs(run: Run, stage: str, params: Mapping[str, Any]) -> None:
    """Records what a stage starts from, as tags: the digests of its parameters, its data and each of its deps.

    Args:
        run: The stage's run.
        stage: Its name in `dvc.yaml`; one that isn't there, tried by hand, has no deps.
        params: Its declared parameters by dotted name.
    """
    if not run.tracker.is_on:
        return
    deps = _list_declared(stage, list_deps)
    data = _find_data_digest(deps)
    tags = {"params.digest": digest_params(params), **({"data.digest": data} if data else {})}
    _log(run, {**tags, **_digest_paths(DEP, deps)})


def log_outs(run: Run, stage: str) -> None:
    """Records what a stage has made, as tags: the digest of each of its outs."""
    if not run.tracker.is_on:
        return
    outs = _list_declared(stage, list_outs)
    data = _find_data_digest(outs)
    _log(run, {**({"data.digest": data} if data else {}), **_digest_paths(OUT, outs)})


def digest_params(params: Mapping[str, Any]) -> str:
    """Returns the SHA-256 of parameters, whatever their order."""
    return digest_json(params)


def tag_key(kind: str, path: str) -> str:
    """Returns the tag that holds a path's digest: `out.models/lenet`. What MLflow refuses in a key becomes `_`."""
    key = re.sub(r"[^/\w.\- ]", "_", f"{kind}{path}")[:MAX_KEY_LENGTH]
    # it also refuses one that would be another path when tidied up
    return "/".join("__" if part == ".." else part for part in key.split("/") if part not in ("", "."))


def find_cpu_name() -> str:
    """Names the processor, such as `AMD EPYC`, or its architecture where the system doesn't tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def find_gpu_names(drivers: Path = Path("/proc/driver/nvidia/gpus")) -> list[str]:
    """Names the GPUs that NVIDIA's driver shows, without starting any of its programs."""
    try:
        shown = [path.read_text(encoding="utf-8") for path in sorted(drivers.glob("*/information"))]
    except OSError:
        return []
    return [line.partition(":")[2].strip() for text in shown for line in text.splitlines() if line.startswith("Model:")]


def _list_declared(stage: str, list_paths: Callable[[Mapping[str, Any]], list[str]]) -> list[str]:
    try:
        return list_paths(load_stages(Path()).get(stage, {}))
    except (CotejoError, LookupError, TypeError, AttributeError) as error:
        _warn(stage, error)
        return []


def _digest_paths(kind: str, paths: Sequence[str]) -> dict[str, str]:
    digests = {}
    for path in paths:
        try:
            digest = compute_dvc_digest(Path(path))
        except OSError as error:
            _warn(path, error)
            continue
        if digest:
            digests[tag_key(kind, path)] = digest
    return digests


def _find_data_digest(paths: Sequence[str]) -> str:
    """Returns the SHA-256 that a data set among these paths gives itself, or nothing."""
    for path in map(Path, paths):
        file = path if path.name == DATASET_FILE else path / DATASET_FILE
        try:
            return str(json.loads(file.read_bytes())["digest"])
        except (OSError, ValueError, LookupError, TypeError):
            continue
    return ""


def _log(run: Run, tags: Mapping[str, str]) -> None:
    items = list(tags.items())
    for first in range(0, len(items), MAX_TAGS):
        run.log_tags(dict(items[first : first + MAX_TAGS]))


def _warn(what: str, error: Exception) -> None:
    print(
        f"warning: not every digest of {what} can be recorded ({say_first_line(error)}). The run goes on; "
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
    """Tells whether the code differs from the commit; parameters are recorded by themselves, results follow."""
    return bool(ask_git("status", "--porcelain", "--", *CODE))


def ask_git(*arguments: str) -> str | None:
    """Returns what `git` prints, or None outside Git or where it refuses."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, check=True, timeout=GIT_TIMEOUT_S)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace").strip()  # names of files may be in another encoding
