"""Prints results on stdout, a bar and messages on stderr."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile
from types import TracebackType
from typing import Self

from rich.progress import MofNCompleteColumn, TimeRemainingColumn
from rich.text import Text

from cotejo.terminal import build_bar


class Screen:
    """Writes results and messages; on a terminal a bar shows how many pictures are done.

    Args:
        total: Pictures in all.
    """

    def __init__(self, total: int) -> None:
        # stdout is left alone, for it may go to a file while stderr is a terminal
        self.bar = build_bar(MofNCompleteColumn(), TimeRemainingColumn(), is_transient=True, redirects=False)
        self.console = self.bar.console
        self.task = self.bar.add_task("classifying", total=total)
        self.shares_terminal = self.console.is_terminal and sys.stdout.isatty()

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def write(self, text: str) -> None:
        """Writes a piece of the result to stdout."""
        if self.shares_terminal:
            self.bar.stop()  # where both are one screen, the bar would be drawn across the lines
        sys.stdout.write(text)
        sys.stdout.flush()
        if self.shares_terminal:
            self.bar.start()

    def say(self, message: str) -> None:
        """Writes a message to stderr, in one line however long it is."""
        self.console.print(Text(message), soft_wrap=True)

    def advance(self, number: int) -> None:
        """Moves the bar."""
        self.bar.advance(self.task, number)


@contextmanager
def hiding_stderr() -> Iterator[None]:
    """Keeps back what is written to stderr, and shows it only where the block fails.

    TensorFlow 2.21 says at its import what it has found, whatever TF_CPP_MIN_LOG_LEVEL is.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with TemporaryFile() as hidden:
        os.dup2(hidden.fileno(), 2)
        try:
            yield
        except BaseException:
            hidden.seek(0)
            os.write(kept, hidden.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
