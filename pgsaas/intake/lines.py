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
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import IO, Any

from pgsaas.errors import InvalidValue

LONGEST = 1_000_000
#: How many lines a quoted cell may go on for.
CONTINUED = 100
FORMATS = ("csv", "jsonl")
#: What the csv module says of a line that ends within a quoted cell.
OPEN = "unexpected end of data"


@dataclass(frozen=True, slots=True)
class Line:
    """One record: its number in the file, and its values by name or what is wrong with it."""

    number: int
    values: Mapping[str, Any]
    wrong: str | None = None
    has_columns: bool = False  # of a table, where each line has all of them


def format_of(path: Path) -> str:
    """The format that the name of a file tells. Raises InvalidValue when it tells none."""
    suffixes = [suffix for suffix in path.suffixes if suffix != ".gz"]
    found = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}.get(
        suffixes[-1].lower() if suffixes else ""
    )
    if found is None:
        raise InvalidValue(f"{path}: its name ends in no .csv or .jsonl: say --format")
    return found


@dataclass(frozen=True, slots=True)
class Content:
    """What is in a file: 16 digits that tell it from others, and how many lines it has."""

    digest: str
    lines: int


def look_through(path: Path) -> Content:
    """Read a file once from end to end, unpacked; nothing that is cut off gets any further.

    Raises InvalidValue when it cannot be read as a whole.
    """
    sha256, lines = hashlib.sha256(), 0
    with _opened(path) as file:
        while chunk := file.read(1 << 20):
            sha256.update(chunk)
            lines += chunk.count(b"\n")
    return Content(sha256.hexdigest()[:16], lines)


def read_lines(path: Path, form: str) -> Iterator[Line]:
    """The records of a file. Raises InvalidValue when the file as a whole cannot be read."""
    with _opened(path) as file:
        texts = _texts(file)
        yield from _csv(texts, path) if form == "csv" else _jsonl(texts)


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    if path.exists() and not path.is_file():
        raise InvalidValue(f"{path} cannot be read twice: save it as a file first")
    try:
        with path.open("rb") as raw:
            if raw.peek(2)[:2] == b"\x1f\x8b":
                with gzip.GzipFile(fileobj=raw) as file:
                    yield file  # type: ignore[misc]
            else:
                yield raw
    except EOFError:
        raise InvalidValue(f"{path}: the gzip file is cut off") from None
    except (zlib.error, gzip.BadGzipFile) as error:
        raise InvalidValue(f"{path}: {error}") from error
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
                found = json.loads(
                    each.text,
                    parse_float=Decimal,
                    parse_constant=_no_number,
                    object_pairs_hook=_once_each,
                )
            except (ValueError, ArithmeticError, RecursionError) as error:
                yield Line(each.number, {}, f"no JSON: {error or type(error).__name__}")
                continue
            if isinstance(found, dict):
                yield Line(each.number, found)
            else:
                yield Line(each.number, {}, "no JSON object")


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number in JSON")


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice in one object")
    return found


def _csv(texts: Iterator[_Text], path: Path) -> Iterator[Line]:
    heading: list[str] = []
    for each in texts:
        cells, wrong = _cells(each.text) if not each.wrong else ([], each.wrong)
        last = each
        has_end = True
        if wrong == OPEN:
            cells, wrong, last = _continued(each, texts)
            has_end = wrong != OPEN
            wrong = wrong if has_end else "a quoted cell has no end: nothing after it can be read"
        if not wrong and cells and not last.text.endswith(("\n", "\r")):
            wrong = "the file ends within this line: it may be cut off, or lacks its line end"
        if not heading and (wrong or cells):
            heading = [cell.strip() for cell in cells]
            if wrong or len(set(heading)) < len(heading) or not all(heading):
                said = wrong or f"columns need names that differ: {heading}"
                raise InvalidValue(f"{path}, line {each.number}: {said}")
        elif wrong:
            yield Line(each.number, {}, wrong)
            if not has_end:
                return
        elif cells and len(cells) != len(heading):
            said = f"{len(heading)} columns are needed, this line has {len(cells)}"
            if last is not each:
                said += f" (a quoted cell goes on to line {last.number})"
            yield Line(each.number, {}, said)
        elif cells:
            yield Line(each.number, dict(zip(heading, cells, strict=True)), has_columns=True)


def _continued(first: _Text, texts: Iterator[_Text]) -> tuple[list[str], str | None, _Text]:
    """The row of a quoted cell that goes on in the next lines, and its last line.

    It is still OPEN where the cell has no end. What stands within a cell is never a line.
    """
    parts, length = [first.text], len(first.text)
    for more in itertools.islice(texts, CONTINUED):
        length += len(more.text)
        if more.wrong or length > LONGEST:
            break
        parts.append(more.text)
        if '"' in more.text:
            cells, wrong = _cells("".join(parts))
            if wrong != OPEN:
                return cells, wrong, more
    return [], OPEN, first


def _cells(text: str) -> tuple[list[str], str | None]:
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        return [], str(error)
    if len(rows) > 1:
        return [], "a carriage return stands within the line: lines end in LF or CRLF"
    return (rows[0] if rows else []), None
