"""The look of the figures, and how they become files: same data, same bytes."""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# the palette of M. Okabe and K. Ito, Color Universal Design (2008): told apart with any colour vision
BLUE = "#0072B2"
VERMILLION = "#D55E00"
GREEN = "#009E73"
PURPLE = "#CC79A7"
ORANGE = "#E69F00"
SKY = "#56B4E9"
INK = "#22252a"
GREY = "#666b73"
RULE = "#d9dbe0"
PAPER = "#ffffff"
# neither changes in the dark: cells of a matrix that are as opaque as their number is high, and text on the opaque ones
DEEP = "#08519c"
ON_DEEP = "#fffffe"
#: Colours that a page gives other values in the dark, by the name of the page's variable.
THEMED = {
    "paper": PAPER,
    "ink": INK,
    "grey": GREY,
    "rule": RULE,
    "blue": BLUE,
    "vermillion": VERMILLION,
    "green": GREEN,
    "purple": PURPLE,
    "orange": ORANGE,
    "sky": SKY,
}
MODEL_COLOURS = {"lenet": BLUE, "resnet": VERMILLION, "transfer": GREEN, "finetune": PURPLE}
MODEL_MARKERS = {"lenet": "o", "resnet": "s", "transfer": "^", "finetune": "D"}

#: Looks of models that aren't those of the study, in the order in which they come.
OTHER_LOOKS = [(colour, marker) for marker in "oPv*hX" for colour in (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)]

#: A number of a drawing with more decimals than can be seen: a hundredth of a point is enough, and half the file.
LONG_NUMBER = re.compile(r"\d+\.\d{3,}")

#: Longest class name that is written along an axis; the rest is cut.
LONGEST_LABEL = 14

STYLE: Any = {
    "font.family": ["DejaVu Sans"],
    "font.size": 11,
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "savefig.dpi": 160,
    # text stays text: it takes the page's font, can be found and copied, and makes the file small
    "svg.fonttype": "none",
    "svg.hashsalt": "cotejo",
    # class names may hold a dollar sign, which is no formula
    "text.parse_math": False,
    "text.usetex": False,
}


@contextmanager
def use_style() -> Iterator[None]:
    """Sets the figures' style meanwhile, whatever style the caller has."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        yield


def build_figure(width: float, height: float) -> Figure:
    """Builds an empty figure of a size in inches, laid out by itself."""
    return Figure(figsize=(width, height), layout="constrained")


def choose_looks(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Chooses how models are drawn in every figure: a colour and a shape, so that neither has to tell them alone."""
    others = iter(OTHER_LOOKS * (1 + len(names) // len(OTHER_LOOKS)))
    known = all(name in MODEL_COLOURS for name in names)
    looks = [(MODEL_COLOURS[name], MODEL_MARKERS[name]) if known else next(others) for name in names]
    return {name: {"color": look[0], "marker": look[1]} for name, look in zip(names, looks, strict=True)}


def hide_frame(ax: Axes) -> None:
    """Removes grid, frame and tick marks: for images and matrices."""
    ax.grid(visible=False)
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)


def cut_label(name: str, longest: int = LONGEST_LABEL) -> str:
    """Shortens a name to what fits along an axis."""
    return name if len(name) <= longest else name[: longest - 1] + "…"


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a figure to a `.png` or `.svg` file; the same figure gives the same bytes.

    Args:
        figure: The figure; it stays usable.
        path: The file; its folder is created.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    kind: Literal["svg", "png"] = "svg" if path.suffix == ".svg" else "png"
    path.write_bytes(_draw(figure, kind))


def render_svg(figure: Figure, prefix: str) -> str:
    """Renders a figure as an SVG element to put into a page.

    Args:
        figure: The figure.
        prefix: Put before every id, since ids of two figures in one page would otherwise collide.

    Returns:
        The element; its colours are the page's variables `--plot-ink` and so on, where it has them.
    """
    text = _draw(figure, "svg").decode("utf-8")
    text = text[text.index("<svg") :]
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = re.sub(r"url\(#", f"url(#{prefix}-", text)
    text = re.sub(r'href="#', f'href="#{prefix}-', text)
    for name, colour in THEMED.items():
        text = re.sub(f"(?<=[a-z]: ){colour}", f"var(--plot-{name},{colour})", text, flags=re.IGNORECASE)
    text = re.sub(r"<[^>]+>", lambda tag: LONG_NUMBER.sub(_shorten, tag[0]), text)
    text = re.sub(r"\n\s*", "\n", text)
    # the page sets the width; the view box keeps the proportions
    head, body = text.split(">", 1)
    return re.sub(r'\s(width|height)="[^"]*"', "", head) + ">" + body


def _shorten(number: re.Match[str]) -> str:
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")


def _draw(figure: Figure, kind: Literal["svg", "png"]) -> bytes:
    # matplotlib stamps files with the date and its version unless told not to
    keys = ("Date", "Creator", "Format", "Type") if kind == "svg" else ("Software",)
    buffer = io.BytesIO()
    with use_style():
        figure.savefig(buffer, format=kind, metadata=dict.fromkeys(keys))
    return buffer.getvalue()
