"""Shows progress on a terminal: the one bar of downloads, trainings and predictions."""

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn


def build_bar(*columns: ProgressColumn, is_transient: bool, redirects: bool = True) -> Progress:
    """Builds a live bar on stderr; it is disabled where that is no terminal, such as in a log.

    Args:
        columns: What stands behind the task's description and the bar.
        is_transient: Whether the bar is gone at its end.
        redirects: Whether what is printed meanwhile, to stdout too, stands above the bar.
    """
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        *columns,
        console=console,
        transient=is_transient,
        redirect_stdout=redirects,
        redirect_stderr=redirects,
        disable=not console.is_terminal,
    )
