"""Makes one measurement in a process of its own and prints it as JSON.

Usage: python benchmarks/measure.py MODULE FUNCTION OPTIONS, such as with_torch train '{"net": "lenet", ...}'.
"""

import json
import resource
import sys
from importlib import import_module
from typing import Any

#: Of the unit in which the system counts a process's memory.
BYTES = 1 if sys.platform == "darwin" else 1024


def main() -> None:
    """Measures."""
    module, function, options = sys.argv[1:]
    print(json.dumps(measure(module, function, json.loads(options))))


def measure(module: str, function: str, options: dict[str, Any]) -> dict[str, Any]:
    """Calls an opponent; returns what it returns and the memory that the process had at most, or why it can't run."""
    try:
        opponent = import_module(module)
    except ImportError as error:
        if module != "with_torch":
            raise
        return {"missing": str(error)}
    measured = getattr(opponent, function)(**options)
    return {**measured, "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * BYTES}


if __name__ == "__main__":
    main()
