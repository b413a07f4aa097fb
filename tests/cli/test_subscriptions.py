"""pgsaas subscriptions: each command, in the words it says."""

from __future__ import annotations

import pytest

from pgsaas.cli.money import money
from tests.cli.conftest import Shell
from tests.conftest import Conn

TERMS = {
    "free": '{"name": "Free", "default": true, "allowance": 100}',
    "pro": """{"name": "Pro", "rank": 1, "allowance": 1000, "trial_days": 14, "prices": [
        {"interval": "month", "currency": "usd", "amount": 2900},
        {"interval": "year", "currency": "usd", "amount": 29000},
        {"interval": "month", "currency": "eur", "amount": 2700}]}""",
    "max": """{"name": "Max", "rank": 2, "allowance": 5000, "prices": [
        {"interval": "month", "currency": "usd", "amount": 9900}]}""",
    "deal": '{"rank": 3, "allowance": 9000}',
    "swap": '{"rank": 4, "allowance": 6000, "on_upgrade": "replace"}',
    "old": '{"rank": 1}',
}
APRIL = "2026-04-10 12:00:00Z"


def set_plan(conn: Conn, plan: str, terms: str) -> None:
    conn.execute("select pgsaas.set_plan(%s, %s)", [plan, terms])


@pytest.fixture
def shop(shell: Shell, conn: Conn) -> Shell:
    """Six plans, and the accounts ada and bo on the first; it is 10 March 2026."""
    conn.execute("select pgsaas.set_clock('2026-03-10 12:00Z')")
    for plan, terms in TERMS.items():
        set_plan(conn, plan, terms)
    conn.execute("select pgsaas.retire_plan('old')")
    for name in ("ada", "bo"):
        shell.ok("accounts", "create", "--external-id", name, "--email", f"{name}@x.org")
    return shell


def say(shop: Shell, *arguments: str) -> str:
    return shop.ok("subscriptions", *arguments)


def refusal(shop: Shell, *arguments: str) -> str:
    """The one line of an error; with --json it says the same."""
    refused = shop("subscriptions", *arguments)
    assert (refused.code, refused.out, refused.err.count("\n")) == (1, "", 1)
    said = refused.err.removeprefix("pgsaas: ").rstrip("\n")
    assert shop("subscriptions", *arguments, "--json").json["error"] == said
    return said


def test_a_subscription_is_shown_as_a_person_reads_it(shop: Shell) -> None:
    assert say(shop, "show", "bo") == (
        "plan               free (Free), version 1\n"
        "status             active\n"
        "access             yes\n"
        "quantity           1\n"
        "credits            100 a month\n"
        f"period             2026-03-10 12:00:00Z to {APRIL}\n"
        "started at         2026-03-10 12:00:00Z\n"
    )
    say(shop, "start", "ada", "pro", "--quantity", "3", "--currency", "usd", "--trial")
    say(shop, "cancel", "ada")
    assert say(shop, "show", "ada") == (
        "plan               pro (Pro), version 1\n"
        "status             trialing\n"
        "access             yes\n"
        "price              87.00 usd a month (3 x 29.00 usd)\n"
        "quantity           3\n"
        "credits            3000 a month\n"
        "period             2026-03-10 12:00:00Z to 2026-03-24 12:00:00Z\n"
        "trial ends at      2026-03-24 12:00:00Z\n"
        "to come            ends 2026-03-24 12:00:00Z\n"
        "started at         2026-03-10 12:00:00Z\n"
    )
    row = shop.json("subscriptions", "show", "ada@x.org")
    assert (row["plan_id"], row["unit_amount"], row["cancel_at_period_end"]) == ("pro", 2900, True)


def test_an_account_without_a_subscription_is_told_politely(shell: Shell) -> None:
    shell.ok("accounts", "create", "--external-id", "ada")
    assert refusal(shell, "show", "ada") == (
        '"ada" has no subscription: `pgsaas subscriptions start` makes one'
    )
    nothing = shell("subscriptions", "list")
    assert (nothing.code, nothing.out, nothing.err) == (0, "", "there are no subscriptions\n")
    assert shell.json("subscriptions", "list") == {"subscriptions": [], "next": None}


def test_what_has_ended_is_shown_without_a_period(shell: Shell, conn: Conn) -> None:
    set_plan(conn, "max", TERMS["max"])
    shell.ok("accounts", "create", "--external-id", "ada")
    say(shell, "start", "ada", "max")
    assert say(shell, "cancel", "ada", "--now") == "max is canceled, without access\n"
    shown = say(shell, "show", "ada")
    assert "status             canceled\naccess             no\n" in shown
    assert "period " not in shown
    assert "ended at " in shown
    assert refusal(shell, "resume", "ada") == "the account has no subscription"


