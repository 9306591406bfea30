"""Runs a stage: its parameters, its lock, its outputs in one step, its tracked run, its exit code."""

import hashlib
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import psutil
from filelock import FileLock, Timeout

from cotejo.errors import CotejoError, StageError
from cotejo.params import Sections, load_params
from cotejo.tracking import lineage
from cotejo.tracking.journal import Run, Tracker, say_first_line, state_of
from cotejo.tracking.mlflow_client import Delivery

STATE_FOLDER = Path(".cotejo")
#: Seconds that a stage whose `dvc` was killed may take to notice and free its lock.
LOCK_PATIENCE_S = 10.0
WATCH_INTERVAL_S = 1.0
#: Packages whose code decides whether a checkpoint can be gone on from.
CHECKPOINTED = ("data", "models", "training", "tuning")


class Stopped(BaseException):
    """The stage was told to stop by a signal."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


class Stage:
    """What a stage's script is given.

    Attributes:
        name: The stage's name in `dvc.yaml`.
        params: The declared sections of `params.yaml`.
        run: The tracked run.
    """

    def __init__(self, name: str, params: Sections, run: Run) -> None:
        self.name = name
        self.params = params
        self.run = run

    @contextmanager
    def output(self, path: str) -> Iterator[Path]:
        """Gives a temporary name to write to; the output appears under its own name when the block succeeds.

        Args:
            path: A file, or (without a suffix) a folder, which is made.
        """
        final = Path(path)
        partial = final.with_name(f".part-{final.name}")
        _remove(partial)
        (final.parent if final.suffix else partial).mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            _remove(final)
            partial.replace(final)
        finally:
            _remove(partial)

    @contextmanager
    def outputs(self, *paths: str) -> Iterator[tuple[Path, ...]]:
        """Gives a temporary name for each of several outputs, as `output` does for one."""
        with ExitStack() as stack:
            yield tuple(stack.enter_context(self.output(path)) for path in paths)

    def describe_code(self) -> dict[str, Any]:
        """Returns the commit, whether the code differs from it, and the stage's parameters by dotted name."""
        return {"git_commit": lineage.git_commit(), "dirty": lineage.is_dirty(), "params": self.params.flatten()}

    @contextmanager
    def checkpoint(self, *inputs: str | Path | None) -> Iterator[Path]:
        """Gives a folder that outlives a kill and is gone on from by the next run with the same inputs.

        It is outside DVC's outputs, which DVC deletes before a stage starts, and is named after everything that the
        result depends on, so that nothing of another study is ever gone on from. Removed when the block succeeds.

        Args:
            inputs: Digests of the data that the stage reads, and files that it reads.
        """
        read = [_digest(item) if isinstance(item, Path) else item for item in inputs]
        key = [self.params.flatten(), read, lineage.list_versions()]
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode())
        for package in CHECKPOINTED:
            for file in sorted((Path(__file__).parent / package).glob("*.py")):
                digest.update(file.read_bytes())
        folder = STATE_FOLDER / "checkpoints" / f"{self.name}-{digest.hexdigest()[:16]}"
        others = [str(path) for path in folder.parent.glob(f"{self.name}-*") if path != folder]
        if others and not folder.exists():
            print(
                f"{self.name}: starts from the beginning. What was checkpointed with other parameters, data or code is "
                f"kept for a return to them; remove it when it isn't wanted: {' '.join(others)}",
                file=sys.stderr,
            )
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        _remove(folder)


def run_stage(body: Callable[[Stage], None], name: str, sections: Sequence[str]) -> NoReturn:
    """Runs a stage and exits.

    Args:
        body: Reads its inputs and writes its outputs.
        name: The stage's name in `dvc.yaml`.
        sections: The sections of `params.yaml` that it declares there.

    Exit codes: 0 done; 2 a fault that the user can mend, in one line on stderr; 1 a fault of ours, with its
    traceback; 143 and 130 stopped by SIGTERM and SIGINT.
    """
    try:
        _stop_on_signals()
        driver = lineage.find_driver()
        _stop_with(driver)
        with _lock(name):
            _run_tracked(body, name, sections, driver)
    except CotejoError as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(2)
    except Stopped as stopped:
        print(f"{name}: stopped by {stopped}", file=sys.stderr)
        sys.exit(stopped.exit_code)
    sys.exit(0)


def _run_tracked(
    body: Callable[[Stage], None], name: str, sections: Sequence[str], driver: psutil.Process | None
) -> None:
    params = load_params(sections)
    root = lineage.find_root()
    state_folder = root / STATE_FOLDER
    tracker = Tracker(state_folder / "journal", Delivery(root, state_folder, params.runtime.tracking_timeout_s))
    run = Run(tracker, name, lineage.find_session(driver), lineage.describe_run(name))
    run.log_params(params.flatten(), is_summary=True)
    run.flush()
    began_s = time.perf_counter()
    try:
        body(Stage(name, params, run))
    except BaseException as error:
        run.finish(state_of(error), error=say_first_line(error))
        raise
    run.log_metrics({"wall_time_s": time.perf_counter() - began_s})
    run.finish("FINISHED")
    tracker.send_left_over()


@contextmanager
def _lock(name: str) -> Iterator[None]:
    """Holds the stage's lock: a killed `dvc` leaves its stage running, and a second one would write beside it."""
    path = STATE_FOLDER / "locks" / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    holder = path.with_suffix(".pid")
    lock = FileLock(path)
    try:
        lock.acquire(timeout=LOCK_PATIENCE_S)
    except Timeout:
        pid = holder.read_text() if holder.exists() else "unknown"
        raise StageError(
            f"expected to be the only {name} in {Path.cwd()}. Received: another one is running as process {pid}. "
            f"Wait for it, or stop it with `kill {pid}`."
        ) from None
    try:
        holder.write_text(str(os.getpid()))
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _stop_on_signals() -> None:
    def stop(number: int, _: FrameType | None) -> None:
        for later in (signal.SIGTERM, signal.SIGINT):  # once is enough: what is left is to say so in MLflow
            signal.signal(later, signal.SIG_IGN)
        raise Stopped(number)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)


def _stop_with(driver: psutil.Process | None) -> None:
    """Stops this process soon after the `dvc` that started it has gone."""
    if driver is None:
        return

    def watch() -> None:
        while driver.is_running() and driver.status() != psutil.STATUS_ZOMBIE:
            time.sleep(WATCH_INTERVAL_S)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="watch-dvc", daemon=True).start()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
