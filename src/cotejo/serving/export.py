"""Exports a model to another format, and compares the file's predictions with Keras's: `cotejo export`."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from cotejo.data.splits import load_split
from cotejo.errors import CotejoError, ModelError, ParamsError
from cotejo.files import digest_path, temporary_folder
from cotejo.lineage.tags import describe_run
from cotejo.masking import say_first_line
from cotejo.params import load_params
from cotejo.schema.operations import dump_operations
from cotejo.serving.archives import PROCESSED, Archive, find_archive
from cotejo.serving.facts import Facts, load_facts
from cotejo.serving.parity import LEAST_AGREEMENT, TOLERANCE, Parity, compute_parity, run_all
from cotejo.serving.runtimes import IMAGES, OPENERS, PROBABILITIES
from cotejo.serving.screen import hiding_stderr
from cotejo.stage import Stopped, finishing, open_tracker
from cotejo.tracking import journal

if TYPE_CHECKING:
    import keras
from cotejo.serving.placing import find_existing, make_work_folder, move_into_place, restore_replaced

T = TypeVar("T")

FORMATS = tuple(OPENERS)
#: What a file of a format is called, and what its name must end in.
FILES = {"saved_model": "saved_model", "tflite": "model.tflite", "onnx": "model.onnx"}
#: What a format needs beside TensorFlow: modules by the package that holds them. Its last one is the runtime.
PACKAGES = {
    "saved_model": {"tensorflow": "tensorflow"},
    "tflite": {"ai-edge-litert": "ai_edge_litert"},
    "onnx": {"onnx": "onnx", "tf2onnx": "tf2onnx", "onnxruntime": "onnxruntime"},
}
EXPORTS = Path("exports")
#: What TensorFlow puts into a SavedModel's folder.
SAVED_MODEL = "saved_model.pb"
SAVED_MODEL_ENTRIES = {SAVED_MODEL, "fingerprint.pb", "variables", "assets", "assets.extra"}


class ExportRequest(NamedTuple):
    """A user's request.

    Attributes:
        target: The format: saved_model | tflite | onnx.
        model: As `find_archive` takes it.
        run_id: MLflow run of the model; see `find_archive`.
        seed: Seed of the model; see `find_archive`.
        output: The file, or the SavedModel's folder; None for one in `exports/`.
        num_images: Test images to compare on; 0 for all.
    """

    target: str
    model: str | None
    run_id: str | None
    seed: int | None
    output: Path | None
    num_images: int


class Exported(NamedTuple):
    """An exported model: where it is, and what to say of it."""

    path: Path
    report: Path
    lines: tuple[str, ...]


def export_model(request: ExportRequest, root: Path) -> Exported:
    """Exports a model; the file appears under its name only if it answers as Keras does.

    Args:
        request: What is asked for.
        root: The study's folder, with the test images to compare on.

    Raises:
        CotejoError: There is no such model, a package is missing, the format can't hold the model, its file answers
            otherwise than Keras, or can't be written; nothing is left then.
    """
    _check_packages(request.target)
    with temporary_folder() as folder:
        archive = find_archive(root, folder, model=request.model, run_id=request.run_id, seed=request.seed)
        facts = load_facts(archive, root)
        images = _choose_images(root, archive, facts, request.num_images)
        output = request.output or root / EXPORTS / _name(archive) / FILES[request.target]
        place = root / EXPORTS if request.output is None else output.parent
        with _saying_what_failed(output):
            _check_output(output, request.target)
            with _track(root, archive, request.target) as run, make_work_folder(place) as work:
                described, exported = _export(archive, facts, images, request.target, output, work)
                run.log_metrics({f"parity_{key}": described["parity"][key] for key in Parity._fields})
                run.log_artifact(exported.report)
    return exported


def _export(
    archive: Archive, facts: Facts, images: NDArray[np.uint8], target: str, output: Path, work: Path
) -> tuple[dict[str, Any], Exported]:
    restore_replaced(output)
    partial_file = work / FILES[target]
    parity, of_original = _quietly(partial(_convert, archive, facts, images, target, partial_file))
    if not parity.holds:
        raise ModelError(
            where=archive.name,
            expected=(
                f"{target} to answer as Keras does, within {TOLERANCE:g} and for {LEAST_AGREEMENT:.0%} of the images"
            ),
            received=parity,
            advice="Nothing was written; please report it with the model's section of params.yaml",
        )
    described = _describe(archive, facts, target, output, parity, of_original)
    report = work / "parity.json"
    report.write_text(json.dumps(described, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    exported = Exported(
        output, output.with_name(f"{output.name}.parity.json"), _sum_up(archive, output, parity, of_original)
    )
    move_into_place(partial_file, output, report, exported.report)
    return described, exported


def _convert(
    archive: Archive, facts: Facts, images: NDArray[np.uint8], target: str, path: Path
) -> tuple[Parity, Parity | None]:
    """Writes the file, and compares it with Keras; with the saved model too, where that computes in bfloat16."""
    from cotejo.serving.classifier import check_model
    from cotejo.serving.conversion import convert, load_convertible

    model, original = load_convertible(archive.path, target)
    check_model(archive, facts, model)
    try:
        convert(model, target, path, _list_facts(archive, facts))
        run = OPENERS[target](path)
        answers = run_all(run, images)
    except (OSError, MemoryError):
        raise  # the machine's, not the format's
    except Exception as error:
        raise ModelError(
            where=archive.name,
            expected=f"a model that {target} can hold",
            received=f"{type(error).__name__}: {say_first_line(error)[:300].rstrip('. ')}",
            advice=f"Choose another of {', '.join(FORMATS)}",
        ) from error
    return _compare(model, answers, images), _compare(original, answers, images) if original else None


def _compare(model: "keras.Model", answers: NDArray[np.float32], images: NDArray[np.uint8]) -> Parity:
    """Compares with Keras's answers, layer by layer: to trace and compile the model takes longer than to run it."""
    return compute_parity(run_all(lambda batch: np.asarray(model(batch, training=False)), images), answers)


