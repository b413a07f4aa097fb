"""How values look."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from pgsaas.cli.table import columns_of, plain
from pgsaas.exact import as_json


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Decimal("120.500000"), "120.5"),
        (Decimal("100"), "100"),
        (Decimal("1E+3"), "1000"),
        (Decimal("-0.000001"), "-0.000001"),
        (Decimal("0.000000"), "0"),
        (Decimal("123456789012345678901234567890.123456"), "123456789012345678901234567890.123456"),
        (None, ""),
        (True, "yes"),
        ({"bonus": Decimal("1.50"), "purchase": 2}, "bonus 1.5, purchase 2"),
        (datetime(2026, 1, 31, 9, tzinfo=timezone(timedelta(hours=2))), "2026-01-31 07:00:00Z"),
        ("a\tb\x1b[0m\u202e", "a\\tb\\x1b[0m\\u202e"),
        ("Zoë", "Zoë"),
    ],
)
def test_a_value_is_one_plain_line(value: object, text: str) -> None:
    assert plain(value) == text


def test_json_keeps_every_digit() -> None:
    value = {
        "amount": Decimal("999999999999.123456"),
        "at": datetime(2026, 1, 31, 9, tzinfo=UTC),
        "rows": [{"a": None, "b": True, "c": 'x"y', "d": Decimal("NaN")}, ()],
    }
    assert as_json(value) == (
        '{"amount": 999999999999.123456, "at": "2026-01-31T09:00:00+00:00", '
        '"rows": [{"a": null, "b": true, "c": "x\\"y", "d": "NaN"}, []]}'
    )


def test_columns_are_aligned_and_figures_stand_right() -> None:
    rows: list[dict[str, Any]] = [
        {"seq": 10, "amount": Decimal("-1.50"), "text_": "a"},
        {"seq": 9, "amount": None, "text_": "long"},
    ]
    assert columns_of(rows, ["seq", "amount", "text_"]) == [
        "seq  amount  text",
        " 10    -1.5  a",
        "  9          long",
    ]
