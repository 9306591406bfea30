"""Runs a stage: its parameters, its lock, its outputs in one step, its tracked run, its exit code."""

import errno
import os
import shlex
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import psutil

from cotejo.errors import CotejoError, StageError
from cotejo.files import STATE_FOLDER, digest_file, digest_json, remove, replacing, try_lock
from cotejo.imports import find_sources
from cotejo.lineage import reuse, tags
from cotejo.lineage.access import open_delivery
from cotejo.masking import mask_secrets, say_first_line
from cotejo.params import Sections, load_params
from cotejo.tracking.journal import JOURNAL_FOLDER, Run, state_of
from cotejo.tracking.outbox.sender import THREAD_NAME as SENDER
from cotejo.tracking.outbox.sender import Tracker

#: Seconds that a stage whose `dvc` was killed may take to notice and free its lock.
LOCK_PATIENCE_S = 10.0
WATCH_INTERVAL_S = 1.0
CHECKPOINTS = STATE_FOLDER / "checkpoints"
#: Marks a checkpoint whose stage has ended; DVC has still to record the outputs.
DONE = "done"
REMOVED = ".removed-"


class Stopped(BaseException):
    """The stage was told to stop by a signal."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


class Stage:
    """A running stage, as its script gets it.

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
        """Yields a temporary path to write to; the output appears under its own name when the block succeeds.

        Args:
            path: A file, or (without a suffix) a folder, which is made.
        """
        final = Path(path)
        with replacing(final) as partial:
            (final.parent if final.suffix else partial).mkdir(parents=True, exist_ok=True)
            yield partial
            remove(final)

    @contextmanager
    def outputs(self, *paths: str) -> Iterator[tuple[Path, ...]]:
        """Yields a temporary path for each of several outputs, as `output` does for one."""
        with ExitStack() as stack:
            yield tuple(stack.enter_context(self.output(path)) for path in paths)

    def describe_code(self) -> dict[str, Any]:
        """Returns commit, whether the code differs from it, DVC's experiment, the parameters by dotted name."""
        return {
            "git_commit": tags.git_commit(),
            "dirty": tags.is_dirty(),
            "dvc_exp_name": tags.experiment_name(),
            "params": self.params.flatten(),
        }

    @contextmanager
    def checkpoint(self, *inputs: str | Path | None) -> Iterator[Path]:
        """Yields a folder that outlives a kill, from which the next run with the same inputs resumes.

        It is outside DVC's outputs, which DVC deletes before a stage starts, and is named after everything that the
        result depends on, so that nothing of another study is ever resumed. When the block succeeds it is marked
        as done and stays: were `dvc` killed before it has recorded the outputs, the stage would be run again, and is
        restored from it in seconds. The next run of another stage removes it.

        Args:
            inputs: Digests of the data that the stage reads, and files that it reads.
        """
        read = [digest_file(item) if isinstance(item, Path) else item for item in inputs]
        key = [self.params.flatten(), read, tags.list_versions(), _digest_code()]
        folder = CHECKPOINTS / f"{self.name}-{digest_json(key)[:16]}"
        _remove_finished(spared=folder.name)
        others = [str(path) for path in sorted(CHECKPOINTS.glob(f"{self.name}-*")) if _holds_files(path)]
        if others and str(folder) not in others:
            print(
                f"{self.name}: starts from the beginning. What was checkpointed with other parameters, data or code is "
                f"kept for a return to them; remove it when it isn't wanted: {' '.join(others)}",
                file=sys.stderr,
            )
        folder.mkdir(parents=True, exist_ok=True)
        (folder / DONE).unlink(missing_ok=True)
        yield folder
        with suppress(OSError):  # on a full disk: it stays until it is removed by hand
            (folder / DONE).touch()


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
        stop_on_signals()
        driver = tags.find_driver()
        _stop_with(driver)
        with _lock(name):
            _run_tracked(body, name, sections, driver)
    except CotejoError as error:
        print(f"{name}: {mask_secrets(str(error))}", file=sys.stderr)
        _leave(2)
    except Exception as error:  # noqa: BLE001 - shown with its traceback
        full = _find_full_disk(error)
        if full is None:
            print(mask_secrets(traceback.format_exc()), end="", file=sys.stderr)
            _leave(1)
        where = f": {full.filename}" if full.filename else ""
        print(
            f"{name}: expected to write the stage's outputs. Received: {full.strerror or full}{where}. Free some space "
            "and run dvc again.",
            file=sys.stderr,
        )
        _leave(2)
    except Stopped as stopped:
        print(f"{name}: stopped by {stopped}", file=sys.stderr)
        _leave(stopped.exit_code)
    _leave(0)


