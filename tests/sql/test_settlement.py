from __future__ import annotations

from decimal import Decimal
from uuid import UUID

import pytest

from tests.sql.ledger import START, Ledger, code, day


def touch(ledger: Ledger, account: UUID) -> None:
    """Have the account settled by a writer that changes nothing."""
    ledger.done("set_burn_order", account, "purchased_first")
    assert ledger.violations() == []


def test_what_is_held_does_not_expire_until_it_returns(ledger: Ledger) -> None:
    account = ledger.account()
    ledger.done("add_credits", account, 100, p_expires_at=day("2026-03-10 13:00"))
    ledger.done("hold_credits", account, 60, "2 hours")
    ledger.at(day("2026-03-10 13:30"))
    touch(ledger, account)
    assert ledger.rows(account, 1) == [("expiry", -40, day("2026-03-10 13:00"))]
    answer = ledger.done("capture_hold", account, 1, 50)
    assert (answer["new_balance"], answer["available"]) == (10, 0)
    assert ledger.moves(account, 2) == [("capture", -50), ("expiry", -10)]
    assert ledger.balance(account)["balance"] == 0
    touch(ledger, account)


def test_a_lapsed_hold_returns_to_a_grant_that_lives_and_expires_with_one_that_does_not(
    ledger: Ledger,
) -> None:
    account = ledger.account()
    ledger.done("add_credits", account, 10, p_expires_at=day("2026-03-10 12:10"), p_priority=-1)
    ledger.done("add_credits", account, 10)
    ledger.done("hold_credits", account, 15)
    ledger.at(day("2026-03-11"))
    touch(ledger, account)
    assert ledger.rows(account, 2) == [("expiry", -10, day("2026-03-10 12:15"))]
    assert ledger.grants(account) == [("bonus", 10)]


def test_credits_held_while_the_period_ends_do_not_roll_over(ledger: Ledger) -> None:
    account = ledger.on_plan(100, None)
    end = day("2026-04-10 12:00")
    ledger.at(day("2026-04-10 11:55"))
    ledger.done("hold_credits", account, 30)
    ledger.at(day("2026-04-10 12:05"))
    touch(ledger, account)
    assert ledger.grants(account) == [("rollover", 70), ("allowance", 100)]
    assert ledger.rows(account, 1) == [("grant", 100, end)]
    ledger.done("release_hold", account, 1)
    assert ledger.rows(account, 2) == [("expiry", -30, day("2026-04-10 12:05"))]
    assert ledger.balance(account)["balance"] == 170


def test_ties_are_settled_in_the_order_lapse_reset_expire_admit(ledger: Ledger) -> None:
    account = ledger.on_plan(100, 0)
    end = day("2026-04-10 12:00")
    ledger.done("add_credits", account, 7, p_expires_at=end)  # a bonus that ends with the period
    ledger.done("add_credits", account, 9, p_effective_at=end)
    ledger.at(day("2026-04-10 11:45"))
    ledger.done("set_burn_order", account, "expiring_first")
    ledger.done("hold_credits", account, 3, "15 minutes")  # of the bonus
    ledger.at(day("2026-05-01"))
    seen = ledger.balance(account)
    touch(ledger, account)
    assert ledger.rows(account, 3) == [
        ("expiry", -100, end),
        ("grant", 100, end),
        ("expiry", -7, end),  # what lapsed was free again before it expired
        ("grant", 9, end),
    ]
    assert seen["balance"] == 109


def test_a_hold_that_lapses_as_the_period_ends_rolls_over(ledger: Ledger) -> None:
    account = ledger.on_plan(100, None)
    ledger.at(day("2026-04-10 11:45"))
    ledger.done("hold_credits", account, 40, "15 minutes")
    ledger.at(day("2026-04-10 12:00"))
    touch(ledger, account)
    assert ledger.grants(account) == [("rollover", 100), ("allowance", 100)]


def test_each_part_of_what_rolls_over_keeps_its_origin(ledger: Ledger) -> None:
    account = ledger.on_plan(100, 120)
    ledger.at(day("2026-04-11"))
    touch(ledger, account)
    ledger.done("deduct_credits", account, 30)  # of the rollover
    ledger.at(day("2026-05-11"))
    touch(ledger, account)
    found = ledger.query(
        "select grant_id, source, amount, remaining, moved, expired, root_grant_id"
        " from pgsaas.credit_grants where account_id = %s and is_open order by grant_id",
        account,
    )
    assert [tuple(row.values()) for row in found] == [
        (4, "rollover", 20, 20, 0, 0, 1),  # the newest go on first, up to the limit
        (5, "rollover", 100, 100, 0, 0, 3),
        (6, "allowance", 100, 100, 0, 0, None),
    ]
    assert ledger.rows(account)[-2:] == [
        ("expiry", -50, day("2026-05-10 12:00")),
        ("grant", 100, day("2026-05-10 12:00")),
    ]
    assert ledger.violations() == []


