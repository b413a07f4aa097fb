"""pgsaas rewards: each command, in the words it says."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Shell
from tests.conftest import Conn

REWARDS = {
    "FRIENDS": '{"kind": "referral", "credits": 50, "referrer_credits": 100}',
    "ONCE": '{"credits": 5, "max_redemptions": 1}',
    "OLD": '{"credits": 5, "ends_at": "2026-03-01"}',
    "WELCOME": '{"credits": 20.5, "expires_after": "30 days", "account_age": "7 days"}',
}
NOT_NOTED = (
    "pgsaas: nothing was noted: the code is unknown or the account's own, or the account has a "
    "referrer, has paid or was erased before\n"
)


@pytest.fixture
def shop(shell: Shell, conn: Conn) -> Shell:
    """Four rewards, and the accounts ada and bo; it is 10 March 2026."""
    conn.execute("select pgsaas.set_clock('2026-03-10 12:00Z')")
    for reward, terms in REWARDS.items():
        conn.execute("select pgsaas.set_reward(%s, %s)", [reward, terms])
    for name in ("ada", "bo"):
        shell.ok("accounts", "create", "--external-id", name, "--email", f"{name}@x.org")
    return shell


def say(shop: Shell, *arguments: str) -> str:
    return shop.ok("rewards", *arguments)


def test_rewards_are_listed_as_a_person_reads_them(shop: Shell) -> None:
    say(shop, "redeem", "ada", "ONCE")
    lines = [" ".join(line.split()) for line in say(shop, "list").splitlines()]
    assert lines == [
        "reward id kind credits referrer credits expires after ends at account age redeemed active",
        "FRIENDS referral 50 100 yes",
        "OLD code 5 2026-03-01 00:00:00Z 0 yes",
        "ONCE code 5 1 of 1 yes",
        "WELCOME code 20.5 30 days 7 days 0 yes",
    ]
    found = shop.json("rewards", "list")["rewards"]
    assert [row["reward_id"] for row in found] == sorted(REWARDS)
    assert (found[0]["reward_kind"], found[0]["referrer_credits"]) == ("referral", 100)


def test_where_there_are_no_rewards_it_says_so(shell: Shell) -> None:
    nothing = shell("rewards", "list")
    assert (nothing.code, nothing.out, nothing.err) == (0, "", "there are no rewards\n")
    assert shell.json("rewards", "list") == {"rewards": []}


def test_a_code_is_redeemed_in_capitals_or_not(shop: Shell) -> None:
    assert say(shop, "redeem", "ada", "welcome") == (
        "redeemed welcome (grant 1): balance 20.5, row 1, available 20.5\n"
    )
    row = shop.json("rewards", "redeem", "bo@x.org", "ONCE")
    assert (row["success"], row["grant_id"], row["new_balance"]) == (True, 1, 5)


@pytest.mark.parametrize(
    ("account", "code", "said"),
    [
        ("ada", "ONCE", "the code was redeemed before (CODE_REDEEMED)"),
        ("bo", "ONCE", "the code was redeemed as often as it may be (CODE_EXHAUSTED)"),
        ("bo", "OLD", "there is no such code, or not now (CODE_INVALID)"),
        ("bo", "FRIENDS", "there is no such code, or not now (CODE_INVALID)"),
        ("bo", "WELCOME", "the code is for newer accounts (CODE_NOT_ALLOWED)"),
    ],
)
def test_a_code_that_cannot_be_redeemed_says_why(
    shop: Shell, conn: Conn, account: str, code: str, said: str
) -> None:
    say(shop, "redeem", "ada", "ONCE")
    conn.execute("select pgsaas.set_clock('2026-03-20 12:00Z')")
    refused = shop("rewards", "redeem", account, code)
    assert (refused.code, refused.out, refused.err) == (1, "", f"pgsaas: {said}\n")
    answer = shop("rewards", "redeem", account, code, "--json")
    assert (answer.code, answer.json["success"]) == (1, False)
    assert f"({answer.json['error_code']})" in said


def test_a_frozen_account_redeems_nothing(shop: Shell) -> None:
    shop.ok("accounts", "freeze", "ada", "--reason", "fraud")
    refused = shop("rewards", "redeem", "ada", "WELCOME")
    assert (refused.code, refused.err) == (
        1, "pgsaas: the account is frozen (CODE_NOT_ALLOWED)\n")  # fmt: skip


def test_a_referral_code_stays_the_same_and_is_noted_once(shop: Shell) -> None:
    code = say(shop, "referral-code", "ada").rstrip("\n")
    assert len(code) == 10
    assert shop.json("rewards", "referral-code", "ada") == {"referral_code": code}
    assert say(shop, "refer", "bo", code.lower()) == (
        "noted; the referral is earned at the first payment\n"
    )
    again = shop("rewards", "refer", "bo", code)
    assert (again.code, again.out, again.err) == (1, "", NOT_NOTED)
    assert shop("rewards", "refer", "bo", code, "--json").json == {"noted": False}


def test_nobody_refers_themselves_or_by_an_unknown_code(shop: Shell) -> None:
    for code in (say(shop, "referral-code", "ada").rstrip("\n"), "NOBODY"):
        refused = shop("rewards", "refer", "ada", code)
        assert (refused.code, refused.out, refused.err) == (1, "", NOT_NOTED)
    shop.ok("accounts", "create", "--external-id", "cy")
    code = say(shop, "referral-code", "ada").rstrip("\n")
    assert shop.json("rewards", "refer", "cy", code) == {"noted": True}


@pytest.mark.parametrize("command", ["redeem {} ONCE", "referral-code {}", "refer {} X"])
def test_an_unknown_account_is_named(shop: Shell, command: str) -> None:
    refused = shop("rewards", *command.format("nobody").split())
    assert (refused.code, refused.out, refused.err) == (
        1,
        "",
        'pgsaas: no account "nobody": give an account id, an external id, realm:external-id or '
        "an address\n",
    )
