set local role pgsaas_owner;
drop table if exists pgsaas.jobs;
