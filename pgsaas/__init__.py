"""Credit billing that lives inside the PostgreSQL an application already has."""

from __future__ import annotations

__version__ = "0.1.0.dev0"