def _run_tracked(
    body: Callable[[Stage], None], name: str, sections: Sequence[str], driver: psutil.Process | None
) -> None:
    params = load_params(sections)
    tracker = open_tracker(tags.find_root(), params)
    session = tags.find_session(driver)
    run = Run(tracker, name, session, tags.describe_run(name))
    with finishing(run, tracker, params.runtime.tracking_timeout_s):
        run.log_params(params.flatten(), is_summary=True)
        inputs: dict[str, Any] = {}
        with _only_watching("what it starts from"):
            inputs = tags.log_inputs(run, name, params.flatten())
        run.flush()
        tracker.send_left_over()
        _remove_finished(spared=name)
        began_s = time.perf_counter()
        body(Stage(name, params, run))
        run.log_metrics({"wall_time_s": time.perf_counter() - began_s})
        with _only_watching("what it has made"):
            tags.log_outs(run, name, inputs)
            reuse.log_reused(run, name, session)


def open_tracker(root: Path, params: Sections) -> Tracker:
    """Returns the tracker of a study, which sends records to MLflow unless `runtime.tracking` is off."""
    return Tracker(root / JOURNAL_FOLDER, open_delivery(root, params) if params.runtime.tracking == "on" else None)


@contextmanager
def finishing(run: Run, tracker: Tracker, timeout_s: float) -> Iterator[None]:
    """Finishes a run however its work ends, and waits as long as it is said for its records to be sent."""
    try:
        yield
    except BaseException as error:
        run.finish(state_of(error), error=say_first_line(error))
        raise
    else:
        run.finish("FINISHED")
    finally:
        with suppress(Stopped):  # what the run was there for is done
            tracker.close(timeout_s)


@contextmanager
def _only_watching(what: str) -> Iterator[None]:
    """Lets the run continue, whatever goes wrong in recording where it came from."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - none of them is the study's
        print(f"warning: {what} can't be recorded ({say_first_line(error)}). The run continues.", file=sys.stderr)


def _leave(code: int) -> NoReturn:
    """Exits, at once where a thread is still in a call of MLflow's: the interpreter would wait for it, or crash."""
    if any(thread.name == SENDER for thread in threading.enumerate()):
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):  # whoever read it has gone
                stream.flush()
        os._exit(code)
    sys.exit(code)


@contextmanager
def _lock(name: str) -> Iterator[None]:
    """Holds the stage's lock: a killed `dvc` leaves its stage running, and a second one would write beside it."""
    path = STATE_FOLDER / "locks" / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    holder = path.with_suffix(".pid")
    with try_lock(path, LOCK_PATIENCE_S) as is_held:
        if not is_held:
            pid = holder.read_text() if holder.exists() else "unknown"
            raise StageError(
                expected=f"to be the only {name} in {Path.cwd()}",
                received=f"another one is running as process {pid}",
                advice=f"Wait for it, or stop it with `kill {pid}`",
            )
        try:
            holder.write_text(str(os.getpid()))
            yield
        finally:
            holder.unlink(missing_ok=True)


def stop_on_signals() -> None:
    """Lets SIGTERM and SIGINT raise `Stopped`, so that temporary files are removed and the tracked run is ended."""

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


def _digest_code() -> dict[str, str]:
    """Returns the digest of each source file that what is checkpointed depends on, by its path from the root."""
    root = Path(__file__).resolve().parents[2]
    script = Path(sys.argv[0]).resolve()
    name = str(script.relative_to(root) if script.is_relative_to(root) else script)
    schema = (str(path.relative_to(root)) for path in root.glob("src/cotejo/schema/*.py"))
    sources = {*find_sources(root, shlex.join(["python", name, *sys.argv[1:]])), *schema}
    # figures are drawn of what has been computed: the layers keep every computation from importing them
    return {path: digest_file(root / path) for path in sorted(sources) if not path.startswith("src/cotejo/report/")}


def _remove_finished(spared: str) -> None:
    """Removes the checkpoints of finished stages, except one folder or those of one stage.

    A stage of the pipeline starts when DVC has recorded those before it. Two `dvc repro -s` at once may remove a
    checkpoint too early, and only a kill of the other `dvc` at that moment would then cost time.
    """
    for folder in CHECKPOINTS.glob("*"):
        is_left_over = folder.name.startswith(REMOVED)
        is_spared = spared in (folder.name, folder.name.rpartition("-")[0])
        if is_left_over or ((folder / DONE).exists() and not is_spared):
            with suppress(OSError):
                # renamed first: a kill must not leave half of a checkpoint under its name
                moved = folder if is_left_over else folder.rename(folder.with_name(REMOVED + folder.name))
                shutil.rmtree(moved)


def _holds_files(folder: Path) -> bool:
    return any(path.is_file() for path in folder.rglob("*"))


def _find_full_disk(error: BaseException | None) -> OSError | None:
    """Returns the error of a full disk, or of a used-up quota, among those that led to this one."""
    while error is not None:
        if isinstance(error, OSError):
            # NumPy says so without a number: "300000 requested and 25584 written"
            is_numpys = error.errno is None and str(error).endswith(" written")
            if is_numpys or error.errno in (errno.ENOSPC, errno.EDQUOT):
                return error
        error = error.__cause__ or error.__context__
    return None
