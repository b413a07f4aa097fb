-- Jobs: runs of agents, with what they hold and cost.
-- Longest lock: none beyond the new table's own.
-- depends: 0008-entitlements

set local role pgsaas_owner;

create table if not exists pgsaas.jobs (
    account_id uuid not null,
    job_id uuid not null,
    job_type text,
    agent_id text not null,
    action text,
    plan_id text not null,
    plan_required text,
    job_status text not null,
    cost_credits numeric not null,
    asked_credits numeric,
    hold_id bigint,
    expires_at timestamptz not null,
    seq bigint,
    balance_after numeric not null,
    subjects jsonb not null,
    created_at timestamptz not null,
    ended_at timestamptz,
    input jsonb,
    output jsonb,
    error text,
    idempotency_key text,
    request_hash bytea,
    constraint jobs_pkey primary key (account_id, job_id),
    constraint jobs_account_fkey foreign key (account_id) references pgsaas.accounts (account_id),
    constraint jobs_agent_fkey foreign key (agent_id) references pgsaas.agents (agent_id),
    constraint jobs_status_check check (job_status in ('running', 'completed', 'failed', 'abandoned')),
    constraint jobs_cost_check check (cost_credits >= 0),
    constraint jobs_ended_check check ((job_status = 'running') = (ended_at is null))
);
create unique index if not exists jobs_key_idx on pgsaas.jobs (account_id, idempotency_key)
    where idempotency_key is not null;
create index if not exists jobs_created_idx on pgsaas.jobs (account_id, created_at, job_id);
create index if not exists jobs_running_idx on pgsaas.jobs (account_id, expires_at) where job_status = 'running';
alter table pgsaas.jobs enable row level security;
comment on table pgsaas.jobs is
    'Runs of agents. Read list_jobs(): one whose time is over is abandoned, whoever has noticed.';
comment on column pgsaas.jobs.plan_id is 'The plan that the account had when the job started.';
comment on column pgsaas.jobs.cost_credits is 'What was asked for; once it is completed, what was charged; 0 if it failed.';
comment on column pgsaas.jobs.asked_credits is 'What it came to when it was completed: more than was charged, if there was less.';
comment on column pgsaas.jobs.expires_at is 'When the hold lapses unless somebody extends it; the job is abandoned then.';
comment on column pgsaas.jobs.seq is 'The row of the ledger that charged it.';
comment on column pgsaas.jobs.subjects is '{"account": "", "agent", "member", "key"}: whose spend caps it counts for.';
