"""pgsaas doctor."""

from __future__ import annotations

from dataclasses import asdict

import click

from pgsaas import install
from pgsaas.cli.output import Output, pass_output, shared_options
from pgsaas.errors import NotInstalled
from pgsaas.install.checks import examine
from pgsaas.resources import packaged


@click.command()
@shared_options
@pass_output
def doctor(output: Output) -> int:
    """Look for what is wrong with this installation; exit 5 if something is."""
    with install.open_session(output.settings().database_url) as conn:
        if not install.is_bootstrapped(conn):
            raise NotInstalled
        found = examine(conn, packaged())
    lines = [f"{finding.check}: {finding.message}" for finding in found]
    output.data({"findings": [asdict(finding) for finding in found]}, *(lines or ["all is well"]))
    return 5 if found else 0