def test_a_grant_that_came_and_went_unseen_leaves_two_rows_at_their_own_times(
    ledger: Ledger,
) -> None:
    account = ledger.account()
    ledger.done("add_credits", account, 20, p_effective_at=day("2026-04-01"),
                p_expires_at=day("2026-05-01"), p_idempotency_key="k")  # fmt: skip
    assert ledger.rows(account) == [("grant", 0, START)]
    ledger.at(day("2026-06-01"))
    assert ledger.balance(account)["balance"] == 0
    touch(ledger, account)
    assert ledger.rows(account, 1) == [
        ("grant", 20, day("2026-04-01")),
        ("expiry", -20, day("2026-05-01")),
    ]
    assert ledger.balance(account)["lifetime_earned"] == 20


def test_thirty_missed_periods_are_granted_one_by_one_at_their_own_times(ledger: Ledger) -> None:
    account = ledger.on_plan(100, 10)
    ledger.at(day("2028-09-10 12:00"))
    shown = ledger.balance(account)
    touch(ledger, account)
    rows = ledger.rows(account, 1)
    assert len(rows) == 60
    assert rows[:2] == [("expiry", -90, day("2026-04-10 12:00")),
                        ("grant", 100, day("2026-04-10 12:00"))]  # fmt: skip
    assert rows[-2:] == [("expiry", -100, day("2028-09-10 12:00")),
                         ("grant", 100, day("2028-09-10 12:00"))]  # fmt: skip
    assert {amount for kind, amount, _ in rows[2:] if kind == "expiry"} == {-100}
    assert shown["balance"] == ledger.balance(account)["balance"] == 110
    assert shown["lifetime_earned"] == 3100
    touch(ledger, account)
    assert len(ledger.rows(account, 1)) == 60


@pytest.mark.parametrize(
    ("limit", "left", "rolled"),
    [(None, 70, 70), (0, 70, 0), (50, 70, 50), (70, 70, 70), (100, 70, 70),
     (Decimal("0.000001"), 70, Decimal("0.000001")), (50, 0, 0)],
)  # fmt: skip
def test_what_is_free_rolls_over_up_to_the_limit(
    ledger: Ledger, limit: int | None, left: int, rolled: Decimal
) -> None:
    account = ledger.on_plan(100, limit)
    ledger.done("deduct_credits", account, 100 - left)
    ledger.at(day("2026-04-10 12:00"))
    touch(ledger, account)
    expired = [("expiry", rolled - left)] if rolled < left else []
    assert ledger.moves(account, 2) == [*expired, ("grant", 100)]
    kept = [("rollover", rolled)] if rolled else []
    assert ledger.grants(account) == [*kept, ("allowance", 100)]


def test_packs_and_bonuses_neither_expire_nor_roll_over_with_the_period(ledger: Ledger) -> None:
    account = ledger.on_plan(100, 0)
    ledger.done("add_credits", account, 5, p_source="purchase")
    ledger.done("add_credits", account, 6, p_source="referral", p_expires_at=day("2026-06-01"))
    ledger.at(day("2026-04-11"))
    touch(ledger, account)
    assert ledger.grants(account) == [("purchase", 5), ("referral", 6), ("allowance", 100)]


@pytest.mark.parametrize(
    ("anchor", "ends"),
    [
        ("2026-01-31 09:00", ["2026-02-28 09:00", "2026-03-31 09:00", "2026-04-30 09:00"]),
        ("2028-01-31 00:00", ["2028-02-29 00:00", "2028-03-31 00:00", "2028-04-30 00:00"]),
        ("2028-02-29 23:59", ["2028-03-29 23:59", "2028-04-29 23:59", "2028-05-29 23:59"]),
        ("2026-12-31 00:00", ["2027-01-31 00:00", "2027-02-28 00:00", "2027-03-31 00:00"]),
        ("2026-08-30 00:30", ["2026-09-30 00:30", "2026-10-30 00:30", "2026-11-30 00:30"]),
    ],
)
@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "America/New_York"])
def test_periods_end_on_the_anchors_day_or_the_last_of_the_month_in_any_session(
    ledger: Ledger, anchor: str, ends: list[str], zone: str
) -> None:
    ledger.conn.execute("select set_config('TimeZone', %s, true)", [zone])
    ledger.at(day(anchor))
    account = ledger.on_plan(10)
    for end in ends:
        assert ledger.balance(account)["next_reset_at"] == day(end)
        ledger.at(day(end))
        touch(ledger, account)
    stamps = [at for kind, _, at in ledger.rows(account) if kind == "grant"]
    assert stamps == [day(anchor), *map(day, ends)]


