"""The `cotejo` command in the test's own process: a new one would import MLflow or TensorFlow each time.

What a process is needed for (signals, its memory, what it imports) is tested with one.
"""

import io
import signal
import subprocess
from collections.abc import Mapping
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

import mlflow
import pytest

from cotejo.cli import main

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run_cotejo(
    *arguments: str, cwd: Path, env: Mapping[str, str], is_merged: bool = False
) -> subprocess.CompletedProcess[str]:
    """Runs the command in a folder, with an environment; returns its exit code and what it printed.

    Args:
        arguments: What stands behind `cotejo`.
        cwd: The folder.
        env: The environment, all of it.
        is_merged: Whether stderr is a part of stdout.
    """
    out = io.StringIO()
    err = out if is_merged else io.StringIO()
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    with (
        chdir(cwd), patch("sys.argv", ["cotejo", *arguments]), patch.dict("os.environ", env, clear=True),
        redirect_stdout(out), redirect_stderr(err),
    ):  # fmt: skip
        mlflow.set_tracking_uri(None)  # another command may have named one
        with pytest.raises(SystemExit) as ended:
            main()
    for number, handler in handlers.items():
        signal.signal(number, handler)
    code = ended.value.code
    return subprocess.CompletedProcess(arguments, code if isinstance(code, int) else 0, out.getvalue(), err.getvalue())
