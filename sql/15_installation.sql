-- The installation: does this database know itself?
--
-- A database restored from a dump somewhere else, or copied with `create database … template`,
-- carries the fingerprint of where it was: it must not send mail, webhooks or payments for the
-- original. So whatever reaches out of the database asks is_adopted() first, and somebody who knows
-- says `pgsaas adopt`. A standby that takes over and a restarted server keep their fingerprint. The
-- first load stamps it. Lock rule: the one row of pgsaas.installation.

create or replace function pgsaas.current_fingerprint() returns text
language sql stable security definer set search_path = ''
as $$
    select pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(
        (select s.system_identifier::text from pg_catalog.pg_control_system() s) || '/'
        || (select d.oid::text from pg_catalog.pg_database d
            where d.datname = pg_catalog.current_database()), 'UTF8')), 'hex')
$$;

comment on function pgsaas.current_fingerprint() is
    'A hash of the identity of this cluster and this database: 64 hexadecimal digits.';

create or replace function pgsaas.is_adopted() returns boolean
language sql stable security definer set search_path = ''
as $$
    select coalesce((
        select i.fingerprint = pgsaas.current_fingerprint() from pgsaas.installation i), false)
$$;

comment on function pgsaas.is_adopted() is
    'False in a copy of a database (a dump restored elsewhere, a clone) until '
    'adopt_installation(): then nothing may reach out of the database.';

create or replace function pgsaas.adopt_installation() returns boolean
language plpgsql volatile security definer set search_path = ''
as $$
begin
    update pgsaas.installation i
    set fingerprint = pgsaas.current_fingerprint(), adopted_at = pgsaas.now()
    where i.fingerprint is distinct from pgsaas.current_fingerprint();
    return found;
end
$$;

comment on function pgsaas.adopt_installation() is
    'Declares this copy of a database to be the one that acts. True if it was not before; '
    'adopted_at then says when. Owner only.';
