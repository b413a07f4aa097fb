"""pg_cron: finds the extension, in this database or in another, and schedules what is due there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from psycopg import conninfo
from psycopg import errors as pg

from pgsaas.call import call
from pgsaas.errors import PgsaasError, one_line
from pgsaas.install.session import Session, open_session

COMMAND = "call pgsaas.run_all_due()"


@dataclass(frozen=True, slots=True)
class Job:
    """The job of this database in pg_cron; the last run's fields are None before the first."""

    name: str
    schedule: str
    database: str
    user: str
    is_active: bool
    last_at: datetime | None = None
    last_status: str | None = None
    last_message: str | None = None


@contextmanager
def cron_session(conn: Session, database_url: str) -> Iterator[tuple[Session, str]]:
    """A session in the database where pg_cron's extension is, and the name of our job there.

    Raises PgsaasError where there is none.
    """
    row = conn.execute("""
        select pgsaas.has_pg_cron(), pg_catalog.current_setting('cron.database_name', true),
            pg_catalog.current_database()
    """).fetchone()
    assert row is not None  # noqa: S101
    is_here, elsewhere, here = row
    if is_here:
        yield conn, _job_name(conn, here)
        return
    if not elsewhere:
        raise PgsaasError("this server has not loaded pg_cron: run `pgsaas worker` instead")
    if elsewhere == here:
        raise PgsaasError("pg_cron is loaded, but not installed: `create extension pg_cron`")
    with open_session(conninfo.make_conninfo(database_url, dbname=elsewhere)) as other:
        found = other.execute("select from pg_catalog.pg_extension where extname = 'pg_cron'")
        if found.fetchone() is None:
            raise PgsaasError(
                f"pg_cron is loaded, but not installed: `create extension pg_cron` in {elsewhere}"
            )
        yield other, _job_name(conn, elsewhere)


def _job_name(conn: Session, cron_database: str) -> str:
    name: str = call(conn, "job_name", cron_database=cron_database)[0]["job_name"]
    return name


def schedule(conn: Session, database_url: str, every: str) -> str:
    """Let pg_cron do what is due, as `every` says; returns the job's name."""
    with cron_session(conn, database_url) as (cron, name):
        _unschedule(cron, name)
        try:
            cron.execute(
                "select cron.schedule_in_database(%s, %s, %s, %s)",
                [name, every, COMMAND, conn.info.dbname],
            )
        except pg.Error as error:
            raise PgsaasError(f"pg_cron refused: {one_line(error)}") from error
    return name


def unschedule(conn: Session, database_url: str) -> bool:
    """Take the job out again; whether there was one."""
    with cron_session(conn, database_url) as (cron, name):
        return _unschedule(cron, name)


def _unschedule(cron: Session, name: str) -> bool:
    gone = cron.execute(
        "select cron.unschedule(j.jobid) from cron.job j where j.jobname = %s", [name]
    )
    return bool(gone.fetchall())


def find_job(conn: Session, database_url: str) -> Job | None:
    """The job of this database, as far as this login may see it. Raises what cron_session does."""
    with cron_session(conn, database_url) as (cron, name):
        row = cron.execute(
            """
            select j.jobname, j.schedule, j.database, j.username, j.active, r.start_time, r.status,
                r.return_message
            from cron.job j
            left join lateral (
                select d.start_time, d.status, d.return_message from cron.job_run_details d
                where d.jobid = j.jobid order by d.runid desc limit 1) r on true
            where j.jobname = %s
            """,
            [name],
        ).fetchone()
    return Job(*row) if row else None
