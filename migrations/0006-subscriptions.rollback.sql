set local role pgsaas_owner;
drop table if exists pgsaas.subscriptions;
alter table pgsaas.account_balances drop column if exists terms_end_at, drop column if exists next_terms;
