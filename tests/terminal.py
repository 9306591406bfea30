"""A terminal for tests: what a person would see of a command that draws on it."""

import os
import pty
import re
import subprocess
import termios
from typing import NamedTuple

#: Cursor up, erase the line, colours, hide and show the cursor: all that a bar needs.
ESCAPE = re.compile(r"\x1b\[(?:(?P<up>\d*)A|(?P<erase>2K)|[\d;]*m|\?25(?P<cursor>[lh]))")


class Screen(NamedTuple):
    """A terminal as a person sees it: each state of its last line, and what it shows at the end."""

    states: list[str]
    lines: list[str]
    shows_cursor: bool


def watch(text):
    """Does what a terminal does with a text, and fails at anything that it wouldn't understand."""
    lines, row, column, shows_cursor, states = [""], 0, 0, True, []
    position = 0
    while position < len(text):
        char = text[position]
        if char == "\x1b":
            escape = ESCAPE.match(text, position)
            assert escape, f"an escape sequence that no bar needs: {text[position : position + 20]!r}"
            position = escape.end()
            if escape["up"] is not None:
                row -= int(escape["up"] or 1)
            elif escape["erase"]:
                states.append(lines[row])
                lines[row] = ""
            elif escape["cursor"]:
                shows_cursor = escape["cursor"] == "h"
            continue
        position += 1
        if char == "\r":
            column = 0
        elif char == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        else:
            lines[row] = lines[row].ljust(column)[:column] + char + lines[row][column + 1 :]
            column += 1
    return Screen(states, [line.rstrip() for line in lines], shows_cursor)


def run_on_terminal(command, environment, cwd, columns):
    """Returns what a terminal of so many columns shows of a command, from the line `begins` on."""
    return watch_process(lambda log: subprocess.Popen(command, cwd=cwd, env=environment, stderr=log), columns)


def watch_process(start, columns):
    """Does what `run_on_terminal` does for the process that a function starts, which writes to the file it is given."""
    written = record_process(start, columns)
    _, begins, rest = written.partition("begins\r\n")
    assert begins, written
    return watch(rest)


def record_process(start, columns):
    """Returns all that such a process, which has to succeed, writes to a terminal of so many columns."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, columns))
    with open(theirs, "w") as log:  # noqa: PTH123 - a descriptor
        process = start(log)
    written = bytearray()
    while chunk := _read(ours):
        written += chunk
    process.wait()
    os.close(ours)
    assert process.returncode == 0, written.decode()
    return written.decode()


def hide_terminal_variables(environment):
    """Returns an environment in which the terminal alone decides how it is drawn on."""
    hidden = ("COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
    return {key: value for key, value in environment.items() if key not in hidden} | {"TERM": "xterm-256color"}


def _read(terminal):
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux says so when nobody has the other side any more
        return b""
