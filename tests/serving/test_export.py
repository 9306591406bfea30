"""cotejo export: files that other runtimes run, with Keras's answers, or no file at all."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from functools import partial
from pathlib import Path

import keras
import numpy as np
import onnx
import pytest
from filelock import FileLock
from mlflow import MlflowClient
from sklearn.metrics import accuracy_score

from command import run_cotejo
from copied_study import ROOT, copy_database
from cotejo.errors import CotejoError
from cotejo.models import lenet, resnet
from cotejo.models.backbones import build_backbone, build_extractor, build_head, join
from cotejo.pretrained import BACKBONES
from cotejo.serving.conversion import convert
from cotejo.serving.export import FORMATS, ExportRequest, export_model
from cotejo.serving.parity import compute_parity
from cotejo.serving.runtimes import OPENERS
from cotejo.training.archive import save_model
from declared import declare
from edited_params import edit_params, switch_tracking_off
from once import make_once
from warm import WarmProcess

CLASS_NAMES = ["cámara", "b/c", "d"]
SHAPE = (8, 8, 1)
FILES = {"saved_model": "saved_model", "tflite": "model.tflite", "onnx": "model.onnx"}


def build_lenet():
    return lenet.build_model(declare("lenet"), SHAPE, len(CLASS_NAMES))


def build_resnet():
    """A net with batch normalisation, whose statistics aren't the initial ones."""
    model = resnet.build_model(declare("resnet", input_size=8), SHAPE, len(CLASS_NAMES))
    for _ in range(5):
        model(np.random.default_rng(0).integers(0, 256, (64, *SHAPE), dtype=np.uint8), training=True)
    return model


def build_bfloat16(build):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        return build()
    finally:
        keras.config.set_dtype_policy("float32")


def build_transfer(backbone="MobileNet"):
    """A backbone of the smallest kind and a head with dropout, each a model within the model."""
    known = BACKBONES[backbone]
    changes = {"backbone": backbone, "alpha": known.alphas[0], "input_size": known.least_size}
    settings = declare("transfer", weights="random", dropout_rate=0.5, **changes)
    backbone = build_backbone(settings, None)
    extractor = build_extractor(backbone, SHAPE, settings)
    backbone.trainable = True
    for layer in backbone.layers:
        layer.momentum = 0.0  # one pass gives batch normalisation its statistics
    extractor(np.random.default_rng(0).integers(0, 256, (64, *SHAPE), dtype=np.uint8), training=True)
    return join(extractor, build_head(extractor.output_shape[-1], len(CLASS_NAMES), settings))


def build_sigmoid():
    """The head with one sigmoid unit, which `transfer.output: sigmoid` puts on two classes, without a backbone."""
    images = keras.Input(SHAPE, dtype="uint8")
    pixels = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(images))
    head = build_head(64, 2, declare("transfer", output="sigmoid"))
    return join(keras.Model(images, pixels), head)


def build_classifier(build_maps):
    """A net of what somebody does with its scaled pixels in a model within the model."""
    images = keras.Input(SHAPE, dtype="uint8")
    inner = keras.Input(SHAPE)
    maps = keras.Model(inner, build_maps(inner))(keras.layers.Rescaling(1 / 255)(images))
    return keras.Model(images, keras.layers.Dense(3, activation="softmax")(keras.layers.Flatten()(maps)))


def build_normalized():
    """Both kinds of Keras's normalisation of inputs: that of EfficientNetB0, and that of the other newer nets."""
    adapted = keras.layers.Normalization()
    adapted.adapt(np.random.default_rng(0).normal(0.7, 0.1, (64, *SHAPE)))
    told = keras.layers.Normalization(mean=[0.5], variance=[4.0])
    return build_classifier(lambda pixels: told(adapted(pixels)))


def build_convnext_block():
    """What a block of ConvNeXt is made of: a convolution in groups, layer normalisation and an exact GELU."""

    def build_maps(pixels):
        maps = keras.layers.Conv2D(6, 1)(pixels)
        maps = keras.layers.Conv2D(12, 3, strides=2, padding="same", groups=6)(maps)
        maps = keras.layers.Conv2D(12, 2, dilation_rate=2, groups=4)(maps)
        return keras.layers.Activation("gelu")(keras.layers.LayerNormalization(epsilon=1e-6)(maps))

    return build_classifier(build_maps)


