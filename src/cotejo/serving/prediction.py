"""Classifies new pictures with a saved model: the work of `cotejo predict`."""

import os
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import keras
import numpy as np
from numpy.typing import NDArray

from cotejo.data.decoding import show_path
from cotejo.errors import ModelError, ParamsError
from cotejo.evaluation.predict import predict_probabilities
from cotejo.execution.words import Setup
from cotejo.report.figures.predictions import MAX_SHOWN, Shown, figure_predictions
from cotejo.report.style import save_figure
from cotejo.serving.archives import Archive, find_archive
from cotejo.serving.facts import Facts, load_facts
from cotejo.serving.pictures import Fault, Listing, Picture, list_pictures, prepare_picture, stream_batches
from cotejo.serving.rendering import Prediction, Renderer, Style, choose_renderer
from cotejo.serving.screen import Screen
from cotejo.tracking.records import digest_path
from cotejo.tracking.sync import count
from cotejo.training.archive import load_model
from cotejo.training.hardware import configure_hardware

FIGURE_SUFFIXES = (".png", ".svg")
#: Classes of each prediction, where a user doesn't say how many.
DEFAULT_TOP = 3


class Request(NamedTuple):
    """What a user asks for.

    Attributes:
        paths: Pictures and folders.
        model: As `find_archive` takes it.
        run_id: Likewise.
        seed: Likewise.
        top: Classes of each prediction; None for 3, or all where there are fewer.
        batch_size: Pictures that the model is given at once.
        style: How predictions are written.
        figure: Where to draw the first pictures with their classes; None for no figure.
    """

    paths: Sequence[str]
    model: str | None
    run_id: str | None
    seed: int | None
    top: int | None
    batch_size: int
    style: Style
    figure: Path | None


class Classifier(NamedTuple):
    """A model that is ready for pictures."""

    archive: Archive
    facts: Facts
    model: keras.Model

    def classify(self, batch: Sequence[Picture], top: int) -> Iterator[Prediction | Fault]:
        """Gives what the model says of each picture, or why it can't be asked, in their order."""
        ready = [picture.pixels for picture in batch if picture.pixels is not None]
        rows = iter(_compute_probabilities(self, np.stack(ready)) if ready else ())
        for picture in batch:
            if picture.pixels is None:
                yield Fault(show_path(picture.path), picture.error)
            else:
                y_prob: NDArray[np.float32] = next(rows)
                # of equal probabilities the first class, as argmax has it
                best = np.argsort(-y_prob, kind="stable")[:top]
                yield Prediction(
                    picture.path, [(self.facts.class_names[index], float(y_prob[index])) for index in best]
                )


class Outcome(NamedTuple):
    """What has come of the pictures so far: those that couldn't be classified, and the first of the others."""

    faults: list[Fault]
    shown: list[Shown]


def predict_pictures(request: Request, root: Path) -> bool:
    """Classifies pictures and writes what comes out.

    Args:
        request: What is asked for.
        root: The study's folder.

    Returns:
        Whether all of them could be classified; of each that couldn't, a line on stderr says why.

    Raises:
        CotejoError: There is no such model, or nothing can be classified as asked.
    """
    _check_figure(request.figure)
    listing = list_pictures(request.paths)
    with TemporaryDirectory(prefix="cotejo-") as folder:
        archive = find_archive(root, Path(folder), model=request.model, run_id=request.run_id, seed=request.seed)
        facts = load_facts(archive, root)
        top = _choose_top(request.top, facts)
        renderer = choose_renderer(request.style, _describe(archive, facts), listing.files, facts.class_names, top)
        # without a picture there is no need of TensorFlow
        classifier = _load_classifier(archive, facts) if listing.files else None
    outcome = Outcome(list(listing.faults), [])
    with Screen(len(listing.files)) as screen:
        for line in chain(listing.faults, _say_skipped(listing)):
            screen.say(str(line))
        screen.write(renderer.begin())
        if classifier:
            _classify_all(classifier, request, listing.files, top, renderer, screen, outcome)
        screen.write(renderer.end(outcome.faults))
        if request.figure and outcome.shown:
            save_figure(figure_predictions(outcome.shown), request.figure)
        num_failed = len(outcome.faults) - len(listing.faults)
        screen.say(_sum_up(archive, len(listing.files) - num_failed, outcome, request.figure))
    return not outcome.faults


