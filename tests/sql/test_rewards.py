"""Promotion codes and referrals: once, to whom they were meant for."""

from __future__ import annotations

from uuid import UUID

import pytest

from tests.sql.ledger import NOBODY, START, Ledger, day
from tests.sql.plans import free, set_plans

CODE = {"credits": 50, "expires_after": "30 days", "ends_at": "2026-04-01", "max_redemptions": 2}


def redeem(ledger: Ledger, account: UUID, code: str = "SPRING") -> str | None:
    code_of: str | None = ledger.call("redeem_code", account, code)["error_code"]
    return code_of


def test_a_code_is_worth_its_credits_once(ledger: Ledger) -> None:
    ledger.call("set_reward", "SPRING", CODE)
    account = ledger.account()
    answer = ledger.done("redeem_code", account, " spr ing\n")
    assert (answer["new_balance"], answer["grant_id"], answer["seq"]) == (50, 1, 1)
    grant = ledger.query("select source, expires_at from pgsaas.credit_grants")
    assert grant == [{"source": "bonus", "expires_at": day("2026-04-09 12:00")}]
    assert redeem(ledger, account) == "CODE_REDEEMED"
    assert redeem(ledger, ledger.account(), "SUMMER") == "CODE_INVALID"
    assert redeem(ledger, ledger.account()) is None
    assert redeem(ledger, ledger.account()) == "CODE_EXHAUSTED"
    assert redeem(ledger, NOBODY) == "ACCOUNT_NOT_FOUND"
    assert ledger.call_all("verify_ledger") == []


def test_a_code_has_its_time(ledger: Ledger) -> None:
    ledger.call("set_reward", "SPRING", CODE | {"starts_at": "2026-03-11T09:00"})
    account = ledger.account()
    assert redeem(ledger, account) == "CODE_INVALID"
    ledger.at(day("2026-03-11 09:00"))
    assert redeem(ledger, account) is None
    ledger.at(day("2026-04-01"))
    assert redeem(ledger, ledger.account()) == "CODE_INVALID"
    ledger.call("set_reward", "SPRING", CODE | {"ends_at": "2027-01-01"})
    assert redeem(ledger, ledger.account()) is None
    ledger.call("set_reward", "SPRING", CODE | {"ends_at": "2027-01-01", "active": False})
    assert redeem(ledger, ledger.account()) == "CODE_INVALID"


def test_a_second_account_of_a_person_gets_nothing(ledger: Ledger) -> None:
    ledger.call("set_reward", "SPRING", {"credits": 5})
    first = ledger.account(p_email="Ada@example.com", p_external_id="ada")
    assert redeem(ledger, first) is None
    assert redeem(ledger, ledger.account(p_email=" ada@EXAMPLE.com")) == "CODE_REDEEMED"
    ledger.call("erase_account", first, "asked for")
    assert redeem(ledger, ledger.account(p_external_id="ada")) == "CODE_REDEEMED"
    assert redeem(ledger, ledger.account(p_email="bo@example.com")) is None


def test_a_code_may_be_for_new_accounts(ledger: Ledger) -> None:
    ledger.call("set_reward", "SPRING", {"credits": 5, "account_age": "7 days"})
    old = ledger.account()
    ledger.after(days=7, seconds=1)
    assert redeem(ledger, old) == "CODE_NOT_ALLOWED"
    frozen = ledger.account()
    ledger.call("freeze_account", frozen, "odd")
    assert redeem(ledger, frozen) == "CODE_NOT_ALLOWED"
    assert redeem(ledger, ledger.account()) is None


WRONG = [
    ("22023", {}), ("22023", {"credits": 0}), ("22023", {"credits": -1}),
    ("22023", {"credits": 5, "kind": "gift"}), ("22023", {"credits": 5, "colour": 1}),
    ("22023", {"credits": 5, "ends_at": "soon"}), ("22023", {"credits": 5, "active": 1}),
    ("22023", {"credits": 5, "max_redemptions": 0}), ("22023", {"credits": 5, "account_age": "x"}),
    ("22023", {"kind": "code", "referrer_credits": 5}),
    ("PT422", {"credits": 5, "max_redemptions": 1}),
    ("PT409", {"credits": 5, "kind": "referral"}),
]  # fmt: skip


@pytest.mark.parametrize(("sqlstate", "terms"), WRONG)
def test_what_can_be_no_reward(ledger: Ledger, sqlstate: str, terms: dict[str, object]) -> None:
    ledger.call("set_reward", "SPRING", {"credits": 5})
    ledger.call("set_reward", "FRIENDS", {"credits": 5, "kind": "referral"})
    for _ in range(2):
        redeem(ledger, ledger.account())
    with ledger.raises(sqlstate):
        ledger.call("set_reward", "SPRING", terms)


