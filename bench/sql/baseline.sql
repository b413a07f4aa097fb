-- The physical limits that ratios refer to. A: one statement that takes from a balance if it suffices and
-- adds a row to a ledger. A+key: the same, with an idempotency key that is unique per account. Neither
-- keeps a promise: no expiry, no replay, no overdraft, no caller check.
create schema baseline;
create table baseline.balances (
    account_id bigint primary key,
    balance bigint not null check (balance >= 0)
) with (fillfactor = 50);
create table baseline.ledger (
    ledger_id bigint generated always as identity primary key,
    account_id bigint not null,
    amount bigint not null,
    balance_after bigint not null,
    created_at timestamptz not null default now()
);
create table baseline.keyed_ledger (
    ledger_id bigint generated always as identity primary key,
    account_id bigint not null,
    amount bigint not null,
    balance_after bigint not null,
    idempotency_key text not null,
    created_at timestamptz not null default now(),
    unique (account_id, idempotency_key)
);
create table baseline.prices (
    event text primary key,
    unit_price numeric not null
);
create table baseline.keyed_usage (
    usage_id bigint generated always as identity primary key,
    account_id bigint not null,
    ledger_id bigint not null,
    event text not null,
    quantity numeric not null,
    cost numeric not null,
    idempotency_key text not null,
    occurred_at timestamptz not null default now(),
    unique (account_id, idempotency_key)
);
insert into baseline.prices values ('llm_tokens', 0.001);
insert into baseline.balances (account_id, balance) select g, 1000000000000 from generate_series(1, 10000) g;
vacuum (analyze) baseline.balances;
