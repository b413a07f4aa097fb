"""`python -m bench`: measure, print the table, and write docs/performance.md after a whole run."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench import report
from bench.lab import QUICK, Effort, durable_lab, memory_lab, say
from bench.results import Result
from bench.rows import ROWS


def main(arguments: list[str] | None = None) -> int:
    """Returns 1 when verify_ledger found something; a missed goal is only reported."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke run: figures mean little")
    parser.add_argument("--rows", metavar="NAME,…", help=f"some of {', '.join(ROWS)}")
    parser.add_argument("--rounds", type=int, help="rounds of each measurement")
    parser.add_argument("--output", type=Path, help="write the page here")
    chosen = parser.parse_args(arguments)
    names = chosen.rows.split(",") if chosen.rows else list(ROWS)
    if unknown := [name for name in names if name not in ROWS]:
        parser.error(f"no row named {', '.join(unknown)}; there are {', '.join(ROWS)}")
    effort = QUICK if chosen.quick else Effort()
    if chosen.rounds:
        effort = effort.with_rounds(chosen.rounds)
    whole = not chosen.quick and not chosen.rows
    output = chosen.output or (report.PAGE if whole else None)
    results, problems, version = measure(names, effort)
    print(report.table(results))
    for problem in problems:
        print(f"verify_ledger: {problem}")
    if output:
        output.write_text(report.page(results, effort, version, problems))
        say(f"written to {output}")
    return 1 if problems else 0


def measure(names: list[str], effort: Effort) -> tuple[list[Result], list[str], str]:
    """Run the rows, those of one server after each other; results come in the rows' order."""
    found: dict[str, list[Result]] = {}
    problems: list[str] = []
    version = ""
    for durable, make in ((False, memory_lab), (True, durable_lab)):
        mine = [name for name in names if ROWS[name].durable == durable]
        if not mine:
            continue
        with make(effort) as lab:
            version = str(lab.value("show server_version"))
            for name in mine:
                say(name)
                found[name] = list(ROWS[name].measure(lab))
                problems += lab.problems()
            problems += lab.problems(kept=())
    return [result for name in ROWS if name in found for result in found[name]], problems, version


if __name__ == "__main__":
    sys.exit(main())
