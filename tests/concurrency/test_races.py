"""Clients that want the same thing at the same moment: the right number of them gets it."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

import pytest

from tests.concurrency.clients import (
    ISOLATION_LEVELS,
    Answer,
    Client,
    Race,
    at_once,
    balance,
    call,
    call_all,
    clients,
    is_sound,
    open_account,
    open_members,
)
from tests.conftest import Database

pytestmark = pytest.mark.parametrize("isolation", ISOLATION_LEVELS)


def codes(race: Race[Answer]) -> Counter[str | None]:
    return Counter(answer["error_code"] for answer in race.results)


def races_were_lost_as_they_should(race: Race[Answer], isolation: str) -> bool:
    """Above read committed all but one find the row changed since their snapshot."""
    return race.lost == 0 if isolation == "read committed" else race.lost >= len(race.results) - 1


def test_twenty_clients_share_the_last_seven_credits(db: Database, isolation: str) -> None:
    with clients(db, 20, isolation) as conns:
        account = open_account(conns[0], 7)
        race = at_once(conns, lambda c: call(c, "deduct_credits", account_id=account, amount=1))
        assert codes(race) == {None: 7, "INSUFFICIENT_CREDITS": 13}
        assert races_were_lost_as_they_should(race, isolation)
        assert sorted(a["new_balance"] for a in race.results if a["success"]) == list(range(7))
        assert balance(conns[0], account) == 0
        assert is_sound(conns[0])


def test_twenty_clients_share_seven_credits_in_a_grant_and_an_allowance(
    db: Database, isolation: str
) -> None:
    with clients(db, 20, isolation) as conns:
        account = open_account(conns[0], 3)
        call(conns[0], "start_period", account_id=account, allowance=4, rollover_limit=0)
        race = at_once(conns, lambda c: call(c, "deduct_credits", account_id=account, amount=2))
        assert codes(race) == {None: 3, "INSUFFICIENT_CREDITS": 17}
        assert balance(conns[0], account) == 1
        assert is_sound(conns[0])


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("deduct_credits", {"amount": 2}),
        ("add_credits", {"amount": 2, "source": "purchase"}),
        ("hold_credits", {"amount": 2}),
        ("capture_hold", {"hold_id": 1, "amount": 2}),
        ("refund_credits", {"seq": 2, "amount": 2}),
        ("revoke_grant", {"grant_id": 1, "amount": 2}),
    ],
)
def test_one_key_has_one_effect_and_eight_equal_answers(
    db: Database, isolation: str, name: str, arguments: dict[str, object]
) -> None:
    with clients(db, 8, isolation) as conns:
        account = open_account(conns[0], 100)
        call(conns[0], "deduct_credits", account_id=account, amount=10)
        call(conns[0], "hold_credits", account_id=account, amount=10)
        same = {"account_id": account, "idempotency_key": "once", **arguments}
        race = at_once(conns, lambda c: call(c, name, **same))
        assert codes(race) == {None: 8}
        assert Counter(answer["replayed"] for answer in race.results) == {False: 1, True: 7}
        ignored = ("replayed", "available", "unrecovered")
        assert len({str({**a, **dict.fromkeys(ignored)}) for a in race.results}) == 1
        assert is_sound(conns[0])


def test_a_transfer_with_one_key_happens_once(db: Database, isolation: str) -> None:
    with clients(db, 8, isolation) as conns:
        giver, taker = open_members(conns[0], 2, amount=50)
        same = {"from": giver, "to": taker, "amount": 30, "idempotency_key": "once"}
        race = at_once(conns, lambda c: call(c, "transfer_credits", **same))
        assert Counter(answer["replayed"] for answer in race.results) == {False: 1, True: 7}
        assert [balance(conns[0], account) for account in (giver, taker)] == [20, 80]
        assert is_sound(conns[0])


def test_one_of_many_closes_a_hold(db: Database, isolation: str) -> None:
    def close(conn: Client) -> Answer:
        name = "capture_hold" if conns.index(conn) % 2 else "release_hold"
        return call(conn, name, account_id=account, hold_id=1)

    with clients(db, 8, isolation) as conns:
        account = open_account(conns[0], 10)
        call(conns[0], "hold_credits", account_id=account, amount=4)
        race = at_once(conns, close)
        assert codes(race) == {None: 1, "HOLD_CLOSED": 7}
        (winner,) = [n for n, answer in enumerate(race.results) if answer["success"]]
        assert balance(conns[0], account) == (6 if winner % 2 else 10)
        assert is_sound(conns[0])


def test_holds_never_promise_more_than_there_is(db: Database, isolation: str) -> None:
    with clients(db, 12, isolation) as conns:
        account = open_account(conns[0], 10)
        race = at_once(conns, lambda c: call(c, "hold_credits", account_id=account, amount=3))
        assert codes(race) == {None: 3, "INSUFFICIENT_CREDITS": 9}
        ids = sorted(answer["hold_id"] for answer in race.results if answer["success"])
        assert ids == [1, 2, 3]
        assert is_sound(conns[0])


def test_excess_of_captures_is_taken_once(db: Database, isolation: str) -> None:
    def capture(conn: Client) -> Answer:
        hold = conns.index(conn) + 1
        return call(conn, "capture_hold", account_id=account, hold_id=hold, amount=5)

    with clients(db, 6, isolation) as conns:
        account = open_account(conns[0], 6 * 2 + 7)
        for _ in conns:
            call(conns[0], "hold_credits", account_id=account, amount=2)
        race = at_once(conns, capture)
        assert codes(race) == {None: 2, "INSUFFICIENT_CREDITS": 4}
        assert is_sound(conns[0])


def test_a_charge_is_refunded_once(db: Database, isolation: str) -> None:
    with clients(db, 8, isolation) as conns:
        account = open_account(conns[0], 10)
        seq = call(conns[0], "deduct_credits", account_id=account, amount=10)["seq"]
        race = at_once(conns, lambda c: call(c, "refund_credits", account_id=account, seq=seq))
        assert codes(race) == {None: 1, "REFUND_EXCEEDS": 7}
        assert balance(conns[0], account) == 10
        assert is_sound(conns[0])


def test_partial_refunds_stop_at_what_was_taken(db: Database, isolation: str) -> None:
    with clients(db, 8, isolation) as conns:
        account = open_account(conns[0], 10)
        seq = call(conns[0], "deduct_credits", account_id=account, amount=10)["seq"]
        race = at_once(
            conns, lambda c: call(c, "refund_credits", account_id=account, seq=seq, amount=3)
        )
        assert codes(race) == {None: 3, "REFUND_EXCEEDS": 5}
        assert balance(conns[0], account) == 9
        assert is_sound(conns[0])


def test_a_grant_is_revoked_once(db: Database, isolation: str) -> None:
    with clients(db, 8, isolation) as conns:
        account = open_account(conns[0], 10)
        race = at_once(
            conns, lambda c: call(c, "revoke_grant", account_id=account, grant_id=1, amount=4)
        )
        assert codes(race) == {None: 2, "NOT_REFUNDABLE": 6}
        assert balance(conns[0], account) == 2
        assert is_sound(conns[0])


def test_revoked_while_it_is_spent_a_grant_is_spent_or_gone(db: Database, isolation: str) -> None:
    def spend(conn: Client) -> Answer:
        return call(conn, "deduct_credits", account_id=account, amount=10)

    def revoke(conn: Client) -> Answer:
        return call(conn, "revoke_grant", account_id=account, grant_id=1)

    with clients(db, 2, isolation) as conns:
        for _ in range(10):
            account = open_account(conns[0], 10)
            spent, revoked = at_once(conns, spend, revoke).results
            assert revoked["success"]
            assert balance(conns[0], account) == (-10 if spent["success"] else 0)
            assert call(conns[0], "get_balance", account_id=account)["available"] == 0
        assert is_sound(conns[0])


def test_transfers_there_and_back_do_not_deadlock(db: Database, isolation: str) -> None:
    with clients(db, 6, isolation) as conns:
        pair = open_members(conns[0], 2, amount=100)

        def move(conn: Client) -> Answer:
            giver, taker = pair if conns.index(conn) % 2 else pair[::-1]
            return call(conn, "transfer_credits", **{"from": giver}, to=taker, amount=1)

        for _ in range(10):
            assert codes(at_once(conns, move)) == {None: 6}
        assert [balance(conns[0], account) for account in pair] == [100, 100]
        assert is_sound(conns[0])


def test_batches_over_the_same_accounts_do_not_deadlock(db: Database, isolation: str) -> None:
    with clients(db, 6, isolation) as conns:
        accounts = [open_account(conns[0], 25) for _ in range(5)]

        def charge(conn: Client) -> list[Answer]:
            turn = conns.index(conn) % 5
            order = accounts[turn:] + accounts[:turn]
            order = order if conns.index(conn) % 2 else order[::-1]
            return call_all(
                conn, "deduct_credits_batch", account_ids=order * 2, amounts=[Decimal(1)] * 10
            )

        results = [answer for _ in range(3) for r in at_once(conns, charge).results for answer in r]
        assert Counter(answer["error_code"] for answer in results) == {
            None: 125,
            "INSUFFICIENT_CREDITS": 55,
        }
        assert [balance(conns[0], account) for account in accounts] == [0] * 5
        assert is_sound(conns[0])


def test_an_external_id_names_one_account(db: Database, isolation: str) -> None:
    with clients(db, 8, isolation) as conns:
        race = at_once(conns, lambda c: call(c, "create_account", external_id="u-1", realm="app"))
        assert len({answer["account_id"] for answer in race.results}) == 1
        assert Counter(answer["created"] for answer in race.results) == {True: 1, False: 7}
        found = conns[0].execute("select count(*) as n from pgsaas.accounts").fetchone()
        assert found == {"n": 1}
        assert is_sound(conns[0])


def test_an_account_id_names_one_account(db: Database, isolation: str) -> None:
    with clients(db, 8, isolation) as conns:
        account = open_account(conns[0])
        race = at_once(conns, lambda c: call(c, "create_account", account_id=account))
        assert Counter(answer["created"] for answer in race.results) == {False: 8}
        assert is_sound(conns[0])


def test_what_is_due_is_settled_once(db: Database, isolation: str) -> None:
    with clients(db, 8, isolation) as conns:
        start = conns[0].execute("select pgsaas.set_clock('2026-01-31 09:00Z') as at").fetchone()
        assert start
        account = open_account(conns[0])
        call(conns[0], "start_period", account_id=account, allowance=100, rollover_limit=30)
        conns[0].execute("select pgsaas.set_clock('2026-03-01 00:00Z')")
        race = at_once(conns, lambda c: call(c, "deduct_credits", account_id=account, amount=1))
        assert codes(race) == {None: 8}
        kinds = conns[0].execute(
            "select transaction_type as kind, amount from pgsaas.credit_transactions order by seq"
        )
        rows = [(row["kind"], row["amount"]) for row in kinds]
        assert rows == [("grant", 100), ("expiry", -70), ("grant", 100), *[("deduction", -1)] * 8]
        assert is_sound(conns[0])
