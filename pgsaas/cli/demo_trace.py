"""What `pgsaas demo --trace` prints, and what must be equal for it to exit 0."""

from __future__ import annotations

from decimal import Decimal

import psycopg

from pgsaas.call import call
from pgsaas.cli.output import Output
from pgsaas.cli.progress import progress
from pgsaas.cli.session import prepare
from pgsaas.cli.table import plain
from pgsaas.demo.replay import Run, ledger_charges, open_accounts, replay
from pgsaas.demo.trace import Trace


def replay_file(
    output: Output, address: str, trace: Trace, expected: list[Decimal], connections: int
) -> bool:
    """Record a trace twice, the second time with the same keys; whether all is equal.

    `expected` is what each account must have been charged then.
    """
    runs: list[Run] = []
    with psycopg.connect(address, autocommit=True) as conn:
        prepare(conn)
        with progress("opening accounts") as advance:
            ids = open_accounts(conn, trace, expected, advance)
        for title in ("charging", "the same again"):
            with progress(title) as advance:
                runs.append(
                    replay(
                        lambda: psycopg.connect(address, autocommit=True),
                        trace,
                        ids,
                        connections,
                        advance,
                    )
                )
            _print_run(output, title, runs[-1], len(trace.requests), connections)
        charged = ledger_charges(conn, ids)
        violations = call(conn, "verify_ledger")
    differing = [
        f"account {index}: the ledger has {plain(found)}, the file {plain(wanted)}"
        for index, (wanted, found) in enumerate(zip(expected, charged, strict=True))
        if wanted != found
    ]
    once, again = runs
    if once.refused or again.refused:
        differing.append(f"{once.refused + again.refused} requests were refused")
    if again.charged:
        differing.append(f"{again.charged} requests were charged a second time")
    differing += [f"{each['account_id']}: {each['rule']}: {each['detail']}" for each in violations]
    output.data(
        {
            "requests": len(trace.requests),
            "accounts": len(expected),
            "expected_credits": sum(expected),
            "ledger_credits": sum(charged),
            "runs": [_run_as_data(run) for run in runs],
            "differences": differing,
        },
        f"by the file:    {plain(sum(expected))} credits over {len(expected)} accounts",
        f"by the ledger:  {plain(sum(charged))} credits"
        + ("" if differing else ", equal for every account; verify found nothing"),
    )
    for line in differing:
        output.talk(f"pgsaas: {line}")
    return not differing


def _rate(run: Run) -> int:
    return round(run.done / run.seconds) if run.seconds else 0


def _run_as_data(run: Run) -> dict[str, object]:
    return {
        "charged": run.charged,
        "replayed": run.replayed,
        "refused": run.refused,
        "free": run.free,
        "credits": run.credits,
        "seconds": round(run.seconds, 3),
        "requests_per_second": _rate(run),
    }


def _print_run(output: Output, title: str, run: Run, requests: int, connections: int) -> None:
    if output.as_json:
        return
    free = f", free of charge {run.free:,}" if run.free else ""
    output.data(
        None,
        f"{title + ':':<15} {requests:,} requests in {run.seconds:.1f} s "
        f"({_rate(run):,} per second, {connections} connections, a transaction each): "
        f"charged {run.charged:,} ({plain(run.credits)} credits), "
        f"replayed {run.replayed:,}, refused {run.refused:,}{free}",
    )
