"""pgsaas demo."""

from __future__ import annotations

from pathlib import Path

import click

from pgsaas.cli.output import Output, json_option, pass_output


@click.command()
@json_option
@click.option("--psql", "open_psql", is_flag=True, help="Open psql on what the last demo left.")
@click.option("--keep", is_flag=True, help="Let the server run afterwards, until Ctrl-C.")
@click.option(
    "--trace",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Charge the LLM requests of a CSV file instead, and check every credit.",
)
@click.option("--accounts", type=click.IntRange(1, 10_000), default=50, show_default=True)
@click.option("--connections", type=click.IntRange(1, 64), default=4, show_default=True)
@click.option("--limit", type=click.IntRange(min=1), help="Only so many requests of the file.")
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="PATH",
    help="Where the data is kept (default: in the user's cache).",
)
@pass_output
def demo(
    output: Output,
    open_psql: bool,
    keep: bool,
    trace: Path | None,
    accounts: int,
    connections: int,
    limit: int | None,
    folder: Path | None,
) -> int:
    """Tell how pgsaas works, on a PostgreSQL of its own.

    With --trace it charges real requests, 1 credit per 1,000 prompt tokens and 2 per 1,000
    completion tokens, request i to account i modulo --accounts, and compares the ledger with
    the file. FILE has the columns TIMESTAMP,ContextTokens,GeneratedTokens, as the traces of the
    Azure Public Dataset have.
    """
    if open_psql and (keep or trace):
        raise click.UsageError("--psql stands alone")
    from pgsaas.cli import demo_run  # it starts PostgreSQL, as not every system can

    if open_psql:
        return demo_run.open_psql(folder)
    if trace is None:
        return 0 if demo_run.tell(output, folder, keep=keep) else 1
    good = demo_run.replay(
        output,
        folder,
        trace,
        accounts=accounts,
        connections=connections,
        limit=limit,
        keep=keep,
    )
    return 0 if good else 1
