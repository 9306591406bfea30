"""Pictures of one's own: what it costs to prepare a folder, to train on more pixels than memory, and to classify many.

The stages and commands are the real ones, in a copy of the study; each is measured as a process of its own.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import numpy as np
from measure import BYTES
from PIL import Image
from ruamel.yaml import YAML

from copied_study import copy_study
from cotejo.params import read_yaml

NUM_CLASSES = 10
#: Of the images that a folder has, one in so many is a test image.
TESTED = 5
COLOURS = 3
#: Stages of the study of large images, by what the page calls them.
STAGES = {
    "preprocess": ("stages/preprocess.py",),
    "train-lenet": ("stages/train.py", "lenet"),
    "transfer-learn": ("stages/transfer_learn.py",),
}


def prepare(folder: str, num_images: int, side: int) -> dict[str, Any]:
    """Measures preprocess on a folder of JPEG files.

    Args:
        folder: An existing folder for pictures and study.
        num_images: How many files.
        side: Height and width in pixels.

    Returns:
        Seconds and peak memory of the stage, all of it: start, decoding, checks, card, figures.
    """
    study = _make_study(Path(folder), num_images, side, "jpg")
    return {"preprocess": _run(study, *STAGES["preprocess"])}


def train(folder: str, num_images: int, side: int, memory_limit: str, epochs: int) -> dict[str, Any]:
    """Measures the stages on pictures that don't fit into `runtime.memory_limit`, one seed a model.

    Args:
        folder: An existing folder for pictures and study.
        num_images: How many files.
        side: Height and width in pixels.
        memory_limit: As `params.yaml` has it.
        epochs: Of each training.

    Returns:
        Seconds and peak memory of each stage, and the bytes of all pixels.
    """
    study = _make_study(
        Path(folder), num_images, side, "jpg", {
            "base": {"seeds": [0]},
            "lenet": {"epochs": epochs},
            "transfer": {"weights": "random", "epochs": epochs},
            "runtime": {"memory_limit": memory_limit},
        },
    )  # fmt: skip
    _run(study, "stages/download.py")  # random weights: notes that there are none
    found = {name: _run(study, *command) for name, command in STAGES.items()}
    return {"stages": found, "size_bytes": num_images * side * side * COLOURS}


def predict(folder: str, num_images: int, few: int, side: int) -> dict[str, Any]:
    """Measures `cotejo predict` on a few pictures and on many, with a LeNet that was trained on as many.

    Args:
        folder: An existing folder for pictures and study.
        num_images: How many PNG files.
        few: How many of them the first time.
        side: Height and width in pixels.

    Returns:
        Seconds and peak memory, by the number of pictures.
    """
    study = _make_study(Path(folder), num_images, side, "png", {"base": {"seeds": [0]}, "lenet": {"epochs": 1}})
    for name in ("preprocess", "train-lenet"):
        _run(study, *STAGES[name])
    pictures = sorted((study.parent / "pictures").rglob("*.png"))
    command = ("-c", "from cotejo.cli import main; main()", "predict", "--model", "lenet", "--seed", "0", "--csv")
    found = {}
    for count in (few, num_images):
        chosen = Path(folder) / f"chosen-{count}"
        chosen.mkdir()
        for number, path in enumerate(pictures[:count]):
            (chosen / f"{number:06}.png").hardlink_to(path)
        found[count] = _run(study, *command, str(chosen))
    return {"by_count": list(found.items())}


def _make_study(
    folder: Path, num_images: int, side: int, suffix: str, changes: dict[str, dict[str, Any]] | None = None
) -> Path:
    """Writes the pictures, and a study that declares them; returns its folder."""
    for number, picture in enumerate(_draw(num_images, side)):
        split = "train" if number % TESTED else "test"
        path = folder / f"pictures/{split}/class {number // TESTED % NUM_CLASSES}/{number:06}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
    study = copy_study(folder / "study")
    declared = read_yaml(study / "params.yaml")
    declared["data"].update(name="directory", path=str(folder / "pictures"))
    for section, values in (changes or {}).items():
        declared[section].update(values)
    declared["runtime"]["tracking"] = "off"  # MLflow's import would be part of each peak
    YAML().dump(declared, study / "params.yaml")
    return study


def _draw(num_images: int, side: int) -> Iterator[Image.Image]:
    """Draws coarse noise in colour, which compresses as photos do; no two pictures look alike."""
    generator = np.random.default_rng(0)
    coarse = max(side // 8, 4)
    for _ in range(num_images):
        pixels = generator.integers(0, 256, (coarse, coarse, COLOURS), np.uint8)
        yield Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC)


def _run(study: Path, *command: str) -> dict[str, float]:
    """Runs Python in a study; returns its seconds and the most memory that it had."""
    began_s = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(study / "src")}
    with (study.parent / "said.txt").open("w+") as said:
        process = subprocess.Popen([sys.executable, *command], cwd=study, env=environment, stdout=said, stderr=said)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            sys.exit(f"{said.read()}\n{' '.join(command)} failed.")
    return {"total_time_s": time.perf_counter() - began_s, "peak_memory_bytes": used.ru_maxrss * BYTES}