def build_small():
    """As few layers as a net may have, for tests of what happens to its files."""
    images = keras.Input(SHAPE, dtype="uint8")
    pixels = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(images))
    return keras.Model(images, keras.layers.Dense(len(CLASS_NAMES), activation="softmax")(pixels))


BUILDERS = {"lenet": build_lenet, "resnet": build_resnet, "sigmoid": build_sigmoid, "small": build_small}


def save(build, path):
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    path.parent.mkdir(parents=True)
    model = build()
    save_model(model, path)
    return model


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).integers(0, 256, (120, *SHAPE), dtype=np.uint8)


def write_study(root, images, class_names=CLASS_NAMES):
    """A study's folder as far as export looks at it, without tracking."""
    processed = root / "data/processed"
    processed.mkdir(parents=True)
    np.save(processed / "test_images.npy", images)
    np.save(processed / "test_labels.npy", np.arange(len(images)) % len(class_names))
    described = {"name": "noise", "class_names": class_names, "image_shape": list(SHAPE), "digest": "0" * 64}
    (processed / "dataset.json").write_text(json.dumps(described))
    shutil.copy(ROOT / "params.yaml", root)
    switch_tracking_off(root)


@pytest.fixture(scope="module")
def study(images):
    """A study with trained models and what Keras answers with each; only to be read, or copied."""
    return make_once("study-to-export", partial(make_study, images, BUILDERS))


@pytest.fixture(scope="module")
def transfer_study(images):
    """The same with a MobileNet, which takes longer than all the others."""
    return make_once("transfer-to-export", partial(make_study, images, {"transfer": build_transfer}))


def make_study(images, builders, root):
    write_study(root, images)
    for name, build in builders.items():
        archive = root / f"models/{name}/seed-0/model.keras"
        save(build, archive)
        model = keras.saving.load_model(archive, safe_mode=True)
        np.save(root / f"expected-{name}.npy", model(images, training=False))


@pytest.fixture
def without_xla(monkeypatch):
    """Makes Keras answer without XLA, which takes long to compile a net; the command's own test is with it."""
    monkeypatch.setattr("keras.src.trainers.trainer.model_supports_jit", lambda model: False)


def ask(target, model, **changes):
    request = ExportRequest(target, model=None, run_id=None, seed=None, output=None, num_images=0)
    return request._replace(model=str(model), **changes)


def list_files(folder):
    return sorted(str(path) for path in folder.rglob("*"))


#: What somebody does who has the file and its runtime, and neither Keras nor Cotejo.
USERS = {
    "onnx": """
import onnxruntime
session = onnxruntime.InferenceSession(path)
found = session.run(["probabilities"], {"images": images})[0]
""",
    "tflite": """
from ai_edge_litert.interpreter import Interpreter
found = Interpreter(path).get_signature_runner()(images=images)["probabilities"]
""",
    "saved_model": """
import tensorflow as tf
loaded = tf.saved_model.load(path)
found = loaded.serve(images)["probabilities"].numpy()
""",
}
USE = """
import sys
import numpy as np
images = np.load(sys.argv[1], allow_pickle=False)
for path, answers in zip(sys.argv[2::2], sys.argv[3::2]):
{use}
    np.save(answers, found)
absent = {{"cotejo", "onnx", "tf2onnx"}} | ({{"keras", "tensorflow"}} if "{target}" != "saved_model" else set())
assert not absent & {{name.partition(".")[0] for name in sys.modules}}
"""


@pytest.mark.usefixtures("without_xla")
@pytest.mark.parametrize("target", FORMATS)
def test_another_runtime_answers_as_keras_does(study, images, environment, tmp_path, target):
    check_runtime(study, images, environment, tmp_path, target, ("lenet", "resnet"))


