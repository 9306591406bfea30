"""Models in MLflow: the training's own bytes, and one champion that only a comparison replaces."""

import hashlib
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import mlflow
import numpy as np
import psutil
import pytest
import requests

from copied_study import copy_database
from cotejo.schema.study import Tracking
from cotejo.tracking.failures import JournalError
from cotejo.tracking.journal import Run
from cotejo.tracking.mlflow.connection import Names, name_study
from cotejo.tracking.mlflow.delivery import Delivery
from cotejo.tracking.mlflow.registry import takes_over
from waiting import Waiting
from warm import WarmProcess

#: MLflow's own example of a model warns when it is first imported, by what describes a model.
pytestmark = pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType")

URI = "models:/cotejo@champion"
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 1), np.uint8)

NONE = None
BY_HAND = {"author": "a person"}
OLDER = {"model.sha256": "old", "data.sha256": "images", "test_accuracy_low": "0.97", "test_accuracy_high": "0.99"}


def describe(digest, data="images", low=0.88, high=0.90):
    return {"model.sha256": digest, "data.sha256": data, "val_accuracy_low": str(low), "val_accuracy_high": str(high)}


@pytest.mark.parametrize(
    ("present", "equals", "compared", "low", "takes"),
    [
        (NONE, "a", "ab", 0.85, True),
        (describe("a"), "a", "ab", 0.95, False),  # it is that model already
        (describe("b"), "ab", "ab", 0.95, False),  # not decided: the present one stays
        (describe("b"), "a", "ab", 0.85, True),  # found worse, intervals that overlap or not
        (describe("old"), "ab", "ab", 0.8999, False),  # not compared, and not worse for certain
        (describe("old"), "ab", "ab", 0.90, False),
        (describe("old"), "ab", "ab", 0.9001, True),  # not compared, and worse for certain
        (describe("old", data="digits"), "ab", "ab", 0.1, True),  # of other data
        # chosen on the test images, by an older version
        (OLDER, "ab", "ab", 0.85, True),
        (OLDER | {"model.sha256": "b"}, "ab", "ab", 0.95, False),
        # what the test images say of either counts for nothing
        (describe("old") | {"test_accuracy_high": "0.1"}, "ab", "ab", 0.85, False),
        (BY_HAND, "a", "ab", 0.99, False),
    ],
    ids=[
        "none",
        "same",
        "equal",
        "worse",
        "overlaps",
        "touches",
        "below",
        "other-data",
        "older",
        "older-equal",
        "test-images",
        "by-hand",
    ],
)
def test_a_champion_is_replaced_only_where_a_comparison_says_so(present, equals, compared, low, takes):
    champion = {"equals": list(equals), "compared": list(compared), "tags": describe("a", low=low)}
    assert takes_over(champion, present) is takes


