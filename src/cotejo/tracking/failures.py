"""Why records aren't in MLflow yet."""

import os

from cotejo.masking import mask_secrets, say_first_line


class JournalError(Exception):
    """A journal holds what can't be sent, whatever the server does."""


class BusyError(Exception):
    """Another process is sending this journal."""


def say_cause(error: BaseException) -> str:
    """Returns the address that MLflow is expected at, and what the innermost exception says is wrong with it."""
    while inner := error.__cause__ or (None if error.__suppress_context__ else error.__context__):
        error = inner
    address = mask_secrets(os.environ.get("MLFLOW_TRACKING_URI") or "mlflow.db")
    return f"{address}: {say_first_line(error)[:200]}"
