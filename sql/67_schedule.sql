-- The schedule: pg_cron calls run_all_due() where there is pg_cron.
--
-- The extension lives in one database of a cluster. Where that is this one, schedule_jobs() and
-- unschedule_jobs() do it all; for another, `pgsaas cron schedule` goes there. The job's name tells
-- the database, because names are unique per user in the extension's; where it is this one, it is
-- the plain name. Both run with the caller's rights: who may schedule is pg_cron's to say. No
-- locks.

create or replace function pgsaas.job_name(p_cron_database text) returns text
language sql stable
as $$
    select 'reset-monthly-credits' || case when p_cron_database = pg_catalog.current_database()
        then '' else ' in ' || pg_catalog.current_database() end
$$;
comment on function pgsaas.job_name(text) is
    'The name of this database''s job in pg_cron, whose extension is in that database.';

create or replace function pgsaas.has_pg_cron() returns boolean
language sql stable
as $$ select exists (select from pg_catalog.pg_extension e where e.extname = 'pg_cron') $$;
comment on function pgsaas.has_pg_cron() is 'Whether the extension is in this database.';

create or replace function pgsaas.schedule_jobs(p_schedule text default '* * * * *')
returns text
language plpgsql volatile
as $$
declare
    v_schema constant text := 'cron';    -- pg_cron's own, wherever it is installed
begin
    if not pgsaas.has_pg_cron() then
        raise exception 'pg_cron is not in this database' using errcode = 'PT422',
            hint = '`pgsaas cron schedule` finds it in another, `pgsaas worker` needs none.';
    end if;
    perform pgsaas.unschedule_jobs();
    execute format('select %I.schedule($1, $2, $3)', v_schema)
        using pgsaas.job_name(current_database()), p_schedule, 'call pgsaas.run_all_due()';
    return pgsaas.job_name(current_database());
end $$;
comment on function pgsaas.schedule_jobs(text) is
    'Lets pg_cron call run_all_due(), every minute or as p_schedule says, and returns the job''s '
    'name; a schedule it had is replaced. PT422 where pg_cron is not in this database.';

create or replace function pgsaas.unschedule_jobs() returns boolean
language plpgsql volatile
as $$
declare
    v_schema constant text := 'cron';    -- pg_cron's own, wherever it is installed
    v_id bigint;
begin
    if pgsaas.has_pg_cron() then
        execute format('select j.jobid from %I.job j where j.jobname = $1 and j.username'
            ' = current_user', v_schema)
            into v_id using pgsaas.job_name(current_database());
        if v_id is not null then
            execute format('select %I.unschedule($1)', v_schema) using v_id;
        end if;
    end if;
    return v_id is not null;
end $$;
comment on function pgsaas.unschedule_jobs() is
    'Takes the job out of pg_cron again; false if there was none.';
