set local role pgsaas_owner;
drop table if exists pgsaas.agents, pgsaas.credit_products, pgsaas.plan_prices, pgsaas.plan_versions, pgsaas.plans;
