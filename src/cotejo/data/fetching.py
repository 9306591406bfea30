"""Fetches files from their mirrors, and lets only verified bytes through."""

import os
import shutil
import sys
import time
from importlib import resources
from pathlib import Path

import requests
from rich.progress import DownloadColumn, Progress, TransferSpeedColumn

from cotejo.data.sources import PACKAGE, RemoteFile, check_size, find_fault
from cotejo.errors import DataError
from cotejo.masking import mask_secrets
from cotejo.terminal import build_bar

#: Waits before the second and the third try of an address, in seconds.
RETRY_WAITS_S = (0.5, 2.0)
#: What a broken connection loses at most.
CHUNK_BYTES = 1 << 16


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
            check_size(source.stat().st_size)
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
            check_size(total)
            # some hosts label every .gz file as a compressed answer, which requests would unpack
            response.raw.headers.pop("Content-Encoding", None)
            with partial.open("ab" if done else "wb") as sink, _show_progress(name, done, total) as progress:
                for chunk in response.iter_content(CHUNK_BYTES):
                    check_size(sink.tell() + len(chunk))
                    sink.write(chunk)
                    progress.advance(progress.task_ids[0], len(chunk))


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
