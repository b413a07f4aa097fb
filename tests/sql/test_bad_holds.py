from __future__ import annotations

from decimal import Decimal

import pytest

from tests.sql.ledger import START, Ledger, code, day
from tests.sql.scene import Scene, play


@pytest.fixture
def scene(ledger: Ledger) -> Scene:
    return play(ledger)


@pytest.mark.parametrize("function", ["hold_credits", "extend_hold"])
@pytest.mark.parametrize(
    "ttl", ["0", "-1 microsecond", "-1 day", "24:00:00.000001", "25 hours", "1 month", None,
            "1 day 1 microsecond"],
)  # fmt: skip
def test_a_ttl_outside_24_hours_raises(scene: Scene, function: str, ttl: str | None) -> None:
    with scene.ledger.raises("22023"):
        scene.call(function, p_ttl=ttl)


@pytest.mark.parametrize("ttl", ["24 hours", "1 day", "1 microsecond", "2 days -24 hours"])
def test_a_ttl_at_the_edge_holds_exactly_that_long(ledger: Ledger, ttl: str) -> None:
    account = ledger.account(100)
    ledger.conn.execute("set local timezone = 'Europe/Berlin'")  # whose clocks change this night
    ledger.at(day("2026-03-28 20:00"))
    answer = ledger.done("hold_credits", account, 5, ttl)
    seconds = ledger.scalar("select extract(epoch from %s - pgsaas.now())", answer["expires_at"])
    assert seconds == (Decimal("0.000001") if "micro" in ttl else 86400)


@pytest.mark.parametrize("first", ["capture_hold", "release_hold"])
@pytest.mark.parametrize("second", ["capture_hold", "release_hold", "extend_hold"])
def test_a_closed_hold_stays_closed(scene: Scene, first: str, second: str) -> None:
    assert scene.call(first)["success"]
    before = scene.ledger.state()
    answer = scene.call(second)
    assert code(answer) == "HOLD_CLOSED"
    assert answer["new_balance"] == scene.ledger.balance(scene.one)["balance"]
    assert scene.ledger.state() == before


@pytest.mark.parametrize("function", ["capture_hold", "release_hold", "extend_hold"])
def test_a_hold_closes_at_its_time_not_a_microsecond_later(scene: Scene, function: str) -> None:
    last = START.replace(day=11)
    scene.ledger.at(last)
    assert code(scene.call(function)) == "HOLD_CLOSED"
    assert scene.ledger.available(scene.one) == 900
    closed = scene.ledger.query("select state, closed_at from pgsaas.credit_holds")
    assert closed == [{"state": "lapsed", "closed_at": last}]


@pytest.mark.parametrize("function", ["capture_hold", "release_hold", "extend_hold"])
def test_a_hold_is_open_until_a_microsecond_before_its_time(scene: Scene, function: str) -> None:
    scene.ledger.at(START.replace(hour=11, minute=59, second=59, microsecond=999999, day=11))
    assert scene.call(function)["success"]


def test_extending_never_shortens(scene: Scene) -> None:
    last = START.replace(day=11)
    assert scene.call("extend_hold", p_ttl="1 minute")["expires_at"] == last
    scene.ledger.after(minutes=1)
    longer = scene.call("extend_hold", p_ttl="24 hours")["expires_at"]
    assert longer == last.replace(minute=1)


@pytest.mark.parametrize("shortfall", ["", "never", None])
def test_an_unknown_shortfall_raises(scene: Scene, shortfall: str | None) -> None:
    with scene.ledger.raises("22023"):
        scene.call("capture_hold", p_shortfall=shortfall)


def test_a_capture_beyond_the_hold_is_refused_whole_and_the_hold_stays_open(scene: Scene) -> None:
    before = scene.ledger.state()
    answer = scene.call("capture_hold", p_amount=901)
    assert code(answer) == "INSUFFICIENT_CREDITS"
    assert (answer["captured"], answer["seq"]) == (None, None)
    assert scene.ledger.state() == before
    assert scene.call("capture_hold", p_amount=900)["captured"] == 900


def test_a_partial_capture_takes_what_is_there(scene: Scene) -> None:
    answer = scene.call("capture_hold", p_amount=2000, p_shortfall="partial")
    assert (answer["captured"], answer["new_balance"], answer["available"]) == (900, 0, 0)
    assert scene.ledger.violations() == []


def test_a_capture_by_debt_owes_the_rest(scene: Scene) -> None:
    answer = scene.call("capture_hold", p_amount=2000, p_shortfall="debt")
    assert (answer["captured"], answer["new_balance"], answer["available"]) == (2000, -1100, 0)
    assert scene.ledger.balance(scene.one)["owed"] == 1100
    assert scene.ledger.violations() == []


