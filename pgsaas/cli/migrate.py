"""pgsaas migrate, status and adopt."""

from __future__ import annotations

import getpass
from dataclasses import asdict

import click
import psycopg
from psycopg.conninfo import conninfo_to_dict

from pgsaas import install
from pgsaas.call import call
from pgsaas.cli.output import Output, pass_output, shared_options
from pgsaas.errors import NotInstalled, PgsaasError
from pgsaas.resources import packaged


@click.command()
@shared_options
@click.option("--sql", "print_sql", is_flag=True, help="Print what would run, for psql.")
@click.option("--roles-sql", is_flag=True, help="Print what a DBA runs first, for psql.")
@click.option("--installer", metavar="ROLE", help="Who will migrate, for --roles-sql.")
@click.option("--adopt-roles", is_flag=True, help="Use roles that exist already.")
@click.option("--test-mode", is_flag=True, help="Make a new installation one for tests.")
@click.option("--force", is_flag=True, help="Load the functions even if they are loaded.")
@pass_output
def migrate(
    output: Output,
    print_sql: bool,
    roles_sql: bool,
    installer: str | None,
    adopt_roles: bool,
    test_mode: bool,
    force: bool,
) -> None:
    """Install pgsaas, or bring it to this version."""
    if installer and not roles_sql:
        raise click.UsageError("--installer goes with --roles-sql: migrate runs as who logs in")
    if roles_sql:
        who = installer or _installer(output.settings().database_url)
        script = install.roles_script(packaged(), who, adopt_roles=adopt_roles)
        output.data({"sql": script}, script.rstrip())
        return
    url = output.settings().database_url
    if print_sql:
        with install.open_session(url) as conn:
            script = install.migrate_script(
                conn, packaged(), adopt_roles=adopt_roles, test_mode=test_mode, force=force
            )
        output.data({"sql": script}, script.rstrip())
        return
    done = install.migrate(
        url, adopt_roles=adopt_roles, test_mode=test_mode, force=force, talk=output.talk
    )
    changed = done.bootstrapped or done.applied or done.loaded
    output.data(
        asdict(done),
        f"installed: {len(done.applied)} migrations applied, functions "
        f"{'loaded' if done.loaded else 'unchanged'}"
        if changed
        else "nothing to do",
    )


def _installer(url: str) -> str:
    """The role that will migrate: asked of the server, else read from the address."""
    try:
        with install.open_session(url) as conn:
            return conn.info.user
    except (PgsaasError, psycopg.Error):
        return str(conninfo_to_dict(url).get("user") or getpass.getuser())


@click.command()
@shared_options
@pass_output
def status(output: Output) -> int:
    """Say whether migrations are pending or were edited; exit 3 if so."""
    with install.open_session(output.settings().database_url) as conn:
        found = install.status(conn, packaged())
    output.data({**asdict(found), "current": found.current}, *found.sentences())
    return 0 if found.current else 3


@click.command()
@shared_options
@pass_output
def adopt(output: Output) -> None:
    """Declare this copy of a database to be the one that acts."""
    with install.open_session(output.settings().database_url) as conn:
        if not install.is_bootstrapped(conn):
            raise NotInstalled
        with install.as_owner(conn):
            changed = call(conn, "adopt_installation")[0]["adopt_installation"]
    output.data({"adopted": changed}, "adopted" if changed else "it was adopted already")
