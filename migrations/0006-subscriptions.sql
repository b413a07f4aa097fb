-- Subscriptions, and what the ledger has to know of them: when an account's terms end, and what
-- follows. Longest lock: ACCESS EXCLUSIVE on account_balances, for the catalogue only (columns
-- without a default rewrite nothing).
-- depends: 0005-catalog

set local role pgsaas_owner;

alter table pgsaas.account_balances
    add column if not exists terms_end_at timestamptz,
    add column if not exists next_terms jsonb;
comment on column pgsaas.account_balances.terms_end_at is
    'The end of the last period with these terms (allowance, rollover limit); null for no end.';
comment on column pgsaas.account_balances.next_terms is
    '{"allowance", "rollover_limit", "burn_order", "then"} that follow, "then" being what comes after them, from its "at" on; null with a terms_end_at: no further period.';

create table if not exists pgsaas.subscriptions (
    account_id uuid not null,
    subscription_id bigint not null,
    plan_id text not null,
    plan_version integer not null,
    status text not null,
    provider text not null,
    billing_interval text not null default 'month',
    quantity integer not null default 1,
    allowance numeric,
    currency text,
    unit_amount bigint,
    started_at timestamptz not null,
    period_anchor timestamptz not null,
    period_offset integer not null default 0,
    trial_ends_at timestamptz,
    past_due_at timestamptz,
    expires_with_trial boolean not null default false,
    canceled_at timestamptz,
    ended_at timestamptz,
    change_at timestamptz,
    change_kind text,
    next_plan jsonb,
    follows jsonb,
    due_at timestamptz,
    constraint subscriptions_pkey primary key (account_id, subscription_id),
    constraint subscriptions_account_fkey foreign key (account_id) references pgsaas.accounts (account_id),
    constraint subscriptions_plan_fkey foreign key (plan_id, plan_version)
        references pgsaas.plan_versions (plan_id, version),
    constraint subscriptions_status_check check (status in ('trialing', 'active', 'past_due', 'unpaid',
        'paused', 'canceled', 'expired')),
    constraint subscriptions_provider_check check (provider in ('default', 'manual')),
    constraint subscriptions_billing_interval_check check (billing_interval in ('month', 'year')),
    constraint subscriptions_quantity_check check (quantity between 1 and 1000000),
    constraint subscriptions_allowance_check
        check (allowance >= 0 and allowance <= 1000000000000 and allowance = round(allowance, 6)),
    constraint subscriptions_price_check check ((currency is null) = (unit_amount is null) and unit_amount >= 0),
    constraint subscriptions_trial_check check (status <> 'trialing' or trial_ends_at is not null),
    constraint subscriptions_past_due_check check (status <> 'past_due' or past_due_at is not null),
    constraint subscriptions_ended_check check ((ended_at is not null) = (status in ('canceled', 'expired'))),
    constraint subscriptions_change_check check ((change_at is null) = (change_kind is null)
        and coalesce(change_kind = 'plan', false) = (next_plan is not null)),
    constraint subscriptions_change_kind_check check (change_kind in ('plan', 'canceled'))
);
create unique index if not exists subscriptions_live_idx on pgsaas.subscriptions (account_id)
    where ended_at is null;
create index if not exists subscriptions_due_idx on pgsaas.subscriptions (due_at) where due_at is not null;
create index if not exists subscriptions_plan_idx on pgsaas.subscriptions (plan_id, plan_version)
    where ended_at is null;
alter table pgsaas.subscriptions enable row level security;
comment on table pgsaas.subscriptions is
    'What gives accounts their plans, numbered per account; at most one is live. Read current_subscriptions.';
comment on column pgsaas.subscriptions.provider is
    'Who says what is paid: default (nobody; the plan of accounts without another) or manual (the backend).';
comment on column pgsaas.subscriptions.allowance is
    'Credits per month and unit of a contract of its own; null: those of the plan.';
comment on column pgsaas.subscriptions.unit_amount is
    'What a unit costs per interval, in the currency''s smallest unit, as it was agreed.';
comment on column pgsaas.subscriptions.period_anchor is
    'Periods are counted from here, as the ledger counts them; the end of a trial.';
comment on column pgsaas.subscriptions.period_offset is
    'How many months after the anchor the first paid interval begins.';
comment on column pgsaas.subscriptions.change_at is
    'When change_kind happens by itself: another plan (next_plan), or the end (canceled).';
comment on column pgsaas.subscriptions.expires_with_trial is
    'Whether nobody has paid for what follows the trial.';
comment on column pgsaas.subscriptions.next_plan is
    '{"plan_id", "plan_version", "billing_interval", "quantity", "allowance", "currency", "unit_amount"}.';
comment on column pgsaas.subscriptions.follows is
    'While an end is in sight: {"plan_id", "plan_version"} of the default plan that follows then; {} for none.';
comment on column pgsaas.subscriptions.due_at is
    'When time changes this row next: a trial''s end, change_at, or the end of a grace.';
