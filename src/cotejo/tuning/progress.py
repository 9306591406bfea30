"""Shows the progress of trials: a live table on a terminal, plain lines anywhere else."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from optuna.trial import FrozenTrial, TrialState
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cotejo.schema.searches import Search
from cotejo.tuning.outcome import Outcome
from cotejo.tuning.space import list_grid

STATES = {"COMPLETE": "completed", "PRUNED": "pruned", "FAIL": "failed"}
#: Lines of a terminal that the table leaves to its heading, its summary and what stood above it.
SPARE_LINES = 6


@dataclass
class LiveTraining:
    """A training that has been sent out: what it changes, its epochs in all, and its last epoch's row."""

    values: Mapping[str, Any]
    epochs: int
    row: Mapping[str, float] | None = None


@dataclass
class Phase:
    """The trials, or the trainings that confirm the best.

    Attributes:
        word: What they are.
        total: How many there are.
        done: How many have ended, before a kill too.
        counts: How those ended that have ended here.
        spent_s: The time that these took, one after the other.
        most_at_once: The most that have been seen to train at once.
    """

    word: str
    total: int
    done: int = 0
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STATES, 0))
    spent_s: float = 0.0
    most_at_once: int = 1

    def estimate_left(self) -> timedelta | None:
        """Returns the time that the rest takes at the pace so far; None before the first and after the last."""
        ended = sum(self.counts.values())  # here, not before a kill
        if not ended or self.done >= self.total:
            return None
        left_s = self.spent_s / ended * (self.total - self.done) / self.most_at_once
        return timedelta(seconds=round(left_s))


class Board:
    """Writes a line per finished training to stderr.

    Args:
        search: The `search` section.
        epochs: Epochs of the model's section.
    """

    def __init__(self, search: Search, epochs: int) -> None:
        self.search = search
        self.epochs = epochs
        self.running: dict[str, LiveTraining] = {}
        points = 1 + len(list_grid(search.space)) if search.sampler == "grid" else search.num_trials
        self.phase = Phase("trials", min(search.num_trials, points))
        self.best: tuple[float, str] | None = None

    def recall(self, known: Sequence[FrozenTrial]) -> None:
        """Adds the trials that had ended before a kill."""
        if not self.phase.done:
            self.phase.done = len(known)
            for trial in known:
                if trial.state == TrialState.COMPLETE:
                    self._compare(trial.values[0], f"trial {trial.number}")

    def begin(self, name: str, values: Mapping[str, Any]) -> None:
        """Notes that a training begins, or waits for a worker."""
        if name.startswith("confirm") and self.phase.word == "trials":
            self.phase = Phase("confirming trainings", 2 * len(self.search.confirm_seeds))
        self.running[name] = LiveTraining(values, values.get("epochs", self.epochs))

    def show(self, name: str, row: Mapping[str, float]) -> None:
        """Shows an epoch."""
        self.running[name].row = row
        at_once = sum(training.row is not None for training in self.running.values())
        self.phase.most_at_once = max(self.phase.most_at_once, at_once)

    def end(self, name: str, outcome: Outcome) -> None:
        """Prints how a training ended."""
        training = self.running.pop(name)
        self.phase.done += 1
        self.phase.counts[outcome.state] += 1
        began_s, ended_s = outcome.times_s
        self.phase.spent_s += ended_s - began_s
        if outcome.value is not None and self.phase.word == "trials":
            self._compare(outcome.value, name)
        self.say(f"{self._say_end(name, training, outcome)}  [{self.say_summary()}]")

    def say(self, line: str) -> None:
        """Writes a line that stays."""
        print(line, file=sys.stderr, flush=True)

    def say_summary(self) -> str:
        """Prints how far the search is."""
        counts = ", ".join(f"{self.phase.counts[state]} {word}" for state, word in STATES.items())
        parts = [f"{self.phase.done}/{self.phase.total} {self.phase.word}: {counts}"]
        if self.best:
            parts.append(f"best {self.best[0]:.4f} ({self.best[1]})")
        left = self.phase.estimate_left()
        return "; ".join([*parts, *([f"{left} left"] if left is not None else [])])

    def _compare(self, value: float, name: str) -> None:
        sign = 1 if self.search.direction == "maximize" else -1
        if self.best is None or sign * value > sign * self.best[0]:
            self.best = (value, name)

    def _say_end(self, name: str, training: LiveTraining, outcome: Outcome) -> str:
        value = outcome.value
        if value is None and outcome.rows:
            value = outcome.rows[-1][self.search.metric]
        measured = "" if value is None else f" {self.search.metric} {value:.4f}"
        epochs = f"after {len(outcome.rows)}/{training.epochs} epochs"
        text = f"{name}: {STATES[outcome.state]}{measured} {epochs}, {say_values(training.values)}"
        return f"{text}. {outcome.reason.splitlines()[0]}" if outcome.reason else text


class LiveBoard(Board):
    """Shows a table of the running trainings, which is gone at the end; the finished ones' lines stay above it."""

    def __init__(self, search: Search, epochs: int, console: Console) -> None:
        super().__init__(search, epochs)
        self.console = console

    def say(self, line: str) -> None:
        """Leaves a line above the table; what the table's last line says is left out."""
        self.console.print(line.rpartition("  [")[0], markup=False, highlight=False)

    def __rich__(self) -> Group:
        """Returns the table as it is now."""
        table = Table(box=None, pad_edge=False, header_style="dim")
        for heading in ("training", "epoch", self.search.metric, "state"):
            table.add_column(heading, no_wrap=True)
        table.add_column("changes", no_wrap=True, overflow="ellipsis")
        # those that wait for a worker come last; the table is drawn by a thread of its own
        rows = sorted(self.running.copy().items(), key=lambda item: item[1].row is None)
        room = max(1, self.console.height - SPARE_LINES)
        for name, training in rows[:room]:
            row = training.row
            table.add_row(
                Text(name),
                f"{int(row['epoch']) if row else 0}/{training.epochs}",
                f"{row[self.search.metric]:.4f}" if row else "",
                "training" if row else "begins",
                Text(say_values(training.values)),
            )
        more = [Text(f"and {len(rows) - room} more", style="dim")] if len(rows) > room else []
        return Group(table, *more, Text(self.say_summary(), no_wrap=True, overflow="ellipsis"))


@contextmanager
def open_board(search: Search, epochs: int) -> Iterator[Board]:
    """Yields a board for a search.

    Args:
        search: The `search` section.
        epochs: Epochs of the model's section, for trials that don't search them.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Board(search, epochs)
        return
    board = LiveBoard(search, epochs, console)
    with Live(board, console=console, transient=True):  # closed however the search ends
        yield board


def say_values(values: Mapping[str, Any]) -> str:
    """Returns what a training changes in the model's section."""
    changes = [f"{key}={f'{value:.3g}' if isinstance(value, float) else value}" for key, value in values.items()]
    return " ".join(changes) or "declared values"