@pytest.mark.slow  # what a backbone is made of is tested without one
@pytest.mark.usefixtures("without_xla")
@pytest.mark.parametrize("target", FORMATS)
def test_another_runtime_answers_as_keras_does_with_a_backbone(transfer_study, images, environment, tmp_path, target):
    check_runtime(transfer_study, images, environment, tmp_path, target, ("transfer",))


def check_runtime(study, images, environment, tmp_path, target, names):
    """Exports models, and asks the format's own runtime, in a process without Cotejo, what Keras was asked."""
    files = [str(study / "data/processed/test_images.npy")]
    exports = {}
    for name in names:
        output = tmp_path / name / FILES[target]
        output.parent.mkdir()
        exports[name] = export_model(ask(target, study / f"models/{name}/seed-0/model.keras", output=output), study)
        assert exports[name].path == output
        files += [str(output), str(tmp_path / f"{name}.npy")]
    use = USE.format(use=textwrap.indent(USERS[target], "    "), target=target)
    environment = {**environment, "PYTHONPATH": ":".join(sys.path)}
    subprocess.run([sys.executable, "-c", use, *files], env=environment, check=True)
    for name, exported in exports.items():
        expected = np.load(study / f"expected-{name}.npy", allow_pickle=False)
        answers = np.load(tmp_path / f"{name}.npy", allow_pickle=False)
        np.testing.assert_allclose(answers, expected, atol=1e-4, err_msg=name)
        assert answers.std(axis=0).max() > 1e-4, "all images look the same to it"
        report = json.loads((tmp_path / name / f"{FILES[target]}.parity.json").read_text())
        assert report["parity"]["num_images"] == len(images)
        same = accuracy_score(expected.argmax(axis=1), answers.argmax(axis=1))
        assert report["parity"]["top1_agreement"] == same == 1
        assert report["parity"]["largest_difference"] == pytest.approx(np.abs(answers - expected).max(), abs=1e-5)
        assert report["output"]["class_names"] == CLASS_NAMES
        assert "top-1 agreement 100.00%" in exported.lines[1]
        assert "on 120 test images" in exported.lines[1]


