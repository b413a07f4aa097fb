"""What is told to others: the outbox and the audit log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.sql.ledger import Ledger, day
from tests.sql.scene import Scene, play


def watched(ledger: Ledger, at: int | None = 50) -> UUID:
    account = ledger.account(100)
    ledger.done("set_low_balance_at", account, at)
    return account


def spend(ledger: Ledger, account: UUID, amount: int) -> None:
    ledger.done("deduct_credits", account, amount)


def spend_slowly(ledger: Ledger, account: UUID, amount: int) -> None:
    for _ in range(2):  # more than the head has left
        ledger.done("add_credits", account, 1, p_source="trial")
    ledger.done("deduct_credits", account, amount + 2)


def spend_by_batch(ledger: Ledger, account: UUID, amount: int) -> None:
    ledger.query("select * from pgsaas.deduct_credits_batch(array[%s, %s], array[1, %s])",
                 account, account, amount - 1)  # fmt: skip


def spend_by_hold(ledger: Ledger, account: UUID, amount: int) -> None:
    ledger.done("hold_credits", account, amount)


def spend_by_transfer(ledger: Ledger, account: UUID, amount: int) -> None:
    ledger.call("set_setting", "transfer_scope", "any")
    ledger.call("set_setting", "transfer_min_age", "0")
    ledger.done("transfer_credits", account, ledger.account(), amount)


def spend_by_revocation(ledger: Ledger, account: UUID, amount: int) -> None:
    ledger.done("revoke_grant", account, 1, amount)


def spend_by_adjustment(ledger: Ledger, account: UUID, amount: int) -> None:
    ledger.done("adjust_credits", account, -amount, "a reason")


WAYS = [spend, spend_slowly, spend_by_batch, spend_by_hold, spend_by_transfer,
        spend_by_revocation, spend_by_adjustment]  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_a_low_balance_is_told_once_per_crossing(
    ledger: Ledger, way: Callable[[Ledger, UUID, int], None]
) -> None:
    account = watched(ledger)
    way(ledger, account, 50)  # exactly at the threshold is not below it
    assert ledger.alerts(account) == 0
    way(ledger, account, 10)
    assert ledger.alerts(account) == 1
    way(ledger, account, 10)
    assert ledger.alerts(account) == 1
    ledger.done("add_credits", account, 40)
    assert ledger.alerts(account) == 1
    way(ledger, account, 30)
    assert ledger.alerts(account) == 2


@pytest.mark.parametrize("captured", [0, 10])
def test_credits_that_return_from_a_hold_make_the_next_crossing_a_new_one(
    ledger: Ledger, captured: int
) -> None:
    account = watched(ledger)
    hold_id = ledger.done("hold_credits", account, 60)["hold_id"]
    assert ledger.alerts(account) == 1
    if captured:
        ledger.done("capture_hold", account, hold_id, captured)
    else:
        ledger.done("release_hold", account, hold_id)
    spend(ledger, account, 50 - captured)
    assert ledger.alerts(account) == 1
    spend(ledger, account, 1)
    assert ledger.alerts(account) == 2
    assert ledger.call_all("verify_ledger") == []


def test_the_message_says_what_was_left(ledger: Ledger) -> None:
    account = watched(ledger)
    ledger.done("deduct_credits", account, 60)
    [message] = ledger.query("select * from pgsaas.outbox_messages")
    assert (message["account_id"], message["topic"]) == (account, "balance.low")
    assert message["payload"] == {"seq": 2, "balance": 40, "available": 40}


def test_nothing_is_told_of_what_was_rolled_back_or_refused(ledger: Ledger) -> None:
    account = watched(ledger)
    with ledger.conn.transaction(force_rollback=True):
        ledger.done("deduct_credits", account, 60)
        assert ledger.alerts(account) == 1
    assert ledger.alerts(account) == 0
    assert not ledger.call("deduct_credits", account, 101)["success"]
    assert ledger.alerts(account) == 0
    ledger.done("deduct_credits", account, 60, p_idempotency_key="k")
    ledger.done("deduct_credits", account, 60, p_idempotency_key="k")
    assert ledger.alerts(account) == 1


def test_an_expiry_that_crosses_the_line_is_told_by_whoever_settles_it(ledger: Ledger) -> None:
    account = ledger.account(40)
    ledger.done("add_credits", account, 60, p_expires_at=day("2026-03-12"))
    ledger.done("set_low_balance_at", account, 50)
    ledger.at(day("2026-03-13"))
    ledger.done("deduct_credits", account, 1)
    assert ledger.alerts(account) == 1
    ledger.done("deduct_credits", account, 1)
    assert ledger.alerts(account) == 1


def test_no_threshold_tells_nothing_and_a_new_one_does_not_look_back(ledger: Ledger) -> None:
    account = watched(ledger, None)
    ledger.done("deduct_credits", account, 60)
    ledger.done("set_low_balance_at", account, 50)
    ledger.done("deduct_credits", account, 1)
    assert ledger.alerts(account) == 0


def test_a_batch_within_one_crossing_tells_once(ledger: Ledger) -> None:
    account = watched(ledger)
    ledger.query("select * from pgsaas.deduct_credits_batch(array_fill(%s::uuid, array[100]),"
                 " array_fill(1::numeric, array[100]))", account)  # fmt: skip
    assert ledger.alerts(account) == 1
    assert ledger.query("select payload ->> 'balance' as left from pgsaas.outbox_messages") == [
        {"left": "0"}  # as the batch leaves it
    ]


ACTS = {
    "freeze_account": "account.frozen",
    "erase_account": "account.erased",
    "adjust_credits": "credits.adjusted",
    "set_overdraft_limit": "overdraft_limit.changed",
    "set_burn_order": "burn_order.changed",
    "set_low_balance_at": "low_balance_at.changed",
    "set_setting": "setting.changed",
}


@pytest.fixture
def scene(ledger: Ledger) -> Scene:
    found = play(ledger)
    ledger.call("add_platform_admin", "grace", "runs support")
    return found


def answered(answer: dict[str, Any]) -> bool:
    return answer.get("success", True) is True


@pytest.mark.parametrize("function", ACTS)
@pytest.mark.parametrize("user", [None, "grace"])
def test_every_act_of_an_admin_is_audited_with_the_actor(
    scene: Scene, function: str, user: str | None
) -> None:
    scene.ledger.become("pgsaas_admin", user)
    answer = scene.call(function)
    assert answered(answer), answer
    scene.ledger.be_superuser()
    event = scene.ledger.audit(ACTS[function])[-1]
    assert event["actor"] == ("user:grace role:pgsaas_admin" if user else "role:pgsaas_admin")
    assert event["account_id"] == (None if function == "set_setting" else scene.one)
    if "p_reason" in scene.arguments(function):
        assert event["details"]["reason"] == scene.arguments(function)["p_reason"]


def test_an_admin_unfreezes_too(scene: Scene) -> None:
    scene.ledger.become("pgsaas_admin", "grace")
    scene.call("freeze_account")
    assert scene.call("unfreeze_account") == {"unfreeze_account": True}
    scene.ledger.be_superuser()
    assert scene.ledger.audit("account.unfrozen")[0]["actor"] == "user:grace role:pgsaas_admin"


@pytest.mark.parametrize("function", ACTS)
def test_a_user_who_is_no_platform_admin_cannot_act_as_one(scene: Scene, function: str) -> None:
    before = scene.ledger.state()
    scene.ledger.become("pgsaas_admin", "eve")
    if function == "set_low_balance_at":  # a member may, so others hear that there is no account
        assert scene.call(function)["error_code"] == "ACCOUNT_NOT_FOUND"
    else:
        with pytest.raises(psycopg.Error) as caught, scene.ledger.conn.transaction():
            scene.call(function)
        assert caught.value.sqlstate == "PT403"
    scene.ledger.be_superuser()
    assert scene.ledger.state() == before


def test_staff_come_and_go_on_record(ledger: Ledger) -> None:
    assert ledger.call("add_platform_admin", "ada", "new") == {"add_platform_admin": True}
    assert ledger.call("add_platform_admin", "ada") == {"add_platform_admin": False}
    assert ledger.call("remove_platform_admin", "ada", "left") == {"remove_platform_admin": True}
    assert ledger.call("remove_platform_admin", "ada") == {"remove_platform_admin": False}
    for action, reason in (("platform_admin.added", "new"), ("platform_admin.removed", "left")):
        [event] = ledger.audit(action)
        assert event["details"] == {"user_id": "ada", "reason": reason}


def test_a_refused_act_leaves_no_event(scene: Scene) -> None:
    before = len(scene.ledger.query("select from pgsaas.audit_events"))
    assert not scene.call("adjust_credits", p_amount=-5000)["success"]
    assert not scene.call("set_overdraft_limit", p_account_id=None)["success"]
    assert len(scene.ledger.query("select from pgsaas.audit_events")) == before


def test_a_fall_after_a_reset_in_the_same_call_is_told(ledger: Ledger) -> None:
    account = ledger.on_plan(100)
    ledger.done("set_low_balance_at", account, 50)
    ledger.done("deduct_credits", account, 80)
    assert ledger.alerts(account) == 1
    ledger.at(day("2026-04-10 12:00"))  # 100 again, which nobody has looked at
    ledger.done("deduct_credits", account, 80)
    assert ledger.alerts(account) == 2
    assert ledger.violations() == []
