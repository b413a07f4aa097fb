-- The installation itself: which database this is, what was applied to it, its test clock.
--
-- `installation` holds one row, `migration_files` the sha256 of every migration as it was when
-- it was applied, `loaded_objects` every object as the load left it, `test_clock` one row while a
-- test clock is set and none otherwise.
-- Longest lock: none that anybody else could wait for; all tables are new.
-- depends:
set local role pgsaas_owner;

create table if not exists pgsaas.installation (
    is_only boolean not null default true,
    installation_id uuid not null default pg_catalog.gen_random_uuid(),
    mode text not null default 'live',
    fingerprint text,
    salt bytea not null default pg_catalog.decode(pg_catalog.replace(
        pg_catalog.gen_random_uuid()::text || pg_catalog.gen_random_uuid()::text, '-', ''), 'hex'),
    version text,
    sql_sha256 text,
    created_at timestamptz not null default pg_catalog.now(),
    adopted_at timestamptz,
    constraint installation_pkey primary key (is_only),
    constraint installation_is_only_check check (is_only),
    constraint installation_mode_check check (mode in ('live', 'test'))
);

insert into pgsaas.installation default values on conflict (is_only) do nothing;

create table if not exists pgsaas.migration_files (
    migration_id text not null,
    sha256 text not null,
    applied_at timestamptz not null default pg_catalog.now(),
    constraint migration_files_pkey primary key (migration_id),
    constraint migration_files_sha256_check check (sha256 ~ '^[0-9a-f]{64}$')
);

create table if not exists pgsaas.loaded_objects (
    object text not null,
    sha256 text not null,
    constraint loaded_objects_pkey primary key (object),
    constraint loaded_objects_sha256_check check (sha256 ~ '^[0-9a-f]{64}$')
);

create table if not exists pgsaas.test_clock (
    is_only boolean not null default true,
    at timestamptz not null,
    constraint test_clock_pkey primary key (is_only),
    constraint test_clock_is_only_check check (is_only)
);

alter table pgsaas.installation enable row level security;
alter table pgsaas.migration_files enable row level security;
alter table pgsaas.loaded_objects enable row level security;
alter table pgsaas.test_clock enable row level security;

comment on table pgsaas.installation is
    'One row that identifies this database and says which version of pgsaas it carries.';
comment on column pgsaas.installation.mode is
    'live or test; only a test installation has a test clock.';
comment on column pgsaas.installation.fingerprint is
    'The cluster and database that were adopted: differs in a restored copy.';
comment on column pgsaas.installation.salt is
    'Random bytes for hashes that must not be comparable between installations.';
comment on column pgsaas.installation.sql_sha256 is
    'Digest of the functions that were loaded last.';
comment on table pgsaas.migration_files is
    'Every applied migration with the sha256 its file had then.';
comment on table pgsaas.loaded_objects is
    'Functions, views, policies, triggers and privileges as the last load left them; what differs now was changed by hand.';
comment on table pgsaas.test_clock is
    'The time pgsaas.now() returns while a test clock is set.';
