set local role pgsaas_owner;
drop table if exists pgsaas.test_clock;
drop table if exists pgsaas.loaded_objects;
drop table if exists pgsaas.migration_files;
drop table if exists pgsaas.installation;
