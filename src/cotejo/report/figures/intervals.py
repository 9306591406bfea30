"""Parts that several figures share: rows of intervals, and a legend of models."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from cotejo.comparison.records import Model
from cotejo.report.style import BLUE, GREY, INK, PAPER, choose_looks
from cotejo.report.wording import Wording


def build_model_legend(models: Sequence[Model], wording: Wording) -> list[Line2D]:
    """Returns a legend's marks of models."""
    looks = choose_looks([model.name for model in models])
    return [
        Line2D([], [], **look, linestyle="", markersize=8, label=wording.model(name)) for name, look in looks.items()
    ]


def draw_model_legend(figure: Figure, models: Sequence[Model], wording: Wording) -> None:
    """Draws the legend of models above all panels."""
    handles = build_model_legend(models, wording)
    figure.legend(handles=handles, loc="outside upper center", ncols=min(4, len(models)))


def draw_intervals(
    ax: Axes, rows: Sequence[tuple[str, float, float, float, bool]], sides: tuple[str, str] | None, wording: Wording
) -> None:
    """Draws a row per difference: name, value, low, high, and whether it is clear.

    Args:
        ax: The axes.
        rows: From above.
        sides: The models that lie left and right of 0.
        wording: The language.
    """
    looks = choose_looks(sides or ())
    for place, (_, value, low, high, is_clear) in enumerate(rows):
        clear = looks[sides[value > 0]]["color"] if sides else BLUE
        colour = clear if is_clear else GREY
        ax.plot([low, high], [place, place], color=colour, linewidth=2, solid_capstyle="butt")
        ax.plot(value, place, "o", color=colour, markerfacecolor=colour if is_clear else PAPER, markersize=7)
    ax.axvline(0, color=INK, linewidth=1)
    ax.set_yticks(range(len(rows)), [row[0] for row in rows])
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    ax.grid(visible=False, axis="y")
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    if sides:
        draw_sides(ax, sides, wording)


def draw_sides(ax: Axes, sides: tuple[str, str], wording: Wording) -> None:
    """Writes above the axes which model each side of 0 favours."""
    for name, x, align, text in ((sides[0], 0.0, "left", "← {}"), (sides[1], 1.0, "right", "{} →")):
        phrase = wording.locale["figures"]["better"].replace("{{ model | model }}", wording.model(name))
        ax.text(x, 1.02, text.format(phrase), transform=ax.transAxes, ha=align, va="bottom", color=GREY, fontsize=10)
