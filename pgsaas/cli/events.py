"""pgsaas events: what actions cost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import click

from pgsaas.call import call, read
from pgsaas.cli import arguments
from pgsaas.cli.arguments import given
from pgsaas.cli.output import Output, pass_output, shared_options
from pgsaas.cli.session import ADMIN, open_ledger
from pgsaas.cli.table import plain
from pgsaas.errors import EventNotFound
from pgsaas.install.session import Session

LISTED = ("event_name", "price", "for", "unit", "state")
VERSIONS = ("effective_at", "dimensions", "price")


@click.group()
@shared_options
def events() -> None:
    """List, set and try the prices of actions."""


def to_prices(
    context: click.Context, parameter: click.Parameter, texts: Sequence[str]
) -> str | None:
    """Prices as JSON objects, as written: the database reads their figures exactly."""
    for text in texts:
        try:
            is_object = isinstance(json.loads(text), dict)
        except (ValueError, RecursionError):
            is_object = False
        if not is_object:
            raise click.BadParameter(f'no price such as {{"model": "unit", "unit": 2}}: {text}')
    return f"[{', '.join(texts)}]" if texts else None


def to_dimensions(
    context: click.Context, parameter: click.Parameter, texts: Sequence[str]
) -> str | None:
    """name=value, several of them, as a JSON object."""
    pairs = [text.partition("=") for text in texts]
    for name, mark, _ in pairs:
        if not name or not mark:
            raise click.BadParameter("a dimension is written name=value, such as kind=prompt")
    return json.dumps({name: value for name, _, value in pairs}) if pairs else None


dimensions = click.option(
    "--dimension",
    "-d",
    "dimensions",
    multiple=True,
    callback=to_dimensions,
    metavar="NAME=VALUE",
    help="What the price may depend on; several may be given.",
)


def price_text(price: dict[str, Any]) -> str:
    """A stored price as a person reads it."""
    model, unit = price["price_model"], plain(price["unit_price"])
    said = {"unit": f"{unit} each", "package": f"{unit} per {plain(price['package_size'])}"}
    parts = [plain(price["base"])] if price["base"] or model == "flat" else []
    parts += [said[model]] if model in said else []
    if price["tiers"]:
        parts.append(f"{model} by {price['tier_scope']}: {_tiers(price['tiers'])}")
    text = " + ".join(parts)
    if model == "package" and price["package_rounding"] != "exact":
        text += f", rounded {price['package_rounding']}"
    return text + (f", at least {plain(price['minimum'])}" if price["minimum"] else "")


def _tiers(tiers: Sequence[dict[str, Any]]) -> str:
    found = []
    for tier in tiers:
        flat = f" + {plain(tier['flat'])}" if tier["flat"] else ""
        end = "above" if tier["up_to"] is None else f"to {plain(tier['up_to'])}"
        found.append(f"{plain(tier['unit'])} each{flat} {end}")
    return ", ".join(found)


def _current(conn: Session, versions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    now = call(conn, "now")[0]["now"]
    begun = [each["effective_at"] for each in versions if each["effective_at"] <= now]
    return [each for each in versions if begun and each["effective_at"] == max(begun)]


@events.command(name="list")
@shared_options
@pass_output
def list_events(output: Output) -> None:
    """List the credit events and what they cost now."""
    with open_ledger(output) as conn:
        found = read(conn, "credit_events", order_by="event_name")
        prices = read(conn, "credit_prices", order_by="specificity")
        for event in found:
            own = [each for each in prices if each["event_name"] == event["event_name"]]
            event["prices"] = _current(conn, own)
    rows = [
        {
            **event,
            "price": price_text(each) if each else "none yet",
            "for": plain(each.get("dimensions")),
            "state": "" if event["is_active"] else "inactive",
        }
        for event in found
        for each in event["prices"] or [{}]
    ]
    output.table({"events": found}, rows, LISTED, "there are no credit events")


@events.command()
@shared_options
@click.argument("event")
@pass_output
def show(output: Output, event: str) -> None:
    """Show EVENT and every version of its prices, the newest first."""
    with open_ledger(output) as conn:
        found = read(conn, "credit_events", {"event_name": event})
        versions = read(
            conn,
            "credit_prices",
            {"event_name": event},
            order_by="effective_at",
            newest_first=True,
        )
    if not found:
        raise EventNotFound(f'no credit event "{event}"')
    if output.as_json:
        output.data({**found[0], "prices": versions})
        return
    output.fields(found[0], list(found[0]))
    rows = [{**each, "price": price_text(each)} for each in versions]
    output.data(None, "", "prices:")
    output.table(None, rows, VERSIONS, "")


@events.command(name="set")
@shared_options
@click.argument("event")
@click.option(
    "--price",
    "prices",
    multiple=True,
    callback=to_prices,
    metavar="JSON",
    help='Such as {"model": "unit", "unit": 0.002}; all prices of a version are given together.',
)
@click.option("--description", metavar="TEXT")
@click.option("--category", metavar="NAME")
@click.option("--unit", metavar="NAME", help="What a quantity counts.")
@click.option(
    "--has-dimension",
    "names",
    multiple=True,
    metavar="NAME",
    help="A dimension that prices may depend on; all of them are given together, and one that a "
    "price names stays.",
)
@click.option("--active/--inactive", "is_active", default=None, help="Whether it may be used.")
@click.option(
    "--from",
    "effective_at",
    callback=arguments.to_moment,
    metavar="TIME",
    help="When the prices begin (default: now).",
)
@click.option("--reason", metavar="TEXT", help="Why; kept for ever.")
@pass_output
def set_event(output: Output, /, event: str, names: tuple[str, ...], **options: Any) -> None:
    """Make EVENT, or change it; what is not given stays as it is.

    \b
    Prices are JSON, all those of a version together:
      {"base": 3}                                         3 for each use
      {"model": "unit", "unit": 0.002, "minimum": 0.1}    each unit
      {"model": "package", "size": 1000, "unit": 1, "round": "up"}
      {"model": "graduated", "per": "period", "tiers": [
          {"up_to": 1000, "flat": 0}, {"unit": 0.5}]}     or "volume"
    Any may have "base", "minimum" and "dimensions": {"kind": "prompt"};
    "round" is up, down or exact, "per" is call or period.
    """
    with open_ledger(output, ADMIN) as conn:
        known = list(names) or None
        done = call(conn, "set_credit_event", event=event, **given(dimensions=known, **options))[0]
    said = f"prices from {plain(done['effective_at'])}" if done["changed"] else "nothing changed"
    if done["changed"] and options["is_active"] is not None:
        said += ", active" if options["is_active"] else ", inactive"
    output.data(done, f"{event}: {said}")


@events.command(context_settings=arguments.NUMBERS)
@shared_options
@click.argument("event")
@click.argument("quantity", callback=arguments.to_amount, required=False)
@dimensions
@click.option("--at", "occurred_at", callback=arguments.to_moment, metavar="TIME")
@pass_output
def cost(
    output: Output,
    /,
    event: str,
    quantity: Decimal | None,
    occurred_at: datetime | None,
    **more: Any,
) -> int:
    """Say what QUANTITY of EVENT costs, and by which price."""
    with open_ledger(output) as conn:
        asked = given(quantity=quantity, occurred_at=occurred_at, **more)
        found = call(conn, "price_usage", event=event, **asked)[0]
    if not found["success"]:
        output.data(found)
        output.talk(f"pgsaas: {found['error_message']} ({found['error_code']})", "bold red")
        return 1
    output.data(found, f"{plain(found['cost'])} credits: {price_text(found['price'])}")
    return 0