@pytest.fixture
def delivery(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    copy_database(tmp_path)
    return Delivery(tmp_path, tmp_path, 1, Names("cotejo", "cotejo"))


@pytest.fixture
def tracker(tmp_path, delivery):
    return Waiting(tmp_path / "journal", delivery)


@pytest.fixture
def client(tmp_path, delivery):
    return mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")


@pytest.fixture
def offline(tmp_path):
    def fail(journal):
        raise ConnectionError("down")

    return Waiting(tmp_path / "journal", fail)


@pytest.fixture
def archives(tmp_path):
    """Two files that stand for saved models: nothing here loads them."""
    paths = {}
    for name in ("lenet", "resnet"):
        paths[name] = tmp_path / "models" / name / "seed-0" / "model.keras"
        paths[name].parent.mkdir(parents=True)
        paths[name].write_bytes(name.encode())
    return paths


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def train(tracker, name, archives):
    run = Run(tracker, f"{name} seed 0", None, {})
    run.log_params({"epochs": 3})
    run.log_model(archives[name], (8, 8, 1), 10)
    run.finish("FINISHED")
    return run


def compare(tracker, name, archives, equals=(), data="images"):
    """Compares both models: this one is served, and not decided against its equals."""
    digests = {model: digest(path) for model, path in archives.items()}
    run = Run(tracker, "compare", None, {})
    run.log_champion({
        "path": str(archives[name]), "sha256": digests[name], "input_shape": [8, 8, 1], "num_classes": 10,
        "tags": {**describe(digests[name], data), "model": name, "test_accuracy": "0.89"},
        "description": f"{name}, seed 0", "compared": sorted(digests.values()),
        "equals": [digests[model] for model in (name, *equals)],
    })  # fmt: skip
    run.finish("FINISHED")
    return run


def list_versions(client):
    found = client.search_model_versions("name = 'cotejo'")
    return {int(version.version): version.tags["model"] for version in found}


def get_champion(client):
    return client.get_model_version_by_alias("cotejo", "champion")


def test_the_champion_is_the_model_that_its_training_has_logged(tracker, client, archives):
    train(tracker, "lenet", archives)
    compare(tracker, "lenet", archives)
    champion = get_champion(client)
    experiment = client.get_experiment_by_name("cotejo").experiment_id
    (seed,) = client.search_runs([experiment], "attributes.run_name = 'lenet seed 0'")
    (logged,) = client.search_logged_models([experiment])
    assert champion.run_id == seed.info.run_id
    assert champion.source == f"models:/{logged.model_id}"
    assert champion.tags["test_accuracy"] == "0.89"
    assert champion.description == "lenet, seed 0"
    assert seed.outputs.model_outputs[0].model_id == logged.model_id


def test_two_studies_on_one_server_keep_champions_of_their_own(tmp_path, delivery, client, archives):
    for number, study in enumerate(("flowers", "birds")):
        own = Delivery(tmp_path, tmp_path, 1, name_study(tmp_path / study, Tracking(experiment=None, model=None)))
        tracker = Waiting(tmp_path / f"journal-{number}", own)
        train(tracker, ("lenet", "resnet")[number], archives)
        compare(tracker, ("lenet", "resnet")[number], archives)
    champions = {name: client.get_model_version_by_alias(name, "champion") for name in ("flowers", "birds")}
    assert {name: version.tags["model"] for name, version in champions.items()} == {
        "flowers": "lenet",
        "birds": "resnet",
    }
    for name in champions:
        experiment = client.get_experiment_by_name(name).experiment_id
        assert len(client.search_runs([experiment])) == 2


@pytest.mark.parametrize(
    ("folder", "declared", "names"),
    [
        ("flowers", {}, ("flowers", "flowers")),
        ("my: flowers'", {}, ("my- flowers-", "my- flowers-")),
        ("flowers", {"experiment": "spring"}, ("spring", "flowers")),
        ("flowers", {"experiment": "spring", "model": "best"}, ("spring", "best")),
    ],
)
def test_experiment_and_model_have_the_name_of_the_folder_unless_declared(tmp_path, folder, declared, names):
    assert name_study(tmp_path / folder, Tracking(**{"experiment": None, "model": None, **declared})) == names


def test_the_same_comparison_run_twice_makes_no_second_version(tracker, client, archives):
    train(tracker, "lenet", archives)
    for _ in range(2):
        compare(tracker, "lenet", archives)
    assert list_versions(client) == {1: "lenet"}


def test_a_better_model_takes_over_the_old_one_keeps_its_version_and_may_come_back(tracker, client, archives):
    for name in archives:
        train(tracker, name, archives)
    compare(tracker, "lenet", archives)
    compare(tracker, "resnet", archives)
    assert list_versions(client) == {1: "lenet", 2: "resnet"}
    assert get_champion(client).tags["model"] == "resnet"
    compare(tracker, "lenet", archives)
    assert list_versions(client) == {1: "lenet", 2: "resnet"}
    assert int(get_champion(client).version) == 1


def test_a_model_that_is_not_decided_against_the_champion_does_not_replace_it(tracker, client, archives):
    for name in archives:
        train(tracker, name, archives)
    compare(tracker, "lenet", archives)
    compare(tracker, "resnet", archives, equals=("lenet",))
    assert list_versions(client) == {1: "lenet"}


def test_a_comparison_that_arrives_again_after_a_later_one_changes_nothing(tracker, delivery, client, archives):
    for name in archives:
        train(tracker, name, archives)
    first = compare(tracker, "lenet", archives, data="digits")
    compare(tracker, "resnet", archives, data="images")
    first.path.with_suffix(".sent").unlink()
    delivery(first.path)
    assert get_champion(client).tags["model"] == "resnet"
    assert list_versions(client) == {1: "lenet", 2: "resnet"}


@pytest.mark.parametrize("first_sent", ["lenet", "compare"])
def test_what_was_compared_while_mlflow_was_away_is_registered_later_in_whatever_order(
    offline, delivery, client, archives, first_sent
):
    runs = {"lenet": train(offline, "lenet", archives), "compare": compare(offline, "lenet", archives)}
    for name in sorted(runs, key=lambda name: name != first_sent):
        delivery(runs[name].path)
    assert list_versions(client) == {1: "lenet"}
    experiment = client.get_experiment_by_name("cotejo").experiment_id
    (seed,) = client.search_runs([experiment], "attributes.run_name = 'lenet seed 0'")
    assert get_champion(client).run_id == seed.info.run_id
    assert len(client.search_logged_models([experiment])) == 1


def test_a_model_from_dvcs_cache_whose_training_was_tracked_elsewhere_is_registered_all_the_same(
    tracker, client, archives
):
    run = compare(tracker, "lenet", archives)
    champion = get_champion(client)
    assert client.get_run(champion.run_id).data.tags["cotejo.uid"] == run.uid


def test_a_champion_that_is_gone_or_another_one_by_now_is_said_and_nothing_is_registered(
    offline, tracker, client, archives, capsys
):
    run = compare(offline, "lenet", archives)
    archives["lenet"].write_bytes(b"of another training")
    capsys.readouterr()
    tracker.send_left_over()
    (line,) = capsys.readouterr().err.splitlines()
    assert "the champion was gone before it was sent; run `dvc repro -f compare`" in line
    assert client.search_registered_models() == []
    experiment = client.get_experiment_by_name("cotejo").experiment_id
    (shown,) = client.search_runs([experiment])
    assert (shown.data.tags["cotejo.uid"], shown.info.status) == (run.uid, "FINISHED")


def test_a_model_whose_place_another_one_has_taken_is_not_sent_for_it(offline, delivery, client, archives):
    run = train(offline, "lenet", archives)
    archives["lenet"].write_bytes(b"of another training")
    with pytest.raises(JournalError, match="has changed since, or is gone"):
        delivery(run.path)
    assert client.search_logged_models([client.get_experiment_by_name("cotejo").experiment_id]) == []


def test_a_model_whose_sending_was_killed_is_sent_once_and_what_comes_after_it_too(
    offline, delivery, client, archives, tmp_path, environment
):
    run = Run(offline, "lenet seed 0", None, {})
    run.log_model(archives["lenet"], (8, 8, 1), 10)
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
        import os, signal, sys
        from pathlib import Path
        from mlflow import MlflowClient
        from cotejo.tracking.mlflow.connection import Names, name_study
        from cotejo.tracking.mlflow.delivery import Delivery
        MlflowClient.log_model_artifacts = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        Delivery(Path.cwd(), Path.cwd(), 1, Names("cotejo", "cotejo"))(Path(sys.argv[1]))
    """)
    )
    killed = WarmProcess([str(script), str(run.path)], tmp_path, environment)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    delivery(run.path)
    run.log_model(archives["lenet"], (8, 8, 1), 10)  # by the stage that resumes, which can't know
    run.finish("FINISHED")
    delivery(run.path)
    (sent,) = client.search_runs([client.get_experiment_by_name("cotejo").experiment_id])
    assert sent.info.status == "FINISHED"
    (model,) = client.search_logged_models([sent.info.experiment_id])
    assert model.status == "READY"
    assert model.tags["model.sha256"] == digest(archives["lenet"])


def test_sending_and_registering_takes_under_a_second_and_no_tensorflow(tmp_path, environment, archives):
    script = textwrap.dedent("""
        import sys, time
        sys.path[:0] = ["tests", "tests/tracking"]
        from pathlib import Path
        from cotejo.tracking.journal import Run
        from waiting import Waiting
        from cotejo.tracking.mlflow.connection import Names, name_study
        from cotejo.tracking.mlflow.delivery import Delivery
        from test_registry import compare, train
        root = Path(sys.argv[1])
        archives = {name: root / "models" / name / "seed-0" / "model.keras" for name in ("lenet", "resnet")}
        tracker = Waiting(root / "journal", Delivery(root, root, 5, Names("cotejo", "cotejo")))
        Run(tracker, "first", None, {}).finish("FINISHED")
        began_s = time.perf_counter()
        train(tracker, "lenet", archives)
        trained_s = time.perf_counter()
        compare(tracker, "lenet", archives)
        print("tensorflow" in sys.modules, trained_s - began_s, time.perf_counter() - trained_s)
    """)
    copy_database(tmp_path)
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], env=environment, capture_output=True,
                          text=True, check=True)  # fmt: skip
    has_tensorflow, *durations_s = done.stdout.split()
    print(done.stdout)
    assert has_tensorflow == "False"
    assert done.stderr == ""
    assert max(map(float, durations_s)) < 3  # measured: half a second, once imported; a busy machine takes its time


@pytest.fixture
def champion(tracker, tmp_path):
    """A champion from raw uint8 images to probabilities: the net, and the archive that the training has saved."""
    import keras

    from cotejo.training.archive import save_model

    keras.utils.set_random_seed(0)
    layers = [keras.layers.Rescaling(1 / 255), keras.layers.Flatten(), keras.layers.Dense(10, activation="softmax")]
    model = keras.Sequential([keras.Input((28, 28, 1), dtype="uint8"), *layers])
    path = tmp_path / "model.keras"
    save_model(model, path)
    training = Run(tracker, "lenet seed 0", None, {})
    training.log_model(path, (28, 28, 1), 10)
    training.finish("FINISHED")
    compare(tracker, "lenet", {"lenet": path})
    return model, path


def test_mlflow_loads_the_champion_and_it_has_the_bytes_of_the_training(champion):
    model, path = champion
    expected = model.predict(IMAGES, verbose=0)
    np.testing.assert_array_equal(mlflow.pyfunc.load_model(URI).predict(IMAGES), expected)
    np.testing.assert_array_equal(mlflow.keras.load_model(URI).predict(IMAGES, verbose=0), expected)
    assert digest(Path(mlflow.artifacts.download_artifacts(URI)) / "data" / "model.keras") == digest(path)


def test_a_champion_says_what_it_takes_and_needs(champion):
    info = mlflow.models.get_model_info(URI)
    (given,), (made,) = info.signature.inputs.to_dict(), info.signature.outputs.to_dict()
    assert given["tensor-spec"] == {"dtype": "uint8", "shape": (-1, 28, 28, 1)}
    assert made["tensor-spec"] == {"dtype": "float32", "shape": (-1, 10)}
    needed = Path(mlflow.artifacts.download_artifacts(f"{URI}/requirements.txt")).read_text().split()
    assert needed == [f"{name}=={version(name)}" for name in ("mlflow", "keras", "tensorflow")]


@pytest.fixture
def server(champion, tmp_path, environment):
    """`mlflow models serve` as docs/models.md starts it; its address."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = ["mlflow", "models", "serve", "-m", URI, "--env-manager", "local", "--port", str(port)]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log,
                                   start_new_session=True)  # fmt: skip
    try:
        for _ in range(600):
            time.sleep(0.1)
            with suppress(requests.ConnectionError):
                if requests.get(f"http://127.0.0.1:{port}/ping", timeout=5).ok:
                    break
            assert process.poll() is None, (tmp_path / "log").read_text()
        yield process.pid, port
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.slow  # that MLflow loads the raw image's champion is tested above
def test_a_served_champion_answers_for_a_raw_image_on_loopback_alone(champion, server):
    model, _ = champion
    pid, port = server
    answer = requests.post(
        f"http://127.0.0.1:{port}/invocations", json={"inputs": IMAGES[:1].tolist()}, timeout=30
    ).json()
    np.testing.assert_array_equal(np.float32(answer["predictions"]), model.predict(IMAGES[:1], verbose=0))
    assert find_listeners(pid) == {("127.0.0.1", port)}


def find_listeners(pid):
    """Returns the addresses at which a process and those that it has started listen."""
    process = psutil.Process(pid)
    sockets = [found for part in (process, *process.children(recursive=True)) for found in part.net_connections()]
    return {tuple(found.laddr) for found in sockets if found.status == psutil.CONN_LISTEN}
