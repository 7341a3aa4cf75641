"""How far frames are that are simulated, looked at or written: a bar on a terminal, else lines."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Show = Callable[[int, int], None]


@contextmanager
def show_progress(title: str, patience: float = 0.0) -> Iterator[Show]:
    """A bar with rate and time left on a terminal; elsewhere a line on stderr at every quarter,
    if so many seconds have passed since the first frames.

    What it gives is called with the frames that are done and all of them.
    """
    if sys.stderr.isatty():
        with bar(title) as show:
            yield show
        return
    shown, first, began = 0, 0, 0.0

    def line(done: int, total: int) -> None:
        nonlocal shown, first, began
        now, quarters = time.perf_counter(), 4 * done // total
        if not first:  # what came before it, opening files say, tells nothing of the rate
            first, began = done, now
        if quarters > shown and now - began >= patience:
            rate = pace(done - first, total - done, now - began)
            print(f"{title}: {done} of {total} frames{rate}", file=sys.stderr, flush=True)
        shown = max(shown, quarters)

    yield line


def pace(done: int, left: int, seconds: float) -> str:
    """The rate at which so many frames were done, and how long the others take."""
    if not done:
        return ""
    return f", {done / seconds:.3g} frames/s, {seconds * left / done:.0f} s left"


@contextmanager
def bar(title: str) -> Iterator[Show]:
    """A bar that is filled as frames are done; it moves to and fro until how many is known."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as TimeLeft

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    rate = TextColumn("{task.fields[rate]}")
    with Progress(*columns, rate, TimeLeft(), console=Console(stderr=True)) as shown:
        task = shown.add_task(title, total=None, rate="")

        def update(done: int, total: int) -> None:
            speed = shown.tasks[0].speed
            rate = f"{speed:.3g} frames/s" if speed else ""
            shown.update(task, completed=done, total=total, rate=rate)

        yield update
