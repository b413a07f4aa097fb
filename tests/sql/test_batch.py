from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from tests.sql.ledger import NOBODY, Ledger, Row, code, decimals
from tests.sql.test_bad_texts import of_size


def charge(ledger: Ledger, account: UUID, amounts: list[Any], **named: object) -> list[Row]:
    return ledger.call_all(
        "deduct_credits_batch", [account] * len(amounts), decimals(amounts), **named
    )


def seen(answers: list[Row]) -> list[tuple[str | None, Any]]:
    assert [a["item"] for a in answers] == list(range(1, len(answers) + 1))
    return [(code(a), a["seq"]) for a in answers]


def test_an_empty_batch_has_no_answers(ledger: Ledger) -> None:
    before = ledger.state()
    assert ledger.call_all("deduct_credits_batch", [], []) == []
    assert ledger.state() == before


def test_one_item_is_answered_as_one_call_would_be(ledger: Ledger) -> None:
    one, two = ledger.account(10), ledger.account(10)
    [answer] = charge(ledger, one, [3])
    assert answer.pop("item") == 1
    assert answer == ledger.done("deduct_credits", two, 3)


@pytest.mark.parametrize("slow", [False, True])
def test_a_batch_may_have_10000_items_and_no_more(ledger: Ledger, slow: bool) -> None:
    account = ledger.account(10_001)
    if slow:
        ledger.done("add_credits", account, 1, p_expires_at="2026-04-01Z")
    with ledger.raises("22023"):
        charge(ledger, account, [1] * 10_001)
    answers = charge(ledger, account, [1] * 10_000)
    assert all(answer["success"] for answer in answers)
    assert [answer["seq"] for answer in answers] == [n + slow for n in range(2, 10_002)]
    assert ledger.violations() == []


def test_10000_items_with_every_kind_of_mistake_are_each_answered(ledger: Ledger) -> None:
    good, poor, frozen = ledger.account(10_000), ledger.account(3), ledger.account(10)
    ledger.done("deduct_credits", good, 1, p_idempotency_key="used")
    ledger.done("deduct_credits", good, 2, p_idempotency_key="again")
    ledger.call("freeze_account", frozen, "test")
    kinds: list[tuple[UUID, str, str | None, str | None]] = [
        (good, "1", None, None),
        (good, "0", None, "INVALID_ARGUMENT"),
        (poor, "1", None, None),  # three of them, then it is poor
        (NOBODY, "1", None, "ACCOUNT_NOT_FOUND"),
        (good, "2", "used", "KEY_CONFLICT"),
        (frozen, "1", None, "ACCOUNT_FROZEN"),
        (good, "0.0000001", None, "INVALID_ARGUMENT"),
        (good, "2", "again", None),
    ]
    items = [kinds[n % len(kinds)] for n in range(10_000)]
    answers = ledger.call_all(
        "deduct_credits_batch",
        [account for account, _, _, _ in items],
        [Decimal(amount) for _, amount, _, _ in items],
        p_idempotency_keys=[key for _, _, key, _ in items],
    )
    assert [a["item"] for a in answers] == list(range(1, 10_001))
    wanted = [code for _, _, _, code in items]
    paid = 0
    for n, (account, *_) in enumerate(items):
        if account == poor:
            wanted[n] = None if paid < 3 else "INSUFFICIENT_CREDITS"
            paid += 1
    assert [code(a) for a in answers] == wanted
    assert sum(a["replayed"] for a in answers) == 1250
    assert ledger.scalar("select balance from pgsaas.get_balance(%s)", good) == 10_000 - 3 - 1250
    assert ledger.scalar("select balance from pgsaas.get_balance(%s)", poor) == 0
    assert ledger.scalar("select balance from pgsaas.get_balance(%s)", frozen) == 10
    seqs = [a["seq"] for a in answers if a["success"] and not a["replayed"] and a["seq"]]
    assert len(seqs) == 1250 + 3
    assert ledger.violations() == []


