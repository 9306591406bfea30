"""Sends journals while the stage computes, from one thread; only the end of the stage waits for it."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread

from cotejo.masking import say_first_line
from cotejo.tracking.failures import BusyError, JournalError, say_cause
from cotejo.tracking.journal_file import RUNNING
from cotejo.tracking.outbox.backlog import close_gone, find_left

#: Sends the new records of a journal to MLflow; raises when MLflow doesn't answer.
Deliver = Callable[[Path], object]

THREAD_NAME = "send-to-mlflow"
#: Seconds from a failure to the next try; doubled with each further one.
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
#: Seconds until the next try to send a journal that another process is sending.
BUSY_PAUSE_S = 0.2


class Tracker:
    """Sends the journals of one stage to MLflow, from a thread of its own: training never waits.

    It warns once of a failure and tries again later, from where it stopped.

    Args:
        folder: Folder of the journals.
        deliver: Sends one journal; None without tracking, when no journal is written.
    """

    def __init__(self, folder: Path, deliver: Deliver | None) -> None:
        self.folder = folder
        self.is_on = deliver is not None
        self._deliver = deliver
        # a signal's handler that has interrupted a put may put; None asks for the end
        self._asked: SimpleQueue[Path | None] = SimpleQueue()
        self._thread: Thread | None = None
        self._has_warned = False
        self._is_full = False
        self._warned_of: set[Path] = set()

    def send(self, journal: Path) -> None:
        """Has the new records of a journal sent soon, and returns at once."""
        self._ask(journal)

    def send_left_over(self) -> None:
        """Closes the runs whose process is gone, and has the unsent records of earlier stages sent."""
        self._ask(self.folder)

    def close(self, timeout_s: float) -> bool:
        """Waits until all is sent, or MLflow fails, or the time is over; what is left is kept for a later stage.

        Returns:
            Whether the thread has ended; otherwise a call of MLflow hasn't returned.
        """
        if self._thread is None:
            return True
        self._asked.put(None)
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            self.warn(f"it took more than {timeout_s:g} s")
            return False
        self._thread = None
        return True

    def warn(self, reason: str) -> None:
        """Warns once that MLflow doesn't answer."""
        if not self._has_warned:
            self._has_warned = True
            print(
                f"warning: not all records are in MLflow yet ({reason}). The run continues; they are kept in "
                f"{self.folder} and sent by a later stage, or by `cotejo sync`.",
                file=sys.stderr,
            )

    def warn_unrecorded(self, journal: Path, error: OSError) -> None:
        """Warns once that a record couldn't be written, on a full disk for instance."""
        if not self._is_full:
            self._is_full = True
            print(
                f"warning: expected to write what is tracked to {journal}. Received: {error.strerror}. The run "
                "continues; what can't be written will be missing in MLflow. Free some space.",
                file=sys.stderr,
            )

    def warn_of(self, journal: Path, error: Exception) -> None:
        """Warns once of a journal with records that can't be sent."""
        if journal not in self._warned_of:
            self._warned_of.add(journal)
            reason = say_first_line(error)[:200]
            print(f"warning: not all of {journal} can be sent to MLflow: {reason}. The run continues.", file=sys.stderr)

    def _ask(self, what: Path) -> None:
        if self._deliver is None:
            return
        self._asked.put(what)
        if self._thread is None:
            sending = _Sending(self, self._deliver, self._asked)
            self._thread = Thread(target=sending.work, name=THREAD_NAME, daemon=True)
            self._thread.start()


class _Sending:
    """Work of the thread: journals of its own stage first, those of earlier stages when it has time."""

    def __init__(self, tracker: Tracker, deliver: Deliver, asked: "SimpleQueue[Path | None]") -> None:
        self.tracker = tracker
        self.deliver = deliver
        self.asked = asked
        self.own: dict[Path, None] = {}  # in the order in which they were asked for
        self.left_over: dict[Path, None] = {}
        self.is_closing = False
        self.pause_s = FIRST_PAUSE_S
        self.next_try_s = 0.0

    def work(self) -> None:
        """Sends until it is asked to end and nothing is left, or MLflow fails then."""
        while True:
            self._collect()
            if self.own or self.left_over:
                has_failed = not self._send(next(iter(self.own or self.left_over)))
                if has_failed and self.is_closing:
                    return
            elif self.is_closing:
                return

    def _collect(self) -> None:
        """Takes the journals to send; waits for them while there is nothing to do."""
        while True:
            pause_s = 0.0 if self.is_closing else max(self.next_try_s - time.monotonic(), 0.0)
            is_idle = not (self.own or self.left_over or self.is_closing)
            try:
                asked = self.asked.get(block=is_idle or pause_s > 0, timeout=None if is_idle else pause_s)
            except Empty:
                return
            if asked is None:
                self.is_closing = True
            elif asked == self.tracker.folder:
                self._find_left_over()
            else:
                self.own[asked] = None

    def _find_left_over(self) -> None:
        try:
            close_gone(self.tracker.folder)
            # of runs that have ended: others are still written to by the processes that send them
            found = [left for left in find_left(self.tracker.folder) if left.state != RUNNING]
        except OSError as error:  # the folder can't be listed
            self.tracker.warn(say_first_line(error))
            return
        self.left_over.update((left.journal, None) for left in found)

    def _send(self, journal: Path) -> bool:
        is_own = journal in self.own
        try:
            self.deliver(journal)
        except BusyError:
            if is_own:
                self.next_try_s = time.monotonic() + BUSY_PAUSE_S
                if self.is_closing:
                    time.sleep(BUSY_PAUSE_S)
                return True
        except JournalError as error:
            self.tracker.warn_of(journal, error)
        except Exception as error:  # noqa: BLE001 - whatever a tracking server does, the study continues
            self.tracker.warn(say_cause(error))
            self.next_try_s = time.monotonic() + self.pause_s
            self.pause_s = min(2 * self.pause_s, LONGEST_PAUSE_S)
            if not is_own:  # one that MLflow won't have must not keep back the others
                self.left_over[journal] = self.left_over.pop(journal)
            return False
        (self.own if is_own else self.left_over).pop(journal)
        self.pause_s, self.next_try_s = FIRST_PAUSE_S, 0.0
        return True
