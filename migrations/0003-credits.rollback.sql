set local role pgsaas_owner;
drop table if exists pgsaas.archived_keys, pgsaas.credit_checkpoints, pgsaas.credit_transactions,
    pgsaas.credit_debts, pgsaas.credit_holds, pgsaas.credit_grants, pgsaas.account_balances;
