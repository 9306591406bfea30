"""Reasons why records aren't in MLflow yet."""

import os

from cotejo.masking import mask_secrets, say_first_line


class JournalError(Exception):
    """A journal has records that no server would take."""


class BusyError(Exception):
    """Another process is sending this journal."""


def say_cause(error: BaseException) -> str:
    """Returns the address of MLflow and the message of the innermost exception."""
    while inner := error.__cause__ or (None if error.__suppress_context__ else error.__context__):
        error = inner
    address = mask_secrets(os.environ.get("MLFLOW_TRACKING_URI") or "mlflow.db")
    return f"{address}: {say_first_line(error)[:200]}"