def test_an_anchor_on_29_february_comes_back_to_it_after_a_leap_year(ledger: Ledger) -> None:
    ledger.at(day("2028-02-29"))
    account = ledger.on_plan(1)
    for moment, end in [("2029-02-20", "2029-02-28"), ("2029-03-01", "2029-03-29"),
                        ("2032-02-20", "2032-02-29")]:  # fmt: skip
        ledger.at(day(moment))
        assert ledger.balance(account)["next_reset_at"] == day(end)


def test_a_frozen_account_still_resets_expires_and_lapses(ledger: Ledger) -> None:
    account = ledger.on_plan(100, 0)
    ledger.done("add_credits", account, 5, p_expires_at=day("2026-03-12"))
    ledger.done("hold_credits", account, 30, "1 hour")
    ledger.call("freeze_account", account, "a reason")
    ledger.at(day("2026-04-11"))
    assert ledger.balance(account)["balance"] == 100
    assert code(ledger.call("deduct_credits", account, 1)) == "ACCOUNT_FROZEN"
    assert ledger.moves(account, 2) == [("expiry", -5), ("expiry", -100), ("grant", 100)]
    assert ledger.balance(account)["held"] == 0
    assert ledger.violations() == []


def test_a_clock_set_back_never_takes_account_time_back(ledger: Ledger) -> None:
    account = ledger.account(100)
    ledger.done("add_credits", account, 10, p_expires_at=day("2026-03-12"))
    ledger.at(day("2026-03-13"))
    touch(ledger, account)
    ledger.at(day("2026-03-11"))
    ledger.done("deduct_credits", account, 1)
    ledger.done("hold_credits", account, 1, "1 minute")
    ledger.done("add_credits", account, 1)
    late = code(ledger.call("deduct_credits", account, 101))
    assert late == "INSUFFICIENT_CREDITS"
    stamps = [at for _, _, at in ledger.rows(account)]
    assert stamps == sorted(stamps)
    assert stamps[-2:] == [day("2026-03-13")] * 2
    held = ledger.scalar("select expires_at from pgsaas.credit_holds")
    assert held == day("2026-03-13 00:01")
    assert ledger.violations() == []


def test_the_fast_path_does_not_spend_what_expired_in_account_time(ledger: Ledger) -> None:
    account = ledger.account()
    ledger.done("add_credits", account, 10, p_expires_at=day("2026-03-12"))
    ledger.at(day("2026-03-12"))
    assert code(ledger.call("deduct_credits", account, 1)) == "INSUFFICIENT_CREDITS"
    ledger.at(day("2026-03-11"))
    assert code(ledger.call("deduct_credits", account, 1)) == "INSUFFICIENT_CREDITS"


def test_a_thousand_grants_expire_at_once(ledger: Ledger) -> None:
    account = ledger.account()
    end = day("2026-03-12")
    ledger.conn.execute(
        "select count(a.seq) from generate_series(1, 1000) n cross join lateral"
        " pgsaas.add_credits(%s, n, p_expires_at => %s) a",
        [account, end],
    )
    ledger.at(end)
    assert ledger.balance(account)["balance"] == 0
    touch(ledger, account)
    assert ledger.rows(account, 1000) == [("expiry", -n, end) for n in range(1, 1001)]


