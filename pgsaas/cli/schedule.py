"""pgsaas worker and pgsaas cron: who does what is due."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import click
import psycopg

from pgsaas.call import call, read
from pgsaas.cli.output import Output, pass_output, shared_options
from pgsaas.cli.session import OWNER, open_ledger
from pgsaas.cli.table import plain
from pgsaas.errors import PgsaasError
from pgsaas.exact import as_json
from pgsaas.install import cron as pg_cron
from pgsaas.worker import Worker, own_name

BACKEND = "pgsaas_app"


@click.command()
@shared_options
@click.option("--once", is_flag=True, help="Do what is due now, and end.")
@click.option(
    "--pause",
    type=click.FloatRange(0.1, 3600),
    default=10,
    show_default=True,
    metavar="SECONDS",
    help="Between two looks for something to do.",
)
@click.option(
    "--limit",
    type=click.IntRange(1, 100_000),
    default=1000,
    show_default=True,
    help="Accounts in one step; a stop waits for the step that runs.",
)
@click.option("--name", metavar="NAME", help="How `pgsaas cron status` calls it.")
@pass_output
def worker(output: Output, /, once: bool, name: str | None, **options: Any) -> None:
    """Do what is due, over and over: an equal alternative to pg_cron.

    Any number may run at once. SIGTERM and SIGINT let it finish its step.
    """

    @contextmanager
    def connect() -> Iterator[psycopg.Connection[Any]]:
        with open_ledger(output, BACKEND) as conn:
            yield conn

    def report(step: dict[str, Any]) -> None:
        if output.as_json:
            click.echo(as_json(step))
        elif step["error"]:
            output.talk(f"{step.get('task', 'connection')}: {step['error']}", "red")
        else:
            click.echo(f"{step['task']}: {step['done']}")

    found = Worker(connect, report, name or own_name(), **options)
    if once:
        with connect() as conn:
            found.work_off(conn)
        return
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: found.stop())
    output.talk(f"{found.name} looks every {found.pause:g} s; SIGTERM ends it")
    found.run()
    output.talk(f"{found.name} has ended")


@click.group()
@shared_options
def cron() -> None:
    """Let pg_cron do what is due, and see what ran and what is late."""


@cron.command()
@shared_options
@click.option(
    "--every",
    default="* * * * *",
    show_default=True,
    metavar="CRON",
    help="When, in the words of cron (UTC).",
)
@pass_output
def schedule(output: Output, every: str) -> None:
    """Make, or change, the job in pg_cron, in whichever database it lives."""
    with open_ledger(output, OWNER) as conn:
        name = pg_cron.schedule(conn, output.settings().database_url, every)
    output.data({"job": name, "schedule": every}, f'pg_cron runs "{name}" at {every}')


@cron.command()
@shared_options
@pass_output
def unschedule(output: Output) -> None:
    """Take the job out of pg_cron."""
    with open_ledger(output, OWNER) as conn:
        gone = pg_cron.unschedule(conn, output.settings().database_url)
    output.data({"unscheduled": gone}, "unscheduled" if gone else "there was no job")


@cron.command()
@shared_options
@pass_output
def status(output: Output) -> int:
    """Say what is due, who was here last, and what went wrong; exit 5 if something is late."""
    with open_ledger(output) as conn:
        tasks = call(conn, "due_tasks")
        late = call(conn, "late_schedule")[0]["late_schedule"]
        runners = read(conn, "runners", order_by="last_at", newest_first=True)
        job: dict[str, Any] | None = None
        try:
            found = pg_cron.find_job(conn, output.settings().database_url)
            job = asdict(found) if found else None
            said = (
                "pg_cron: no job; `pgsaas cron schedule` makes one"
                if not found
                else (
                    f'pg_cron: "{found.name}" at {found.schedule}'
                    + ("" if found.is_active else ", not active")
                    + (
                        f", last {plain(found.last_at)} {found.last_status}"
                        if found.last_at
                        else ""
                    )
                    + (f": {found.last_message}" if found.last_status == "failed" else "")
                )
            )
        except (PgsaasError, psycopg.Error) as error:
            said = f"pg_cron: {error}"
    if output.as_json:
        output.data({"due": tasks, "runners": runners, "job": job, "late": late})
        return 5 if late else 0
    for task in tasks:
        since = f", since {plain(task['oldest_at'])}" if task["due"] else ""
        click.echo(f"{task['task']:<24} {task['due']} due{since}")
    for runner in runners:
        failed = f"; failed {plain(runner['last_error_at'])}: {runner['last_error']}"
        click.echo(
            f"{runner['runner']:<24} last {plain(runner['last_at'])}, {runner['runs']} runs, "
            f"{runner['done']} done{failed if runner['last_error'] else ''}"
        )
    click.echo(said)
    if late:
        output.talk(f"late: {late}", "bold red")
    return 5 if late else 0