def test_a_referral_is_rewarded_when_the_account_first_pays(ledger: Ledger) -> None:
    set_plans(ledger)
    ledger.call("set_reward", "FRIENDS", {"kind": "referral", "credits": 30,
                                          "referrer_credits": 40})  # fmt: skip
    ada, bo = ledger.account(p_email="a@x.org"), ledger.account(p_email="b@x.org")
    code = ledger.scalar("select pgsaas.get_referral_code(%s)", ada)
    assert ledger.scalar("select pgsaas.get_referral_code(%s)", ada) == code
    refer = "select pgsaas.set_referrer(%s, %s)"
    assert ledger.scalar(refer, bo, code.lower()) is True
    assert ledger.scalar(refer, bo, code) is False
    assert ledger.scalar(refer, ada, code) is False
    assert ledger.scalar(refer, ledger.account(p_email="A@x.org"), code) is False
    assert ledger.scalar(refer, ledger.account(), "NOBODY") is False
    ledger.call("start_subscription", bo, "pro", p_is_trial=True)
    assert free(ledger, bo) == 1100
    ledger.call("set_subscription_status", bo, "active")  # the first payment
    assert free(ledger, bo) == 1130
    assert free(ledger, ada) == 100
    assert ledger.call("pay_referrals") == {"done": 1, "remaining": 0}
    assert ledger.call("pay_referrals") == {"done": 0, "remaining": 0}
    assert free(ledger, ada) == 140
    assert ledger.scalar("select pgsaas.reward_referral(%s)", bo) is False
    assert ledger.call_all("verify_ledger") == []


def test_who_has_paid_was_not_referred(ledger: Ledger) -> None:
    set_plans(ledger)
    code = ledger.scalar("select pgsaas.get_referral_code(%s)", ledger.account())
    buyer, subscriber = ledger.account(5), ledger.account()
    ledger.call("start_subscription", subscriber, "pro")
    for account in (buyer, subscriber):
        assert ledger.scalar("select pgsaas.set_referrer(%s, %s)", account, code) is False
    with ledger.raises("PT404"):
        ledger.scalar("select pgsaas.get_referral_code(%s)", NOBODY)


def test_a_referral_is_worth_what_it_was_when_it_was_earned(ledger: Ledger) -> None:
    ada, bo, cy = (ledger.account() for _ in range(3))
    code = ledger.scalar("select pgsaas.get_referral_code(%s)", ada)
    for account in (bo, cy):
        ledger.scalar("select pgsaas.set_referrer(%s, %s)", account, code)
    assert ledger.scalar("select pgsaas.reward_referral(%s)", bo) is True  # nothing is promised
    ledger.call("set_reward", "FRIENDS", {"kind": "referral", "referrer_credits": 40})
    assert ledger.scalar("select pgsaas.reward_referral(%s)", cy) is True
    ledger.call("set_reward", "FRIENDS", {"kind": "referral", "referrer_credits": 1})
    ledger.call("pay_referrals")
    assert (free(ledger, ada), free(ledger, bo), free(ledger, cy)) == (40, 0, 0)
    assert ledger.scalar("select pgsaas.now()") == START


def test_an_admin_who_says_that_a_trial_was_paid_for_rewards_its_referral(ledger: Ledger) -> None:
    set_plans(ledger)
    ledger.call("set_reward", "FRIENDS", {"kind": "referral", "credits": 30})
    code = ledger.scalar("select pgsaas.get_referral_code(%s)", ledger.account())
    account = ledger.account()
    ledger.scalar("select pgsaas.set_referrer(%s, %s)", account, code)
    ledger.call("start_subscription", account, "pro", p_is_trial=True)
    ledger.call("add_platform_admin", "grace", "runs support")
    ledger.become("pgsaas_admin", "grace")
    ledger.call("set_subscription_status", account, "active", "they paid by transfer")
    ledger.be_superuser()
    assert free(ledger, account) == 1130


def test_an_erased_account_has_no_referrer_and_earns_nothing(ledger: Ledger) -> None:
    ledger.call("set_reward", "FRIENDS", {"kind": "referral", "credits": 30,
                                          "referrer_credits": 40})  # fmt: skip
    ada, bo, cy = (ledger.account() for _ in range(3))
    code = ledger.scalar("select pgsaas.get_referral_code(%s)", ada)
    assert ledger.scalar("select pgsaas.set_referrer(%s, %s)", bo, code) is True
    for account in (bo, cy):
        ledger.call("erase_account", account, "asked for")
    assert ledger.scalar("select pgsaas.set_referrer(%s, %s)", cy, code) is False
    assert ledger.scalar("select pgsaas.reward_referral(%s)", bo) is False
    assert ledger.call("pay_referrals") == {"done": 0, "remaining": 0}
    assert ledger.rows(bo) == []


def test_a_person_who_was_erased_gets_no_second_trial(ledger: Ledger) -> None:
    set_plans(ledger)
    first = ledger.account(p_external_id="ada", p_email="ada@example.com")
    ledger.call("start_subscription", first, "pro", p_is_trial=True)
    ledger.call("erase_account", first, "asked for")
    for named in ({"p_external_id": "ada"}, {"p_email": "Ada@example.com"}):
        again = ledger.account(**named)
        with ledger.raises("PT422"):
            ledger.call("start_subscription", again, "pro", p_is_trial=True)
        assert free(ledger, again) == 0
        ledger.call("start_subscription", again, "pro")
        assert free(ledger, again) == 1000


def test_a_referral_code_is_part_of_the_export(ledger: Ledger) -> None:
    account = ledger.account()
    code = ledger.scalar("select pgsaas.get_referral_code(%s)", account)
    exported = {row["section"]: row["record"] for row in ledger.call_all("export_account", account)}
    assert exported["referral_code"]["referral_code"] == code
