set local role pgsaas_owner;
alter table if exists pgsaas.settings drop column if exists shadow;
drop table if exists pgsaas.usage_rollups, pgsaas.daily_usage_stats, pgsaas.usage_periods,
    pgsaas.usage_records, pgsaas.credit_prices, pgsaas.credit_events;
