"""The exceptions that a user can cause, each with one message that says what to do."""


class CotejoError(Exception):
    """A fault that the user can mend: printed as it is, without a traceback, exit code 2.

    The message says what was expected, what was received, where (file, key) and what to do.
    """


class ParamsError(CotejoError):
    """`params.yaml` is missing, malformed or holds a value that the schema refuses."""


class DataError(CotejoError):
    """A data set or a weights file is missing, damaged or of another form than declared."""


class ImageError(DataError):
    """An image can't be read or worked on; one among many, perhaps.

    Args:
        name: The image, as the message names it.
        reason: What was received in its place, in a few words.
        expected: What was expected.
    """

    def __init__(self, name: str, reason: str, expected: str = "an image as JPEG, PNG, BMP, WebP or GIF") -> None:
        super().__init__(f"{name}: expected {expected}. Received: {reason}.")
        self.reason = reason


class OperationError(DataError):
    """An operation leaves nothing of an image, or can't be applied to one of its size: the parameters' fault."""


class ModelError(CotejoError):
    """A model can't be built, trained or loaded as declared."""


class StageError(CotejoError):
    """A stage can't run here and now: started twice, or from another folder than the study's."""


class TrackingError(CotejoError):
    """MLflow can't be had; what was recorded is kept."""


class LineageError(CotejoError):
    """Nothing is known by the name of which the origin was asked."""


class RevisionError(CotejoError):
    """A revision or experiment isn't known, or what it holds can't be had or compared."""
