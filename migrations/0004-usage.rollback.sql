set local role pgsaas_owner;
alter table if exists pgsaas.settings drop column if exists shadow;
alter table if exists pgsaas.account_balances drop column if exists usage_count;
drop table if exists pgsaas.usage_rollups, pgsaas.daily_usage_stats, pgsaas.usage_periods,
    pgsaas.usage_records, pgsaas.credit_prices, pgsaas.credit_events;
