"""The demo: pgsaas beside a small application, on a PostgreSQL of its own."""

from __future__ import annotations
