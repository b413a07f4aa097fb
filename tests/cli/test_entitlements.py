"""pgsaas entitlements: each command, in the words it says."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Shell
from tests.conftest import Conn

FREE = """{"default": true, "allowance": 100, "features": {"sso": false, "support": "email"},
    "limits": {"projects": 2, "seats": "unlimited", "videos": {"limit": 5, "per": "period"}},
    "rate_limits": {"api": {"limit": 60, "per": "minute"}}}"""
APRIL = "2026-04-10 12:00:00Z"


@pytest.fixture
def shop(shell: Shell, conn: Conn) -> Shell:
    """A plan with features and limits, and the account ada on it; it is 10 March 2026."""
    conn.execute("select pgsaas.set_clock('2026-03-10 12:00Z')")
    conn.execute("select pgsaas.set_plan('free', %s)", [FREE])
    shell.ok("accounts", "create", "--external-id", "ada", "--email", "ada@x.org")
    return shell


def say(shop: Shell, *arguments: str) -> str:
    return shop.ok("entitlements", *arguments)


def make(shop: Shell, *arguments: str) -> str:
    return say(shop, "set", "ada", *arguments, "--reason", "deal")


def table(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


def test_everything_an_account_has_is_shown_with_what_is_used(shop: Shell) -> None:
    say(shop, "use", "ada", "videos", "--delta", "3")
    make(shop, "beta", "true")
    assert table(say(shop, "show", "ada")) == [
        "feature allowed value limit used remaining resets at source",
        "beta yes yes override",
        "projects yes 2 0 2 plan",
        "rate:api yes 60 a minute 0 60 2026-03-10 12:00:00Z plan",
        "seats yes unlimited 0 plan",
        "sso no no plan",
        "support yes email plan",
        f"videos yes 5 3 2 {APRIL} plan",
    ]
    found = shop.json("entitlements", "show", "ada@x.org")["entitlements"]
    assert (found[-1]["feature"], found[-1]["used"], found[-1]["limit_value"]) == ("videos", 3, 5)


def test_an_account_without_a_plan_has_nothing(shell: Shell) -> None:
    shell.ok("accounts", "create", "--external-id", "ada")
    for command, said in (
        ("show", "the account has no features or limits\n"),
        ("caps", "there are no spend caps\n"),
    ):
        nothing = shell("entitlements", command, "ada")
        assert (nothing.code, nothing.out, nothing.err) == (0, "", said)
    assert shell.json("entitlements", "show", "ada") == {"entitlements": []}
    assert shell.json("entitlements", "caps", "ada") == {"caps": []}


@pytest.mark.parametrize(
    ("feature", "code", "said"),
    [
        ("support", 0, "allowed, by the plan: email"),
        ("sso", 1, "not allowed, by the plan"),
        ("nothing", 1, "not allowed, not part of the plan"),
        ("projects", 0, "allowed, by the plan: 0 of 2 used"),
        ("seats", 0, "allowed, by the plan: 0 used, no limit"),
        ("videos", 0, f"allowed, by the plan: 0 of 5 used, counted anew from {APRIL} on"),
        ("rate:api", 0, "allowed: 60 left of 60 a minute, full at 2026-03-10 12:00:00Z"),
        ("rate:other", 0, "allowed, no limit"),
    ],
)
def test_a_check_says_whether_and_why(shop: Shell, feature: str, code: int, said: str) -> None:
    checked = shop("entitlements", "check", "ada", feature)
    assert (checked.code, checked.out, checked.err) == (code, f"{said}\n", "")
    answer = shop("entitlements", "check", "ada", feature, "--json")
    assert (answer.code, answer.json["allowed"]) == (code, code == 0)


def test_a_limit_is_used_up_and_given_back(shop: Shell) -> None:
    assert say(shop, "use", "ada", "projects") == "1 of 2 used\n"
    assert shop.json("entitlements", "use", "ada", "projects")["remaining"] == 0
    refused = shop("entitlements", "use", "ada", "projects")
    assert (refused.code, refused.out) == (1, "")
    assert refused.err == "pgsaas: 2 of 2 projects are used (LIMIT_EXCEEDED)\n"
    answer = shop("entitlements", "use", "ada", "projects", "--json")
    assert (answer.code, answer.json["error_code"]) == (1, "LIMIT_EXCEEDED")
    assert say(shop, "use", "ada", "projects", "--delta", "-1") == "1 of 2 used\n"
    none = shop("entitlements", "use", "ada", "sso")
    assert none.err == 'pgsaas: the plan has no "sso" to use up (PLAN_REQUIRED)\n'


def test_an_exception_counts_in_place_of_the_plan_until_it_is_taken_back(shop: Shell) -> None:
    assert make(shop, "sso", "true", "--until", "2026-05-01") == (
        "sso is set until 2026-05-01 00:00:00Z\n"
    )
    assert say(shop, "check", "ada", "sso") == "allowed, by an exception\n"
    assert make(shop, "sso", "--remove") == "sso is as the plan says\n"
    assert make(shop, "sso", "--remove") == "nothing changed\n"
    changed = shop.json("entitlements", "set", "ada", "sso", "true", "--reason", "deal")
    assert changed == {"changed": True}


def test_an_exception_is_a_value_a_limit_or_a_rate(shop: Shell, conn: Conn) -> None:
    for words in (
        ("a", "12.50"), ("b", "phone"), ("c", '"true"'), ("d", "--limit", "unlimited"),
        ("e", "--limit", "7", "--per", "period"), ("rate:api", "--rate", "9", "--per", "minute"),
    ):  # fmt: skip
        assert make(shop, *words) == f"{words[0]} is set\n"
    stored = "select feature, value::text from pgsaas.entitlement_overrides order by feature"
    assert conn.execute(stored).fetchall() == [
        ("a", "12.50"),
        ("b", '"phone"'),
        ("c", '"true"'),
        ("d", '{"limit": null}'),
        ("e", '{"per": "period", "limit": 7}'),
        ("rate:api", '{"per": "minute", "limit": 9}'),
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "give one of VALUE, --limit, --rate and --remove"),
        (("true", "--limit", "5"), "give one of VALUE, --limit, --rate and --remove"),
        (("--rate", "5", "--per", "day"), "--rate is for rate:BUCKET"),
        (("--limit", "5", "--per", "day"), "--per is period for --limit, and a time for --rate"),
        (("--limit", "some"), "'some' is no amount, such as 12.5"),
        (("--of",), "there is no option --of"),
        (("-x",), "there is no option -x"),
        (("--limit", "NaN"), "'NaN' is no amount, such as 12.5"),
        (("--limit", "-Infinity"), "'-Infinity' is no amount, such as 12.5"),
    ],
)
def test_what_makes_no_exception_is_a_usage_error(
    shop: Shell, words: tuple[str, ...], said: str
) -> None:
    wrong = shop("entitlements", "set", "ada", "sso", *words, "--reason", "deal")
    assert (wrong.code, said in wrong.err) == (2, True)


def test_caps_are_set_listed_and_taken_back(shop: Shell) -> None:
    assert say(shop, "cap", "ada", "account", "500") == "account spends at most 500 a month\n"
    assert say(shop, "cap", "ada", "agent", "chat", "9.5", "--per", "day") == (
        "agent chat spends at most 9.5 a day\n"
    )
    assert say(shop, "cap", "ada", "account", "500") == "nothing changed\n"
    assert table(say(shop, "caps", "ada")) == [
        "subject kind subject cap per spent remaining resets at",
        "account 500 month 0 500 2026-04-01 00:00:00Z",
        "agent chat 9.5 day 0 9.5 2026-03-11 00:00:00Z",
    ]
    assert say(shop, "cap", "ada", "agent", "chat", "none", "--reason", "trusted") == (
        "the cap of agent chat is taken back\n"
    )
    assert [row["cap"] for row in shop.json("entitlements", "caps", "ada")["caps"]] == [500]
    for words in (("account", "x", "5"), ("agent", "5"), ("team", "x", "5"), ("account", "five")):
        assert shop("entitlements", "cap", "ada", *words).code == 2


@pytest.mark.parametrize(
    "command",
    ["show {}", "check {} sso", "use {} videos", "set {} sso true --reason deal",
     "cap {} account 5", "caps {}"],
)  # fmt: skip
def test_an_unknown_account_is_named(shop: Shell, command: str) -> None:
    refused = shop("entitlements", *command.format("nobody").split())
    assert (refused.code, refused.out, refused.err) == (
        1,
        "",
        'pgsaas: no account "nobody": give an account id, an external id, realm:external-id or '
        "an address\n",
    )