@pytest.mark.usefixtures("without_xla")
def test_an_onnx_file_says_what_it_takes_and_names_the_classes(study, tmp_path):
    export_model(ask("onnx", study / "models/small/seed-0/model.keras", output=tmp_path / "net.onnx"), study)
    model = onnx.load(tmp_path / "net.onnx")
    shape = [dim.dim_param or dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    assert shape == ["batch", *SHAPE]
    known = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(known["class_names"]) == CLASS_NAMES


@pytest.mark.usefixtures("without_xla")
@pytest.mark.parametrize("target", ["tflite", "onnx"])
def test_a_sigmoid_head_answers_with_both_classes_as_keras_does(study, images, tmp_path, target):
    root = tmp_path / "study"
    write_study(root, images, CLASS_NAMES[:2])
    archive, output = study / "models/sigmoid/seed-0/model.keras", tmp_path / FILES[target]
    export_model(ask(target, archive, output=output), root)
    answers = OPENERS[target](output)(images)
    expected = keras.saving.load_model(archive, safe_mode=True).predict(images, verbose=0)
    assert answers.shape == (len(images), 2)
    np.testing.assert_allclose(answers, expected, atol=1e-4)
    np.testing.assert_allclose(answers.sum(axis=1), 1, atol=1e-6)


def check_answers(model, output, images):
    """Compares an exported file with Keras: what rounding differs in is little beside what the images differ in."""
    answers = OPENERS[output.suffix.removeprefix(".")](output)(images)
    expected = np.asarray(model(images, training=False))
    spread = expected.std(axis=0).max()
    assert spread > 1e-4
    np.testing.assert_allclose(answers, expected, atol=spread / 50)


@pytest.mark.usefixtures("without_xla")
@pytest.mark.parametrize("target", ["tflite", "onnx"])
@pytest.mark.parametrize("build", [build_normalized, build_convnext_block])
def test_what_newer_backbones_are_made_of_answers_as_in_keras(study, images, tmp_path, build, target):
    archive, output = tmp_path / "net/model.keras", tmp_path / FILES[target]
    model = save(build, archive)
    before = archive.read_bytes()
    export_model(ask(target, archive, output=output), study)
    check_answers(model, output, images)
    assert archive.read_bytes() == before


@pytest.mark.parametrize("build", [build_normalized, build_convnext_block])
def test_a_model_computes_as_ever_when_it_has_been_converted(tmp_path, build):
    model = build()
    layers = next(layer for layer in model.layers if isinstance(layer, keras.Model)).layers
    names = [name for name in ("mean", "variance", "convolution_op") if any(hasattr(layer, name) for layer in layers)]
    before = [getattr(layer, name, None) for layer in layers for name in names]
    convert(model, "onnx", tmp_path / "model.onnx", {})
    after = [getattr(layer, name, None) for layer in layers for name in names]
    # a method is another object at each look; tensors of the same values would be equal
    assert all(old is new or (callable(old) and old == new) for old, new in zip(before, after, strict=True))


#: In a process of its own: what TensorFlow and the converters keep of a net, gigabytes of some, ends with it.
EXPORT_BACKBONE = """
import sys
from pathlib import Path
from test_export import check_backbone
check_backbone(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone_answers_in_onnx_runtime_as_in_keras(study, environment, tmp_path, backbone):
    script = tmp_path / "script.py"
    script.write_text(EXPORT_BACKBONE)
    variables = {**environment, "PYTHONPATH": os.pathsep.join(map(str, (ROOT / "tests", ROOT / "tests/serving")))}
    process = WarmProcess([str(script), backbone, str(study), str(tmp_path)], tmp_path, variables)
    stdout, stderr = process.communicate()
    assert process.returncode == 0, stderr
    print(stdout)  # `pytest -rP` shows it


def check_backbone(backbone, study, folder):
    """Exports a net with random weights to ONNX; raises if another runtime doesn't answer as Keras does."""
    archive, output = folder / "net/model.keras", folder / FILES["onnx"]
    model = save(partial(build_transfer, backbone), archive)
    exported = export_model(ask("onnx", archive, output=output), study)
    print(backbone, exported.lines[1])
    check_answers(model, output, np.load(study / "data/processed/test_images.npy", allow_pickle=False))


@pytest.mark.usefixtures("without_xla")
@pytest.mark.parametrize("target", [pytest.param("tflite", marks=pytest.mark.slow), "onnx"])
def test_a_bfloat16_net_keeps_what_its_normalisation_has_learned(study, tmp_path, target):
    save(partial(build_bfloat16, build_normalized), tmp_path / "bf16/model.keras")
    exported = export_model(ask(target, tmp_path / "bf16/model.keras", output=tmp_path / FILES[target]), study)
    report = json.loads(exported.report.read_text())
    assert report["parity_with_bfloat16"]["largest_difference"] < 0.1


@pytest.mark.usefixtures("without_xla")
@pytest.mark.parametrize("target", [pytest.param("tflite", marks=pytest.mark.slow), "onnx"])
def test_a_bfloat16_net_is_exported_as_float32_and_both_differences_are_reported(study, images, tmp_path, target):
    save(partial(build_bfloat16, build_lenet), tmp_path / "bf16/model.keras")
    output = tmp_path / FILES[target]
    exported = export_model(ask(target, tmp_path / "bf16/model.keras", output=output), study)
    report = json.loads(exported.report.read_text())
    assert report["parity"]["largest_difference"] < 1e-4
    assert 1e-4 < report["parity_with_bfloat16"]["largest_difference"] < 0.1
    assert "in bfloat16" in exported.lines[2]


def build_not_a_number():
    model = build_small()
    model.set_weights([np.full_like(weight, np.nan) for weight in model.get_weights()])
    return model


def build_inexpressible():
    """A net with an operation that neither TFLite nor ONNX knows."""
    images = keras.Input(SHAPE, dtype="uint8")
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 512)(images))
    return keras.Model(images, keras.layers.Dense(3, activation="softmax")(keras.ops.erfinv(x)))


