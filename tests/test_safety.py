"""What others hand to a study can't run code, leave its folder or exhaust the machine; and secrets stay secret."""

import ast
import gzip
import io
import json
import os
import socket
import struct
import subprocess
import sys
import tarfile
import tempfile
import textwrap
import zipfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from cotejo.data import readers
from cotejo.data.fetching import Fetcher
from cotejo.data.readers import read_idx, read_published
from cotejo.data.sources import SOURCES, check_files
from cotejo.errors import DataError, ModelError
from warm import WarmProcess

ROOT = Path(__file__).parents[1]
#: What driver and worker send each other is code by its nature; docs/cluster.md says who may reach a scheduler.
SENT = {ROOT / "src/cotejo/execution/executor.py", ROOT / "src/cotejo/execution/trainer.py"}
CODE = sorted({*(ROOT / "src").rglob("*.py"), *(ROOT / "stages").glob("*.py")} - SENT)
#: Modules that run what they read.
UNPICKLERS = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "torch"}
#: Calls that run what they read unless an argument says otherwise, and that argument.
GUARDED = {"load": ("allow_pickle", False), "load_model": ("safe_mode", True)}
FORBIDDEN = {"read_pickle", "enable_unsafe_deserialization", "extractall", "unsafe_load"}
#: Where an archive's member would land whose name is this path.
OUTSIDE = Path(tempfile.gettempdir(), "evil-of-cotejo")


def find_unsafe(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] in UNPICKLERS)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in UNPICKLERS:
            yield node.module
        elif isinstance(node, ast.Call):
            yield from find_unsafe_call(node)


def find_unsafe_call(node):
    called = ast.unparse(node.func)
    module, _, name = called.rpartition(".")
    is_numpy, is_keras = module in ("np", "numpy"), "keras" in module or "saving" in module
    if name in GUARDED and (is_numpy if name == "load" else is_keras):
        key, safe = GUARDED[name]
        if not any(word.arg == key and getattr(word.value, "value", None) is safe for word in node.keywords):
            yield ast.unparse(node)
    if name in ("read_pickle", "enable_unsafe_deserialization", "extractall", "unsafe_load") or called in (
        "eval",
        "exec",
    ):
        yield called


@pytest.mark.parametrize("path", CODE, ids=lambda path: path.stem)
def test_no_code_runs_what_it_reads(path):
    assert set(find_unsafe(ast.parse(path.read_text(encoding="utf-8")))) == set()


@pytest.mark.parametrize(
    "line",
    ["import pickle", "from joblib import load", "np.load(path)", "np.load(path, allow_pickle=True)",
     "keras.saving.load_model(path)", "keras.models.load_model(path, safe_mode=False)", "pd.read_pickle(path)",
     "archive.extractall(folder)", "eval(text)"],
)  # fmt: skip
def test_the_search_for_unsafe_code_finds_it(line):
    assert list(find_unsafe(ast.parse(line)))


# Data sets


#: Bytes that reading may take; what must not be read in full takes more.
ROOM = 1 << 28


@pytest.fixture
def memory_limit():
    with limit_memory():
        yield


