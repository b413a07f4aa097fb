"""Every exception of pgsaas, and the one table from database codes to them.

The docstring of a class is its default message. A state of the world that the database
answers with `success = false` has an `error_code`; what it raises has a SQLSTATE.
"""

from __future__ import annotations

import psycopg


class PgsaasError(Exception):
    """pgsaas could not do what was asked."""

    #: `error_code` or SQLSTATE the class stands for; None for errors outside the database.
    code: str | None = None
    #: Exit code of the command line.
    exit_code = 1

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or " ".join((type(self).__doc__ or "").split()))


class InsufficientCredits(PgsaasError):
    """The account has fewer credits available than were asked for."""

    code = "INSUFFICIENT_CREDITS"


class AccountNotFound(PgsaasError):
    """There is no such account, or none the caller may know of."""

    code = "ACCOUNT_NOT_FOUND"


class AccountFrozen(PgsaasError):
    """The account is frozen."""

    code = "ACCOUNT_FROZEN"


class EventInactive(PgsaasError):
    """The event is not active."""

    code = "EVENT_INACTIVE"


class EventNotFound(PgsaasError):
    """There is no such event."""

    code = "EVENT_NOT_FOUND"


class HoldNotFound(PgsaasError):
    """There is no such hold on this account."""

    code = "HOLD_NOT_FOUND"


class HoldClosed(PgsaasError):
    """The hold was captured, released or has lapsed."""

    code = "HOLD_CLOSED"


class RefundExceeds(PgsaasError):
    """More was asked back than was taken and not yet given back."""

    code = "REFUND_EXCEEDS"


class NotRefundable(PgsaasError):
    """This row cannot be refunded."""

    code = "NOT_REFUNDABLE"


class NotTransferable(PgsaasError):
    """These credits may not move to that account."""

    code = "NOT_TRANSFERABLE"


class InvalidItem(PgsaasError):
    """This item's arguments are out of range."""

    code = "INVALID_ARGUMENT"


class KeyConflict(PgsaasError):
    """This item's idempotency key was used for another request."""

    code = "KEY_CONFLICT"


class PlanRequired(PgsaasError):
    """The account's plan does not include this."""

    code = "PLAN_REQUIRED"


class AgentNotAllowed(PgsaasError):
    """The account's plan does not include this agent."""

    code = "AGENT_NOT_ALLOWED"


class SubscriptionInactive(PgsaasError):
    """The account's subscription is not active."""

    code = "SUBSCRIPTION_INACTIVE"


class DeductionFailed(PgsaasError):
    """The credits for this work could not be deducted."""

    code = "DEDUCTION_FAILED"


class InvalidValue(PgsaasError):
    """An argument can never be right."""

    code = "22023"


class Forbidden(PgsaasError):
    """The caller may not do this."""

    code = "PT403"


class NotFound(PgsaasError):
    """There is no such account, member or row."""

    code = "PT404"


class Conflict(PgsaasError):
    """It exists already, with other values."""

    code = "PT409"


class RuleViolated(PgsaasError):
    """A rule refuses this."""

    code = "PT422"


class RaceLost(PgsaasError):
    """Another transaction was first: run this one again."""

    code = "40001"


class NoDatabase(PgsaasError):
    """No database is configured: give --database-url, or PGSAAS_DATABASE_URL or DATABASE_URL in
    the environment or in .env, or database_url in pgsaas.toml, or PGHOST or PGDATABASE."""

    exit_code = 4


class ServerTooOld(PgsaasError):
    """The server is older than PostgreSQL 15: upgrade it, or use another one."""

    exit_code = 4


class PoolerInTheWay(PgsaasError):
    """A connection pooler answers here: give the address of the PostgreSQL server itself."""

    exit_code = 4


class MissingPrivilege(PgsaasError):
    """This database role may not do that."""


class RolesRefused(PgsaasError):
    """The database roles of pgsaas cannot be used as they are."""


class LockBusy(PgsaasError):
    """Somebody else is migrating this database: try again when they are done."""


class StaleObject(PgsaasError):
    """The schema holds something that no file of sql/ made."""


class ClockReplaced(PgsaasError):
    """The test clock is set: run `pgsaas clock reset` first."""


class NotInstalled(PgsaasError):
    """pgsaas is not installed in this database: run `pgsaas migrate`."""

    exit_code = 3


class HostDepends(PgsaasError):
    """Objects of the application depend on pgsaas."""


class DamagedInstallation(PgsaasError):
    """The SQL files of pgsaas are missing: install the package again."""


class ServerNotStarted(PgsaasError):
    """PostgreSQL did not start."""

    exit_code = 4


BY_CODE: dict[str, type[PgsaasError]] = {
    kind.code: kind for kind in PgsaasError.__subclasses__() if kind.code is not None
}


def from_answer(error_code: str, message: str | None = None) -> PgsaasError:
    """The exception for an answer with `success = false`."""
    error = BY_CODE.get(error_code, PgsaasError)(message)
    error.code = error_code
    return error


def from_database(error: psycopg.Error) -> PgsaasError | None:
    """The exception for what the database raised, None when pgsaas has no name for it."""
    kind = BY_CODE.get(error.sqlstate or "")
    return kind(one_line(error)) if kind else None


def one_line(error: psycopg.Error) -> str:
    """What the database said, with its hint, in one line."""
    if not error.diag.message_primary:
        return (str(error).splitlines() or [type(error).__name__])[0]
    said = [error.diag.message_primary, error.diag.message_hint or ""]
    return " ".join(". ".join(part for part in said if part).split())
