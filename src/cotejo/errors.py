"""The exceptions that a user can cause, each with one message that says what to do.

CotejoError
├── ParamsError       params.yaml, an option or an argument
├── DataError         images, weights, or what a stage has written
│   ├── ImageError        one image
│   └── OperationError    a declared operation on an image
├── ModelError        a model
├── StageError        a stage, a worker or a scheduler
├── TrackingError     MLflow
├── LineageError      the origin of a file, run or experiment
└── RevisionError     a revision or an experiment
"""


class CotejoError(Exception):
    """A fault that the user can mend: printed as one line, without a traceback, exit code 2.

    Args:
        message: The whole message of an error that isn't about one value; else it is made of the other parts.
        where: Place of the fault, such as a file or a key; empty if `expected` names it.
        expected: What was expected.
        received: What was received instead.
        advice: What to do, in whole sentences without the last full stop.

    Example:
        >>> print(CotejoError(where="lenet.epochs", expected="a whole number", received="ten", advice="Write 10"))
        lenet.epochs: expected a whole number. Received: ten. Write 10.
    """

    def __init__(
        self, message: str = "", *, where: object = "", expected: object = "", received: object = "", advice: str = ""
    ) -> None:
        self.where = str(where)
        self.expected = str(expected)
        self.received = str(received)
        self.advice = advice
        super().__init__(message or self._render())

    def _render(self) -> str:
        place = f"{self.where}: " if self.where else ""
        advice = f" {self.advice}." if self.advice else ""
        return f"{place}expected {self.expected}. Received: {self.received}.{advice}"


class ParamsError(CotejoError):
    """`params.yaml` is missing, malformed or holds a value that the schema refuses."""


class DataError(CotejoError):
    """A data set or a weights file is missing, damaged or of another form than declared."""


class ImageError(DataError):
    """An image can't be read or worked on; one among many, perhaps.

    Args:
        name: Name of the image in the message.
        reason: What was received in its place, in a few words.
        expected: What was expected.
    """

    def __init__(self, name: str, reason: str, expected: str = "an image as JPEG, PNG, BMP, WebP or GIF") -> None:
        super().__init__(where=name, expected=expected, received=reason)

    @property
    def reason(self) -> str:
        """What was received in its place, in a few words."""
        return self.received


class OperationError(DataError):
    """An operation leaves nothing of an image, or can't be applied to one of its size: the parameters' fault."""


class ModelError(CotejoError):
    """A model can't be built, trained or loaded as declared."""


class StageError(CotejoError):
    """A stage can't run here and now: started twice, or from another folder than the study's."""


class TrackingError(CotejoError):
    """MLflow can't be reached; what was recorded is kept."""


class LineageError(CotejoError):
    """Nothing is known by the name whose origin was asked for."""


class RevisionError(CotejoError):
    """A revision or an experiment is unknown, or what it holds can't be read or compared."""