@pytest.mark.usefixtures("without_xla")
@pytest.mark.parametrize(
    ("build", "target", "said"),
    [
        (build_not_a_number, "onnx", r"expected onnx to answer as Keras does.*Received: top-1 agreement 0\.00%"),
        (build_not_a_number, "saved_model", "expected saved_model to answer as Keras does"),
        (build_inexpressible, "tflite", "expected a model that tflite can hold. Received: .*(Erfinv|erfinv)"),
        (build_inexpressible, "onnx", "expected a model that onnx can hold. Received: .*(Erfinv|erfinv)"),
    ],
)
def test_where_the_file_would_answer_otherwise_there_is_none(study, tmp_path, capfd, build, target, said):
    save(build, tmp_path / "odd/model.keras")
    before = list_files(tmp_path), list_files(study)
    with pytest.raises(CotejoError, match=said) as caught:
        export_model(ask(target, tmp_path / "odd/model.keras", output=tmp_path / "new" / FILES[target]), study)
    assert len(str(caught.value).splitlines()) == 1
    assert (list_files(tmp_path), list_files(study)) == before
    assert capfd.readouterr() == ("", "")


def test_what_a_converter_says_in_a_sentence_ends_in_one_full_stop(study, tmp_path, monkeypatch):
    def fail(*_):
        raise ValueError("It can't hold this.")

    monkeypatch.setattr("cotejo.serving.conversion.convert", fail)
    with pytest.raises(CotejoError, match=r"Received: ValueError: It can't hold this\. Choose another of"):
        export_model(ask("onnx", study / "models/lenet/seed-0/model.keras", output=tmp_path / "net.onnx"), study)


@pytest.mark.usefixtures("without_xla")
def test_an_older_export_is_replaced_and_another_file_is_not(study, tmp_path):
    archive = study / "models/small/seed-0/model.keras"
    output = tmp_path / "served"
    export_model(ask("saved_model", archive, output=output), study)
    (output / "assets/left.txt").write_text("of the older one")
    export_model(ask("saved_model", archive, output=output, num_images=50), study)
    assert not (output / "assets/left.txt").exists()
    assert json.loads((tmp_path / "served.parity.json").read_text())["parity"]["num_images"] == 50
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("years of work")
    with pytest.raises(CotejoError, match=r"expected --output to be a folder that isn't there.* Received: .*mine"):
        export_model(ask("saved_model", archive, output=tmp_path / "mine"), study)
    assert (tmp_path / "mine/thesis.txt").read_text() == "years of work"
    for output in (tmp_path / "net.tflite", tmp_path / "mine"):
        with pytest.raises(CotejoError, match=r"a file that ends in \.onnx for --format onnx. Received: "):
            export_model(ask("onnx", archive, output=output), study)


@pytest.mark.usefixtures("without_xla")
def test_what_a_user_keeps_beside_a_saved_model_is_not_deleted(study, tmp_path):
    archive, output = study / "models/small/seed-0/model.keras", tmp_path / "served"
    export_model(ask("saved_model", archive, output=output), study)
    (output / "README.md").write_text("how we serve it")
    with pytest.raises(CotejoError, match=r"holds a SavedModel and nothing else. Received: .*served"):
        export_model(ask("saved_model", archive, output=output), study)
    assert (output / "README.md").read_text() == "how we serve it"


@pytest.mark.usefixtures("without_xla")
def test_a_saved_model_that_a_killed_export_had_set_aside_is_back_at_the_next(study, tmp_path):
    output = tmp_path / "served"
    export_model(ask("saved_model", study / "models/small/seed-0/model.keras", output=output), study)
    before = list_files(output)
    output.rename(tmp_path / ".served.replaced")
    save(build_not_a_number, tmp_path / "odd/model.keras")
    with pytest.raises(CotejoError, match="expected saved_model to answer as Keras does"):
        export_model(ask("saved_model", tmp_path / "odd/model.keras", output=output), study)
    assert list_files(output) == before
    assert not (tmp_path / ".served.replaced").exists()


