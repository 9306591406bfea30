"""Data sets by name: where their files are, and the bytes they must have; how files are fetched and verified."""

import os
import shutil
import sys
import time
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import requests
from rich.progress import DownloadColumn, Progress, TransferSpeedColumn

from cotejo.errors import DataError
from cotejo.files import digest_file
from cotejo.masking import mask_secrets
from cotejo.terminal import build_bar

#: Waits before the second and the third try of an address, in seconds.
RETRY_WAITS_S = (0.5, 2.0)
#: What a broken connection loses at most.
CHUNK_BYTES = 1 << 16
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


class Fetcher:
    """Gets files from a mirror, a local cache or the web, and lets verified bytes through only.

    Args:
        timeout_s: Seconds to wait for a host to connect, and for each part of its answer.
        partial_folder: Where unfinished downloads wait to be resumed.
        mirror: A folder or an address that is looked at first, or None.
        keras_home: The user's Keras folder, looked at next.
    """

    def __init__(self, timeout_s: float, partial_folder: Path, mirror: str | None, keras_home: Path) -> None:
        self.timeout_s = timeout_s
        self.partial_folder = partial_folder
        self.mirror = mirror
        self.keras_home = keras_home

    @classmethod
    def from_environment(cls, timeout_s: float, partial_folder: Path) -> "Fetcher":
        """Reads `COTEJO_MIRROR` and `KERAS_HOME`; a relative mirror counts from the repository's root."""
        mirror = os.environ.get("COTEJO_MIRROR") or None
        if mirror and "://" not in mirror:
            # `dvc exp run --temp` works in a folder of its own, but its DVC_ROOT is the repository's
            mirror = str(Path(os.environ.get("DVC_ROOT", ""), Path(mirror).expanduser()).resolve())
        keras_home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
        return cls(timeout_s, partial_folder, mirror, keras_home)

    def fetch(self, file: RemoteFile, folder: Path) -> Path:
        """Gets one file from the first place that serves the expected bytes.

        Args:
            file: What to get.
            folder: Where to put it; the file appears there only when verified.

        Returns:
            The path of the file.

        Raises:
            DataError: No place serves it; the message lists each place that was tried and what it answered.
        """
        target = folder / file.name
        failures: list[str] = []
        for place in self._list_places(file):
            try:
                self._get(place, file, target)
            except (OSError, DataError) as error:
                failures.append(mask_secrets(f"{place}: {_say_reason(error)}"))
            else:
                for failure in failures:
                    if " received " in failure:
                        print(mask_secrets(f"warning: {failure}; {place} has the right bytes"), file=sys.stderr)
                return target
        tried = "\n".join(f"  {failure}" for failure in failures)
        raise DataError(
            f"{file.name} could not be had. Expected: {file.described}. "
            f"Received: nothing usable from {len(failures)} places.\n{tried}\n"
            f"  What to do: put the file at {self.keras_home / file.keras_path}, or set COTEJO_MIRROR to a folder that "
            f"has it as {file.mirror_path}, and run again. `make demo` needs no download."
        )

    def _list_places(self, file: RemoteFile) -> list[str]:
        mirrored = [f"{self.mirror.rstrip('/')}/{file.mirror_path}"] if self.mirror else []
        return [*mirrored, str(self.keras_home / file.keras_path), *file.addresses]

    def _get(self, place: str, file: RemoteFile, target: Path) -> None:
        """Copies or downloads one file, verifies it, and moves it to its name in one step."""
        resumed = False
        if place.startswith(("http://", "https://")):
            partial = self.partial_folder / f"{file.digest[1] if file.digest else file.name}.part"
            if file.digest is None:  # nothing would tell whose part it was
                partial.unlink(missing_ok=True)
            resumed = partial.exists()
            try:
                self._download(place, file.name, partial)
            except DataError:  # too much: nothing to resume from
                partial.unlink(missing_ok=True)
                raise
        else:
            partial = target.with_name(f".{file.name}.part")
            source = _locate(place)
            if source.exists() and not source.is_file():
                raise DataError("not a file")
            _check_size(source.stat().st_size)
            shutil.copyfile(source, partial)
        fault = find_fault(partial, file)
        if fault is not None:
            partial.unlink()
            if resumed:  # what an earlier try left may have been another host's: once more, from the start
                self._get(place, file, target)
                return
            raise DataError(fault)
        shutil.move(partial, target)

    def _download(self, address: str, name: str, partial: Path) -> None:
        """Downloads to the partial file, resuming after what an earlier try left there."""
        partial.parent.mkdir(parents=True, exist_ok=True)
        for wait_s in (*RETRY_WAITS_S, None):
            try:
                self._stream(address, name, partial)
                break
            except requests.RequestException as error:
                # an answer such as 404 stays the same however often we ask, and so does a host that can't be reached
                refused = error.response is not None and error.response.status_code < requests.codes.server_error
                unreachable = isinstance(error, requests.ConnectTimeout) or "NewConnectionError" in repr(error)
                if refused or unreachable or wait_s is None:
                    raise
                time.sleep(wait_s)

    def _stream(self, address: str, name: str, partial: Path) -> None:
        """Appends to the partial file what it lacks."""
        done = partial.stat().st_size if partial.exists() else 0
        # as it is: a Range counts bytes of the file, not of a compressed answer
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={done}-"} if done else {})
        with requests.get(address, headers=headers, stream=True, timeout=self.timeout_s) as response:
            if response.status_code == requests.codes.requested_range_not_satisfiable:
                return  # nothing is lacking: the checksum will tell
            response.raise_for_status()
            if response.status_code != requests.codes.partial_content:
                done = 0
            total = int(response.headers.get("Content-Length", 0)) + done
            _check_size(total)
            # some hosts label every .gz file as a compressed answer, which requests would unpack
            response.raw.headers.pop("Content-Encoding", None)
            with partial.open("ab" if done else "wb") as sink, _show_progress(name, done, total) as progress:
                for chunk in response.iter_content(CHUNK_BYTES):
                    _check_size(sink.tell() + len(chunk))
                    sink.write(chunk)
                    progress.advance(progress.task_ids[0], len(chunk))


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


def _check_size(num_bytes: int) -> None:
    if num_bytes > MAX_BYTES:
        raise DataError(f"expected at most {MAX_BYTES:,} bytes, received more")


def _locate(place: str) -> Path:
    """Resolves `package:<package>/<path>` to a file that an installed package brought along."""
    if not place.startswith(PACKAGE):
        return Path(place)
    package, _, path = place.removeprefix(PACKAGE).partition("/")
    with resources.as_file(resources.files(package) / path) as file:
        return file


def _say_reason(error: Exception) -> str:
    """Returns in a few words why a place was of no use."""
    if isinstance(error, requests.HTTPError):
        return f"answered {error.response.status_code} {error.response.reason}"
    # requests knows a host that falls silent in the middle of its answer by the text only
    if isinstance(error, requests.Timeout) or "Read timed out" in str(error):
        return "did not answer in time"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    if isinstance(error, FileNotFoundError):
        return "no such file"
    return str(error)


def _show_progress(name: str, done: int, total: int) -> Progress:
    """Returns a progress bar on a terminal; in a log, prints one plain line and returns a silent bar."""
    progress = build_bar(DownloadColumn(), TransferSpeedColumn(), is_transient=False)
    if progress.disable:
        resumed = f", {done:,} of them here already" if done else ""
        print(f"downloading {name} ({total:,} bytes{resumed})", file=sys.stderr)
    progress.add_task(name, total=total or None, completed=done)
    return progress