def test_starting_says_what_was_started(shop: Shell) -> None:
    assert say(shop, "start", "bo", "max") == (
        f"started max: active, 99.00 usd a month, 5000 credits a month, period ends {APRIL}\n"
    )
    row = shop.json("subscriptions", "start", "ada", "pro", "--interval", "year", "--quantity", "2")
    assert (row["plan_id"], row["billing_interval"], row["quantity"]) == ("pro", "year", 2)
    assert (row["unit_amount"], row["currency"], row["monthly_allowance"]) == (29000, "usd", 2000)


def test_a_trial_says_when_it_ends(shop: Shell) -> None:
    assert say(shop, "start", "ada", "pro", "--trial", "--currency", "eur") == (
        "started pro: trialing, 27.00 eur a month, 1000 credits a month, "
        "trial ends 2026-03-24 12:00:00Z\n"
    )
    assert say(shop, "set-status", "ada", "active") == (
        "pro goes on when its trial ends 2026-03-24 12:00:00Z\n"
    )


def test_from_the_default_plan_a_change_is_previewed_and_made(shop: Shell) -> None:
    assert say(shop, "preview", "ada", "max", "--quantity", "2") == (
        "upgrade now: 198.00 usd to pay now, then 198.00 usd a month; 10000 credits now, "
        "then 10000 a month\n"
    )
    assert say(shop, "change", "ada", "max", "--quantity", "2").startswith("changed to max")


def test_a_contract_has_its_own_price_and_allowance(shop: Shell) -> None:
    contract = ("--allowance", "300000.5", "--unit-amount", "120000", "--currency", "eur")
    assert say(shop, "start", "ada", "deal", *contract, "--anchor", "2026-03-01") == (
        "started deal: active, 1200.00 eur a month, 300000.5 credits a month, "
        "period ends 2026-04-01 00:00:00Z\n"
    )
    assert say(shop, "change", "ada", "--unit-amount", "130000") == (
        "changed to deal: active, 1300.00 eur a month, 300000.5 credits a month, "
        "period ends 2026-04-01 00:00:00Z\n"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("start", "ada", "pri"), 'no such plan "pri"'),
        (("start", "ada", "old"), 'the plan "old" cannot be chosen any more'),
        (
            ("start", "ada", "pro"),
            'the plan "pro" has more than one price per month. Choose a currency: eur, usd.',
        ),
        (
            ("start", "ada", "max", "--interval", "year"),
            'the plan "max" has no price per year. It is sold for usd a month.',
        ),
        (("start", "ada", "max", "--trial"), 'the plan "max" has no trial'),
        (("start", "ada", "max", "--quantity", "0"), "a quantity is 1 to 1000000, not 0"),
        (
            ("start", "ada", "max", "--anchor", "2026-04-01"),
            "periods are counted from a time that has come",
        ),
        (
            ("start", "bo", "max"),
            'the account has a subscription to "pro". change_plan() changes it.',
        ),
        (
            ("change", "ada", "--quantity", "2"),
            "the account is on the default plan. start_subscription() gives it another.",
        ),
        (("change", "bo", "pri"), 'no such plan "pri"'),
        (("change", "bo", "old"), 'the plan "old" cannot be chosen any more'),
        (
            ("change", "bo"),
            "that is what the account has. resume_subscription() takes a change back that is to "
            "come.",
        ),
        (
            ("preview", "bo", "pro"),
            "that is what the account has. resume_subscription() takes a change back that is to "
            "come.",
        ),
        (("preview", "bo", "pri"), 'no such plan "pri"'),
        (
            ("cancel", "ada"),
            "the account is on the default plan. start_subscription() gives it another.",
        ),
        (
            ("set-status", "bo", "late"),
            "a subscription becomes active, past_due, unpaid, paused, canceled or expired, not "
            '"late"',
        ),
        (("migrate", "pri"), 'no such plan "pri"'),
        (("list", "--plan", "pri"), 'there is no plan "pri"'),
    ],
)
def test_what_cannot_be_is_one_line(shop: Shell, arguments: tuple[str, ...], said: str) -> None:
    say(shop, "start", "bo", "pro", "--currency", "usd")
    before = shop.ok("accounts", "export", "bo") + shop.ok("accounts", "export", "ada")
    assert refusal(shop, *arguments) == said
    assert shop.ok("accounts", "export", "bo") + shop.ok("accounts", "export", "ada") == before


