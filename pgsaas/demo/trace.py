"""A file of real requests to a language model.

The format is that of the Azure Public Dataset's LLM inference traces (CC-BY 4.0): columns
TIMESTAMP, ContextTokens, GeneratedTokens; described in Patel et al., "Splitwise: Efficient
generative LLM inference using phase splitting", ISCA 2024.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path

from pgsaas.errors import InvalidValue

HEADER = ["TIMESTAMP", "ContextTokens", "GeneratedTokens"]
_COUNT = re.compile(r"[0-9]{1,9}\Z")


@dataclass(frozen=True, slots=True)
class Request:
    """One line of the file: its number there, and the tokens of its two kinds."""

    line: int
    prompt: int
    completion: int


@dataclass(frozen=True, slots=True)
class Trace:
    """The requests of a file, and 16 digits that tell it from others."""

    digest: str
    requests: list[Request]


def read_trace(path: Path, limit: int | None = None) -> Trace:
    """The first `limit` requests of a file. Raises InvalidValue that names the line."""
    try:
        content = path.read_bytes()
        lines = content.decode("utf-8-sig").splitlines()
    except OSError as error:
        raise InvalidValue(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        wrong = content[: error.start].count(b"\n") + 1
        raise InvalidValue(f"{path}, line {wrong}: this is no text in UTF-8") from error
    if not lines or lines[0].split(",") != HEADER:
        raise InvalidValue(f"{path}, line 1: the columns must be {','.join(HEADER)}")
    requests: list[Request] = []
    for number, line in enumerate(lines[1:], start=2):
        if limit is not None and len(requests) == limit:
            break
        requests.append(Request(number, *_tokens(line, f"{path}, line {number}")))
    if not requests:
        raise InvalidValue(f"{path} has no requests")
    return Trace(hashlib.sha256(content).hexdigest()[:16], requests)


def _tokens(line: str, where: str) -> tuple[int, int]:
    cells = line.split(",")
    if len(cells) != len(HEADER):
        raise InvalidValue(f"{where}: {len(HEADER)} columns are needed, this line has {len(cells)}")
    try:
        datetime.fromisoformat(cells[0])
    except ValueError:
        raise InvalidValue(f"{where}: {cells[0]!r} is no time") from None
    for name, cell in zip(HEADER[1:], cells[1:], strict=True):
        if not _COUNT.match(cell):
            raise InvalidValue(f"{where}: {name} is no number of tokens: {cell!r}")
    return int(cells[1]), int(cells[2])


def expected_charges(path: Path, accounts: int, limit: int | None = None) -> list[Decimal]:
    """What each account must have been charged, worked out from the file alone.

    This is the check of the replay, so it shares nothing with read_trace() or the price list:
    1 credit per 1,000 prompt tokens and 2 per 1,000 completion tokens, in whole thousandths of a
    credit, one pass over the bytes.
    """
    thousandths = [0] * accounts
    for number, line in enumerate(path.read_bytes().splitlines()[1:]):
        if number == limit:
            break
        _, prompt, completion = line.split(b",")
        thousandths[number % accounts] += int(prompt) + 2 * int(completion)
    return [Decimal(sum_) / 1000 for sum_ in thousandths]
