"""The most memory that a process has had: this one, or one that a test starts.

`getrusage` begins with what the one that started the process has had, and a test's own process may have had a lot.
"""

import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

#: Starts a command from a process that has had little.
START = (
    "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=sys.stderr); "
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
)


def measure_peak() -> int:
    """Returns bytes of this process."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(r"VmHWM:\s+([0-9]+) kB", status)[1])


def run_and_measure_peak(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> int:
    """Runs a command, which has to succeed; returns its bytes."""
    starter = [sys.executable, "-c", START, *command]
    ran = subprocess.run(starter, cwd=folder, env=environment, check=True, stdout=subprocess.PIPE)
    return 1024 * int(ran.stdout)