@pytest.mark.parametrize(
    "unequal",
    [
        {"p_amounts": decimals([1])},
        {"p_amounts": decimals([1, 1, 1])},
        {"p_amounts": None},
        {"p_account_ids": None},
        {"p_job_ids": [NOBODY]},
        {"p_agent_ids": ["a"]},
        {"p_descriptions": ["a", "b", "c"]},
        {"p_idempotency_keys": []},
        {"p_metadata": ["{}"]},
    ],
    ids=lambda unequal: "-".join(f"{k}{len(v or [])}" for k, v in unequal.items()),
)
def test_unequal_arrays_raise(ledger: Ledger, unequal: dict[str, Any]) -> None:
    account = ledger.account(10)
    arguments = {"p_account_ids": [account, account], "p_amounts": decimals([1, 1])} | unequal
    if "p_metadata" in arguments:
        with ledger.raises("22023"):
            ledger.query(
                "select * from pgsaas.deduct_credits_batch(%s, %s, p_metadata => %s::jsonb[])",
                *arguments.values(),
            )
        return
    with ledger.raises("22023"):
        ledger.call_all("deduct_credits_batch", **arguments)


@pytest.mark.parametrize(
    "wrong", ["NaN", "Infinity", "-Infinity", "0", "-1", "0.0000001", "1000000000001", "1e30", None]
)
def test_a_wrong_amount_is_that_items_and_the_others_are_charged(
    ledger: Ledger, wrong: str | None
) -> None:
    account = ledger.account(10)
    answers = ledger.query(
        "select * from pgsaas.deduct_credits_batch(%s, array[1, %s::numeric, 2])",
        [account] * 3,
        wrong,
    )
    assert seen(answers) == [(None, 2), ("INVALID_ARGUMENT", None), (None, 3)]
    assert ledger.moves(account, 1) == [("deduction", -1), ("deduction", -2)]
    assert ledger.violations() == []


def test_each_wrong_text_is_that_items_own_error(ledger: Ledger) -> None:
    account = ledger.account(10)
    keys = [None, "", "k" * 256, "é" * 128, "k" * 255, None, None, None, None, None]
    texts = [None] * 5 + ["x" * 4097, "x" * 4096, None, None, None]
    agents = [None] * 7 + ["a" * 256, "a" * 255, None]
    answers = charge(
        ledger, account, [1] * 10, p_idempotency_keys=keys, p_descriptions=texts, p_agent_ids=agents
    )
    wrong = {2, 3, 4, 6, 8}
    codes = ["INVALID_ARGUMENT" if n in wrong else None for n in range(1, 11)]
    assert [code(answer) for answer in answers] == codes
    assert ledger.available(account) == 5


def test_wrong_metadata_is_that_items_own_error(ledger: Ledger) -> None:
    account = ledger.account(10)
    ledger.conn.execute("create temp table m (n int, metadata jsonb)")
    fits, too_much = str(of_size(16384)).replace("'", '"'), str(of_size(16385)).replace("'", '"')
    for n, text in enumerate(["{}", "[]", None, "null", "1", too_much, fits]):
        ledger.conn.execute("insert into m values (%s, %s::jsonb)", [n, text])
    ledger.conn.execute("alter table m alter metadata set storage plain")
    answers = ledger.query(
        "select b.* from (select array_agg(metadata order by n) as them from m) m,"
        " pgsaas.deduct_credits_batch(%s, array_fill(1::numeric, array[7]),"
        " p_metadata => m.them) b",
        [account] * 7,
    )
    bad = "INVALID_ARGUMENT"
    assert [code(answer) for answer in answers] == [None, bad, None, bad, bad, bad, None]


def test_unknown_accounts_are_their_items_errors(ledger: Ledger) -> None:
    account = ledger.account(10)
    answers = ledger.call_all(
        "deduct_credits_batch", [account, NOBODY, None, account], decimals([1, 1, 1, 2])
    )
    missing = ("ACCOUNT_NOT_FOUND", None)
    assert seen(answers) == [(None, 2), missing, missing, (None, 3)]