def test_holds_beyond_what_is_available_are_refused(scene: Scene) -> None:
    before = scene.ledger.state()
    answer = scene.call("hold_credits", p_amount="850.000001")
    assert code(answer) == "INSUFFICIENT_CREDITS"
    assert (answer["hold_id"], answer["expires_at"], answer["available"]) == (None, None, 850)
    assert scene.ledger.state() == before
    assert scene.call("hold_credits", p_amount=850)["available"] == 0


def test_nothing_is_refunded_twice(scene: Scene) -> None:
    assert scene.call("refund_credits", p_amount="99.999999")["success"]
    before = scene.ledger.state()
    assert code(scene.call("refund_credits", p_amount="0.000002")) == "REFUND_EXCEEDS"
    assert scene.ledger.state() == before
    assert scene.call("refund_credits", p_amount=None)["success"]
    before = scene.ledger.state()
    assert code(scene.call("refund_credits", p_amount=None)) == "REFUND_EXCEEDS"
    assert code(scene.call("refund_credits", p_amount="0.000001")) == "REFUND_EXCEEDS"
    assert scene.ledger.state() == before


def test_only_charges_are_refunded(ledger: Ledger) -> None:
    ledger.call("set_setting", "transfer_scope", "any")
    ledger.call("set_setting", "transfer_min_age", "0")
    account, other = ledger.account(100), ledger.account()
    ledger.done("add_credits", account, 10, p_expires_at=day("2026-03-12"))
    ledger.done("deduct_credits", account, 1)
    ledger.done("refund_credits", account, 3)
    ledger.at(day("2026-03-13"))
    ledger.done("revoke_grant", account, 1, 5)
    ledger.done("transfer_credits", account, other, 5)
    ledger.done("adjust_credits", account, -5, "a reason")
    kinds = [kind for kind, _ in ledger.moves(account)]
    assert kinds == ["grant", "grant", "deduction", "refund", "expiry", "revoke", "transfer_out",
                     "adjustment"]  # fmt: skip
    before = ledger.state()
    for seq in (1, 2, 4, 5, 6, 7, 8):
        assert code(ledger.call("refund_credits", account, seq)) == "NOT_REFUNDABLE"
        assert code(ledger.call("refund_credits", account, seq, 1)) == "NOT_REFUNDABLE"
    assert code(ledger.call("refund_credits", other, 1)) == "NOT_REFUNDABLE"
    assert ledger.state() == before


def test_a_grant_is_not_revoked_twice_or_beyond_what_is_left(scene: Scene) -> None:
    assert code(scene.call("revoke_grant", p_amount="1000.000001")) == "NOT_REFUNDABLE"
    assert scene.call("revoke_grant", p_amount=400)["success"]
    before = scene.ledger.state()
    assert code(scene.call("revoke_grant", p_amount="600.000001")) == "NOT_REFUNDABLE"
    assert scene.ledger.state() == before
    assert scene.call("revoke_grant", p_amount=None)["new_balance"] == -100
    before = scene.ledger.state()
    for amount in (None, "0.000001"):
        assert code(scene.call("revoke_grant", p_amount=amount)) == "NOT_REFUNDABLE"
    assert scene.ledger.state() == before
    assert scene.ledger.violations() == []


def test_a_pending_grant_can_be_revoked_in_part_and_then_whole(ledger: Ledger) -> None:
    account = ledger.account()
    soon = day("2026-04-01")
    grant = ledger.done("add_credits", account, 100, p_effective_at=soon)["grant_id"]
    part = ledger.done("revoke_grant", account, grant, 30)
    assert (part["new_balance"], part["unrecovered"]) == (0, 0)
    assert code(ledger.call("revoke_grant", account, grant, 71)) == "NOT_REFUNDABLE"
    ledger.at(soon)
    assert ledger.balance(account)["balance"] == 70
    other = ledger.account()
    grant = ledger.done("add_credits", other, 100, p_effective_at=day("2026-05-01"))["grant_id"]
    ledger.done("revoke_grant", other, grant)
    ledger.at(day("2026-05-02"))
    assert ledger.balance(other)["balance"] == 0
    ledger.done("deduct_credits", account, 1)
    assert ledger.violations() == []


def test_revoking_a_grant_that_expired_unspent_takes_nothing_more(ledger: Ledger) -> None:
    """The ledger took it back already; taking it again would charge for credits never used."""
    account = ledger.account(50)
    grant = ledger.done("add_credits", account, 100, p_source="purchase",
                        p_expires_at=day("2026-03-12"))["grant_id"]  # fmt: skip
    ledger.at(day("2026-03-13"))
    assert ledger.available(account) == 50
    row = ledger.done("revoke_grant", account, grant)
    assert row["new_balance"] == 50
    assert ledger.available(account) == 50
    assert code(ledger.call("revoke_grant", account, grant)) == "NOT_REFUNDABLE"
