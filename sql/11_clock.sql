-- The clock: pgsaas.now() is the only time there is.
--
-- It is `now()`, the start of the transaction, and inlines to it: no SET clause, not a definer. In
-- an installation that was made with `--test-mode` the owner may replace it by one that reads
-- pgsaas.test_clock. No session setting moves time, and a live installation refuses. While
-- test_clock has a row a load refuses to run (it would put the real clock back under a test's
-- feet); reset_clock() takes the row away and puts back exactly the text below. Setting the clock
-- again only updates one row, so a test may do it thousands of times. Lock rule: the row of
-- test_clock, nothing else.

create or replace function pgsaas.now() returns timestamptz
language sql stable parallel safe
as 'select pg_catalog.now()';

comment on function pgsaas.now() is
    'The time, as every rule of pgsaas sees it: the start of the transaction. In a test '
    'installation whose clock is set, the time it was set to.';

create or replace function pgsaas.set_clock(p_at timestamptz) returns timestamptz
language plpgsql volatile security definer set search_path = ''
as $$
begin
    if (select i.mode from pgsaas.installation i) is distinct from 'test' then
        raise exception 'a live installation has no test clock' using errcode = 'PT422';
    end if;
    if p_at is null or not pg_catalog.isfinite(p_at) then
        raise exception 'p_at must be a time' using errcode = '22023';
    end if;
    insert into pgsaas.test_clock as c (at) values (p_at)
    on conflict (is_only) do update set at = excluded.at;
    if not (select p.prosecdef from pg_catalog.pg_proc p
            where p.oid = 'pgsaas.now()'::pg_catalog.regprocedure) then
        create or replace function pgsaas.now() returns timestamptz
        language sql stable parallel safe security definer set search_path = ''
        as 'select coalesce((select c.at from pgsaas.test_clock c), pg_catalog.now())';
    end if;
    return p_at;
end
$$;

comment on function pgsaas.set_clock(timestamptz) is
    'Stops the time of this test installation at p_at, for everybody, and returns it. Errors: '
    'PT422 in a live installation; 22023 when p_at is null or infinite. Owner only.';

create or replace function pgsaas.advance_clock(p_by interval) returns timestamptz
language plpgsql volatile security definer set search_path = ''
as $$
begin
    if p_by is null or p_by < interval '0' then
        raise exception 'p_by must be an interval of zero or more' using errcode = '22023';
    end if;
    return pgsaas.set_clock(pgsaas.now() + p_by);
end
$$;

comment on function pgsaas.advance_clock(interval) is
    'Moves the test clock forward by p_by, from the real time if it was not set, and returns the '
    'new time. Errors: PT422 in a live installation; 22023 when p_by is null or negative. Owner '
    'only.';

create or replace function pgsaas.reset_clock() returns timestamptz
language plpgsql volatile security definer set search_path = ''
as $$
begin
    delete from pgsaas.test_clock;
    if (select p.prosecdef from pg_catalog.pg_proc p
        where p.oid = 'pgsaas.now()'::pg_catalog.regprocedure) then
        -- a load would do the same, this one does not wait for one
        create or replace function pgsaas.now() returns timestamptz
        language sql stable parallel safe
        as 'select pg_catalog.now()';
    elsif not found and (select i.mode from pgsaas.installation i) is distinct from 'test' then
        raise exception 'a live installation has no test clock' using errcode = 'PT422';
    end if;
    return pg_catalog.now();
end
$$;

comment on function pgsaas.reset_clock() is
    'Gives the real time back and returns it. Errors: PT422 in a live installation whose clock is '
    'not replaced. Owner only.';
