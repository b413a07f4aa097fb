-- The catalog: plans in versions with their prices, and packs of credits.
-- Longest lock: none beyond the new tables' own; nothing that exists is touched.
-- depends: 0004-usage

set local role pgsaas_owner;

create table if not exists pgsaas.plans (
    plan_id text not null,
    version integer not null,
    is_default boolean not null default false,
    is_retired boolean not null default false,
    created_at timestamptz not null,
    changed_at timestamptz not null,
    constraint plans_pkey primary key (plan_id),
    constraint plans_plan_id_check check (plan_id ~ '^[a-z0-9][a-z0-9_.-]{0,99}$'),
    constraint plans_default_check check (not (is_default and is_retired))
);
create unique index if not exists plans_default_idx on pgsaas.plans (is_default) where is_default;
alter table pgsaas.plans enable row level security;
comment on table pgsaas.plans is 'What a subscription buys, by its current version. Read subscription_plans.';
comment on column pgsaas.plans.is_default is 'Whether new accounts are given it; at most one.';
comment on column pgsaas.plans.is_retired is 'Whether nobody can choose it any more; who has it keeps it.';

create table if not exists pgsaas.plan_versions (
    plan_id text not null,
    version integer not null,
    created_at timestamptz not null,
    name text not null,
    description text,
    rank integer not null,
    allowance numeric not null,
    rollover_limit numeric,
    trial_days integer not null,
    burn_order text,
    on_upgrade text not null,
    renewal_grace interval not null,
    past_due_grace interval not null,
    features jsonb not null,
    limits jsonb not null,
    rate_limits jsonb not null,
    constraint plan_versions_pkey primary key (plan_id, version),
    constraint plan_versions_plan_fkey foreign key (plan_id) references pgsaas.plans (plan_id),
    constraint plan_versions_name_check check (octet_length(name) between 1 and 100),
    constraint plan_versions_description_check check (octet_length(description) <= 4096),
    constraint plan_versions_allowance_check
        check (allowance >= 0 and allowance <= 1000000000000 and allowance = round(allowance, 6)),
    constraint plan_versions_rollover_limit_check check (rollover_limit >= 0 and rollover_limit <= 1000000000000
        and rollover_limit = round(rollover_limit, 6)),
    constraint plan_versions_trial_days_check check (trial_days between 0 and 730),
    constraint plan_versions_burn_order_check check (burn_order in ('purchased_first', 'expiring_first')),
    constraint plan_versions_on_upgrade_check check (on_upgrade in ('keep', 'replace', 'prorate')),
    constraint plan_versions_grace_check check (renewal_grace between interval '0' and interval '30 days'
        and past_due_grace between interval '0' and interval '90 days')
);
alter table pgsaas.plan_versions enable row level security;
comment on table pgsaas.plan_versions is
    'The terms of plans; a version is never changed, and subscribers keep the one they bought.';
comment on column pgsaas.plan_versions.rank is 'Plans with a higher rank include what lower ones may; an upgrade goes up.';
comment on column pgsaas.plan_versions.allowance is 'Credits per month, for each of the subscription''s quantity.';
comment on column pgsaas.plan_versions.rollover_limit is 'How many of these may roll over; null for no limit.';
comment on column pgsaas.plan_versions.features is '{name: true, or a text or number}.';
comment on column pgsaas.plan_versions.limits is '{name: {"limit": number or null, "per": "period" or absent (standing)}}.';
comment on column pgsaas.plan_versions.rate_limits is '{bucket: {"limit": number, "per": second, minute, hour or day}}.';

create table if not exists pgsaas.plan_prices (
    plan_id text not null,
    version integer not null,
    billing_interval text not null,
    currency text not null,
    unit_amount bigint not null,
    constraint plan_prices_pkey primary key (plan_id, version, billing_interval, currency),
    constraint plan_prices_version_fkey foreign key (plan_id, version)
        references pgsaas.plan_versions (plan_id, version),
    constraint plan_prices_billing_interval_check check (billing_interval in ('month', 'year')),
    constraint plan_prices_currency_check check (currency ~ '^[a-z]{3}$'),
    constraint plan_prices_unit_amount_check check (unit_amount between 0 and 99999999)
);
alter table pgsaas.plan_prices enable row level security;
comment on table pgsaas.plan_prices is 'What a version of a plan costs, by interval and currency.';
comment on column pgsaas.plan_prices.unit_amount is
    'In the currency''s smallest unit (cents), per unit of quantity; Stripe takes at most eight digits.';

create table if not exists pgsaas.credit_products (
    product_id text not null,
    name text not null,
    description text,
    credits numeric not null,
    expires_after interval,
    discounts jsonb not null default '[]',
    prices jsonb not null,
    is_active boolean not null default true,
    created_at timestamptz not null,
    changed_at timestamptz not null,
    constraint credit_products_pkey primary key (product_id),
    constraint credit_products_product_id_check check (product_id ~ '^[a-z0-9][a-z0-9_.-]{0,99}$'),
    constraint credit_products_name_check check (octet_length(name) between 1 and 100),
    constraint credit_products_description_check check (octet_length(description) <= 4096),
    constraint credit_products_credits_check
        check (credits > 0 and credits <= 1000000000000 and credits = round(credits, 6)),
    constraint credit_products_expires_after_check check (expires_after > interval '0')
);
alter table pgsaas.credit_products enable row level security;
comment on table pgsaas.credit_products is 'Packs of credits that are bought once.';
comment on column pgsaas.credit_products.discounts is '[{"from": quantity, "percent": number}, …], the quantities rising.';
comment on column pgsaas.credit_products.prices is '{currency: amount in its smallest unit}.';

create table if not exists pgsaas.agents (
    agent_id text not null,
    name text not null,
    description text,
    plan_id text,
    excluded_plans text[] not null default '{}',
    credits numeric not null,
    actions jsonb not null default '{}',
    availability text not null default 'available',
    created_at timestamptz not null,
    changed_at timestamptz not null,
    constraint agents_pkey primary key (agent_id),
    constraint agents_plan_fkey foreign key (plan_id) references pgsaas.plans (plan_id),
    constraint agents_agent_id_check check (agent_id ~ '^[a-z0-9][a-z0-9_-]{0,99}$'),
    constraint agents_name_check check (octet_length(name) between 1 and 100),
    constraint agents_description_check check (octet_length(description) <= 4096),
    constraint agents_credits_check
        check (credits >= 0 and credits <= 1000000000000 and credits = round(credits, 6)),
    constraint agents_availability_check check (availability in ('available', 'soon', 'disabled'))
);
alter table pgsaas.agents enable row level security;
comment on table pgsaas.agents is 'What does work for credits: who may use it, and what an action of it costs.';
comment on column pgsaas.agents.plan_id is 'The plan whose rank an account''s plan must reach; null for none.';
comment on column pgsaas.agents.excluded_plans is 'Plans that do not include it, whatever their rank.';
comment on column pgsaas.agents.credits is 'What an action costs that has no price of its own; work may be charged more or less.';
comment on column pgsaas.agents.actions is '{action: credits}.';
