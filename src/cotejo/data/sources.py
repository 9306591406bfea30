"""Data sets by name: where their files are, and the bytes they must have; how files are fetched and verified."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cotejo.errors import DataError
from cotejo.files import digest_file

#: What a file may have, five times the largest that we know: a host or a mirror must not fill the disk.
MAX_BYTES = 1 << 30
#: How the kinds of digests are written.
DIGEST_NAMES = {"sha256": "SHA-256", "md5": "MD5"}
#: Marks a file that an installed package brought along.
PACKAGE = "package:"


@dataclass(frozen=True)
class RemoteFile:
    """A file, the places that may hold it, and the bytes that it must have."""

    name: str
    sha256: str
    addresses: tuple[str, ...]
    #: Path below `COTEJO_MIRROR`.
    mirror_path: str
    #: Path below the user's Keras folder, where `keras.datasets` and `keras.applications` leave it.
    keras_path: str
    #: Where its publisher states no SHA-256, which is empty then; both are empty where no digest is stated.
    md5: str = ""
    #: The first bytes of a file of its kind: all that tells a wrong one where no digest is stated.
    signature: bytes = b""

    @property
    def digest(self) -> tuple[str, str] | None:
        """Returns the digest that it must have and its kind, as `hashlib` calls it; None if none is known."""
        if self.sha256:
            return "sha256", self.sha256
        return ("md5", self.md5) if self.md5 else None

    @property
    def described(self) -> str:
        """Describes the wanted file."""
        if self.digest is None:
            return f"a file that begins with {self.signature!r}"
        return f"a file with {DIGEST_NAMES[self.digest[0]]} {self.digest[1]}"


@dataclass(frozen=True)
class Source:
    """A data set as its authors publish it."""

    title: str
    homepage: str
    licence: str
    file_format: str
    class_names: tuple[str, ...]
    files: tuple[RemoteFile, ...]


def _idx_files(folder: str, addresses: tuple[str, ...], digests: tuple[str, ...]) -> tuple[RemoteFile, ...]:
    """Lists the four files of a data set in MNIST's layout."""
    parts = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    names = [f"{part}-ubyte.gz" for part in parts]
    return tuple(
        RemoteFile(
            name=name,
            sha256=digest,
            addresses=tuple(f"{address}/{name}" for address in addresses),
            mirror_path=f"{folder}/{name}",
            keras_path=f"datasets/{folder}/{name}",
        )
        for name, digest in zip(names, digests, strict=True)
    )


DIGIT_NAMES = tuple(str(digit) for digit in range(10))
KERAS_DATASETS = "https://storage.googleapis.com/tensorflow/tf-keras-datasets"

SOURCES: dict[str, Source] = {
    "fashion_mnist": Source(
        title="Fashion-MNIST",
        homepage="https://github.com/zalandoresearch/fashion-mnist",
        licence="MIT",
        file_format="idx",
        class_names=(
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
        files=_idx_files(
            "fashion-mnist",
            (KERAS_DATASETS, "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"),
            (
                "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
                "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
                "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
                "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            ),
        ),
    ),
    "mnist": Source(
        title="MNIST",
        homepage="http://yann.lecun.com/exdb/mnist",
        licence="CC BY-SA 3.0",
        file_format="npz",
        class_names=DIGIT_NAMES,
        files=(
            RemoteFile(
                name="mnist.npz",
                sha256="731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1",
                addresses=(f"{KERAS_DATASETS}/mnist.npz", "https://s3.amazonaws.com/img-datasets/mnist.npz"),
                mirror_path="mnist/mnist.npz",
                keras_path="datasets/mnist.npz",
            ),
        ),
    ),
    "kmnist": Source(
        title="Kuzushiji-MNIST",
        homepage="http://codh.rois.ac.jp/kmnist",
        licence="CC BY-SA 4.0",
        file_format="idx",
        class_names=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
        files=_idx_files(
            "kmnist",
            ("http://codh.rois.ac.jp/kmnist/dataset/kmnist", "https://codh.rois.ac.jp/kmnist/dataset/kmnist"),
            (
                "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
                "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
                "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
                "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
            ),
        ),
    ),
    "cifar10": Source(
        title="CIFAR-10",
        homepage="https://www.cs.toronto.edu/~kriz/cifar.html",
        licence="none stated by the authors",
        file_format="cifar",  # the binary version: the Python version would have to be unpickled
        class_names=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        files=(
            RemoteFile(
                name="cifar-10-binary.tar.gz",
                sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
                addresses=("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
                mirror_path="cifar10/cifar-10-binary.tar.gz",
                keras_path="datasets/cifar-10-binary.tar.gz",
            ),
        ),
    ),
    "digits": Source(
        title="Optical recognition of handwritten digits",
        homepage="https://archive.ics.uci.edu/dataset/80",
        licence="CC BY 4.0",
        file_format="digits",
        class_names=DIGIT_NAMES,
        files=(
            RemoteFile(
                name="digits.csv.gz",
                sha256="09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22",
                addresses=(f"{PACKAGE}sklearn.datasets/data/digits.csv.gz",),
                mirror_path="digits/digits.csv.gz",
                keras_path="datasets/digits.csv.gz",
            ),
        ),
    ),
    "directory": Source(  # read from where it is: nothing to download
        title="Images of a folder",
        homepage="",
        licence="",
        file_format="directory",
        class_names=(),
        files=(),
    ),
}


def describe_source(name: str) -> dict[str, Any]:
    """Returns what a reader must know of a data set: title, home page, licence, and the SHA-256 of each file.

    Where its files can be had isn't part of it: another address would else make every stage run again.
    """
    source = SOURCES[name]
    return {
        "title": source.title,
        "homepage": source.homepage,
        "licence": source.licence,
        "files": {file.name: file.sha256 for file in source.files},
    }


def check_files(name: str, folder: Path) -> None:
    """Checks that a data set's files are those of its authors, before anything reads them.

    So whatever a folder, a link in it or a cache may hold, only known bytes are unpacked.

    Args:
        name: The data set's name in `params.yaml`.
        folder: Where download has put them.

    Raises:
        DataError: A file is missing or another one.
    """
    for file in SOURCES[name].files:
        path = folder / file.name
        received = digest_file(path) if path.is_file() else "no such file"
        if received != file.sha256:
            raise DataError(
                where=path,
                expected=f"SHA-256 {file.sha256}",
                received=received,
                advice="Delete the folder and run `dvc repro download` again",
            )


def find_fault(path: Path, expected: RemoteFile) -> str | None:
    """Returns what is wrong with a file's bytes, or None; without a known digest only its first bytes are checked."""
    if expected.digest is None:
        name, wanted = "first bytes", repr(expected.signature)
        with path.open("rb") as file:
            received = repr(file.read(len(expected.signature)))
    else:
        kind, wanted = expected.digest
        name, received = DIGEST_NAMES[kind], digest_file(path, kind)
    size_bytes = path.stat().st_size
    return None if received == wanted else f"expected {name} {wanted}, received {received} ({size_bytes:,} bytes)"


def check_size(num_bytes: int) -> None:
    """Raises `DataError` for more bytes than any of the files has."""
    if num_bytes > MAX_BYTES:
        raise DataError(f"expected at most {MAX_BYTES:,} bytes, received more")
