"""Loads evaluate's results of a revision from Git and DVC's cache, by its `dvc.lock`; nothing is checked out."""

import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from dvc.api import DVCFileSystem
from dvc.config import NoRemoteError
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.scm import resolve_rev
from dvc_data.index import DataIndexDirError
from numpy.typing import NDArray
from scmrepo.exceptions import SCMError

from cotejo.comparison.inputs import STAGES_OF_MODEL
from cotejo.errors import RevisionError
from cotejo.files import digest_bytes
from cotejo.lineage.digests import LOCK_FILE, RESTORE, Locked, compute_dvc_digest, is_within, parse_lock
from cotejo.lineage.tags import ask_git
from cotejo.masking import mask_secrets
from cotejo.schema.results import ComparedMetrics, StageTimes, load_result

R = TypeVar("R", ComparedMetrics, StageTimes)

#: What stands for the files as they are here, as in DVC's own commands.
WORKSPACE = "workspace"
DATASET = "data/processed/dataset.json"


class Results(NamedTuple):
    """Results of some models in a revision.

    Attributes:
        name: As the user has called it.
        commit: None for the workspace.
        locked: Its `dvc.lock`.
        dataset: `data/processed/dataset.json`.
        metrics: `reports/metrics/<model>.json` by model.
        predictions: By model, `seeds` of shape (num_seeds,), `y_true` (num_samples,) and `y_prob` (num_seeds,
            num_samples, num_classes).
        timings: `reports/timings/<stage>.json` by stage, of those that the models come from.
    """

    name: str
    commit: str | None
    locked: dict[str, Locked]
    dataset: dict[str, Any]
    metrics: dict[str, ComparedMetrics]
    predictions: dict[str, dict[str, NDArray[Any]]]
    timings: dict[str, StageTimes]


class _RevisionFiles(NamedTuple):
    """Where a revision's files are read.

    Attributes:
        name: As the user has called it.
        commit: None for the workspace.
        read: Reads a file by its path.
        digest: Returns the MD5 of an out as it is; None where whatever is read has been found by it.
        find_cause: Says by an out's digest why the remote doesn't give it; None where it just hasn't got it.
        advice: What to run when something is missing.
    """

    name: str
    commit: str | None
    read: Callable[[str], bytes]
    digest: Callable[[str], str | None] | None
    find_cause: Callable[[str], str | None]
    advice: str


def load_results(root: Path, names: Sequence[str], models: Sequence[str]) -> list[Results]:
    """Reads what revisions hold.

    Args:
        root: The study's folder, which stays as it is.
        names: Branches, tags, commits, DVC experiments, or `workspace` for the files as they are.
        models: The models to read.

    Raises:
        RevisionError: A name is unknown, or what it stands for isn't there, isn't whole or doesn't belong together.
    """
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise RevisionError(
            expected="each revision once", received=f"{', '.join(twice)} more often", advice="Leave it out"
        )
    found = []
    with _open_repository(root) as repo:
        commits = [_resolve(repo, name) for name in names]  # all of them before a file is read
        for name, commit in zip(names, commits, strict=True):
            with _open_source(root, name, commit) as source:
                found.append(_load(source, models))
    return found


@contextmanager
def _open_repository(root: Path) -> Iterator[Any]:
    try:
        repo = Repo(str(root))
        repo.scm.get_rev()
    except (DvcException, SCMError) as error:
        raise RevisionError(
            expected="a folder under Git and DVC, with a commit", received=error, advice="Run from the study's root"
        ) from None
    with repo:
        yield repo


def _resolve(repo: Any, name: str) -> str | None:  # noqa: ANN401 - dvc has no types
    if name == WORKSPACE:
        return None
    try:
        commit: str = resolve_rev(repo.scm, name)
    except DvcException as error:
        if "ambiguous" in str(error):
            raise RevisionError(
                expected="one experiment of that name",
                received=f"{name}, of which there are several, on other commits",
                advice="Name its commit: `dvc exp list --all-commits --rev` shows them",
            ) from None
        raise _unknown(name) from None
    # Git takes an empty name for HEAD, and names of files within a commit
    if not name or not ask_git("rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}"):
        raise _unknown(name)
    return commit


