"""The model against the hand-written ledger of docs/golden-ledger.md: who checks the checker."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

from tests.properties.account import Row
from tests.properties.model import Ledger, World

PAGE = Path(__file__).parents[2] / "docs" / "golden-ledger.md"
STEP = re.compile(
    r"^\| \d+ \| (?P<at>[\d: -]+) \| `(?P<call>.*)` \| (?P<answer>.*)\| (?P<rows>.*)\|$"
)
CALL = re.compile(r"pgsaas\.(\w+)\(:a, (.*)\)")
ROW = re.compile(r"(\d+) (\w+) (-?[\d.]+) (-?[\d.]+) (=|[\d-]+ [\d:]+)")
FREE_TEXT = {
    "add_credits": ("amount", "", "source", "expires_at"),
    "refund_credits": ("seq", "amount", ""),
    "revoke_grant": ("grant_id", "amount", ""),
}


def time(text: str) -> datetime:
    return datetime.fromisoformat(text.strip().removesuffix("Z")).replace(tzinfo=UTC)


def literal(text: str) -> Any:
    if not text.startswith("'"):
        return None if text == "null" else Decimal(text)
    text = text.strip("'")
    if minutes := re.match(r"(\d+) minutes", text):
        return timedelta(minutes=int(minutes[1]))
    return time(text) if re.match(r"\d{4}-", text) else text


def asked(name: str, arguments: str) -> dict[str, Any]:
    """The arguments of a call in SQL, by name and without free text."""
    names = FREE_TEXT.get(name) or tuple(inspect.signature(getattr(Ledger, name)).parameters)[2:]
    values: dict[str, Any] = {}
    for place, argument in enumerate(re.split(r", (?=(?:[^']*'[^']*')*[^']*$)", arguments)):
        named, arrow, value = argument.rpartition(" => ")
        values[named.removeprefix("p_") if arrow else names[place]] = literal(value)
    values.pop("", None)
    return {
        name: int(v) if name in ("seq", "hold_id", "grant_id") else v for name, v in values.items()
    }


def rows(text: str, now: datetime) -> Iterator[tuple[int, str, Decimal, Decimal, datetime]]:
    for seq, kind, amount, after, at in ROW.findall(text):
        yield int(seq), kind, Decimal(amount), Decimal(after), now if at == "=" else time(at)


def shown(row: Row) -> tuple[int, str, Decimal, Decimal, datetime]:
    return row.seq, row.kind, row.amount, row.balance_after, row.at


def test_the_model_writes_the_golden_ledger() -> None:
    account_id, steps = (
        UUID(int=1),
        [m for m in map(STEP.match, PAGE.read_text().splitlines()) if m],
    )
    assert len(steps) == 18
    world = World()
    account = world.accounts[account_id] = Ledger(time(steps[0]["at"]))
    for step in steps:
        now, call, before = time(step["at"]), CALL.fullmatch(step["call"]), len(account.rows)
        assert call
        answer = world.call(now, call[1], account_id, **asked(call[1], call[2]))
        if step["answer"].strip():
            columns = [answer[name] for name in ("new_balance", "available", "seq")]
            stated = [Decimal(part) if part.strip() else None for part in step["answer"].split("/")]
            assert columns == stated, step[0]
        assert [shown(row) for row in account.rows[before:]] == list(rows(step["rows"], now)), step[
            0
        ]
    assert account.lifetime_earned == 9000
    assert account.lifetime_spent == Decimal("5911.5")
