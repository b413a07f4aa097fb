-- Usage: what actions cost, in versions, and what was used.
-- Longest lock: access exclusive on settings and account_balances while a column with a constant default is added to
-- each: no row is written.
-- depends: 0003-credits

set local role pgsaas_owner;

alter table pgsaas.settings add column if not exists shadow boolean not null default false;
comment on column pgsaas.settings.shadow is
    'Whether pgsaas runs beside another system: no charge is refused for lack of credits.';

alter table pgsaas.account_balances add column if not exists usage_count bigint not null default 0;
comment on column pgsaas.account_balances.usage_count is
    'Number of the account''s last usage record.';

create table if not exists pgsaas.credit_events (
    event_name text not null,
    description text,
    category text,
    unit text,
    dimensions text[] not null default '{}',
    is_active boolean not null default true,
    created_at timestamptz not null,
    changed_at timestamptz not null,
    constraint credit_events_pkey primary key (event_name),
    constraint credit_events_event_name_check check (octet_length(event_name) between 1 and 100),
    constraint credit_events_description_check check (octet_length(description) <= 4096),
    constraint credit_events_category_check check (octet_length(category) between 1 and 100),
    constraint credit_events_unit_check check (octet_length(unit) between 1 and 100)
);
alter table pgsaas.credit_events enable row level security;
comment on table pgsaas.credit_events is 'Actions that have a price in credits.';
comment on column pgsaas.credit_events.unit is 'What a quantity counts: call, token, GB-month.';
comment on column pgsaas.credit_events.dimensions is 'Names that a price of the event may depend on.';

-- A version of an event's prices is all rows of one effective_at; it holds until the next.
create table if not exists pgsaas.credit_prices (
    event_name text not null,
    effective_at timestamptz not null,
    dimensions jsonb not null default '{}',
    specificity integer not null default 0,
    price_model text not null,
    unit_price numeric not null default 0,
    base numeric not null default 0,
    minimum numeric not null default 0,
    package_size numeric not null default 1,
    package_rounding text not null default 'exact',
    tiers jsonb,
    tier_scope text not null default 'call',
    constraint credit_prices_pkey primary key (event_name, effective_at, dimensions),
    constraint credit_prices_event_fkey foreign key (event_name) references pgsaas.credit_events (event_name),
    constraint credit_prices_price_model_check
        check (price_model in ('flat', 'unit', 'package', 'graduated', 'volume')),
    constraint credit_prices_amounts_check check (unit_price >= 0 and base >= 0 and minimum >= 0
        and unit_price <= 1000000000000 and base <= 1000000000000 and minimum <= 1000000000000),
    constraint credit_prices_package_size_check check (package_size > 0),
    constraint credit_prices_package_rounding_check check (package_rounding in ('up', 'down', 'exact')),
    constraint credit_prices_tiers_check
        check ((tiers is not null) = (price_model in ('graduated', 'volume'))),
    constraint credit_prices_tier_scope_check check (tier_scope in ('call', 'period'))
);
alter table pgsaas.credit_prices enable row level security;
comment on table pgsaas.credit_prices is
    'Prices of credit events by dimensions, in versions; what is in force is never changed.';
comment on column pgsaas.credit_prices.specificity is 'How many dimensions the price names; the most specific wins.';
comment on column pgsaas.credit_prices.unit_price is 'Credits for a unit, or for a package.';
comment on column pgsaas.credit_prices.tiers is
    '[{"up_to": number or null, "unit": credits, "flat": credits}, …], the last without an end.';
comment on column pgsaas.credit_prices.tier_scope is
    'What the tiers count: the quantity of one record, or that of the account''s period so far.';

create table if not exists pgsaas.usage_records (
    account_id uuid not null,
    usage_id bigint not null,
    created_at timestamptz not null,
    occurred_at timestamptz not null,
    priced_at timestamptz,
    seq bigint,
    event_name text not null,
    quantity numeric not null,
    cost numeric not null,
    balance_after numeric not null,
    dimensions jsonb,
    idempotency_key text,
    request_hash bytea,
    metadata jsonb,
    constraint usage_records_pkey primary key (account_id, usage_id)
);
create unique index if not exists usage_records_key_idx on pgsaas.usage_records (account_id, idempotency_key)
    where idempotency_key is not null;
alter table pgsaas.usage_records enable row level security;
comment on table pgsaas.usage_records is
    'What was used, numbered per account, each with its cost and the ledger row that charged it.';
comment on column pgsaas.usage_records.priced_at is
    'The version (credit_prices.effective_at) that the cost came from; null where the caller stated the cost.';
comment on column pgsaas.usage_records.balance_after is
    'The balance after the record, as it was answered: a repeat is answered the same.';
comment on column pgsaas.usage_records.seq is 'The ledger row of the charge; null where the cost was 0.';

-- Tiers that count per period: how much was used in each.
create table if not exists pgsaas.usage_periods (
    account_id uuid not null,
    period_start timestamptz not null,
    event_name text not null,
    dimensions jsonb not null,
    quantity numeric not null,
    constraint usage_periods_pkey primary key (account_id, period_start, event_name, dimensions)
) with (fillfactor = 80);
alter table pgsaas.usage_periods enable row level security;
comment on table pgsaas.usage_periods is
    'Quantities so far of prices whose tiers count per period, by the dimensions of the price.';

create table if not exists pgsaas.daily_usage_stats (
    account_id uuid not null,
    day date not null,
    event_name text not null,
    dimensions jsonb not null,
    records bigint not null,
    quantity numeric not null,
    cost numeric not null,
    constraint daily_usage_stats_pkey primary key (account_id, day, event_name, dimensions)
) with (fillfactor = 80);
alter table pgsaas.daily_usage_stats enable row level security;
comment on table pgsaas.daily_usage_stats is
    'Usage by day (UTC, of occurred_at), event and dimensions, up to the record that usage_rollups names.';

create table if not exists pgsaas.usage_rollups (
    account_id uuid not null,
    usage_id bigint not null,
    constraint usage_rollups_pkey primary key (account_id)
) with (fillfactor = 80);
alter table pgsaas.usage_rollups enable row level security;
comment on table pgsaas.usage_rollups is
    'Up to which of its usage records an account''s daily statistics count; the later ones are added when read.';
