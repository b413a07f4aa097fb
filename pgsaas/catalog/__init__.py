"""Catalogs: what a business sells, as a TOML file. Some come with pgsaas, to start from."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import Any

from pgsaas.errors import InvalidValue

#: Catalogs by name.
PRESETS = ("platform", "agents", "queries", "organizations")
#: The tables of a catalog, in the order in which they are brought in.
SECTIONS = ("plans", "packs", "events", "agents", "rewards")
Terms = dict[str, Any]
_HEADER = re.compile(r"\s*\[\[\s*(\w+)\s*\]\]")


@dataclass(frozen=True, slots=True)
class Entry:
    """What is sold: its terms as they are written, and the line where they begin."""

    section: str
    name: str
    terms: Terms
    line: int


@dataclass(frozen=True, slots=True)
class Catalog:
    """What a file says; figures are Decimal, never float."""

    source: str
    entries: list[Entry] = field(default_factory=list)

    def of(self, section: str) -> list[Entry]:
        """The entries of a section."""
        return [entry for entry in self.entries if entry.section == section]


def read_catalog(text: str, source: str) -> Catalog:
    """Read a catalog. Raises InvalidValue that names the line."""
    try:
        found = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        raise InvalidValue(f"{source}: {error}") from error
    lines = _lines(text)
    catalog = Catalog(source)
    for section, entries in found.items():
        if section not in SECTIONS or not isinstance(entries, list):
            known = ", ".join(f"[[{name}]]" for name in SECTIONS)
            raise InvalidValue(f'{source}: there is no "{section}": a catalog has {known}')
        for number, terms in enumerate(entries):
            line = lines.get((section, number), 1)
            catalog.entries.append(_entry(section, terms, line, source))
    _check_names(catalog)
    return catalog


def _entry(section: str, terms: Any, line: int, source: str) -> Entry:
    if not isinstance(terms, Mapping) or not isinstance(terms.get("id"), str):
        raise InvalidValue(f'{source}, line {line}: an entry of {section} needs an "id"')
    rest = {name: value for name, value in terms.items() if name != "id"}
    return Entry(section, terms["id"], rest, line)


def _check_names(catalog: Catalog) -> None:
    seen: dict[tuple[str, str], int] = {}
    for entry in catalog.entries:
        first = seen.setdefault((entry.section, entry.name), entry.line)
        if first != entry.line:
            raise InvalidValue(
                f"{catalog.source}, line {entry.line}: {entry.name!r} is there already, in line "
                f"{first}"
            )


def _lines(text: str) -> dict[tuple[str, int], int]:
    """The line of each [[section]], by section and number."""
    counts: dict[str, int] = {}
    found = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(line):
            section = header[1]
            found[section, counts.get(section, 0)] = number
            counts[section] = counts.get(section, 0) + 1
    return found


def read_file(path: Path) -> Catalog:
    """Read the catalog in a file. Raises InvalidValue."""
    try:
        return read_catalog(path.read_text(encoding="utf-8-sig"), str(path))
    except OSError as error:
        raise InvalidValue(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidValue(f"{path}: this is no text in UTF-8") from error


def preset(name: str) -> Catalog:
    """The catalog of a preset. Raises ValueError for an unknown one."""
    if name not in PRESETS:
        raise ValueError(f"no preset {name!r}: there are {', '.join(PRESETS)}")
    text = files(__package__).joinpath(f"{name}.toml").read_text(encoding="utf-8")
    return read_catalog(text, f"{name}.toml")
