"""Classifies new pictures with a saved model: the work of `cotejo predict`."""

import os
import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cotejo.data.decoding import show_path
from cotejo.errors import ParamsError
from cotejo.files import digest_path, temporary_folder
from cotejo.report.figures.predictions import MAX_SHOWN, ClassifiedPicture, figure_predictions
from cotejo.report.style import save_figure
from cotejo.serving.archives import Archive, find_archive
from cotejo.serving.facts import Facts, load_facts
from cotejo.serving.pictures import Fault, PictureListing, list_pictures, prepare_picture, stream_batches
from cotejo.serving.rendering import Renderer, Style, choose_renderer
from cotejo.serving.screen import Screen, hiding_stderr
from cotejo.tracking.outbox.sync import count

if TYPE_CHECKING:
    from cotejo.serving.classifier import Classifier

FIGURE_SUFFIXES = (".png", ".svg")
#: Classes of each prediction, where a user doesn't say how many.
DEFAULT_TOP = 3


class PredictionRequest(NamedTuple):
    """A user's request.

    Attributes:
        paths: Pictures and folders.
        model: As `find_archive` takes it.
        run_id: MLflow run of the model; see `find_archive`.
        seed: Seed of the model; see `find_archive`.
        top: Classes of each prediction; None for 3, or all where there are fewer.
        batch_size: Pictures that the model is given at once.
        style: How predictions are written; None for a table.
        figure: Where to draw the first pictures with their classes; None for no figure.
    """

    paths: Sequence[str]
    model: str | None
    run_id: str | None
    seed: int | None
    top: int | None
    batch_size: int
    style: Style | None
    figure: Path | None


class Classified(NamedTuple):
    """Pictures that couldn't be classified, and the first of the others."""

    faults: list[Fault]
    shown: list[ClassifiedPicture]


def predict_pictures(request: PredictionRequest, root: Path) -> bool:
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
    with temporary_folder() as folder:
        archive = find_archive(root, folder, model=request.model, run_id=request.run_id, seed=request.seed)
        facts = load_facts(archive, root)
        top = _choose_top(request.top, facts)
        renderer = choose_renderer(
            request.style or "table", _describe(archive, facts), listing.files, facts.class_names, top
        )
        classifier = _load_classifier(archive, facts) if listing.files else None
    classified = Classified(list(listing.faults), [])
    with Screen(len(listing.files)) as screen:
        for line in chain(listing.faults, _say_skipped(listing)):
            screen.say(str(line))
        screen.write(renderer.begin())
        if classifier:
            _classify_all(classifier, request, listing.files, top, renderer, screen, classified)
        screen.write(renderer.end(classified.faults))
        if request.figure and classified.shown:
            _save_figure(classified.shown, request.figure)
    num_failed = len(classified.faults) - len(listing.faults)
    screen.say(_sum_up(archive, len(listing.files) - num_failed, classified, request.figure))
    return not classified.faults


def _load_classifier(archive: Archive, facts: Facts) -> "Classifier":
    # TensorFlow takes seconds, which what is wrong with the request doesn't wait for, and talks on its way
    with hiding_stderr():
        from cotejo.serving.classifier import load_classifier
    return load_classifier(archive, facts)


def _classify_all(
    classifier: "Classifier",
    request: PredictionRequest,
    files: Sequence[Path],
    top: int,
    renderer: Renderer,
    screen: Screen,
    classified: Classified,
) -> None:
    """Classifies batch by batch; what was written is let go."""
    for batch in stream_batches(files, partial(prepare_picture, facts=classifier.facts), request.batch_size):
        lines = []
        for picture, result in zip(batch, classifier.classify(batch, top), strict=True):
            if isinstance(result, Fault):
                classified.faults.append(result)
                screen.say(str(result))
                continue
            lines.append(renderer.add(result))
            if request.figure and len(classified.shown) < MAX_SHOWN and picture.pixels is not None:
                classified.shown.append(
                    ClassifiedPicture(show_path(picture.path.name), picture.pixels, *result.ranked[0])
                )
        screen.write("".join(lines))
        screen.advance(len(batch))


def _choose_top(top: int | None, facts: Facts) -> int:
    num_classes = len(facts.class_names)
    if top is None:
        return min(DEFAULT_TOP, num_classes)
    if top > num_classes:
        raise ParamsError(expected=f"--top to be at most {num_classes}, the model's classes", received=top)
    return top


def _check_figure(figure: Path | None) -> None:
    if figure is not None and figure.suffix not in FIGURE_SUFFIXES:
        raise ParamsError(expected=f"--figure to end in {' or '.join(FIGURE_SUFFIXES)}", received=figure)
    if figure is None:
        return
    # before the pictures are classified; its folder may be one that will be made
    present = next(path for path in (figure, *figure.parents) if path.exists())
    if figure.is_dir() or (present != figure and not present.is_dir()) or not os.access(present, os.W_OK):
        found = "a folder" if figure.is_dir() else f"{present} can't be written to"
        raise ParamsError(
            expected="--figure to be a file to write", received=f"{figure}, {found}", advice="Name another one"
        )


def _save_figure(shown: Sequence[ClassifiedPicture], path: Path) -> None:
    try:
        with warnings.catch_warnings():
            # of letters that the font lacks, in names: the figure has boxes, the table has them
            warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
            save_figure(figure_predictions(shown), path)
    except OSError as error:
        raise ParamsError(
            expected="--figure to be a file to write", received=f"{path}, {error.strerror}", advice="Name another one"
        ) from error


def _describe(archive: Archive, facts: Facts) -> dict[str, Any]:
    return {
        "name": archive.title,
        "archive": archive.name,
        "sha256": digest_path(archive.path),
        "classes": list(facts.class_names),
        "image_shape": list(facts.image_shape),
    }


def _say_skipped(listing: PictureListing) -> Iterator[str]:
    for folder, number in listing.skipped.items():
        yield f"{folder}: left out {count(number, 'file')}, hidden or not a picture by name"


def _sum_up(archive: Archive, num_classified: int, classified: Classified, figure: Path | None) -> str:
    drawn = f"; {figure} shows the first {len(classified.shown)}" if figure and classified.shown else ""
    failed = f"; {len(classified.faults)} not, see above" if classified.faults else ""
    pictures = "picture" if num_classified == 1 else "pictures"
    return f"{num_classified:,} {pictures} classified with {archive.title}{drawn}{failed}"
