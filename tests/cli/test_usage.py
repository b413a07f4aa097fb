"""pgsaas events and pgsaas usage: prices, and what they make of use."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.cli.conftest import Shell
from tests.conftest import Conn


@pytest.fixture
def priced(shell: Shell, ada: str) -> Shell:
    shell.ok("catalog", "apply", "platform")
    return shell


@pytest.mark.parametrize(
    ("preset", "event", "asked", "cost"),
    [
        ("platform", "llm_tokens", ["1000", "-d", "kind=prompt"], 1),
        ("platform", "llm_tokens", ["1000", "-d", "kind=completion"], 2),
        ("platform", "storage", [], 0.1),
        ("platform", "deployment", [], 10),
        ("queries", "query", [], 5),
        ("queries", "query_tool", ["1", "-d", "tool=documentation"], 5),
        ("queries", "query_tool", ["1", "-d", "tool=github"], 10),
        ("queries", "query_tool", ["1", "-d", "tool=shell"], 3),
        ("organizations", "api_call_basic", [], 1),
        ("organizations", "api_call_premium", [], 5),
        ("organizations", "storage_gb_month", [], 10),
        ("organizations", "ai_inference", [], 25),
    ],
)
def test_a_preset_has_its_figures(
    shell: Shell, preset: str, event: str, asked: list[str], cost: float
) -> None:
    shell.ok("catalog", "apply", preset)
    assert shell.json("events", "cost", event, *asked)["cost"] == pytest.approx(cost)


def test_prices_are_listed_one_a_line(priced: Shell) -> None:
    lines = [line.split() for line in priced.ok("events", "list").splitlines()]
    assert lines[0] == ["event", "name", "price", "for", "unit", "state"]
    assert ["llm_tokens", "2", "per", "1000", "kind", "completion", "token"] in lines
    assert ["storage", "0.1", "each", "GB-month"] in lines
    assert priced.ok("events", "set", "storage", "--inactive").endswith(", inactive\n")
    assert "inactive" in priced.ok("events", "list")
    assert priced("events", "cost", "storage").err == (
        'pgsaas: credit event "storage" is not active (EVENT_INACTIVE)\n'
    )


def test_a_new_price_is_a_version_and_the_old_one_stays(priced: Shell, conn: Conn) -> None:
    conn.execute("select pgsaas.advance_clock('1 day')")
    tiers = '{"model": "volume", "tiers": [{"up_to": 9, "unit": 2}, {"flat": 1}], "minimum": 4}'
    priced.ok("events", "set", "deployment", "--price", tiers, "--reason", "cheaper")
    said = priced.ok("events", "show", "deployment")
    new, old = said.splitlines()[-2:]
    assert new.endswith("volume by call: 2 each to 9, 0 each + 1 above, at least 4")
    assert old.endswith("10 each")
    assert [v["unit_price"] for v in priced.json("events", "show", "deployment")["prices"]] == [
        0,
        10,
    ]
    assert priced("events", "show", "nothing").code == 1


@pytest.mark.parametrize(
    ("price", "said"),
    [
        ("{", 'no price such as {"model": "unit", "unit": 2}'),
        ("3", "no price such as"),
        ("[" * 100_000, "no price such as"),
        ("{}", 'a price needs a "model"'),
        ('{"model": "unit", "unit": -1}', "must be a number from 0"),
    ],
)
def test_what_is_no_price_is_said(shell: Shell, price: str, said: str) -> None:
    refused = shell("events", "set", "call", "--price", price)
    assert refused.code in (1, 2)
    assert said in refused.err


def test_use_is_recorded_once_and_counted(priced: Shell, ada: str) -> None:
    record = ["usage", "record", ada, "llm_tokens", "1500", "-d", "kind=completion", "--key", "a"]
    first = priced.json(*record)
    assert (first["cost"], first["usage_id"], first["replayed"]) == (3, 1, False)
    assert priced.json(*record)["replayed"]
    priced.ok("usage", "record", ada, "api_call", "2.5")
    listed = priced.json("usage", "list", ada)["records"]
    assert [(u["event_name"], u["quantity"], u["cost"]) for u in listed] == [
        ("api_call", 2.5, 1.25),
        ("llm_tokens", 1500, 3),
    ]
    by_event = priced.json("usage", "stats", ada)["usage"]
    assert {u["event_name"]: u["cost"] for u in by_event} == {"api_call": 1.25, "llm_tokens": 3}
    [kinds] = [
        u for u in priced.json("usage", "stats", ada, "--by", "kind")["usage"] if u["dimensions"]
    ]
    assert (kinds["dimensions"], kinds["records"]) == ({"kind": "completion"}, 1)
    wrong = priced("usage", "stats", ada, "--by", "modle")
    assert (wrong.code, "nothing to group by called modle" in wrong.err) == (1, True)


def test_a_refusal_is_one_line_and_exits_1(priced: Shell, ada: str) -> None:
    available = Decimal(str(priced.json("credits", "balance", ada)["available"]))
    many = str(int(available))
    refused = priced("usage", "record", ada, "deployment", many)
    assert (refused.code, refused.out, refused.err.count("\n")) == (1, "", 1)
    assert "INSUFFICIENT_CREDITS" in refused.err
    assert "EVENT_NOT_FOUND" in priced("usage", "record", ada, "nothing").err
    missing = priced("usage", "record", ada, "llm_tokens")
    assert 'there are some for {"kind": "cached"}' in missing.err
