"""The command line: thin commands over pgsaas.install and pgsaas.call."""

from __future__ import annotations

import io
import os
import sys

import click
import psycopg

import pgsaas
from pgsaas.cli.accounts import accounts
from pgsaas.cli.attach import attach, detach, expose
from pgsaas.cli.catalog import catalog
from pgsaas.cli.clock import clock
from pgsaas.cli.credits import credits  # noqa: A004
from pgsaas.cli.demo import demo
from pgsaas.cli.doctor import doctor
from pgsaas.cli.entitlements import entitlements
from pgsaas.cli.events import events
from pgsaas.cli.jobs import jobs
from pgsaas.cli.migrate import adopt, migrate, status
from pgsaas.cli.moving import compare_balances, import_balances
from pgsaas.cli.output import Output, shared_options
from pgsaas.cli.rewards import rewards
from pgsaas.cli.schedule import cron, worker
from pgsaas.cli.staff import admins, audit
from pgsaas.cli.subscriptions import subscriptions
from pgsaas.cli.terms import settings
from pgsaas.cli.uninstall import uninstall
from pgsaas.cli.usage import usage
from pgsaas.cli.verify import verify
from pgsaas.errors import PgsaasError, one_line
from pgsaas.exact import as_json

COMMANDS: list[click.Command] = [
    demo,
    migrate,
    status,
    adopt,
    doctor,
    verify,
    attach,
    detach,
    expose,
    accounts,
    credits,
    catalog,
    subscriptions,
    events,
    usage,
    entitlements,
    jobs,
    rewards,
    import_balances,
    compare_balances,
    worker,
    cron,
    settings,
    admins,
    audit,
    clock,
    uninstall,
]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(pgsaas.__version__, prog_name="pgsaas")
@shared_options
def pgsaas_group() -> None:
    """Credit billing inside the PostgreSQL you already have.

    Exit codes: 0 ok, 1 failed, 2 usage, 3 pending or drift, 4 no database, 5 doctor found
    something.
    """


for command in COMMANDS:
    pgsaas_group.add_command(command)


def main() -> None:
    """Run a command; every expected failure is one line on stderr and an exit code."""
    output = Output()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal may not know every letter
            stream.reconfigure(errors="backslashreplace")
    try:
        result = pgsaas_group(obj=output, standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:  # a full disk, a file that cannot be read
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        output.fail(str(error))
        sys.exit(1)
    except click.exceptions.Abort:
        output.fail("aborted")
        sys.exit(1)
    except click.ClickException as error:
        if "--json" in sys.argv[1:]:  # it may stand behind what could not be read
            click.echo(as_json({"error": error.format_message(), "code": None}))
        error.show()
        sys.exit(error.exit_code)
    except PgsaasError as error:
        output.fail(str(error), error.code)
        sys.exit(error.exit_code)
    except psycopg.Error as error:
        output.fail(one_line(error), error.sqlstate)
        sys.exit(1)
    sys.exit(result if isinstance(result, int) else 0)