@pytest.mark.parametrize(
    "command",
    ["show", "start {} max", "preview {} max", "change {} max", "cancel", "resume",
     "set-status {} active"],
)  # fmt: skip
def test_an_unknown_account_is_named(shop: Shell, command: str) -> None:
    words = command if "{}" in command else f"{command} {{}}"
    assert refusal(shop, *words.format("cy").split()) == (
        'no account "cy": give an account id, an external id, realm:external-id or an address'
    )


def test_a_preview_says_what_a_change_costs_and_gives(shop: Shell, conn: Conn) -> None:
    say(shop, "start", "ada", "pro", "--currency", "usd")
    conn.execute("select pgsaas.set_clock('2026-03-26 00:00Z')")  # 15.5 of 31 days are left
    assert say(shop, "preview", "ada", "max") == (
        "upgrade now: 35.00 usd to pay now, then 99.00 usd a month; "
        "4000 credits now, then 5000 a month\n"
    )
    assert say(shop, "preview", "ada", "max", "--at-period-end") == (
        f"upgrade on {APRIL}: nothing to pay now, then 99.00 usd a month; "
        "no credits now, then 5000 a month\n"
    )
    assert say(shop, "preview", "ada", "--interval", "year", "--quantity", "2") == (
        "upgrade now: 565.50 usd to pay now, then 580.00 usd a year; "
        "500 credits now, then 2000 a month\n"
    )
    assert say(shop, "preview", "ada", "--allowance", "10", "--unit-amount", "900") == (
        f"change on {APRIL}: nothing to pay now, then 9.00 usd a month; "
        "no credits now, then 10 a month\n"
    )
    assert say(shop, "preview", "ada", "swap") == (
        "upgrade now: nothing to pay now, then no price is known; "
        "6000 credits now in place of 1100, then 6000 a month\n"
    )
    seen = shop.json("subscriptions", "preview", "ada", "max")
    assert (seen["amount_now"], seen["amount_next"], seen["currency"]) == (3500, 9900, "usd")
    assert shop.json("subscriptions", "show", "ada")["plan_id"] == "pro"


def test_an_upgrade_is_now_and_a_downgrade_to_come(shop: Shell) -> None:
    say(shop, "start", "ada", "pro", "--currency", "usd")
    assert say(shop, "change", "ada", "max", "--quantity", "2") == (
        "changed to max: active, 198.00 usd a month (2 x 99.00 usd), 10000 credits a month, "
        f"period ends {APRIL}\n"
    )
    coming = f"pro from {APRIL} on: 29.00 usd a month"
    assert say(shop, "change", "ada", "pro", "--quantity", "1") == f"to come: {coming}\n"
    assert f"to come            {coming}\n" in say(shop, "show", "ada")
    assert shop.json("subscriptions", "change", "ada", "pro")["next_plan"]["quantity"] == 2
    assert say(shop, "change", "ada", "deal", "--quantity", "5", "--at-period-end") == (
        f"to come: deal from {APRIL} on: quantity 5\n"
    )
    assert say(shop, "change", "ada", "pro", "--now").startswith("changed to pro: active, 58.00")


def test_what_is_to_come_is_taken_back(shop: Shell) -> None:
    say(shop, "start", "ada", "max")
    assert say(shop, "resume", "ada") == "nothing was to come\n"
    said = f"max ends {APRIL}; until then nothing changes\n"
    assert say(shop, "cancel", "ada", "--reason", "too dear") == said
    assert say(shop, "cancel", "ada") == said
    assert say(shop, "resume", "ada") == (
        f"goes on as max: active, 99.00 usd a month, 5000 credits a month, period ends {APRIL}\n"
    )
    assert shop.json("subscriptions", "resume", "ada")["cancel_at_period_end"] is False
    events = shop.json("audit")["events"]
    reasons = [each["details"].get("reason") for each in events]
    assert "too dear" in reasons


def test_what_ends_now_is_followed_by_the_default_plan(shop: Shell) -> None:
    say(shop, "start", "ada", "max")
    assert say(shop, "cancel", "ada", "--now") == "canceled; the account is on free now\n"
    say(shop, "start", "ada", "max")
    assert say(shop, "set-status", "ada", "expired", "--reason", "fraud") == (
        "expired; the account is on free now\n"
    )
    say(shop, "start", "ada", "max")
    assert shop.json("subscriptions", "set-status", "ada", "cancelled")["plan_id"] == "free"


def test_payments_that_fail_are_said_with_their_access(shop: Shell) -> None:
    say(shop, "start", "ada", "max")
    assert say(shop, "set-status", "ada", "past_due") == "max is past_due, with access\n"
    assert say(shop, "set-status", "ada", "unpaid") == "max is unpaid, without access\n"
    assert refusal(shop, "change", "ada", "pro") == "a subscription that is unpaid cannot change"
    assert refusal(shop, "set-status", "ada", "paused") == (
        "a subscription that is unpaid cannot become paused"
    )
    assert say(shop, "set-status", "ada", "active") == "max is active, with access\n"