def _check_packages(target: str) -> None:
    missing = [package for package, module in PACKAGES[target].items() if find_spec(module) is None]
    if missing:
        raise ParamsError(
            expected=f"{', '.join(PACKAGES[target])} for --format {target}",
            received=f"no {' and no '.join(missing)} here",
            advice="Install them with `pip install -e '.[export]'` in Cotejo's clone; `make setup` does too",
        )


def _check_output(output: Path, target: str) -> None:
    if output.name in ("", "..") or output.is_symlink():
        what = f"{output}, a symbolic link" if output.is_symlink() else output
        raise ParamsError(expected="--output to end in the name of a file or folder to write", received=what)
    nearest = find_existing(output.parent)
    if not nearest.is_dir():
        raise ParamsError(expected="--output to be in a folder", received=f"{output}, and {nearest} is a file")
    suffix = Path(FILES[target]).suffix
    if suffix and (output.suffix != suffix or output.is_dir()):
        what = f"{output}, a folder" if output.is_dir() else output
        raise ParamsError(expected=f"--output to be a file that ends in {suffix} for --format {target}", received=what)
    is_other = output.is_file() or (output.is_dir() and any(output.iterdir()) and not _is_saved_model(output))
    if not suffix and is_other:
        raise ParamsError(
            expected="--output to be a folder that isn't there, is empty, or holds a SavedModel and nothing else",
            received=f"{output}, with something else",
        )


def _is_saved_model(folder: Path) -> bool:
    names = {entry.name for entry in folder.iterdir()}
    return SAVED_MODEL in names and names <= SAVED_MODEL_ENTRIES


