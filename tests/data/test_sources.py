"""Downloads, against a real server on this machine that misbehaves as told."""

import hashlib
import os
import subprocess
import sys
import threading
from collections import defaultdict
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources

import pytest

from cotejo.data import fetching
from cotejo.data.fetching import Fetcher
from cotejo.data.sources import SOURCES, RemoteFile
from cotejo.errors import DataError

CONTENT = bytes(range(256)) * 2_000
TIMEOUT_S = 0.3


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append((self.path, self.headers.get("Range")))
        answers = self.server.answers[self.path]
        # the last answer is given for ever
        (answers.pop(0) if len(answers) > 1 else answers[0] if answers else refuse(404))(self)

    def log_message(self, *_):
        """Keeps the test's output free of the server's log."""


class Host(ThreadingHTTPServer):
    """Answers each path with the answers listed for it, one after the other."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests = []
        self.answers = defaultdict(list)
        self.closing = threading.Event()
        self.address = f"http://127.0.0.1:{self.server_port}"


def give(content, *, ranges=True, break_after=None, headers=()):
    """Answers with the content, or the part asked for; may break the connection after some bytes."""

    def answer(handler):
        asked = handler.headers.get("Range") if ranges else None
        first = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if first >= len(content) and asked:
            handler.send_error(416)
            return
        handler.send_response(206 if asked else 200)
        handler.send_header("Content-Length", str(len(content) - first))
        for name, value in headers:
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(content[first : None if break_after is None else first + break_after])

    return answer


def refuse(status):
    return lambda handler: handler.send_error(status)


def stay_silent(handler):
    handler.server.closing.wait(30)


@pytest.fixture
def host():
    with Host() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.closing.set()
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch):
    monkeypatch.setattr(fetching, "RETRY_WAITS_S", (0.0, 0.0))


@pytest.fixture
def file(host):
    return RemoteFile(
        name="images.gz",
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        addresses=(f"{host.address}/first", f"{host.address}/second"),
        mirror_path="set/images.gz",
        keras_path="datasets/set/images.gz",
    )


@pytest.fixture
def target(tmp_path):
    (tmp_path / "raw").mkdir()
    return tmp_path / "raw"


@pytest.fixture
def fetcher(tmp_path):
    return Fetcher(TIMEOUT_S, tmp_path / "downloads", None, tmp_path / "keras")


def put(path, content=CONTENT):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def refusal(fetcher, file, target):
    with pytest.raises(DataError) as caught:
        fetcher.fetch(file, target)
    assert list(target.iterdir()) == [], "something half-written was left"
    return str(caught.value)


def test_a_mirror_on_the_web_comes_first_then_the_keras_cache_then_the_address(host, file, fetcher, target):
    fetcher.mirror = f"{host.address}/mirror/"
    put(fetcher.keras_home / file.keras_path)
    host.answers["/mirror/set/images.gz"] = [give(CONTENT)]
    host.answers["/first"] = [give(CONTENT)]

    assert fetcher.fetch(file, target).read_bytes() == CONTENT
    assert host.requests == [("/mirror/set/images.gz", None)]

    fetcher.mirror = None
    fetcher.fetch(file, target)
    assert len(host.requests) == 1, "the cache has it: nothing is asked"

    (fetcher.keras_home / file.keras_path).unlink()
    fetcher.fetch(file, target)
    assert host.requests[1:] == [("/first", None)]


def test_a_mirror_folder_comes_before_all_else(host, file, fetcher, target, tmp_path):
    fetcher.mirror = str(tmp_path / "mirror")
    put(tmp_path / "mirror/set/images.gz")
    assert fetcher.fetch(file, target) == target / "images.gz"
    assert (target / "images.gz").read_bytes() == CONTENT
    assert host.requests == []
    assert (tmp_path / "mirror/set/images.gz").exists(), "a mirror is copied from, not emptied"


def test_wrong_bytes_are_passed_over_with_a_warning_that_names_both_checksums(host, file, fetcher, target, capsys):
    wrong = CONTENT[::-1]
    put(fetcher.keras_home / file.keras_path, wrong)
    host.answers["/first"] = [give(CONTENT)]
    assert fetcher.fetch(file, target).read_bytes() == CONTENT
    warning = capsys.readouterr().err
    assert str(fetcher.keras_home / file.keras_path) in warning
    assert f"expected SHA-256 {file.sha256}, received {hashlib.sha256(wrong).hexdigest()} (512,000 bytes)" in warning
    assert f"{host.address}/first has the right bytes" in warning


def test_wrong_bytes_everywhere_are_refused_with_both_checksums(host, file, fetcher, target):
    wrong = b"<html>Sign in to the hotel's network</html>"
    host.answers["/first"] = host.answers["/second"] = [give(wrong)]
    message = refusal(fetcher, file, target)
    assert message.count(f"expected SHA-256 {file.sha256}, received {hashlib.sha256(wrong).hexdigest()}") == 2
    assert list(fetcher.partial_folder.iterdir()) == [], "wrong bytes would be resumed from"


def test_a_broken_connection_is_resumed_where_it_broke(host, file, fetcher, target, capsys):
    host.answers["/first"] = [give(CONTENT, break_after=300_000), give(CONTENT)]
    assert fetcher.fetch(file, target).read_bytes() == CONTENT
    assert [path for path, _ in host.requests] == ["/first", "/first"]
    kept = int(host.requests[1][1].removeprefix("bytes=").removesuffix("-"))
    assert 300_000 - fetching.CHUNK_BYTES < kept <= 300_000
    assert f"downloading images.gz (512,000 bytes, {kept:,} of them here already)" in capsys.readouterr().err
    assert list(fetcher.partial_folder.iterdir()) == []


def test_what_a_killed_download_left_is_resumed_by_the_next_process(host, file, fetcher, target):
    put(fetcher.partial_folder / f"{file.sha256}.part", CONTENT[:1_000])
    host.answers["/first"] = [give(CONTENT)]
    assert fetcher.fetch(file, target).read_bytes() == CONTENT
    assert host.requests == [("/first", "bytes=1000-")]


def test_a_download_killed_before_its_last_step_is_not_fetched_again(host, file, fetcher, target):
    put(fetcher.partial_folder / f"{file.sha256}.part")
    host.answers["/first"] = [give(CONTENT)]
    assert fetcher.fetch(file, target).read_bytes() == CONTENT
    assert host.requests == [("/first", f"bytes={len(CONTENT)}-")]


def test_a_host_that_cannot_send_a_part_sends_the_whole(host, file, fetcher, target):
    put(fetcher.partial_folder / f"{file.sha256}.part", CONTENT[:1_000])
    host.answers["/first"] = [give(CONTENT, ranges=False)]
    assert fetcher.fetch(file, target).read_bytes() == CONTENT
    assert host.requests == [("/first", "bytes=1000-")], "asked once more than needed"


@pytest.mark.parametrize("length", [1_000, len(CONTENT), len(CONTENT) + 1_000], ids=["short", "full", "long"])
def test_a_damaged_part_is_thrown_away_and_the_whole_fetched(host, file, fetcher, target, length):
    put(fetcher.partial_folder / f"{file.sha256}.part", bytes(length))
    host.answers["/first"] = [give(CONTENT)]
    assert fetcher.fetch(file, target).read_bytes() == CONTENT


def test_a_file_with_an_md5_alone_is_verified_by_it(host, file, fetcher, target):
    by_md5 = replace(file, sha256="", md5=hashlib.md5(CONTENT, usedforsecurity=False).hexdigest())
    host.answers["/first"] = [give(CONTENT[::-1])]
    host.answers["/second"] = [give(CONTENT)]
    assert fetcher.fetch(by_md5, target).read_bytes() == CONTENT
    (target / "images.gz").unlink()
    host.answers["/second"] = [refuse(404)]
    assert f"Expected: a file with MD5 {by_md5.md5}." in refusal(fetcher, by_md5, target)


def test_a_file_without_a_digest_is_never_pieced_together_from_two_downloads(host, file, fetcher, target):
    unverified = replace(file, sha256="", signature=CONTENT[:8])
    put(fetcher.partial_folder / "images.gz.part", CONTENT[:500] + b"of another file")
    host.answers["/first"] = [give(CONTENT)]
    assert fetcher.fetch(unverified, target).read_bytes() == CONTENT
    assert host.requests == [("/first", None)]
    (target / "images.gz").unlink()
    host.answers["/first"] = host.answers["/second"] = [give(b"<html>")]
    assert "expected first bytes" in refusal(fetcher, unverified, target)


def test_part_of_another_hosts_error_page_does_not_spoil_the_next_address(host, file, fetcher, target):
    host.answers["/first"] = [give(b"<html>" * 80_000, ranges=False, break_after=200_000)]
    host.answers["/second"] = [give(CONTENT)]
    assert fetcher.fetch(file, target).read_bytes() == CONTENT


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip"])
def test_a_gz_file_that_a_host_labels_as_compressed_is_kept_as_it_is(host, fetcher, target, encoding):
    # Apache's mod_mime does so with every .gz file: https://httpd.apache.org/docs/2.4/mod/mod_mime.html#addencoding
    content = (resources.files("sklearn.datasets") / "data/digits.csv.gz").read_bytes()
    file = RemoteFile("d.csv.gz", hashlib.sha256(content).hexdigest(), (f"{host.address}/d",), "m", "k")
    host.answers["/d"] = [
        give(content, headers=[("Content-Encoding", encoding)], break_after=20_000),
        give(content, headers=[("Content-Encoding", encoding)]),
    ]
    assert fetcher.fetch(file, target).read_bytes() == content


def test_a_server_error_is_tried_again_and_a_missing_file_is_not(host, file, fetcher, target):
    host.answers["/first"] = [refuse(404)]
    host.answers["/second"] = [refuse(500), refuse(503), give(CONTENT)]
    assert fetcher.fetch(file, target).read_bytes() == CONTENT
    assert [path for path, _ in host.requests] == ["/first", "/second", "/second", "/second"]


def test_a_host_that_stays_down_is_given_up_after_three_tries(host, file, fetcher, target):
    host.answers["/first"] = host.answers["/second"] = [refuse(500)]
    refusal(fetcher, file, target)
    assert [path for path, _ in host.requests] == ["/first"] * 3 + ["/second"] * 3


def test_a_connection_that_always_breaks_leaves_nothing_but_a_part_to_resume_from(host, file, fetcher, target):
    host.answers["/first"] = [give(CONTENT, break_after=100_000)]
    refusal(fetcher, file, target)
    kept = (fetcher.partial_folder / f"{file.sha256}.part").read_bytes()
    assert len(kept) > 100_000, "the second try added nothing to what the first had"
    assert CONTENT.startswith(kept)


def test_the_error_lists_every_place_with_its_answer_and_what_to_do(host, file, fetcher, target, tmp_path):
    fetcher.mirror = str(tmp_path / "mirror")
    put(fetcher.keras_home / file.keras_path, b"damaged")
    host.answers["/first"] = [refuse(404)]
    host.answers["/second"] = [stay_silent]
    lines = refusal(fetcher, file, target).splitlines()
    assert lines[0].startswith(f"images.gz could not be had. Expected: a file with SHA-256 {file.sha256}.")
    assert "from 4 places" in lines[0]
    assert lines[1] == f"  {tmp_path}/mirror/set/images.gz: no such file"
    assert lines[2].startswith(f"  {tmp_path}/keras/datasets/set/images.gz: expected SHA-256 {file.sha256}, received ")
    assert lines[3] == f"  {host.address}/first: answered 404 Not Found"
    assert lines[4] == f"  {host.address}/second: did not answer in time"
    assert lines[5].startswith(f"  What to do: put the file at {tmp_path}/keras/datasets/set/images.gz")
    assert "COTEJO_MIRROR to a folder that has it as set/images.gz" in lines[5]


@pytest.mark.parametrize(("silent", "reason"), [(True, "did not answer in time"), (False, "the connection broke")])
def test_a_host_that_stops_in_the_middle_is_reported_as_what_it_did(host, file, fetcher, target, silent, reason):
    def stop(handler):
        give(CONTENT, break_after=1_000)(handler)
        if silent:
            stay_silent(handler)

    host.answers["/first"] = [stop]
    assert f"{host.address}/first: {reason}\n" in refusal(fetcher, file, target)


def test_a_refused_connection_is_reported_as_no_connection(file, fetcher, target):
    with Host() as closed:
        address = closed.address
    unreachable = RemoteFile(file.name, file.sha256, (f"{address}/x",), file.mirror_path, file.keras_path)
    assert f"{address}/x: no connection" in refusal(fetcher, unreachable, target)


def test_a_relative_mirror_counts_from_the_repository_not_from_dvcs_temporary_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COTEJO_MIRROR", "mirror")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DVC_ROOT", raising=False)
    assert Fetcher.from_environment(1.0, tmp_path).mirror == str(tmp_path / "mirror")
    monkeypatch.setenv("DVC_ROOT", "/the/repository")
    fetcher = Fetcher.from_environment(1.0, tmp_path)
    assert fetcher.mirror == "/the/repository/mirror"
    assert fetcher.keras_home == tmp_path / "home"


@pytest.mark.parametrize("mirror", ["https://host/data", "/absolute"])
def test_an_absolute_mirror_is_taken_as_it_is(tmp_path, monkeypatch, mirror):
    monkeypatch.setenv("COTEJO_MIRROR", mirror)
    monkeypatch.setenv("DVC_ROOT", "/the/repository")
    assert Fetcher.from_environment(1.0, tmp_path).mirror == mirror


def test_an_empty_mirror_variable_is_no_mirror(tmp_path, monkeypatch):
    monkeypatch.setenv("COTEJO_MIRROR", "")
    assert Fetcher.from_environment(1.0, tmp_path).mirror is None


def test_the_digits_need_no_network(tmp_path):
    # a process of its own, in which any connection and any look-up of a name ends it
    script = """
import os, sys
from pathlib import Path
sys.addaudithook(lambda event, _: os._exit(9) if event in ("socket.connect", "socket.getaddrinfo") else None)
from cotejo.data.sources import SOURCES
from cotejo.data.fetching import Fetcher
fetcher = Fetcher.from_environment(1.0, Path("downloads"))
for file in SOURCES["digits"].files:
    print(fetcher.fetch(file, Path(".")))
"""
    environment = {key: value for key, value in os.environ.items() if key != "COTEJO_MIRROR"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**environment, "KERAS_HOME": str(tmp_path / "empty")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "digits.csv.gz\n", "")
    bundled = resources.files("sklearn.datasets") / "data/digits.csv.gz"
    assert (tmp_path / "digits.csv.gz").read_bytes() == bundled.read_bytes()


def test_every_known_file_has_an_address_and_a_checksum_of_its_own():
    files = [file for source in SOURCES.values() for file in source.files]
    assert all(file.addresses and len(bytes.fromhex(file.sha256)) == 32 for file in files)
    for field in ("sha256", "mirror_path", "keras_path"):
        assert len({getattr(file, field) for file in files}) == len(files)