def _unknown(name: str) -> RevisionError:
    refs = ask_git("for-each-ref", "--format=%(refname)", "refs/heads", "refs/tags", "refs/remotes", "refs/exps") or ""
    parts = [ref.split("/") for ref in refs.splitlines()]
    # refs/exps/ab/cdef.../name is an experiment; DVC keeps others there for its own use
    experiments = [part[4] for part in parts if part[1] == "exps" and len(part) == 5]
    known = [*experiments, *("/".join(part[2:]) for part in parts if part[1] != "exps")]
    near = get_close_matches(name, [*known, WORKSPACE], n=1, cutoff=0.5)
    hint = f" Did you mean `{near[0]}`?" if near else ""
    return RevisionError(
        expected=f"a branch, tag, commit or DVC experiment, or `{WORKSPACE}`",
        received=(
            f"{name!r}, which is none that is known.{hint} `dvc exp list --all-commits` and `git branch --all` show "
            "them"
        ),
    )


@contextmanager
def _open_source(root: Path, name: str, commit: str | None) -> Iterator[_RevisionFiles]:
    if commit is None:
        advice = "`dvc checkout`, or `dvc repro evaluate`"
        yield _RevisionFiles(
            name,
            None,
            read=lambda path: (root / path).read_bytes(),
            digest=lambda out: compute_dvc_digest(root / out),
            find_cause=lambda _: None,  # the workspace has no remote
            advice=advice,
        )
        return
    files = DVCFileSystem(str(root), rev=commit)
    advice = f"`dvc fetch --all-commits` where there is a remote, or switch to {name} and run `dvc repro evaluate`"
    try:
        yield _RevisionFiles(name, commit, files.read_bytes, None, partial(_ask_remote, files), advice)
    finally:
        files.close()


def _ask_remote(files: Any, digest: str) -> str | None:  # noqa: ANN401 - dvc has no types
    """Asks a remote once more, for an out; DVC's own reading takes one that refuses for one that hasn't got it."""
    try:
        remote = files.repo.cloud.get_remote()
        with remote.fs.open(remote.odb.oid_to_path(digest), "rb") as file:
            file.read(1)
    except NoRemoteError:
        return None
    except Exception as error:  # noqa: BLE001 - each kind of remote raises what its own library does
        cause = _find_cause(error)
        # http says 404 by an error of its own
        is_none = isinstance(cause, FileNotFoundError) or getattr(cause, "status", None) == HTTPStatus.NOT_FOUND
        return None if is_none else f"none, and the remote `{remote.name}` can't be read: {_say(cause)}"
    return None


def _find_cause(error: BaseException) -> BaseException:
    """Finds what made a remote say that a file isn't there."""
    while isinstance(error, FileNotFoundError) and error.__cause__:
        error = error.__cause__
    return error


def _say(error: BaseException) -> str:
    return mask_secrets(" ".join(f"{type(error).__name__}: {error}".split()))


def _load(source: _RevisionFiles, models: Sequence[str]) -> Results:
    locked = _load_lock(source)
    stages = dict.fromkeys(stage for model in models for stage in STAGES_OF_MODEL[model])
    outs = {path: digest for entry in locked.values() for path, digest in entry.outs.items()}

    def read(path: str) -> bytes:
        out = next((out for out in outs if is_within(path, out)), None)
        if out is None:
            where = "" if source.commit is None else f" on {source.name}, and commit {LOCK_FILE}"
            raise RevisionError(
                where=source.name,
                expected=f"{path} in its {LOCK_FILE}",
                received="a revision that hasn't made it",
                advice=f"Run `dvc repro evaluate`{where}",
            )
        return _read_out(source, path, out, outs[out])

    def load(record: type[R], path: str, stage: str = "evaluate") -> R:
        where, advice = f"{source.name}: {path}", f"Run `dvc repro {stage}` there."
        return load_result(record, read(path), where, advice, RevisionError)

    return Results(
        name=source.name,
        commit=source.commit,
        locked=locked,
        metrics={model: load(ComparedMetrics, f"reports/metrics/{model}.json") for model in models},
        dataset=_read_json(source, read, DATASET),
        predictions={model: _read_arrays(source, read, f"reports/predictions/{model}.npz") for model in models},
        timings={stage: load(StageTimes, f"reports/timings/{stage}.json", stage) for stage in stages},
    )


