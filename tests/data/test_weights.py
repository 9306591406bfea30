"""The backbones' weights: whose bytes are known, and what is said of those that aren't."""

import hashlib
import json
import re
from pathlib import Path

import keras
import pytest

from cotejo.data.fetching import Fetcher
from cotejo.data.weights import fetch_weights, find_weights
from cotejo.errors import DataError
from cotejo.pretrained import BACKBONES, HDF5_SIGNATURE

KERAS_SOURCE = Path(keras.applications.__file__).parents[1] / "src/applications"
FILES = {(name, alpha): file for name, net in BACKBONES.items() for alpha, file in net.files.items()}


@pytest.fixture
def fetcher(tmp_path):
    """Finds nothing but in a mirror."""
    (tmp_path / "mirror/weights").mkdir(parents=True)
    return Fetcher(0.3, tmp_path / "parts", str(tmp_path / "mirror"), tmp_path / "keras")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "weights").mkdir()
    return tmp_path / "weights"


def put(fetcher, file, content):
    path = Path(fetcher.mirror, file.mirror_path)
    path.write_bytes(content)
    return path


def test_every_file_has_a_name_and_an_address_of_its_own():
    assert len({file.name for file in FILES.values()}) == len({file.address for file in FILES.values()}) == len(FILES)
    assert all(file.address.startswith("https://storage.googleapis.com/") for file in FILES.values())


def test_every_digest_is_one_that_keras_states_but_for_the_one_that_we_found():
    source = "".join(path.read_text(encoding="utf-8") for path in KERAS_SOURCE.glob("*.py"))
    stated = set(re.findall(r'"([0-9a-f]{32}|[0-9a-f]{64})"', source))
    assert {file.md5 for file in FILES.values()} - {""} <= stated
    assert {file.sha256 for file in FILES.values()} - {""} - stated == {FILES["MobileNet", 0.25].sha256}


def test_only_the_two_oldest_mobilenets_are_without_a_digest():
    unverified = {name for (name, _), file in FILES.items() if not file.md5 and not file.sha256}
    assert unverified == {"MobileNet", "MobileNetV2"}
    # Keras gets these without a digest
    for module in ("mobilenet", "mobilenet_v2"):
        assert "file_hash" not in (KERAS_SOURCE / f"{module}.py").read_text(encoding="utf-8")


def test_names_addresses_and_digests_of_three_nets_are_those_by_which_keras_asks_for_them(monkeypatch):
    class AskedError(Exception):
        pass

    def ask(name, origin, **options):
        raise AskedError(name, origin, options.get("cache_subdir"), options.get("file_hash"))

    monkeypatch.setattr("keras.src.utils.file_utils.get_file", ask)
    for name, alpha in (("MobileNet", 0.75), ("MobileNetV2", 1.4), ("MobileNetV3Small", 0.75)):
        with pytest.raises(AskedError) as caught:
            getattr(keras.applications, name)(
                input_shape=(224, 224, 3), alpha=alpha, include_top=False, weights="imagenet"
            )
        file = find_weights(name, alpha)
        asked_name, address, subfolder, digest = caught.value.args
        assert (address, f"{subfolder}/{asked_name}") == (file.addresses[0], file.keras_path)
        assert digest == (file.md5 or None)


@pytest.mark.parametrize("name", ["EfficientNetV2B0", "ConvNeXtTiny"])
def test_a_file_is_taken_by_the_digest_that_keras_states_and_no_other(name, fetcher, folder):
    wanted = find_weights(name, None)
    put(fetcher, wanted, HDF5_SIGNATURE + b"other weights")
    with pytest.raises(DataError, match=rf"Expected: a file with (MD5|SHA-256) {wanted.digest[1]}\.") as caught:
        fetch_weights(fetcher, name, None, "imagenet", folder)
    received = hashlib.new(wanted.digest[0], HDF5_SIGNATURE + b"other weights").hexdigest()
    assert f"received {received} (21 bytes)" in str(caught.value)
    assert list(folder.iterdir()) == []


def test_a_file_without_a_digest_is_taken_as_it_comes_on_record_and_with_a_warning(fetcher, folder, capsys):
    content = HDF5_SIGNATURE + bytes(100)
    put(fetcher, find_weights("MobileNetV2", 0.35), content)
    described = fetch_weights(fetcher, "MobileNetV2", 0.35, "imagenet", folder)
    assert (folder / described["file"]).read_bytes() == content
    assert described == {
        "backbone": "MobileNetV2",
        "alpha": 0.35,
        "file": "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_224_no_top.h5",
        "sha256": hashlib.sha256(content).hexdigest(),
        "verified": None,
    }
    json.dumps(described)
    (warning,) = capsys.readouterr().err.splitlines()
    assert "can't be verified, since Keras publishes no digest of it" in warning
    assert described["sha256"] in warning


def test_a_page_in_its_place_is_no_weights_file(fetcher, folder):
    put(fetcher, find_weights("MobileNet", 1.0), b"<!DOCTYPE html>")
    with pytest.raises(DataError, match=r"expected first bytes .*HDF.*, received b'<!DOCTYP' \(15 bytes\)"):
        fetch_weights(fetcher, "MobileNet", 1.0, "imagenet", folder)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("weights", ["random", "model:models/lenet/seed-0/model.keras"])
def test_nothing_is_fetched_where_none_are_wanted(fetcher, folder, weights):
    described = fetch_weights(fetcher, "VGG16", None, weights, folder)
    assert (described["file"], described["sha256"], described["verified"]) == (None, None, None)
    assert list(folder.iterdir()) == []
