"""pgsaas catalog: what a business sells, as one file."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import psycopg
import tomli_w

from pgsaas.catalog import PRESETS, SECTIONS, Catalog, preset, read_file
from pgsaas.catalog.loading import Change, load, lost_default
from pgsaas.catalog.loading import export as exported
from pgsaas.catalog.subscribers import lost_prices
from pgsaas.cli import arguments
from pgsaas.cli.output import Output, pass_output, shared_options
from pgsaas.cli.session import ADMIN, open_ledger
from pgsaas.cli.table import counted, plain, print_line
from pgsaas.exact import as_json

MARKS = {"added": ("+", "green"), "changed": ("~", "yellow"), "retired": ("-", "red")}


@click.group()
@shared_options
def catalog() -> None:
    """Plans, packs and prices as one TOML file: try it, apply it, write it."""


file = click.argument("file", metavar="FILE|PRESET")


def _read(name: str) -> Catalog:
    return preset(name) if name in PRESETS else read_file(Path(name))


def _try(output: Output, name: str, keep: bool, **options: Any) -> list[Change]:
    """Bring a catalog in, in one transaction; undo it unless it is to be kept."""
    wanted = _read(name)
    with open_ledger(output, ADMIN) as conn, conn.transaction() as transaction:
        changes = load(conn, wanted, **options)
        for change in changes:
            if change.section == "plans" and change.what == "changed":
                for line in lost_prices(conn, change.name, change.before, change.after):
                    output.talk(f"warning: {line}", "yellow")
        if (gone := lost_default(conn, changes)) is not None:
            output.talk(
                f'warning: no default plan follows "{gone}": new accounts have no subscription',
                "yellow",
            )
        if not keep:
            raise psycopg.Rollback(transaction)
    return changes


def _show(output: Output, changes: list[Change], said: str) -> None:
    if output.as_json:
        output.data({"changes": [_as_data(change) for change in changes]})
        return
    for change in changes:
        mark, style = MARKS[change.what]
        version = f" (version {change.version})" if change.version else ""
        print_line(f"{mark} {change.section.removesuffix('s')} {change.name}{version}", style)
        for line in [*_differences(change), *_subscribers(change)]:
            print_line(f"    {line}", "dim")
    if not changes:
        output.talk(said)
    if any(change.subscribers for change in changes):
        output.talk("`pgsaas subscriptions list --plan PLAN` names the subscribers of a plan")


def _as_data(change: Change) -> dict[str, Any]:
    data = {name: getattr(change, name) for name in change.__slots__}
    if change.section != "plans":
        del data["subscribers"], data["migrated"]
        return data
    return {**data, "subscribers": [asdict(each) for each in change.subscribers]}


def _subscribers(change: Change) -> Iterator[str]:
    if change.migrated:
        moved = "moves" if change.migrated == 1 else "move"
        yield f"{counted(change.migrated, 'subscriber')} {moved} to version {change.version}"
    for each in change.subscribers:
        keep = "keeps" if each.subscribers == 1 else "keep"
        yield f"{counted(each.subscribers, 'subscriber')} {keep} version {each.version}"


def _differences(change: Change) -> list[str]:
    if change.what != "changed":
        return []
    names = [*change.after, *(name for name in change.before if name not in change.after)]
    arrow = "\N{RIGHTWARDS ARROW}"
    return [
        f"{name}: {_text(change.before.get(name))} {arrow} {_text(change.after.get(name))}"
        for name in names
        if change.before.get(name) != change.after.get(name)
    ]


def _text(value: Any) -> str:
    if value is None:
        return "not set"
    return as_json(value) if isinstance(value, dict | list) else plain(value)


@catalog.command()
@shared_options
@file
@pass_output
def validate(output: Output, file: str) -> None:
    """Say whether FILE, or a PRESET, can be applied; nothing is changed."""
    _try(output, file, keep=False)
    counts = {section: len(_read(file).of(section)) for section in SECTIONS}
    said = ", ".join(f"{number} {section}" for section, number in counts.items() if number)
    output.data({"valid": True, **counts}, f"{file} is a catalog of {said}")


@catalog.command()
@shared_options
@file
@pass_output
def plan(output: Output, file: str) -> None:
    """Say what applying FILE, or a PRESET, would change."""
    _show(output, _try(output, file, keep=False), "nothing would change")


@catalog.command()
@shared_options
@file
@click.option(
    "--prices-from",
    callback=arguments.to_moment,
    metavar="TIME",
    help="When the prices of events begin (default: now); earlier, to price use of the past.",
)
@click.option(
    "--migrate", is_flag=True, help="Move subscribers of changed plans to the new version."
)
@click.option("--reason", metavar="TEXT", help="Why; kept for ever.")
@pass_output
def apply(output: Output, /, file: str, **options: Any) -> None:
    """Make the database sell what FILE, or a PRESET, says: all of it or nothing.

    Plans, packs and agents that the file leaves out are retired: nobody can choose them any more,
    and who has a plan keeps it. A section that the file does not have is left as it is.

    Subscribers of a changed plan keep the version they have. With --migrate they get the new one
    in the same transaction; `pgsaas subscriptions migrate` does it later, in steps.
    """
    _show(output, _try(output, file, keep=True, **options), "nothing changed")


@catalog.command()
@shared_options
@pass_output
def export(output: Output) -> None:
    """Write what is on sale as a catalog."""
    with open_ledger(output) as conn:
        found = exported(conn)
    sections: dict[str, list[dict[str, Any]]] = {}
    for (section, name), terms in found.items():
        sections.setdefault(section, []).append({"id": name, **terms})
    if output.as_json:
        output.data(sections)
        return
    click.echo(tomli_w.dumps(sections), nl=False, file=sys.stdout)
