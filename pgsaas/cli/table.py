"""How values look: amounts without trailing zeros, times in UTC, rows in aligned columns."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from pgsaas.exact import digits


def plain(value: Any) -> str:
    """A value as a person reads it, on one line; control characters are shown, not obeyed."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Decimal):
        return digits(value)
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {plain(part)}" for name, part in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(plain(part) for part in value)
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in str(value))


def counted(number: int, noun: str) -> str:
    """How many there are, such as 1 account or 1,000 accounts."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def columns_of(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[str]:
    """Rows as lines: a heading, then aligned cells; amounts and numbers to the right."""
    cells = [[plain(row.get(name)) for name in names] for row in rows]
    heading = [name.replace("_", " ") for name in names]
    widths = [max(map(len, column)) for column in zip(heading, *cells, strict=True)]
    right = [is_number(rows, name) for name in names]
    lines = []
    for line in [heading, *cells]:
        padded = [
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(line, widths, right, strict=True)
        ]
        lines.append("  ".join(padded).rstrip())
    return lines


def is_number(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    """Whether a column holds figures."""
    found = [row.get(name) for row in rows if row.get(name) is not None]
    return bool(found) and all(
        isinstance(value, int | Decimal) and not isinstance(value, bool) for value in found
    )


def print_table(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> None:
    """Aligned columns on stdout, the heading bold on a terminal.

    Lines that are too long are wrapped by the terminal, so that nothing is cut and an id can be
    copied in one piece.
    """
    heading, *lines = columns_of(rows, names)
    print_line(heading, "bold")
    for line in lines:
        print(line)


def print_line(text: str, style: str) -> None:
    """One line on stdout, in a style where there is a terminal and rich is installed."""
    if sys.stdout.isatty():
        try:
            from rich.console import Console
        except ImportError:
            pass
        else:
            Console(highlight=False).print(text, style=style, markup=False, soft_wrap=True)
            return
    print(text)