@contextmanager
def limit_memory():
    """Makes any attempt to take much more memory than there is use of an error."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def encode_header(*shape):
    return struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape)


@pytest.mark.parametrize("shape", [(2**31, 2**31), (2**31 - 1, 2**31 - 1, 2**31 - 1), (60_000, 2**16, 2**16)])
def test_an_absurd_image_size_is_refused_before_room_is_made_for_it(tmp_path, memory_limit, shape):
    file = tmp_path / "train-images-idx3-ubyte.gz"
    file.write_bytes(gzip.compress(encode_header(*shape)))
    with pytest.raises(DataError, match=r"expected at most 1,073,741,824 bytes of data. Received: shape"):
        read_idx(file)


def test_a_file_that_unpacks_further_is_read_as_far_as_it_declares(tmp_path, memory_limit):
    file = tmp_path / "train-images-idx3-ubyte.gz"
    with gzip.open(file, "wb", compresslevel=1) as bomb:
        bomb.write(encode_header(4, 3, 5))
        for _ in range(ROOM * 5 // 4 >> 20):
            bomb.write(bytes(1 << 20))
    assert file.stat().st_size < 10_000_000
    with pytest.raises(DataError, match=r"expected 60 values for shape \(4, 3, 5\). Received: 61 or more"):
        read_idx(file)


def write_npz(folder, **headers):
    """Writes arrays that are nothing but a header."""
    with zipfile.ZipFile(folder / "mnist.npz", "w") as archive:
        for name, shape in headers.items():
            content = io.BytesIO()
            np.lib.format.write_array_header_1_0(content, {"descr": "|u1", "fortran_order": False, "shape": shape})
            archive.writestr(f"{name}.npy", content.getvalue())
    return folder


def test_an_npz_with_an_absurd_shape_is_refused_before_room_is_made_for_it(tmp_path, memory_limit):
    folder = write_npz(tmp_path, x_train=(2**31, 2**31), y_train=(2,), x_test=(2, 2, 2), y_test=(2,))
    with pytest.raises(DataError, match=r"mnist\.npz: expected at most .* Received: shape \(2147483648, 2147483648\)"):
        read_published("npz", folder, 10)


def write_cifar(folder, *members):
    with tarfile.open(folder / "cifar-10-binary.tar.gz", "w:gz") as archive:
        for name, content, link in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            if link:
                member.type, member.linkname = tarfile.SYMTYPE, link
            archive.addfile(member, io.BytesIO(content))
    return folder


@pytest.mark.parametrize("name", ["../../evil", str(OUTSIDE), "cifar-10-batches-bin/../../../evil"])
def test_a_member_of_an_archive_lands_nowhere_whatever_it_is_called(tmp_path, name):
    folder = tmp_path / "a" / "b" / "c"
    folder.mkdir(parents=True)
    write_cifar(folder, (name, b"evil", ""), ("cifar-10-batches-bin/data_batch_1.bin", b"", "/etc/passwd"))
    with pytest.raises(DataError, match="cifar format"):
        read_published("cifar", folder, 10)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["cifar-10-binary.tar.gz"]
    assert not OUTSIDE.exists()


@pytest.mark.parametrize("file_format", ["cifar", "digits"])
def test_an_archive_that_unpacks_without_end_is_refused(tmp_path, monkeypatch, file_format):
    monkeypatch.setattr(readers, "MAX_BYTES", 1 << 22)
    zeros = bytes(1 << 23)
    if file_format == "cifar":
        write_cifar(tmp_path, ("README", zeros, ""))
    else:
        (tmp_path / "digits.csv.gz").write_bytes(gzip.compress(b"0,0\n" * (1 << 21)))
    with pytest.raises(DataError, match=r"at most 4,194,304 bytes of data\. Received: a file that unpacks to"):
        read_published(file_format, tmp_path, 10)


def test_preprocess_reads_only_the_bytes_of_the_authors_whatever_a_link_leads_to(tmp_path):
    fetcher = Fetcher(1, tmp_path / "partial", None, tmp_path)
    (file,) = SOURCES["digits"].files
    kept = fetcher.fetch(file, tmp_path)
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / file.name).symlink_to(kept)  # as DVC's cache may do
    check_files("digits", raw)
    for target in ("/etc/passwd", "/dev/zero", "nowhere"):
        (raw / file.name).unlink()
        (raw / file.name).symlink_to(target)
        with pytest.raises(DataError, match=r"digits\.csv\.gz: expected SHA-256 09f6.*run `dvc repro download` again"):
            check_files("digits", raw)


@pytest.mark.parametrize("kind", ["device", "pipe", "folder"])
def test_a_mirror_that_holds_no_plain_file_is_passed_over(tmp_path, kind):
    place = tmp_path / "mirror" / "digits" / "digits.csv.gz"
    place.parent.mkdir(parents=True)
    {"device": lambda: place.symlink_to("/dev/zero"), "pipe": lambda: os.mkfifo(place), "folder": place.mkdir}[kind]()
    (file,) = SOURCES["digits"].files
    target = Fetcher(1, tmp_path / "partial", str(tmp_path / "mirror"), tmp_path).fetch(file, tmp_path)
    assert target.stat().st_size == 57_523


# Models


@pytest.fixture
def archive(tmp_path):
    """A saved model; returns a function that writes it anew with other members."""
    import keras

    from cotejo.training.archive import save_model

    path = tmp_path / "inner" / "model.keras"
    path.parent.mkdir()
    save_model(keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]), path)
    with zipfile.ZipFile(path) as saved:
        members = {name: saved.read(name) for name in saved.namelist()}

    def write(compression=zipfile.ZIP_STORED, **changes):
        changes = {name.replace("_json", ".json"): content for name, content in changes.items()}
        with zipfile.ZipFile(path, "w", compression) as target:
            for name, content in {**members, **changes.pop("more", {}), **changes}.items():
                target.writestr(name, content)
        return path

    write.config = json.loads(members["config.json"])
    return write


@pytest.mark.parametrize("name", ["../../evil", str(OUTSIDE), "assets/../../evil", "assets/link"])
def test_a_model_with_a_member_of_another_name_is_refused_and_nothing_lands_anywhere(archive, tmp_path, name):
    from cotejo.training.archive import load_model

    link = zipfile.ZipInfo(name)
    link.external_attr = 0o120777 << 16
    for member in (name, link):
        path = archive(more={member: b"/etc/passwd"})
        with pytest.raises(ModelError, match=r"model\.keras: expected a model .* Received: an archive"):
            load_model(path)
    assert [found.name for found in tmp_path.rglob("*") if not found.is_dir()] == ["model.keras"]
    assert not OUTSIDE.exists()


def test_a_model_that_unpacks_to_any_size_is_refused(archive):
    from cotejo.training.archive import load_model

    path = archive(zipfile.ZIP_DEFLATED, config_json=b" " * ROOM)
    assert path.stat().st_size < 1_000_000
    with limit_memory(), pytest.raises(ModelError, match="a compressed one"):
        load_model(path)


def test_code_in_a_model_is_not_run(archive, tmp_path, monkeypatch):
    import keras

    from cotejo.training.archive import load_model

    evil = tmp_path / "evil"

    images = keras.Input((4,))
    monkeypatch.setenv("EVIL", str(evil))
    strike = keras.layers.Lambda(lambda x: (open(__import__("os").environ["EVIL"], "w").close(), x)[1])  # noqa: PTH123
    path = tmp_path / "inner" / "model.keras"
    keras.Model(images, strike(images)).save(path)
    evil.unlink()
    keras.saving.load_model(path, safe_mode=False)
    assert evil.exists(), "the weapon works"
    evil.unlink()
    with pytest.raises(ModelError, match=r"(?i)lambda|unsafe|safe_mode"):
        load_model(path)
    assert not evil.exists()
    for module, name in (("subprocess", "Popen"), ("os", "system"), ("builtins", "exec")):
        config = json.loads(json.dumps(archive.config))
        call = {"module": module, "class_name": name, "config": {"args": ["touch", str(evil)]}, "registered_name": None}
        config["config"]["layers"][1] = call
        with pytest.raises(ModelError):
            load_model(archive(config_json=json.dumps(config)))
        assert not evil.exists()


# Secrets

SECRETS = ("pa55w0rd", "t0ken-of-ana", "m1rror-key", "rem0te-key")


@pytest.fixture
def guarded(environment):
    """An environment full of secrets, with a server that refuses."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return {
        **environment,
        "MLFLOW_TRACKING_URI": f"http://ana:pa55w0rd@127.0.0.1:{port}",
        "MLFLOW_TRACKING_PASSWORD": "pa55w0rd",
        "MLFLOW_TRACKING_TOKEN": "t0ken-of-ana",
        "COTEJO_MIRROR": f"http://ana:m1rror-key@127.0.0.1:{port}/mirror?token=t0ken-of-ana",
    }