def test_subscriptions_are_listed_in_pages_and_by_plan_and_state(shop: Shell) -> None:
    ada = shop.json("subscriptions", "start", "ada", "max", "--quantity", "2")["account_id"]
    say(shop, "change", "ada", "pro")
    listed = say(shop, "list", "--plan", "max").splitlines()
    assert listed[0].split("  ")[0] == "account id"
    assert " ".join(listed[1].split()) == (
        f"{ada} ada max active 2 198.00 usd a month 10000 {APRIL} becomes pro"
    )
    say(shop, "cancel", "ada")
    assert say(shop, "list", "--plan", "max").endswith(f"{APRIL}  ends\n")
    say(shop, "set-status", "ada", "past_due")
    for options, names in {
        ("--status", "past_due"): ["ada"],
        ("--status", "active", "--plan", "free"): ["bo"],
        ("--status", "active", "--plan", "max"): [],
    }.items():
        found = shop.json("subscriptions", "list", *options)["subscriptions"]
        assert [row["external_id"] for row in found] == names
    first = shop.json("subscriptions", "list", "--limit", "1")
    assert first["next"] == first["subscriptions"][0]["account_id"]
    rest = shop.json("subscriptions", "list", "--limit", "1", "--after", first["next"])
    assert rest["next"] is None
    names = [row["external_id"] for row in first["subscriptions"] + rest["subscriptions"]]
    assert sorted(names) == ["ada", "bo"]
    assert shop("subscriptions", "list", "--limit", "1").err == (
        f"there are more: --after {first['next']}\n"
    )
    assert shop("subscriptions", "list", "--status", "late").code == 2


def test_who_cannot_be_migrated_is_named(shop: Shell, conn: Conn) -> None:
    set_plan(conn, "big", '{"allowance": 1}')
    say(shop, "start", "ada", "big", "--quantity", "1000000")
    set_plan(conn, "big", '{"allowance": 1000001}')
    done = shop("subscriptions", "migrate", "big")
    assert done.out == "0 subscribers of big moved to version 2, 1 to go\n"
    assert "an allowance is at most 10^12, not 1000001 times 1000000" in done.err
    assert "stays as it is" in done.err


def test_subscribers_of_older_versions_are_migrated(shop: Shell, conn: Conn) -> None:
    for name in ("ada", "bo"):
        say(shop, "start", name, "max")
    assert say(shop, "migrate", "max") == "nobody has an older version of max than 1\n"
    set_plan(conn, "max", TERMS["max"].replace("9900", "8900"))
    assert say(shop, "migrate", "max", "--limit", "1") == (
        "1 subscriber of max moved to version 2, 1 to go\n"
    )
    migrated = {"plan_id": "max", "version": 2, "migrated": 1, "remaining": 0}
    assert shop.json("subscriptions", "migrate", "max", "--reason", "cheaper") == migrated
    prices = {row["unit_amount"] for row in shop.json("subscriptions", "list")["subscriptions"]}
    assert prices == {8900}


def test_many_subscribers_are_moved_in_batches(
    shop: Shell, conn: Conn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgsaas.cli.subscribers.BATCH", 2)
    set_plan(conn, "free", TERMS["free"].replace("100", "110"))
    conn.execute("select pgsaas.create_account() from generate_series(1, 3)")
    conn.execute("select pgsaas.retire_plan('free')")
    conn.execute("select pgsaas.create_account() from generate_series(1, 5)")
    assert say(shop, "migrate", "free") == "2 subscribers of free moved to version 2\n"
    assert refusal(shop, "backfill") == "there is no default plan"
    set_plan(conn, "free", TERMS["free"].replace("100", "120"))
    assert say(shop, "backfill") == "5 accounts put on the default plan\n"
    assert say(shop, "backfill") == "every account has a subscription\n"
    assert shop.json("subscriptions", "backfill") == {"assigned": 0, "remaining": 0}
    assert say(shop, "migrate", "free", "--limit", "3") == (
        "3 subscribers of free moved to version 3, 2 to go\n"
    )


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        (2900, "usd", "29.00 usd"),
        (5, "eur", "0.05 eur"),
        (0, "usd", "0.00 usd"),
        (500, "jpy", "500 jpy"),
        (12345, "kwd", "12.345 kwd"),
        (99999999999, "usd", "999999999.99 usd"),
        (7, None, "7"),
    ],
)
def test_money_is_read_in_its_main_unit(amount: int, currency: str | None, text: str) -> None:
    assert money(amount, currency) == text
