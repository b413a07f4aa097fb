"""pgsaas jobs: work of agents for credits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import click

from pgsaas.call import call
from pgsaas.cli import arguments
from pgsaas.cli.arguments import NUMBERS, given
from pgsaas.cli.output import ERROR, Output, pass_output, shared_options
from pgsaas.cli.session import find_account, open_ledger
from pgsaas.cli.table import plain

STATUSES = ("running", "completed", "failed", "abandoned")
GROUPS = ("agent", "plan", "type")
AGENTS = ("agent_id", "name", "plan", "not_in", "credits", "actions", "availability")
JOBS = ("job_id", "agent", "type", "status", "credits", "created_at", "ended_at", "row", "error")
STATS = (
    "agent_id",
    "plan_id",
    "job_type",
    "jobs",
    "running",
    "completed",
    "failed",
    "abandoned",
    "success_rate",
    "credits",
)


@click.group()
@shared_options
def jobs() -> None:
    """Authorize, start, end, list and count jobs of agents.

    ACCOUNT is an account id, the external id of a user, realm:external-id or an address. AGENT is
    an agent or agent.action. A call that is refused says why and exits 1.
    """


def _call(output: Output, function: str, account: str, /, **options: Any) -> dict[str, Any]:
    with open_ledger(output) as conn:
        return call(conn, function, account_id=find_account(conn, account), **given(**options))[0]


def _cost(help_text: str) -> Callable[[Any], Any]:
    return click.option("--cost", callback=arguments.to_amount, metavar="AMOUNT", help=help_text)


agent = click.argument("agent_id", metavar="AGENT")
job = click.argument("job_id", type=UUID, metavar="JOB")
plan = click.option(
    "--plan", "required_plan", metavar="PLAN", help="Ask for this plan, or one of its rank."
)


@jobs.command()
@shared_options
@click.option("--all", "is_all", is_flag=True, help="Disabled ones, too.")
@pass_output
def agents(output: Output, is_all: bool) -> None:
    """List the agents that can be used, or will be soon, with what they cost."""
    with open_ledger(output) as conn:
        found = call(conn, "list_agents", include_disabled=is_all)
    listed = [
        {**row, "plan": row["plan_id"], "not_in": row["excluded_plans"] or None} for row in found
    ]
    names = [name for name in AGENTS if any(row[name] not in (None, {}) for row in listed)]
    output.table({"agents": found}, listed, names, "there are no agents")


@jobs.command(context_settings=NUMBERS)
@shared_options
@arguments.account
@agent
@_cost("What it would cost, instead of what the agent asks.")
@plan
@pass_output
def authorize(output: Output, /, account: str, **options: Any) -> int:
    """Say whether ACCOUNT may use AGENT now, and what it costs; exit 1 with the code if not."""
    answer = _call(output, "authorize_agent", account, **options)
    if not answer["success"]:
        output.data(answer)
        output.talk(f"pgsaas: {answer['error_message']} ({answer['error_code']})", ERROR)
        return 1
    cost, available = plain(answer["cost"]), plain(answer["available"])
    output.data(
        answer, f"authorized on {answer['plan_id']}: costs {cost}, {available} are available"
    )
    return 0


@jobs.command(context_settings=NUMBERS)
@shared_options
@arguments.account
@agent
@click.option("--type", metavar="TYPE", help="What kind of work, for lists and figures.")
@click.option("--input", callback=arguments.to_object, metavar="JSON", help="What it works on.")
@_cost("What to hold, instead of what the agent asks.")
@plan
@arguments.ttl
@click.option("--key-name", metavar="NAME", help="The API key it runs by, for its spend cap.")
@click.option(
    "--key",
    "idempotency_key",
    metavar="KEY",
    help="An idempotency key: the same call with it again has no further effect.",
)
@pass_output
def start(output: Output, /, account: str, **options: Any) -> int:
    """Start a job of AGENT and hold its cost.

    It is abandoned, and the cost comes back by itself, when its time is over.
    """
    answer = _call(output, "start_job", account, **options)
    until, cost = plain(answer["expires_at"]), plain(answer["cost"])
    return output.answer(answer, f"job {answer['job_id']} holds {cost} until {until}")


@jobs.command(context_settings=NUMBERS)
@shared_options
@arguments.account
@job
@_cost("What it came to (default: what was held).")
@click.option("--output", callback=arguments.to_object, metavar="JSON", help="What it made.")
@click.option(
    "--shortfall",
    type=click.Choice(["refuse", "partial", "debt"]),
    help="What to do when it costs more than is there (default: partial).",
)
@pass_output
def complete(output: Output, /, account: str, **options: Any) -> int:
    """End JOB and charge what it came to."""
    answer = _call(output, "complete_job", account, **options)
    return output.answer(answer, f"completed, charged {plain(answer['cost'])}")


@jobs.command()
@shared_options
@arguments.account
@job
@click.option("--error", metavar="TEXT", help="What went wrong.")
@pass_output
def fail(output: Output, /, account: str, **options: Any) -> int:
    """End JOB as failed; what it held is free again, what it was charged is given back."""
    answer = _call(output, "fail_job", account, **options)
    return output.answer(answer, f"failed, {plain(answer['refunded'])} given back")


@jobs.command(name="list")
@shared_options
@arguments.account
@click.option("--status", type=click.Choice(STATUSES), help="Only those in this state.")
@click.option("--limit", type=click.IntRange(1, 999), default=20, show_default=True)
@click.option(
    "--before", callback=arguments.to_moment, metavar="TIME", help="Only those begun before it."
)
@pass_output
def list_jobs(output: Output, /, account: str, limit: int, **options: Any) -> None:
    """List the jobs of ACCOUNT, newest first."""
    with open_ledger(output) as conn:
        account_id = find_account(conn, account)
        found = call(conn, "list_jobs", account_id=account_id, limit=limit + 1, **given(**options))
    rows = found[:limit]
    listed = [_brief(row) for row in rows]
    names = [name for name in JOBS if any(row[name] is not None for row in listed)]
    following = rows[-1]["created_at"] if len(found) > limit else None
    output.table({"jobs": rows, "next": following}, listed, names, "there are no jobs")
    if following and not output.as_json:
        output.talk(f"there are more: --before {following.isoformat()}")


def _brief(row: dict[str, Any]) -> dict[str, Any]:
    return {
        **row,
        "agent": ".".join(part for part in (row["agent_id"], row["action"]) if part),
        "type": row["job_type"],
        "status": row["job_status"],
        "credits": row["cost_credits"],
        "row": row["seq"],
    }


def to_groups(
    context: click.Context, parameter: click.Parameter, text: str | None
) -> list[str] | None:
    """Names of what jobs are grouped by, with commas between them."""
    if text is None:
        return None
    names = [name.strip() for name in text.split(",")]
    if not set(names) <= set(GROUPS):
        raise click.BadParameter(f"{text!r} is not some of agent,plan,type")
    return names


@jobs.command()
@shared_options
@click.argument("account", required=False)
@click.option("--from", callback=arguments.to_moment, metavar="TIME", help="Begun then or later.")
@click.option("--to", callback=arguments.to_moment, metavar="TIME", help="Begun before it.")
@click.option(
    "--by",
    "group_by",
    callback=to_groups,
    metavar="WHAT",
    help="Some of agent,plan,type (default: agent).",
)
@pass_output
def stats(output: Output, /, account: str | None, **options: Any) -> None:
    """Count jobs of ACCOUNT, or of all, with what became of them and what they cost."""
    with open_ledger(output) as conn:
        account_id = find_account(conn, account) if account else None
        found = call(conn, "job_stats", **given(account_id=account_id, **options))
    names = [name for name in STATS if any(row[name] is not None for row in found)]
    output.table({"jobs": found}, found, names, "there are no jobs")