def find_secrets(study, *printed):
    """Returns the files below a folder, and what was printed, that hold a secret; Git's own settings do."""
    files = [path for path in study.rglob("*") if path.is_file() and path != study / ".git" / "config"]
    texts = {str(path.relative_to(study)): path.read_bytes() for path in files}
    texts |= {f"printed {number}": text.encode() for number, text in enumerate(printed)}
    return [name for name, content in texts.items() for secret in SECRETS if secret.encode() in content]


@pytest.mark.parametrize("name", ["digits", "fashion_mnist"])
def test_a_stage_writes_no_secret_anywhere_whether_it_succeeds_or_fails(study, guarded, name):
    subprocess.run(
        ["git", "remote", "add", "origin", "https://ana:rem0te-key@127.0.0.1/study.git"], cwd=study, check=True
    )
    text = (study / "params.yaml").read_text()
    (study / "params.yaml").write_text(text.replace("name: fashion_mnist", f"name: {name}")
                                       .replace("weights: imagenet", "weights: random"))  # fmt: skip
    if name == "fashion_mnist":  # no place but the mirror, so that the test needs no network
        sources = study / "src/cotejo/data/sources.py"
        edited = sources.read_text().replace(
            'addresses=tuple(f"{address}/{name}" for address in addresses)', "addresses=()"
        )
        sources.write_text(edited)
    variables = {**guarded, "KERAS_HOME": str(study / "no-keras")}
    if name == "digits":
        process = subprocess.Popen([sys.executable, "stages/download.py"], cwd=study, env=variables, text=True,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
    else:
        process = WarmProcess(["stages/download.py"], study, variables)
    stdout, stderr = process.communicate()
    assert process.returncode == (0 if name == "digits" else 2), stderr
    assert "warning: not all records are in MLflow yet" in stderr
    assert list(study.glob(".cotejo/journal/*.jsonl"))
    if name == "fashion_mnist":
        assert "http://***@127.0.0.1" in stderr
    assert find_secrets(study, stdout, stderr) == []


@pytest.mark.parametrize(
    "uri",
    ["http://ana:pa55w0rd@127.0.0.1:notaport", "postgresql://ana:pa55w0rd@127.0.0.1:1/runs", "nonsense://ana:pa55w0rd@h",
     "http://ana:pa55w0rd@[::1", "mysql+nodriver://ana:pa55w0rd@127.0.0.1/runs"],
    ids=["port", "postgresql", "scheme", "bracket", "driver"],
)  # fmt: skip
def test_no_error_of_mlflow_shows_the_password_in_its_address(tmp_path, environment, uri):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
        import sys
        from pathlib import Path
        from cotejo.tracking.journal import Run
        from cotejo.masking import say_first_line
        from cotejo.tracking.outbox.sender import Tracker
        from cotejo.tracking.mlflow.connection import Names
        from cotejo.tracking.mlflow.delivery import Delivery
        root = Path(sys.argv[1])
        delivery = Delivery(root, root, 1, Names("cotejo", "cotejo"))
        run = Run(Tracker(root / "journal", delivery), "stage", None, {"origin": sys.argv[2]})
        try:
            raise ConnectionError(f"no answer from {sys.argv[2]}")
        except ConnectionError as error:
            run.finish("FAILED", error=say_first_line(error))
        run.tracker.close(10)
    """)
    )
    process = WarmProcess([str(script), str(tmp_path), uri], tmp_path, {**environment, "MLFLOW_TRACKING_URI": uri})
    stdout, stderr = process.communicate()
    assert process.returncode == 0, stderr
    assert "warning: not all records are in MLflow yet" in stderr
    (journal,) = tmp_path.glob("journal/*.jsonl")
    assert "no answer from" in journal.read_text()
    assert find_secrets(tmp_path, stdout, stderr) == []