def _load_lock(source: _RevisionFiles) -> dict[str, Locked]:
    try:
        content = source.read(str(LOCK_FILE))
    except Exception:  # noqa: BLE001 - DVC looks for a file that isn't in Git in the remote, see _read_out
        return {}
    advice = RESTORE
    if source.commit is not None:
        advice = f"Name a commit that has it whole: `git log {source.name} -- {LOCK_FILE}` lists those that wrote it"
    return parse_lock(content, f"{source.name}: {LOCK_FILE}", advice)


def _read_out(source: _RevisionFiles, path: str, out: str, digest: str) -> bytes:
    """Reads a file of a stage's out, the one that `dvc.lock` means: files in Git and here may be others."""
    try:
        content = source.read(path)
    except Exception as error:  # noqa: BLE001 - each kind of remote raises what its own library does
        raise _explain(source, path, digest, error) from None
    present: str | None = digest_bytes(content, kind="md5")
    if path != out:  # what stands in a folder has no digest of its own in dvc.lock
        present = source.digest(out) if source.digest else digest
    if present != digest:
        raise RevisionError(
            where=source.name,
            expected=f"{out} as {LOCK_FILE} records it ({digest[:8]})",
            received=f"another one ({str(present)[:8]}), so its numbers don't belong together",
            advice=f"Run {source.advice}",
        )
    return content


def _explain(source: _RevisionFiles, path: str, digest: str, error: Exception) -> RevisionError:
    """Returns the error of a file that can't be read: there is none, or its remote doesn't answer."""
    where = "in this folder" if source.commit is None else "in Git or DVC's cache"
    expected = f"{source.name}: expected {path} {where}, as {LOCK_FILE} records it."
    # DVC looks for the plugin before it looks into its cache
    if isinstance(error, ImportError) and (plugin := re.search(r"'(dvc-[\w-]+)'", str(error))):
        return RevisionError(
            f"{expected} Received: a remote that DVC has no plugin for: {error}. Run `pip install {plugin[1]}`."
        )
    if isinstance(error, OSError | DataIndexDirError):
        cause = source.find_cause(digest)
        if cause is None:
            return RevisionError(f"{expected} Received: none. Run {source.advice}.")
    elif isinstance(error, DvcException):
        return RevisionError(f"{expected} Received: {error}. Run {source.advice}.")
    else:
        cause = f"none, and the remote can't be read: {_say(error)}"
    return RevisionError(
        f"{expected} Received: {cause}. Check its address (`dvc remote list`) and your access, or switch "
        f"to {source.name} and run `dvc repro evaluate`."
    )


def _read_json(source: _RevisionFiles, read: Callable[[str], bytes], path: str) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(read(path))
    except ValueError as error:
        raise _damaged(source, path, error) from None
    return content


def _read_arrays(source: _RevisionFiles, read: Callable[[str], bytes], path: str) -> dict[str, NDArray[Any]]:
    try:
        with np.load(io.BytesIO(read(path)), allow_pickle=False) as arrays:
            return {key: arrays[key] for key in ("seeds", "y_true", "y_prob")}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise _damaged(source, path, error) from None


def _damaged(source: _RevisionFiles, path: str, error: Exception) -> RevisionError:
    return RevisionError(
        where=f"{source.name}: {path}",
        expected="what evaluate writes",
        received=error,
        advice="Run `dvc repro evaluate` there",
    )
