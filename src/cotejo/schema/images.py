"""Sections `data` and `preprocess`: the images under study and what is done to them."""

import posixpath
from typing import Annotated, Literal

from pydantic import Field, Strict, model_validator

from cotejo.schema.groups import Fraction, Group, Seed
from cotejo.schema.operations import Operation, check_operations

#: Where download puts a published data set.
PUBLISHED_FOLDER = "data/raw"
#: What stages and runs write, or what the study is made of: none of these, or what is in them, can be its images.
TAKEN = (
    "data/processed",
    "data/weights",
    "models",
    "reports",
    "exports",
    "mlruns",
    "src",
    "stages",
    ".cotejo",
    ".dvc",
    ".git",
    ".venv",
)


class Data(Group):
    """The images under study, and what is done about those that would spoil it."""

    name: Literal["fashion_mnist", "mnist", "kmnist", "cifar10", "digits", "directory"]
    path: Annotated[str, Field(min_length=1)]
    color: Literal["auto", "grey", "rgb"]
    duplicates: Literal["drop", "keep", "fail"]
    on_bad_file: Literal["fail", "skip"]

    @model_validator(mode="after")
    def _check_path(self) -> "Data":
        if self.name != "directory" and self.path != PUBLISHED_FOLDER:
            raise ValueError(f"path {PUBLISHED_FOLDER} with {self.name}, not {self.path}; your own has name: directory")
        if self.path.startswith("~"):
            raise ValueError(f"a path without ~, which nothing here fills in, not {self.path}")
        plain = posixpath.normpath(self.path)
        if self.path != plain:  # dvc.lock would hold another spelling than dvc.yaml
            raise ValueError(f"path {plain}, the plainest spelling, not {self.path}")
        if self.name == "directory" and plain == PUBLISHED_FOLDER:
            raise ValueError(f"the path of your folder with name directory, not {plain}, which download fills")
        if self.name == "directory":
            _check_free(plain)
        return self


def _check_free(plain: str) -> None:
    parts = plain.split("/")
    if plain in (".", "/", "//") or set(parts) == {".."}:
        raise ValueError(f"the path of a folder of images, not {plain}, which holds the study itself")
    for taken in (PUBLISHED_FOLDER, *TAKEN):
        if f"{plain}/".startswith(f"{taken}/") or taken.startswith(f"{plain}/"):
            raise ValueError(f"the path of a folder of images alone, not {plain}: {taken} is the study's own")


class Preprocess(Group):
    """The preprocess stage: splits, and the operations on each image, in this order."""

    validation_fraction: Fraction
    test_fraction: Fraction
    seed: Seed
    operations: Annotated[tuple[Operation, ...], Strict(False)]

    @model_validator(mode="after")
    def _check_operations(self) -> "Preprocess":
        check_operations(self.operations)
        return self
