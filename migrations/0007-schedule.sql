-- Who does what is due, and when they were last here.
-- Longest lock: none beyond the new table's own.
-- depends: 0006-subscriptions

set local role pgsaas_owner;

create table if not exists pgsaas.runners (
    runner text not null,
    first_at timestamptz not null,
    last_at timestamptz not null,
    runs bigint not null default 1,
    done bigint not null default 0,
    last_done_at timestamptz,
    last_error text,
    last_error_at timestamptz,
    constraint runners_pkey primary key (runner),
    constraint runners_runner_check check (octet_length(runner) between 1 and 255)
);
alter table pgsaas.runners enable row level security;
comment on table pgsaas.runners is
    'Who does what is due: pg_cron, workers, callers of run_all_due(). One that was not seen for a week is forgotten.';
comment on column pgsaas.runners.done is 'How many accounts it has brought up to date.';
