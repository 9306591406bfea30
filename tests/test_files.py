"""Files that are whole whenever their writer dies, locks that die with their holder, digests that others compute."""

import hashlib
import json
import subprocess
import sys
import threading
import time

import pytest

from cotejo.files import digest_json, digest_path, drop_torn_line, open_alone, replacing, try_lock

#: Writes a file again and again, each time whole with one letter.
WRITER = """
import sys
from itertools import cycle
from pathlib import Path
from cotejo.files import replacing
print("begins", flush=True)
for letter in cycle("ab"):
    with replacing(Path(sys.argv[1])) as partial:
        partial.write_text(letter * 1_000_000)
"""
#: Holds a file in one of two ways until it is killed.
HOLDER = """
import sys, time
from pathlib import Path
from cotejo.files import open_alone, try_lock
path = Path(sys.argv[1])
with open_alone(path, "a+b") if sys.argv[2] == "file" else try_lock(path):
    print("holds", flush=True)
    time.sleep(600)
"""


def start(script, *arguments):
    """A process with Cotejo's source, when it has written its first line."""
    process = subprocess.Popen([sys.executable, "-c", script, *map(str, arguments)], stdout=subprocess.PIPE)
    assert process.stdout.readline()
    return process


def kill(process):
    process.kill()
    process.communicate()


def test_a_writer_that_is_killed_leaves_the_old_file_or_the_new_one(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("a" * 1_000_000)
    num_torn = 0
    for wait_ms in range(0, 20, 2):
        process = start(WRITER, path)
        time.sleep(wait_ms / 1000)
        kill(process)
        content = path.read_text()
        assert content in ("a" * 1_000_000, "b" * 1_000_000)
        num_torn += (tmp_path / ".part-a.txt").exists()
    assert num_torn, "no kill came in the middle of a write"
    with replacing(path) as partial:
        assert not partial.exists(), "what a killed writer left isn't appended to"
        partial.write_text("new")
    assert {inner.name: inner.read_text() for inner in tmp_path.iterdir()} == {"a.txt": "new"}


def write_half(path, *, is_folder):
    with replacing(path) as partial:
        if is_folder:
            partial.mkdir()
        (partial / "inner" if is_folder else partial).write_text("half")
        raise KeyboardInterrupt


@pytest.mark.parametrize("is_folder", [False, True])
def test_a_block_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, is_folder):
    path = tmp_path / "a"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        write_half(path, is_folder=is_folder)
    assert {inner.name: inner.read_text() for inner in tmp_path.iterdir()} == {"a": "old"}


def test_who_opens_a_file_alone_waits_for_a_process_that_has_it_until_that_is_killed(tmp_path):
    path, had = tmp_path / "a.jsonl", threading.Event()

    def append():
        with open_alone(path, "a+b") as file:
            had.set()
            file.write(b"line\n")

    process = start(HOLDER, path, "file")
    waiting = threading.Thread(target=append)
    waiting.start()
    assert not had.wait(0.2)
    kill(process)
    waiting.join(10)
    assert path.read_bytes() == b"line\n"
    assert list(tmp_path.iterdir()) == [path], "a lock of its own would be left"


def test_a_lock_is_refused_while_a_process_holds_it_and_to_be_had_when_it_was_killed(tmp_path):
    path = tmp_path / "a.lock"
    process = start(HOLDER, path, "lock")
    with try_lock(path, 0.1) as is_held:
        assert not is_held
    kill(process)
    for _ in range(2):
        with try_lock(path) as is_held:
            assert is_held


@pytest.mark.parametrize(("left", "kept"), [(b"", b""), (b"ha", b""), (b"one\n", b"one\n"), (b"one\nha", b"one\n")])
def test_only_half_a_line_is_dropped(tmp_path, left, kept):
    path = tmp_path / "lines"
    path.write_bytes(left)
    with path.open("r+b") as file:
        drop_torn_line(file)
        file.write(b"next\n")
    assert path.read_bytes() == kept + b"next\n"


def test_a_folders_digest_is_that_of_its_files_digests_by_name(tmp_path):
    (tmp_path / "b").mkdir()
    files = {"a.txt": b"first", "b/c.txt": b"second"}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    listed = [[name, hashlib.sha256(content).hexdigest()] for name, content in files.items()]
    assert digest_path(tmp_path) == hashlib.sha256(json.dumps(listed).encode()).hexdigest()
    assert digest_path(tmp_path / "a.txt") == listed[0][1]
    assert digest_path(tmp_path / "none") is None


def test_the_order_of_keys_changes_no_digest():
    assert digest_json({"b": [1, None], "a": 0.1}) == hashlib.sha256(b'{"a": 0.1, "b": [1, null]}').hexdigest()
