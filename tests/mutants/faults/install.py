"""Faults of installing, of drift and of the command line."""

from __future__ import annotations

from tests.mutants.fault import (
    CLI,
    CREDITS,
    DOCTOR,
    LOAD,
    UNINSTALL,
    Fault,
)

INSTALL_FAULTS = [
    Fault(
        "a load leaves what no file makes",
        "pgsaas/install/loader.py",
        'yield f"sql/{room.name}", room.text\n    if not checked:\n'
        '        yield "functions and views were all rewritten", CHECK_REWRITTEN\n'
        '    yield "triggers and policies are all declared", CHECK_DECLARED\n',
        'yield f"sql/{room.name}", room.text\n',
        LOAD,
    ),
    Fault(
        "a load waits for a lock as long as it takes",
        "pgsaas/install/load_texts.py",
        "set local lock_timeout = '@wait@';\nset local statement_timeout = 0;",
        "set local statement_timeout = 0;",
        LOAD,
    ),
    Fault(
        "a load puts the real clock under a test",
        "pgsaas/install/load_texts.py",
        "    if v_is_set then\n",
        "    if false then\n",
        LOAD,
    ),
    Fault(
        "uninstalling takes roles from sibling databases",
        "pgsaas/install/removal.py",
        "        if in_use:\n            done.roles_kept[role] = in_use[0]\n",
        "",
        UNINSTALL,
    ),
    Fault(
        "uninstalling takes what the application made of ours with it",
        "pgsaas/install/removal.py",
        "    if dependents and not force:",
        "    if False:",
        UNINSTALL,
    ),
    Fault(
        "a refusal exits as a success",
        "pgsaas/cli/output.py",
        "({answer['error_code']})\", ERROR)\n            return 1",
        "({answer['error_code']})\", ERROR)\n            return 0",
        CREDITS,
    ),
    Fault(
        "status is content with pending migrations",
        "pgsaas/cli/migrate.py",
        "return 0 if found.current else 3",
        "return 0",
        CLI,
    ),
    Fault(
        "a function that acts as somebody else is no drift",
        "pgsaas/install/load_texts.py",
        "p.prosrc, p.prosecdef, p.proconfig, p.provolatile)",
        "p.prosrc, p.proconfig, p.provolatile)",
        DOCTOR,
    ),
    Fault(
        "a function changed by hand stays after a load",
        "pgsaas/install/loader.py",
        "and is_loaded(conn, resources) and not changed_objects(conn):",
        "and is_loaded(conn, resources):",
        DOCTOR,
    ),
    Fault(
        "a privilege granted by hand is no drift",
        "pgsaas/install/load_texts.py",
        "        where c.relnamespace = 'pgsaas'::pg_catalog.regnamespace and c.relname !~ 'yoyo'\n"
        "        union all\n        select c.oid::pg_catalog.regclass::text || '.'",
        "        where false\n"
        "        union all\n        select c.oid::pg_catalog.regclass::text || '.'",
        DOCTOR,
    ),
    Fault(
        "doctor wants an account for who was erased",
        "pgsaas/install/checks.py",
        "where e.subject_hash = any (pgsaas.subject_hashes(",
        "where false and e.subject_hash = any (pgsaas.subject_hashes(",
        DOCTOR,
    ),
]
