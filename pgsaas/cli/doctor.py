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
    """Look for what is wrong with this installation; exit 5 if something is.

    Whether the ledger adds up is what `pgsaas verify` looks at.
    """
    with install.open_session(output.settings().database_url) as conn:
        if not install.is_bootstrapped(conn):
            raise NotInstalled
        found = examine(conn, packaged())
    wrong = [each for each in found if not each.is_note]
    lines = [f"{each.check}: {each.message}" for each in wrong] or ["all is well"]
    output.data({"findings": [asdict(each) for each in found]}, *lines)
    for each in found:
        if each.is_note:
            output.talk(f"note: {each.message}")
    return 5 if wrong else 0
