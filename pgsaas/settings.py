"""Configuration, read once: flag > environment > .env > pgsaas.toml.

Within one of these PGSAAS_DATABASE_URL goes before DATABASE_URL; where nothing names a
database, libpq's own PG* variables do. No password ever shows in a repr.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

from psycopg import pq

from pgsaas.errors import NoDatabase, PgsaasError

NAMES = ("PGSAAS_DATABASE_URL", "DATABASE_URL")
_LINE = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*?)\s*\Z")


@dataclass(frozen=True, slots=True)
class Settings:
    """What the command line and the services run with."""

    #: libpq connection string; it may hold a password, so it stays out of the repr.
    database_url: str = field(repr=False)
    #: Where it came from, for people.
    source: str


def read_settings(
    flag: str | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Settings:
    """Find the database. Raises NoDatabase when nothing names one."""
    env = os.environ if environment is None else environment
    here = folder or Path.cwd()
    if flag:
        return Settings(libpq_url(flag), "--database-url")
    dotenv = _read_dotenv(here / ".env")
    for values, where in ((env, "the environment"), (dotenv, ".env")):
        for name in NAMES:
            if value := values.get(name):
                return Settings(libpq_url(value), f"{name} in {where}")
    if value := _read_toml(here / "pgsaas.toml"):
        return Settings(libpq_url(value), "pgsaas.toml")
    if any(env.get(name) for name in ("PGHOST", "PGHOSTADDR", "PGDATABASE", "PGSERVICE")):
        return Settings("", "the PG* variables")
    raise NoDatabase


def libpq_url(url: str) -> str:
    """The address as libpq takes it.

    Other tools write `postgresql+driver://` and parameters of their own (`schema`,
    `pgbouncer`, `connection_limit`); libpq refuses both.
    """
    url = re.sub(r"\Apostgres(?:ql)?(?:\+\w+)?://", "postgresql://", url.strip())
    address, mark, query = url.partition("?")
    if not mark or not address.startswith("postgresql://"):
        return url
    known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()} | {"ssl"}
    kept = [(name, value) for name, value in parse_qsl(query) if name in known]
    return f"{address}?{urlencode(kept)}" if kept else address


def _read_dotenv(path: Path) -> dict[str, str]:
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        if match := _LINE.match(line):
            name, value = match.groups()
            quoted = re.match(r"""(["'])(.*?)\1""", value)
            found[name] = quoted[2] if quoted else re.split(r"\s+#", value)[0]
    return found


def _read_toml(path: Path) -> str | None:
    if not path.is_file():
        return None
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PgsaasError(f"{path} cannot be read: {error}") from error
    value = found.pop("database_url", None)
    if found or not isinstance(value, str | None):
        unknown = next(iter(found), "database_url")
        raise PgsaasError(
            f'{path}: "{unknown}" means nothing here; the file holds database_url = "postgresql://…"'
        )
    return value
