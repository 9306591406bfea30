"""Has a stage run the code that it stands beside: imported by every stage before anything else of ours.

`dvc exp run --temp`, `dvc queue` and clones run in folders of their own, while an editable install points to one.
Without this they would run its code, and DVC would record theirs.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
if sys.version_info < (3, 11) or not all(map(find_spec, ("keras", "mlflow", "pydantic"))):
    print(
        f"expected Python 3.11 or newer with Cotejo's requirements. Received: {sys.executable}, Python "
        f"{sys.version.split()[0]}. Run `make setup` and `source .venv/bin/activate`, then dvc again.",
        file=sys.stderr,
    )
    sys.exit(2)
