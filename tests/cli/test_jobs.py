"""pgsaas jobs: each command, in the words it says."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cli.conftest import Shell
from tests.conftest import Conn

PLANS = {
    "free": '{"default": true, "allowance": 100}',
    "pro": '{"rank": 1, "allowance": 1000}',
}
AGENTS = {
    "chat": '{"name": "Chat", "credits": 2, "actions": {"long": 7.5}}',
    "old": '{"availability": "disabled"}',
    "render": '{"plan": "pro", "credits": 10, "availability": "soon"}',
    "search": '{"excluded_plans": ["free"]}',
}
UNTIL = "2026-03-10 12:15:00Z"
NOBODY = "00000000-0000-0000-0000-000000000001"


@pytest.fixture
def shop(shell: Shell, conn: Conn) -> Shell:
    """Four agents, and the account ada with 100 credits a month; it is 10 March 2026."""
    conn.execute("select pgsaas.set_clock('2026-03-10 12:00Z')")
    for plan, terms in PLANS.items():
        conn.execute("select pgsaas.set_plan(%s, %s)", [plan, terms])
    for agent, terms in AGENTS.items():
        conn.execute("select pgsaas.set_agent(%s, %s)", [agent, terms])
    shell.ok("accounts", "create", "--external-id", "ada", "--email", "ada@x.org")
    return shell


def say(shop: Shell, *arguments: str) -> str:
    return shop.ok("jobs", *arguments)


def started(shop: Shell, *arguments: str) -> Any:
    return shop.json("jobs", "start", "ada", *arguments)


def table(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


def test_agents_are_listed_with_what_they_need_and_cost(shop: Shell) -> None:
    assert table(say(shop, "agents")) == [
        "agent id name plan not in credits actions availability",
        "chat Chat 2 long 7.5 available",
        "render render pro 10 soon",
        "search search free 0 available",
    ]
    found = shop.json("jobs", "agents", "--all")["agents"]
    assert [row["agent_id"] for row in found] == sorted(AGENTS)


def test_where_there_is_nothing_it_says_so(shell: Shell) -> None:
    shell.ok("accounts", "create", "--external-id", "ada")
    for arguments, said, value in (
        (("agents",), "there are no agents\n", {"agents": []}),
        (("list", "ada"), "there are no jobs\n", {"jobs": [], "next": None}),
        (("stats",), "there are no jobs\n", {"jobs": []}),
    ):
        nothing = shell("jobs", *arguments)
        assert (nothing.code, nothing.out, nothing.err) == (0, "", said)
        assert shell.json("jobs", *arguments) == value


def test_an_authorized_agent_says_what_it_costs(shop: Shell) -> None:
    assert say(shop, "authorize", "ada", "chat.long") == (
        "authorized on free: costs 7.5, 100 are available\n"
    )
    row = shop.json("jobs", "authorize", "ada@x.org", "chat", "--cost", "99.5")
    assert (row["success"], row["cost"], row["plan_id"]) == (True, 99.5, "free")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("old",), 'the agent "old" is disabled (AGENT_NOT_ALLOWED)'),
        (("paint",), 'there is no agent "paint" (AGENT_NOT_ALLOWED)'),
        (("search",), 'the plan "free" does not include the agent "search" (AGENT_NOT_ALLOWED)'),
        (("render",), 'the plan "pro" is required, the account has "free" (PLAN_REQUIRED)'),
        (
            ("chat", "--plan", "pro"),
            'the plan "pro" is required, the account has "free" (PLAN_REQUIRED)',
        ),
        (
            ("chat", "--cost", "101"),
            "not enough credits: 101 needed, 100 available (INSUFFICIENT_CREDITS)",
        ),
    ],
)
def test_an_agent_that_is_not_authorized_is_not_started_either(
    shop: Shell, arguments: tuple[str, ...], said: str
) -> None:
    for command in ("authorize", "start"):
        refused = shop("jobs", command, "ada", *arguments)
        assert (refused.code, refused.out, refused.err) == (1, "", f"pgsaas: {said}\n")
        answer = shop("jobs", command, "ada", *arguments, "--json")
        assert (answer.code, answer.json["success"]) == (1, False)
        assert said.endswith(f"({answer.json['error_code']})")
    assert shop.json("jobs", "list", "ada")["jobs"] == []


@pytest.mark.parametrize(
    ("commands", "said"),
    [
        (
            ("subscriptions set-status ada past_due", "subscriptions set-status ada unpaid"),
            "the subscription is unpaid (SUBSCRIPTION_INACTIVE)",
        ),
        (("accounts freeze ada --reason fraud",), "the account is frozen (DEDUCTION_FAILED)"),
    ],
)
def test_an_account_that_may_do_nothing_starts_no_job(
    shop: Shell, commands: tuple[str, ...], said: str
) -> None:
    shop.ok("subscriptions", "start", "ada", "pro")
    for command in commands:
        shop.ok(*command.split())
    for command in ("authorize", "start"):
        refused = shop("jobs", command, "ada", "chat")
        assert (refused.code, refused.out, refused.err) == (1, "", f"pgsaas: {said}\n")


def test_a_spend_cap_stops_the_next_job_and_not_the_look(shop: Shell) -> None:
    shop.ok("entitlements", "cap", "ada", "agent", "chat", "3")
    started(shop, "chat")
    assert shop("jobs", "authorize", "ada", "chat").code == 0
    refused = shop("jobs", "start", "ada", "chat")
    assert (refused.code, refused.err) == (
        1,
        "pgsaas: the spend cap of 3 credits a month is reached (agent chat) (DEDUCTION_FAILED)\n",
    )
    (cap,) = shop.json("entitlements", "caps", "ada")["caps"]
    assert (cap["spent"], cap["remaining"]) == (2, 1)


def test_a_job_is_started_once_and_completed_for_what_it_came_to(shop: Shell) -> None:
    words = ("chat.long", "--type", "summary", "--input", '{"pages": 3}', "--key", "one")
    row = started(shop, *words)
    again = shop("jobs", "start", "ada", *words)
    assert (again.code, again.out) == (
        0,
        "this was done before, nothing changed; then: balance 100, available 92.5\n",
    )
    done = ("complete", "ada", row["job_id"], "--cost", "5", "--output", '{"words": 90}')
    assert say(shop, *done) == "completed, charged 5: balance 95, row 2, available 95\n"
    assert shop.json("jobs", *done)["replayed"] is True
    (job,) = shop.json("jobs", "list", "ada")["jobs"]
    assert (job["job_status"], job["job_type"], job["cost_credits"]) == ("completed", "summary", 5)
    assert (job["input"], job["output"]) == ({"pages": 3}, {"words": 90})


def test_starting_says_the_job_and_what_it_holds(shop: Shell) -> None:
    said = say(shop, "start", "ada", "chat")
    (job,) = shop.json("jobs", "list", "ada")["jobs"]
    assert said == f"job {job['job_id']} holds 2 until {UNTIL}: balance 100, available 98\n"


def test_a_job_that_failed_gives_back_what_it_took(shop: Shell) -> None:
    row = started(shop, "chat")
    fail = ("fail", "ada", row["job_id"], "--error", "timeout")
    assert say(shop, *fail) == "failed, 2 given back: balance 100, available 100\n"
    assert shop.json("jobs", *fail)["replayed"] is True
    row = started(shop, "chat")
    say(shop, "complete", "ada", row["job_id"])
    assert say(shop, "fail", "ada", row["job_id"]) == (
        "failed, 2 given back: balance 100, row 3, available 100\n"
    )
    refused = shop("jobs", "complete", "ada", row["job_id"])
    assert (refused.code, refused.err) == (1, "pgsaas: the job is failed already\n")


def test_what_is_no_job_or_costs_too_much_is_refused(shop: Shell) -> None:
    for command in ("complete", "fail"):
        refused = shop("jobs", command, "ada", NOBODY)
        assert (refused.code, refused.out, refused.err) == (1, "", "pgsaas: no such job\n")
        assert shop("jobs", command, "ada", NOBODY, "--json").json["error"] == "no such job"
        assert shop("jobs", command, "ada", "seven").code == 2
    row = started(shop, "chat")
    dear = ("complete", "ada", row["job_id"], "--cost", "500", "--shortfall", "refuse")
    assert shop("jobs", *dear, "--json").json["error_code"] == "INSUFFICIENT_CREDITS"
    assert shop.json("jobs", "list", "ada")["jobs"][0]["job_status"] == "running"


def test_jobs_are_listed_newest_first_by_state_and_in_pages(shop: Shell, conn: Conn) -> None:
    first = started(shop, "chat.long", "--type", "summary")["job_id"]
    conn.execute("select pgsaas.set_clock('2026-03-10 12:05Z')")
    second = started(shop, "chat")["job_id"]
    say(shop, "fail", "ada", second, "--error", "timeout")
    assert table(say(shop, "list", "ada")) == [
        "job id agent type status credits created at ended at error",
        f"{second} chat failed 0 2026-03-10 12:05:00Z 2026-03-10 12:05:00Z timeout",
        f"{first} chat.long summary running 7.5 2026-03-10 12:00:00Z",
    ]
    running = shop.json("jobs", "list", "ada", "--status", "running")["jobs"]
    assert [row["job_id"] for row in running] == [first]
    page = shop("jobs", "list", "ada", "--limit", "1")
    assert page.err == "there are more: --before 2026-03-10T12:05:00+00:00\n"
    before = page.err.split()[-1]
    rest = shop.json("jobs", "list", "ada", "--limit", "1", "--before", before)
    assert ([row["job_id"] for row in rest["jobs"]], rest["next"]) == ([first], None)
    assert shop("jobs", "list", "ada", "--status", "late").code == 2


def test_jobs_are_counted_by_agent_plan_and_type(shop: Shell, conn: Conn) -> None:
    say(shop, "complete", "ada", started(shop, "chat", "--type", "talk")["job_id"])
    say(shop, "fail", "ada", started(shop, "chat", "--type", "talk")["job_id"])
    started(shop, "chat.long")
    assert table(say(shop, "stats")) == [
        "agent id jobs running completed failed abandoned success rate credits",
        "chat 3 1 1 1 0 0.5 2",
    ]
    conn.execute("select pgsaas.set_clock('2026-03-10 13:00Z')")
    assert table(say(shop, "stats", "ada", "--by", "type,plan")) == [
        "plan id job type jobs running completed failed abandoned success rate credits",
        "free talk 2 0 1 1 0 0.5 2",
        "free 1 0 0 0 1 0 0",
    ]
    assert shop.json("jobs", "stats", "--from", "2026-03-11") == {"jobs": []}
    (row,) = shop.json("jobs", "stats", "--to", "2026-03-11")["jobs"]
    assert (row["jobs"], row["abandoned"], row["plan_id"]) == (3, 1, None)
    wrong = shop("jobs", "stats", "--by", "day")
    assert (wrong.code, "'day' is not some of agent,plan,type" in wrong.err) == (2, True)


@pytest.mark.parametrize(
    "command",
    ["authorize {} chat", "start {} chat", f"complete {{}} {NOBODY}", f"fail {{}} {NOBODY}",
     "list {}", "stats {}"],
)  # fmt: skip
def test_an_unknown_account_is_named(shop: Shell, command: str) -> None:
    refused = shop("jobs", *command.format("nobody").split())
    assert (refused.code, refused.out, refused.err) == (
        1,
        "",
        'pgsaas: no account "nobody": give an account id, an external id, realm:external-id or '
        "an address\n",
    )