def test_a_key_used_twice_in_one_batch_charges_once(ledger: Ledger) -> None:
    account = ledger.account(10)
    answers = charge(ledger, account, [1, 1, 2, 3], p_idempotency_keys=["k", "k", "k", "other"])
    assert seen(answers) == [(None, 2), (None, 2), ("KEY_CONFLICT", None), (None, 3)]
    assert [answer["replayed"] for answer in answers] == [False, True, False, False]
    assert answers[1]["new_balance"] == answers[0]["new_balance"] == 9
    assert ledger.moves(account, 1) == [("deduction", -1), ("deduction", -3)]


def test_keys_of_earlier_calls_are_replayed_or_conflict(ledger: Ledger) -> None:
    account = ledger.account(10)
    ledger.done("deduct_credits", account, 1, p_idempotency_key="one")
    ledger.done("deduct_credits", account, 2, p_idempotency_key="two")
    answers = charge(ledger, account, [1, 1, 1], p_idempotency_keys=["one", "two", "three"])
    assert seen(answers) == [(None, 2), ("KEY_CONFLICT", None), (None, 4)]
    again = charge(ledger, account, [1, 1, 1], p_idempotency_keys=["one", "two", "three"])
    assert [answer["replayed"] for answer in again] == [True, False, True]
    single = ledger.call("deduct_credits", account, 1, p_idempotency_key="three")
    assert (single["replayed"], single["seq"]) == (True, 4)


def test_a_refused_item_in_the_middle_lets_later_items_of_its_account_through(
    ledger: Ledger,
) -> None:
    one, two = ledger.account(10), ledger.account(5)
    answers = ledger.call_all(
        "deduct_credits_batch",
        [one, two, one, one, two, one],
        decimals([4, 5, 7, 6, 1, 1]),
        p_idempotency_keys=["a", "a", "b", "c", "d", "e"],
    )
    refused = ("INSUFFICIENT_CREDITS", None)
    assert seen(answers) == [(None, 2), (None, 2), refused, (None, 3), refused, refused]
    assert [a["available"] for a in answers] == decimals([6, 0, 6, 0, 0, 0])
    assert ledger.available(one) == ledger.available(two) == 0
    ledger.done("add_credits", one, 7)
    assert ledger.done("deduct_credits", one, 7, p_idempotency_key="b")["replayed"] is False
    assert ledger.violations() == []


def test_frozen_accounts_refuse_their_items_only(ledger: Ledger) -> None:
    one, two = ledger.account(10), ledger.account(10)
    ledger.call("freeze_account", one, "a reason")
    answers = ledger.call_all("deduct_credits_batch", [one, two, one], decimals([1, 1, 1]))
    assert seen(answers) == [("ACCOUNT_FROZEN", None), (None, 2), ("ACCOUNT_FROZEN", None)]


def test_every_item_keeps_its_own_job_agent_text_and_metadata(ledger: Ledger) -> None:
    account = ledger.account(10)
    answers = ledger.query(
        "select * from pgsaas.deduct_credits_batch(%s, array[1, 2], array[%s::uuid, null],"
        " array['a', null], array[null, 'why'], array['k', null],"
        """ array['{"n": 1}', '{}']::jsonb[])""",
        [account, account],
        NOBODY,
    )
    assert all(answer["success"] for answer in answers)
    two, one, _ = ledger.call_all("list_transactions", account)
    kept = ("job_id", "agent_id", "description", "idempotency_key", "metadata")
    assert [one[name] for name in kept] == [NOBODY, "a", None, "k", {"n": 1}]
    assert [two[name] for name in kept] == [None, None, "why", None, {}]


def test_zeros_behind_the_sixth_decimal_are_no_decimals(ledger: Ledger) -> None:
    account = ledger.account(10)
    answers = charge(ledger, account, ["1.0000000", "20", "0.5000000000"])
    assert seen(answers) == [(None, 2), ("INSUFFICIENT_CREDITS", None), (None, 3)]
    ledger.conn.execute("select pgsaas.change_allowance(%s, 5.00000000)", [ledger.on_plan(1)])
    assert ledger.violations() == []
