"""Sends MLflow the records that it hasn't got: `cotejo sync`."""

from collections.abc import Iterator
from pathlib import Path

from cotejo.errors import TrackingError
from cotejo.masking import say_first_line
from cotejo.tracking.failures import BusyError, JournalError, say_cause
from cotejo.tracking.mlflow.delivery import Delivery
from cotejo.tracking.outbox.backlog import Left, close_gone, find_left


def send_left(folder: Path, delivery: Delivery) -> Iterator[str]:
    """Closes the runs whose process is gone and sends the unsent records in order.

    Each record is sent once, also after a kill and by two such commands at once.

    Args:
        folder: Where the journals are kept.
        delivery: Sends a journal.

    Yields:
        A line per journal with records that can't be sent, and a line at the end.

    Raises:
        TrackingError: MLflow doesn't answer; what it has taken until then isn't sent again.
    """
    close_gone(folder)
    num_runs = 0
    failure = None
    for left in find_left(folder):
        num_before = delivery.num_sent
        try:
            delivery(left.journal)
        except BusyError:
            yield f"{left.journal} is being sent by another process"
        except JournalError as error:
            yield f"not all of {left.journal} can be sent to MLflow: {say_first_line(error)}"
        except Exception as error:  # noqa: BLE001 - reported at the end
            failure = failure or error
            if not delivery.is_answering():
                break
        num_runs += delivery.num_sent > num_before
    if failure:
        raise TrackingError(_say_failure(delivery, num_runs, find_left(folder), failure)) from failure
    yield f"{_say_sent(delivery, num_runs)}; {_say_left(find_left(folder))}"


def _say_failure(delivery: Delivery, num_runs: int, left: list[Left], error: Exception) -> str:
    return (
        f"expected MLflow to take records. Received: {say_cause(error)}. {_say_sent(delivery, num_runs)}; "
        f"{_say_left(left)}. Start the server, or set MLFLOW_TRACKING_URI to one that runs, and sync again."
    )


def _say_sent(delivery: Delivery, num_runs: int) -> str:
    return f"sent {count(delivery.num_sent, 'record')} of {count(num_runs, 'run')}"


def _say_left(left: list[Left]) -> str:
    num_records = sum(item.num_records for item in left)
    return f"{count(num_records, 'record')} of {count(len(left), 'run')} left" if left else "nothing left"


def show_left(left: list[Left]) -> Iterator[str]:
    """Renders a table of unsent journals: run, stage, records left, state."""
    rows = [("run", "stage", "records left", "state")]
    rows += [(item.name, item.stage, str(item.num_records), item.state) for item in left]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, stage, number, state in rows:
        yield f"{name:{widths[0]}}  {stage:{widths[1]}}  {number:>{widths[2]}}  {state}"


def count(number: int, noun: str) -> str:
    """Returns a number with its noun: `1 record`, `2 records`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