BURN = [  # source, expiry, priority
    ("allowance", "2026-04-01", 0),
    ("rollover", "2026-04-01", 0),
    ("trial", "2026-03-20", 0),
    ("refund", None, 0),
    ("referral", "2026-05-01", 0),
    ("bonus", "2026-05-02", 0),
    ("transfer", "2026-04-15", 0),
    ("purchase", None, 0),
    ("purchase", "2026-06-01", 0),
    ("allowance", "2026-04-01", -1),
    ("purchase", "2026-03-15", 1),
    ("allowance", "2026-04-01", 0),
]
ORDERS = {
    "purchased_first": [10, 9, 8, 7, 5, 6, 4, 3, 2, 1, 12, 11],
    "expiring_first": [10, 3, 2, 1, 12, 7, 5, 6, 9, 8, 4, 11],
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("at_once", [True, False])
def test_credits_burn_in_the_accounts_order(ledger: Ledger, order: str, at_once: bool) -> None:
    account = ledger.account()
    for source, expires, priority in BURN:
        ledger.done("add_credits", account, 10, p_source=source, p_priority=priority,
                    p_expires_at=expires and day(expires))  # fmt: skip
    ledger.done("set_burn_order", account, order)
    if at_once:
        seq = ledger.done("deduct_credits", account, 115)["seq"]
        parts = ledger.parts(account, seq)
        assert [part[0] for part in parts] == ORDERS[order]
        assert [part[2] for part in parts] == [10] * 11 + [5]
    else:
        burned = []
        for _ in range(24):
            seq = ledger.done("deduct_credits", account, 5)["seq"]
            [part] = ledger.parts(account, seq)
            burned.append(part[0])
        assert burned[::2] == burned[1::2] == ORDERS[order]
    assert ledger.violations() == []


def test_a_grant_that_should_burn_earlier_takes_the_heads_place(ledger: Ledger) -> None:
    account = ledger.account()
    ledger.done("add_credits", account, 10, p_source="allowance")
    ledger.done("deduct_credits", account, 1)
    ledger.done("add_credits", account, 10, p_source="purchase")
    seq = ledger.done("deduct_credits", account, 1)["seq"]
    assert ledger.parts(account, seq)[0][0] == 2
    ledger.done("add_credits", account, 10, p_source="trial", p_priority=-5,
                p_effective_at=day("2026-03-11"))  # fmt: skip
    ledger.at(day("2026-03-11"))
    seq = ledger.done("deduct_credits", account, 1)["seq"]
    assert ledger.parts(account, seq)[0][0] == 3


def test_a_period_of_no_allowance_leaves_no_row(ledger: Ledger) -> None:
    account = ledger.on_plan(0, None)
    ledger.at(day("2026-06-11"))
    touch(ledger, account)
    assert ledger.rows(account) == []
    assert ledger.balance(account)["next_reset_at"] == day("2026-07-10 12:00")


def test_an_allowance_that_goes_up_and_down_is_granted_once_a_period(ledger: Ledger) -> None:
    account = ledger.on_plan(100)
    for allowance, balance in ((200, 200), (100, 200), (200, 200), (50, 200), (300, 300)):
        ledger.conn.execute("select pgsaas.change_allowance(%s, %s)", [account, allowance])
        assert ledger.balance(account)["balance"] == balance
    ledger.conn.execute("select pgsaas.change_allowance(%s, 100)", [account])
    ledger.at(day("2026-04-10 12:00"))
    assert ledger.balance(account)["balance"] == 100
    ledger.conn.execute("select pgsaas.change_allowance(%s, 150)", [account])
    assert ledger.moves(account, 3) == [("expiry", -300), ("grant", 100), ("grant", 50)]
    assert ledger.violations() == []


def test_the_newest_months_roll_over_first_however_often(ledger: Ledger) -> None:
    account = ledger.on_plan(100, 150)
    for moment in ("2026-04-11", "2026-05-11", "2026-06-11"):
        ledger.at(day(moment))
        touch(ledger, account)
    roots = ledger.query(
        "select root_grant_id as root, remaining from pgsaas.credit_grants"
        " where account_id = %s and is_open order by grant_id",
        account,
    )
    assert [tuple(row.values()) for row in roots] == [(3, 50), (6, 100), (None, 100)]


@pytest.mark.parametrize("together", [True, False])
def test_years_of_rollover_do_not_pile_up(ledger: Ledger, together: bool) -> None:
    account = ledger.on_plan(10, None)
    for month in range(1, 61):
        if not together or month == 60:
            ledger.at(day(f"{2026 + (2 + month) // 12}-{(2 + month) % 12 + 1:02}-10 12:00"))
            touch(ledger, account)
    assert ledger.balance(account)["balance"] == 610
    assert len(ledger.grants(account)) == 14  # the allowance, a year of rollovers, all before
    assert ledger.scalar("select count(*) from pgsaas.credit_grants") <= 60 * 14
    ledger.done("revoke_grant", account, 1)  # five years old: nobody follows it
    assert ledger.balance(account)["balance"] == 610
    assert ledger.violations() == []
