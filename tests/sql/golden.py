"""Reads docs/golden-ledger.md: the steps and the rows that each must append."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

LEDGER = Path(__file__).parents[2] / "docs" / "golden-ledger.md"


@dataclass(frozen=True, slots=True)
class Row:
    seq: int
    kind: str
    amount: Decimal
    balance_after: Decimal
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Step:
    number: int
    at: datetime
    call: str
    answer: tuple[Decimal, Decimal, int | None] | None
    rows: tuple[Row, ...]


def moment(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%d %H:%M").replace(tzinfo=UTC)


def read_steps() -> list[Step]:
    steps = []
    for line in LEDGER.read_text().splitlines():
        if not re.match(r"\| \d+ \|", line):
            continue
        number, at, call, answer, rows = (cell.strip() for cell in line.strip("|").split("|"))
        parts = [part.strip() for part in answer.split("/")]
        steps.append(
            Step(
                int(number),
                moment(at),
                call.strip("`"),
                (Decimal(parts[0]), Decimal(parts[1]), int(parts[2]) if parts[2] else None)
                if answer
                else None,
                tuple(read_row(text.strip(), at) for text in rows.split(",") if text.strip()),
            )
        )
    return steps


def read_row(text: str, at: str) -> Row:
    seq, kind, amount, balance, *when = text.split(" ", 4)
    stamp = at if when == ["="] else when[0]
    return Row(int(seq), kind, Decimal(amount), Decimal(balance), moment(stamp))