def _classify_all(
    classifier: Classifier,
    request: Request,
    files: Sequence[Path],
    top: int,
    renderer: Renderer,
    screen: Screen,
    outcome: Outcome,
) -> None:
    """Classifies batch by batch; what was written is let go."""
    for batch in stream_batches(files, partial(prepare_picture, facts=classifier.facts), request.batch_size):
        lines = []
        for picture, result in zip(batch, classifier.classify(batch, top), strict=True):
            if isinstance(result, Fault):
                outcome.faults.append(result)
                screen.say(str(result))
                continue
            lines.append(renderer.add(result))
            if request.figure and len(outcome.shown) < MAX_SHOWN and picture.pixels is not None:
                outcome.shown.append(Shown(picture.path.name, picture.pixels, *result.ranked[0]))
        screen.write("".join(lines))
        screen.advance(len(batch))


def _load_classifier(archive: Archive, facts: Facts) -> Classifier:
    configure_hardware(Setup(os.cpu_count() or 1, "float32"))
    model = load_model(archive.path)
    _check_model(archive, facts, model)
    return Classifier(archive, facts, model)


def _check_model(archive: Archive, facts: Facts, model: keras.Model) -> None:
    taken, given = tuple(model.input_shape[1:]), model.output_shape[-1]
    fits = all(side in (None, expected) for side, expected in zip(taken, facts.image_shape, strict=False))
    if len(taken) != 3 or not fits or given != len(facts.class_names):
        raise ModelError(
            f"{archive.name}: expected a model of images of shape {facts.image_shape} and {len(facts.class_names)} "
            f"classes, as what is known of it says. Received: images of shape {taken} and {given} classes. Train it "
            "again, or run in the folder of the study that trained it."
        )


def _compute_probabilities(classifier: Classifier, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    y_prob = predict_probabilities(classifier.model, images, len(images))
    if not np.isfinite(y_prob).all():
        raise ModelError(
            f"{classifier.archive.name}: expected probabilities. Received: {y_prob[~np.isfinite(y_prob)][0]}. Train "
            "the model again."
        )
    return y_prob


def _choose_top(top: int | None, facts: Facts) -> int:
    num_classes = len(facts.class_names)
    if top is None:
        return min(DEFAULT_TOP, num_classes)
    if top > num_classes:
        raise ParamsError(f"expected --top to be at most {num_classes}, the model's classes. Received: {top}.")
    return top


def _check_figure(figure: Path | None) -> None:
    if figure is not None and figure.suffix not in FIGURE_SUFFIXES:
        raise ParamsError(f"expected --figure to end in {' or '.join(FIGURE_SUFFIXES)}. Received: {figure}.")


def _describe(archive: Archive, facts: Facts) -> dict[str, Any]:
    return {
        "name": archive.title,
        "archive": archive.name,
        "sha256": digest_path(archive.path),
        "classes": list(facts.class_names),
        "image_shape": list(facts.image_shape),
    }


def _say_skipped(listing: Listing) -> Iterator[str]:
    for folder, number in listing.skipped.items():
        yield f"{folder}: left out {count(number, 'file')}, hidden or not a picture by name"


def _sum_up(archive: Archive, num_classified: int, outcome: Outcome, figure: Path | None) -> str:
    drawn = f"; {figure} shows the first {len(outcome.shown)}" if figure and outcome.shown else ""
    failed = f"; {len(outcome.faults)} not, see above" if outcome.faults else ""
    return f"{count(num_classified, 'picture')} classified with {archive.title}{drawn}{failed}"
