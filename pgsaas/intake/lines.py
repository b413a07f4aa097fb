"""Files of records, line by line: CSV with a heading or JSON lines, plain or gzipped.

A line that cannot be read is an item of its own with what is wrong, so that whoever reads decides
whether to skip it. Nothing is ever whole in memory; a line has at most LONGEST bytes.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import itertools
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import IO, Any

from pgsaas.errors import InvalidValue

LONGEST = 1_000_000
#: How many lines a quoted cell may go on for.
CONTINUED = 100
FORMATS = ("csv", "jsonl")


@dataclass(frozen=True, slots=True)
class Line:
    """One record: its number in the file, and its values by name or what is wrong with it."""

    number: int
    values: Mapping[str, Any]
    wrong: str | None = None


def format_of(path: Path) -> str:
    """The format that the name of a file tells. Raises InvalidValue when it tells none."""
    suffixes = [suffix for suffix in path.suffixes if suffix != ".gz"]
    found = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}.get(
        suffixes[-1].lower() if suffixes else ""
    )
    if found is None:
        raise InvalidValue(f"{path}: its name ends in no .csv or .jsonl: say --format")
    return found


def digest(path: Path) -> str:
    """16 digits that tell the content of a file from others."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except OSError as error:
        raise InvalidValue(f"{path} cannot be read: {error.strerror}") from error


def read_lines(path: Path, form: str) -> Iterator[Line]:
    """The records of a file. Raises InvalidValue when the file as a whole cannot be read."""
    number = 0
    try:
        with path.open("rb") as raw:
            file: IO[bytes] = raw
            if raw.peek(2)[:2] == b"\x1f\x8b":
                file = gzip.GzipFile(fileobj=raw)  # type: ignore[assignment]
            texts = _texts(file)
            for line in _csv(texts, path) if form == "csv" else _jsonl(texts):
                number = line.number
                yield line
    except EOFError:
        raise InvalidValue(f"{path}, after line {number}: the gzip file is cut off") from None
    except (zlib.error, gzip.BadGzipFile) as error:
        raise InvalidValue(f"{path}, after line {number}: {error}") from error
    except OSError as error:
        raise InvalidValue(f"{path} cannot be read: {error.strerror or error}") from error


@dataclass(frozen=True, slots=True)
class _Text:
    number: int
    text: str
    wrong: str | None = None


def _texts(file: IO[bytes]) -> Iterator[_Text]:
    number = 0
    while chunk := file.readline(LONGEST + 1):
        number += 1
        if len(chunk) > LONGEST:
            while chunk and not chunk.endswith(b"\n"):
                chunk = file.readline(LONGEST)
            yield _Text(number, "", f"longer than {LONGEST:,} bytes")
            continue
        if number == 1:
            chunk = chunk.removeprefix(b"\xef\xbb\xbf")
        try:
            yield _Text(number, chunk.decode("utf-8"))
        except UnicodeDecodeError as error:
            yield _Text(number, "", f"no text in UTF-8 (byte {error.start + 1})")


def _jsonl(texts: Iterator[_Text]) -> Iterator[Line]:
    for each in texts:
        if each.wrong:
            yield Line(each.number, {}, each.wrong)
        elif each.text.strip():
            try:
                found = json.loads(each.text, parse_float=Decimal)
            except (ValueError, RecursionError) as error:
                yield Line(each.number, {}, f"no JSON: {error}")
                continue
            if isinstance(found, dict):
                yield Line(each.number, found)
            else:
                yield Line(each.number, {}, "no JSON object")


def _csv(texts: Iterator[_Text], path: Path) -> Iterator[Line]:
    heading: list[str] | None = None
    waiting: list[_Text] = []
    while each := waiting.pop(0) if waiting else next(texts, None):
        if each.wrong:
            yield Line(each.number, {}, each.wrong)
            continue
        text = each.text
        cells, wrong = _cells(text)
        if wrong and text.count('"') % 2:  # a quoted cell goes on in the next lines, perhaps
            further = [*waiting, *itertools.islice(texts, max(0, CONTINUED - len(waiting)))]
            waiting, used = further, 0
            while wrong and used < len(further) and not further[used].wrong:
                text += further[used].text
                used += 1
                cells, wrong = _cells(text)
            waiting = further if wrong else further[used:]
        if wrong:
            yield Line(each.number, {}, wrong)
        elif heading is None:
            heading = [cell.strip() for cell in cells]
            if len(set(heading)) < len(heading) or not all(heading):
                raise InvalidValue(f"{path}, line 1: columns need names that differ: {heading}")
        elif cells and len(cells) != len(heading):
            said = f"{len(heading)} columns are needed, this line has {len(cells)}"
            yield Line(each.number, {}, said)
        elif cells:
            yield Line(each.number, dict(zip(heading, cells, strict=True)))


def _cells(text: str) -> tuple[list[str], str | None]:
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        return [], str(error)
    return (rows[0] if rows else []), None
