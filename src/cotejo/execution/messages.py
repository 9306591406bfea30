"""Messages between a driver, a worker and its trainer."""

from pathlib import Path
from typing import NamedTuple

from cotejo.schema.study import Base

# what a trainer sends
#: How far it is.
REPORT = "report"
#: What came out.
RESULT = "result"
#: What its task raised.
RAISED = "raised"
# what a worker sends
#: The images aren't on its machine.
SEND_DATA = "send data"
#: Its trainer has died.
DIED = "died"
#: It has another Cotejo.
REFUSED = "refused"
#: The task was cancelled.
UNWANTED = "unwanted"


#: What of a prepared data set a training reads; the description comes last, and says that the rest is there.
DATA_FILES = ("train_images.npy", "train_labels.npy", "val_images.npy", "val_labels.npy", "dataset.json")


class PreparedData(NamedTuple):
    """The images of a task: the folder in which they are prepared, and their digest."""

    folder: str
    digest: str

    @classmethod
    def of(cls, folder: Path, digest: str) -> "PreparedData":
        """Names the folder so that other processes find it."""
        return cls(str(folder.resolve()), digest)


class Setup(NamedTuple):
    """Configuration of TensorFlow, set once in a process.

    Attributes:
        threads: Of the process; the order in which partial sums are added, and so the last bits, depend on it.
        precision: The dtype policy: float32 | mixed_bfloat16.
        split_batch: Whether a batch may be split between the threads of a CPU: not in a net that normalises by the
            statistics of all of it.
        memory_bytes: What the process may take; None for any. It changes no result.
    """

    threads: int
    precision: str
    split_batch: bool = False
    memory_bytes: int | None = None

    @classmethod
    def of(cls, base: Base, *, split_batch: bool = False) -> "Setup":
        """Takes threads and precision as they are declared."""
        return cls(base.threads, base.precision, split_batch)


class Order(NamedTuple):
    """A task on its way. What is pickled is opened by the trainer, so that another Cotejo is refused, not crashed.

    Attributes:
        token: Names this sending of the task.
        content: The function and its argument, pickled.
        setup: What the trainer's process is configured for.
        code: What the driver has, as `describe_code` says it.
        data: The images.
        topic: Under which the driver hears how far it is.
    """

    token: str
    content: bytes
    setup: bytes
    code: str
    data: PreparedData
    topic: str


class Reply(NamedTuple):
    """A worker's reply: a word, the trainer's message, the reason, and the worker's address."""

    word: str
    content: bytes = b""
    reason: str = ""
    address: str = ""
