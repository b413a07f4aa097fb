"""Reads docs/contract.md: functions, results, callers, relations and codes as people read them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

CONTRACT = Path(__file__).parents[2] / "docs" / "contract.md"


@dataclass(frozen=True, slots=True)
class Function:
    """One public function as written."""

    name: str
    arguments: tuple[tuple[str, str, str | None], ...]
    columns: tuple[tuple[str, str], ...]
    scalar: str | None
    callers: frozenset[str]


def sections() -> dict[str, list[list[str]]]:
    """The cells of each table, by the heading above it; the header row left out."""
    tables: dict[str, list[list[str]]] = {}
    heading = ""
    for line in CONTRACT.read_text().splitlines():
        if line.startswith("## "):
            heading = line[3:]
        elif line.startswith("|") and not line.startswith("|---"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            tables.setdefault(heading, []).append(cells)
    return {heading: rows[1:] for heading, rows in tables.items()}


def columns_of(text: str, shapes: dict[str, str]) -> tuple[tuple[str, str], ...]:
    parts: list[tuple[str, str]] = []
    for part in (piece.strip() for piece in text.split(",")):
        if part in shapes:
            parts += columns_of(shapes[part], {})
        else:
            name, kind = part.split(" ", 1)
            parts.append((name, kind))
    return tuple(parts)


def argument_of(text: str) -> tuple[str, str, str | None]:
    declared, _, default = text.strip().partition(" = ")
    name, kind = declared.split(" ", 1)
    return name, kind, default or None


#: The sections that hold tables of functions.
FUNCTIONS = {
    *("Identity", "Accounts", "Credits", "Holds", "Price and use", "Catalog"),
    *("Subscriptions", "Entitlements", "Jobs", "Rewards", "Installation"),
}


def functions() -> list[Function]:
    tables = sections()
    shapes = {row[0]: row[1] for row in tables["Result shapes"]}
    found = []
    for heading, rows in tables.items():
        if heading not in FUNCTIONS:
            continue
        for name, arguments, result, _, callers in rows:
            is_table = "," in result or " " in result or result in shapes
            found.append(
                Function(
                    name,
                    tuple(argument_of(part) for part in re.split(r",\s*", arguments) if part),
                    columns_of(result, shapes) if is_table else (),
                    None if is_table else result,
                    frozenset(callers.split()) - {"owner"},
                )
            )
    return found


def readable() -> dict[str, frozenset[str]]:
    """Relations of the read API and the roles that may select from them."""
    return {row[0]: frozenset(row[2].split()) for row in sections()["What can be read"]}


def error_codes() -> dict[str, frozenset[str]]:
    """Each error code and the functions that may answer with it ('all' for the first phrase)."""
    return {
        row[0]: frozenset(row[1].split())
        for row in sections()["Error codes"]
        if re.fullmatch(r"[A-Z_]+", row[0])
    }


def settings() -> dict[str, list[str]]:
    """The values each setting takes, words or kinds of value."""
    return {
        row[0]: [value for value in row[1].split(", ") if not value.startswith("0 to")]
        for row in sections()["Settings"]
    }


def words() -> dict[str, list[str]]:
    """The values of columns that hold one of a few words."""
    return {row[0]: row[1].split(", ") for row in sections()["Words in columns"]}
