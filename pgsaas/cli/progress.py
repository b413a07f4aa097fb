"""A bar on stderr while something takes long; nothing where nobody looks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

#: Takes what is done and how much there is in all.
Advance: TypeAlias = Callable[[int, int], None]


@contextmanager
def progress(title: str) -> Iterator[Advance]:
    """Show a bar for the length of the block."""
    if sys.stderr.isatty():
        try:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        except ImportError:
            pass
        else:
            parts = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
            with Progress(*parts, console=Console(stderr=True), transient=True) as bar:
                task = bar.add_task(title, total=None)
                yield lambda done, total: bar.update(task, completed=done, total=total)
            return
    yield lambda done, total: None
