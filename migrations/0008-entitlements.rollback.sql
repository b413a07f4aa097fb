set local role pgsaas_owner;
drop table if exists pgsaas.spend_caps, pgsaas.rate_limits, pgsaas.entitlement_usage, pgsaas.entitlement_overrides;