@pytest.mark.usefixtures("without_xla")
def test_what_killed_exports_have_left_is_removed_and_what_another_one_works_on_is_not(study, tmp_path):
    left, used = tmp_path / ".cotejo-export-left", tmp_path / ".cotejo-export-used"
    for folder in (left, used):
        folder.mkdir()
        (folder / "lock").touch()
        (folder / "model.onnx").write_bytes(b"half")
    with FileLock(used / "lock"):
        export_model(ask("onnx", study / "models/small/seed-0/model.keras", output=tmp_path / "net.onnx"), study)
        assert (used / "model.onnx").read_bytes() == b"half"
    assert not left.exists()


def link_to_a_folder(folder):
    (folder / "kept").mkdir()
    (folder / "link").symlink_to("kept")
    return folder / "link"


def link_to_nothing(folder):
    (folder / "link.onnx").symlink_to("gone.onnx")
    return folder / "link.onnx"


@pytest.mark.usefixtures("without_xla")
@pytest.mark.parametrize(
    ("target", "place", "said"),
    [
        ("onnx", lambda folder: folder / "file/x.onnx", r"expected --output to be in a folder. Received: .*/file is a"),
        ("onnx", lambda folder: folder / "file/y/x.onnx", r"expected --output to be in a folder. Received: .*/file is"),
        ("onnx", link_to_nothing, "the name of a file or folder to write. Received: .*link.onnx, a symbolic link"),
        ("saved_model", link_to_a_folder, "the name of a file or folder to write. Received: .*link, a symbolic link"),
        ("saved_model", lambda folder: folder / "x/..", r"the name of a file or folder to write. Received: .*x/\.\."),
        ("saved_model", lambda _: Path(), r"the name of a file or folder to write. Received: \.\."),
        # nobody can write there, root neither
        ("onnx", lambda _: Path("/proc/x.onnx"), "expected to write /proc/x.onnx. Received: No such file"),
        ("onnx", lambda folder: folder / ("x" * 300 + ".onnx"), "expected to write .*. Received: File name too long"),
    ],
)
def test_a_place_that_cannot_be_written_is_said_in_one_line_and_nothing_is_left(study, tmp_path, target, place, said):
    (tmp_path / "file").touch()
    output = place(tmp_path)
    before = list_files(tmp_path)
    with pytest.raises(CotejoError, match=said) as caught:
        export_model(ask(target, study / "models/small/seed-0/model.keras", output=output), study)
    assert len(str(caught.value).splitlines()) == 1
    assert list_files(tmp_path) == before


def test_a_model_of_other_classes_than_the_study_s_is_refused(study, tmp_path):
    with pytest.raises(CotejoError, match=r"and 3 classes, .* Received: images of shape \(8, 8, 1\) and 2 classes"):
        export_model(ask("onnx", study / "models/sigmoid/seed-0/model.keras", output=tmp_path / "net.onnx"), study)
    assert list_files(tmp_path) == []


def test_a_package_that_is_not_installed_is_named_before_anything_is_done(study, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2onnx", None)  # as find_spec sees a module that can't be imported
    said = r"Received: no tf2onnx here. Install them with `pip install -e '\.\[export\]'` in Cotejo's clone"
    with pytest.raises(CotejoError, match=said):
        export_model(ask("onnx", study / "models/lenet/seed-0/model.keras", output=tmp_path / "net.onnx"), study)


def test_a_model_of_other_images_than_the_test_images_is_refused(study, images, tmp_path):
    root = tmp_path / "study"
    write_study(root, images[:, :7])
    with pytest.raises(CotejoError, match=r"\(7, 8, 1\). Received: one of images of shape \(8, 8, 1\)"):
        export_model(ask("onnx", study / "models/lenet/seed-0/model.keras"), root)
    assert not (root / "exports").exists()


P = [[0.6, 0.3, 0.1], [0.2, 0.5, 0.3]]


@pytest.mark.parametrize(
    ("received", "agreement", "difference", "holds"),
    [
        (P, 1, 0, True),
        ([[0.6005, 0.2995, 0.1], [0.2, 0.5, 0.3]], 1, 0.0005, True),
        ([[0.6, 0.3, 0.1], [0.2, 0.45, 0.35]], 1, 0.05, False),
        ([[0.3, 0.6, 0.1], [0.2, 0.5, 0.3]], 0.5, 0.3, False),
        ([[0.6, 0.3, 0.1], [0.2, 0.5, math.nan]], 0, math.inf, False),
        ([[0.6, 0.4], [0.2, 0.8]], 0, math.inf, False),
    ],
)
def test_parity_is_the_share_of_same_classes_and_the_largest_difference(received, agreement, difference, holds):
    parity = compute_parity(np.array(P, np.float32), np.array(received, np.float32))
    assert parity == pytest.approx((2, agreement, difference), abs=1e-6)
    assert parity.holds is holds


@pytest.fixture
def tracked(study, tmp_path):
    """A study of its own that records its runs."""
    root = tmp_path / "study"
    shutil.copytree(study, root)
    copy_database(root)
    edit_params(root / "params.yaml", "runtime", tracking="on", tracking_timeout_s=60)
    return root


def wait_for(pattern, root):
    while not list(root.glob(pattern)):
        time.sleep(0.05)  # pytest's own time limit ends it


def find_run(root):
    client = MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("study").experiment_id])
    return run, client


