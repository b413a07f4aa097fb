"""pgsaas uninstall."""

from __future__ import annotations

import sys
from dataclasses import asdict

import click

from pgsaas import install
from pgsaas.cli.output import Output, pass_output, shared_options


@click.command()
@shared_options
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--keep-roles", is_flag=True, help="Leave the database roles in the cluster.")
@click.option("--force", is_flag=True, help="Drop objects of the application that depend on it.")
@pass_output
def uninstall(output: Output, yes: bool, keep_roles: bool, force: bool) -> None:
    """Remove pgsaas and all its data from the database."""
    url = output.settings().database_url
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("this deletes every account and ledger: add --yes")
        with install.open_session(url) as conn:
            name = conn.info.dbname
        click.confirm(
            f"Delete every account, grant and ledger row in database {name}?", abort=True, err=True
        )
    done = install.uninstall(url, force=force, keep_roles=keep_roles, talk=output.talk)
    lines = ["removed" if done.schema_dropped else "there was nothing to remove"]
    lines += [f"kept role {role}: {why}" for role, why in done.roles_kept.items()]
    output.data(asdict(done), *lines)
