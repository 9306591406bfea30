"""How a search went: its figures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cotejo.report.style import BLUE, INK, ORANGE, VERMILLION, build_figure, save_figure, use_style

#: Words, marks and colours of a search's trials by state.
SEARCH_LOOKS = (
    ("COMPLETE", "completed", "o", BLUE),
    ("PRUNED", "pruned", "x", ORANGE),
    ("FAIL", "failed", "v", VERMILLION),
)


def save_search_figures(trials: pd.DataFrame, importances: Mapping[str, float], folder: Path) -> None:
    """Draws `history.png` and `importances.png`; see the two functions below for the arguments."""
    save_figure(figure_search_history(trials), folder / "history.png")
    save_figure(figure_importances(importances), folder / "importances.png")


def figure_search_history(trials: pd.DataFrame) -> Figure:
    """Shows the trials of a search and the best so far; pruned and failed ones have marks of their own.

    Args:
        trials: The columns number, state (COMPLETE, PRUNED or FAIL) and value (best validation accuracy; may be
            missing where a trial has none).
    """
    with use_style():
        figure = build_figure(7.2, 3.8)
        ax = figure.subplots()
        draw_search_history(ax, trials.sort_values("number"))
        ax.set_xlabel("Trial")
        ax.set_ylabel("Validation accuracy")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        return figure


def draw_search_history(ax: Axes, trials: pd.DataFrame) -> None:
    """Draws trials in order of their number; one without a value sits on the lower edge."""
    for state, word, marker, colour in SEARCH_LOOKS:
        rows = trials[trials["state"] == state]
        placed, lost = rows[rows["value"].notna()], rows[rows["value"].isna()]
        look: dict[str, Any] = {"marker": marker, "color": colour, "markersize": 7, "linestyle": ""}
        ax.plot(placed["number"], placed["value"], label=word if len(rows) else None, **look)
        ax.plot(lost["number"], [0.0] * len(lost), transform=ax.get_xaxis_transform(), clip_on=False, **look)
    best = trials[trials["state"] == "COMPLETE"]
    if len(best):
        ax.step(best["number"], best["value"].cummax(), where="post", color=INK, linewidth=1.2, label="best so far")
    if len(trials):
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4, fontsize=10)


def figure_importances(importances: Mapping[str, float]) -> Figure:
    """Shows how much each searched parameter mattered, the most important above.

    Args:
        importances: Shares by parameter; they sum to 1.
    """
    with use_style():
        figure = build_figure(7.2, 0.5 * len(importances) + 0.9)
        ax = figure.subplots()
        names = sorted(importances, key=lambda name: (-importances[name], name))
        values = [importances[name] for name in names]
        ax.barh(range(len(names)), values, color=BLUE, height=0.62)
        for place, value in enumerate(values):
            ax.text(value, place, f" {value:.2f}", va="center")
        ax.set_yticks(range(len(names)), names)
        ax.set_ylim(len(names) - 0.4, -0.6)
        ax.set_xlim(0, 1.15 * max(values, default=1.0) or 1.0)
        ax.grid(visible=False, axis="y")
        ax.set_xlabel("Importance")
        return figure
