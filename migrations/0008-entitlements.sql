-- What accounts may do beyond or below their plan, and how much of it they have done.
-- Longest lock: none beyond the new tables' own.
-- depends: 0007-schedule

set local role pgsaas_owner;

create table if not exists pgsaas.entitlement_overrides (
    account_id uuid not null,
    feature text not null,
    value jsonb not null,
    ends_at timestamptz,
    reason text not null,
    created_at timestamptz not null,
    constraint entitlement_overrides_pkey primary key (account_id, feature),
    constraint entitlement_overrides_account_fkey foreign key (account_id) references pgsaas.accounts (account_id),
    constraint entitlement_overrides_feature_check check (octet_length(feature) between 1 and 100)
);
alter table pgsaas.entitlement_overrides enable row level security;
comment on table pgsaas.entitlement_overrides is
    'What an account may do in place of what its plan says, until when, and why.';
comment on column pgsaas.entitlement_overrides.value is
    'true, false, a text or a number for a feature; {"limit": number or null, "per": "period" or absent} for a limit.';

create table if not exists pgsaas.entitlement_usage (
    account_id uuid not null,
    feature text not null,
    period_start timestamptz not null,
    used numeric not null,
    constraint entitlement_usage_pkey primary key (account_id, feature, period_start),
    constraint entitlement_usage_account_fkey foreign key (account_id) references pgsaas.accounts (account_id),
    constraint entitlement_usage_used_check check (used >= 0)
);
alter table pgsaas.entitlement_usage enable row level security;
comment on table pgsaas.entitlement_usage is 'How much of a limit is used: in a month, or (-infinity) standing.';

create unlogged table if not exists pgsaas.rate_limits (
    account_id uuid not null,
    bucket text not null,
    tokens numeric not null,
    filled_at timestamptz not null,
    constraint rate_limits_pkey primary key (account_id, bucket)
) with (fillfactor = 50);
alter table pgsaas.rate_limits enable row level security;
comment on table pgsaas.rate_limits is
    'Buckets of tokens, filled as time passes. Not logged: after a crash, and on a replica, all are full.';

create table if not exists pgsaas.spend_caps (
    account_id uuid not null,
    subject_kind text not null,
    subject text not null,
    cap numeric not null,
    cap_interval text not null,
    spent numeric not null default 0,
    period_start timestamptz not null,
    since_hold bigint not null default 0,
    since_seq bigint not null default 0,
    constraint spend_caps_pkey primary key (account_id, subject_kind, subject),
    constraint spend_caps_account_fkey foreign key (account_id) references pgsaas.accounts (account_id),
    constraint spend_caps_subject_kind_check check (subject_kind in ('account', 'member', 'agent', 'key')),
    constraint spend_caps_subject_check check (octet_length(subject) <= 255),
    constraint spend_caps_cap_check check (cap >= 0 and cap <= 1000000000000 and cap = round(cap, 6)),
    constraint spend_caps_cap_interval_check check (cap_interval in ('day', 'month'))
);
alter table pgsaas.spend_caps enable row level security;
comment on table pgsaas.spend_caps is
    'How much jobs may spend a day or month (UTC): of the account, of a member, on an agent, by a key.';
comment on column pgsaas.spend_caps.spent is 'By jobs since period_start, running ones at what they hold.';
comment on column pgsaas.spend_caps.since_hold is 'The account''s last hold before the cap: jobs that held before it count for nothing.';
comment on column pgsaas.spend_caps.since_seq is 'The account''s last row before the cap, likewise.';