def _choose_images(root: Path, archive: Archive, facts: Facts, num_images: int) -> NDArray[np.uint8]:
    """Chooses test images from all over the split, which may be in the order of its classes."""
    images = load_split(root / PROCESSED, "test").images
    if images.shape[1:] != facts.image_shape:
        raise ModelError(
            where=archive.name,
            expected=(
                f"the model of images like those in {PROCESSED}, on which it is compared with Keras: {images.shape[1:]}"
            ),
            received=f"one of images of shape {facts.image_shape}",
            advice="Run in its study's folder",
        )
    count = min(num_images or len(images), len(images))
    chosen: NDArray[np.uint8] = images[np.linspace(0, len(images) - 1, count).round().astype(np.int64)]
    return chosen


def _name(archive: Archive) -> str:
    """Returns the folder's name of a model's exports: `resnet-seed-0`, or after the file or the place in MLflow."""
    of_study = re.fullmatch(r"models/(.+)/(seed-\d+)/model\.keras", archive.name)
    name = "-".join(of_study.groups()) if of_study else archive.name.removesuffix(".keras")
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "model"


def _list_facts(archive: Archive, facts: Facts) -> dict[str, str]:
    """Lists what whoever uses the file has to know; ONNX takes text only."""
    return {
        "class_names": json.dumps(facts.class_names, ensure_ascii=False),
        "operations": json.dumps(dump_operations(facts.operations)),
        "color": facts.color or "",
        "keras_sha256": digest_path(archive.path) or "",
    }


def _describe(
    archive: Archive, facts: Facts, target: str, output: Path, parity: Parity, of_original: Parity | None
) -> dict[str, Any]:
    packages = ("keras", "tensorflow", *PACKAGES[target])
    bounds = {"tolerance": TOLERANCE, "least_agreement": LEAST_AGREEMENT}
    return {
        "file": output.name,
        "format": target,
        "model": {"archive": archive.name, "title": archive.title, "sha256": digest_path(archive.path)},
        "input": {"name": IMAGES, "dtype": "uint8", "shape": [None, *facts.image_shape], "color": facts.color},
        "operations": dump_operations(facts.operations),
        "output": {"name": PROBABILITIES, "dtype": "float32", "class_names": list(facts.class_names)},
        "parity": {**parity._asdict(), **bounds, "runtime": packages[-1]},
        **({"parity_with_bfloat16": of_original._asdict()} if of_original else {}),
        "versions": {package: metadata.version(package) for package in dict.fromkeys(packages)},
    }


def _sum_up(archive: Archive, output: Path, parity: Parity, of_original: Parity | None) -> tuple[str, ...]:
    lines = [f"{archive.title} -> {output}", f"Against Keras: {parity}."]
    if of_original:
        lines.append(f"The file computes in float32, the saved model in bfloat16; against that: {of_original}.")
    return tuple(lines)


@contextmanager
def _saying_what_failed(output: Path) -> Iterator[None]:
    """Turns what the machine refuses into an error of one line."""
    try:
        yield
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise ParamsError(
            expected=f"to write {output}",
            received=f"{error.strerror or say_first_line(error)}{where}",
            advice="Free some space, or name a place that can be written with --output",
        ) from error
    except MemoryError as error:
        raise ModelError(
            expected=f"memory for the model twice, to compare {output} with Keras",
            received="too little",
            advice="Stop other programs, or use a machine with more",
        ) from error


def _quietly(work: Callable[[], T]) -> T:
    """Keeps back what TensorFlow and the converters write on their way, also where the file isn't as expected."""
    failed: BaseException | None = None
    with hiding_stderr():
        try:
            return work()
        except (CotejoError, OSError, MemoryError, Stopped) as error:
            failed = error
    raise failed


@contextmanager
def _track(root: Path, archive: Archive, target: str) -> Iterator[journal.Run]:
    """Yields the tracked run of an export, and finishes it however the export ends."""
    params = load_params([], root / "params.yaml")
    tracker = open_tracker(root.resolve(), params)
    run = journal.Run(tracker, "export", None, describe_run("export"))
    with finishing(run, tracker, params.runtime.tracking_timeout_s):
        run.log_params({"format": target, "model": archive.name, "model.sha256": digest_path(archive.path)})
        yield run