def test_the_command_exports_the_study_s_model_prints_the_parity_and_logs_it(tracked, environment, capfd):
    export = partial(run_cotejo, "export", cwd=tracked, env=environment)
    done = export("--format", "onnx", "--model", "lenet", "--seed", "0", "--images", "60")
    assert (done.returncode, done.stderr) == (0, "")
    assert capfd.readouterr() == ("", ""), "what the converters print past Python"
    output = Path("exports/lenet-seed-0/model.onnx")
    assert done.stdout.splitlines()[0] == f"lenet, seed 0 -> {output}"
    assert [path.name for path in (tracked / "exports").iterdir()] == ["lenet-seed-0"]
    assert (tracked / output).is_file()
    run, client = find_run(tracked)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["parity_top1_agreement"] == 1
    assert run.data.params["format"] == "onnx"
    (artifact,) = client.list_artifacts(run.info.run_id)
    assert artifact.path == "model.onnx.parity.json"
    again = export("--format", "onnx", "--model", "lenett")
    assert (again.returncode, again.stdout) == (2, "")
    assert "Did you mean `lenet`?" in again.stderr
    assert len(again.stderr.splitlines()) == 1


def start_interpreter(options, cwd, environment):
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(["cotejo", "export", *options], cwd=cwd, env=environment, **streams)


def start_warm(options, cwd, environment):
    return WarmProcess([shutil.which("cotejo", path=environment["PATH"]), "export", *options], cwd, environment)


@pytest.mark.parametrize(
    ("sent", "code", "start"),
    [
        (signal.SIGTERM, 143, start_interpreter),
        pytest.param(signal.SIGINT, 130, start_warm, marks=pytest.mark.slow),
    ],
)
def test_a_stopped_export_leaves_nothing_but_a_killed_run(tracked, environment, sent, code, start):
    before = set(tracked.iterdir())
    process = start(["--format", "saved_model", "--model", "resnet", "--seed", "0"], tracked, environment)
    wait_for("exports/.cotejo-export-*/*", tracked)
    process.send_signal(sent)
    stdout, stderr = process.communicate()
    assert (process.returncode, stdout) == (code, "")
    assert stderr == f"cotejo: stopped by {sent.name}\n"
    assert {path.name for path in set(tracked.iterdir()) - before} <= {".cotejo", "mlflow.db", "mlruns"}
    assert find_run(tracked)[0].info.status == "KILLED"


@pytest.mark.usefixtures("without_xla")
def test_an_export_that_cannot_be_written_ends_its_run(tracked, environment):
    options = ("--format", "onnx", "--model", "lenet", "--seed", "0", "--output", "/proc/x.onnx")
    done = run_cotejo("export", *options, cwd=tracked, env=environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("cotejo: expected to write /proc/x.onnx. Received: No such file or directory")
    assert len(done.stderr.splitlines()) == 1
    assert find_run(tracked)[0].info.status == "FAILED"
