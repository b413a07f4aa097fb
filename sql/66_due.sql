-- What is due: the small steps that keep the tables true, and who takes them.
--
-- Every task works out what is due from data, so a run that was missed is made up for by the next,
-- and nothing breaks where none ever comes: whoever looks at an account sees what is due as done.
-- run_due() takes one step of each task; run_all_due() goes on until nothing is left, a transaction
-- for each step; pg_cron calls that, `pgsaas worker` does the same from outside, and any number may
-- run at once. A task that fails is reported and does not keep the others from running.
--
-- Lock rule: each task's own; none holds an account longer than its step. Only the reset may wait
-- for somebody, when it holds nothing itself: so it comes first.

create or replace function pgsaas.settle_subscriptions(p_limit integer default 1000)
returns table (done bigint, remaining bigint, error text)
language plpgsql volatile rows 1
as $$
#variable_conflict use_column
declare
    v_id uuid;
begin
    done := 0;
    for v_id in
        select b.account_id from pgsaas.account_balances b
         where b.account_id in (
               select s.account_id from pgsaas.subscriptions s where s.due_at <= pgsaas.now()
                order by s.due_at limit p_limit)
         order by b.account_id for no key update skip locked
    loop
        begin    -- one that cannot be settled keeps nobody else waiting
            perform pgsaas.settle_subscription(v_id);
            done := done + 1;
        exception when others then
            error := coalesce(error, format('%s (%s)', sqlerrm, v_id));
        end;
    end loop;
    select count(*) into remaining from (
        select from pgsaas.subscriptions s where s.due_at <= pgsaas.now() limit 1000) x;
    return next;
end $$;
comment on function pgsaas.settle_subscriptions(integer) is
    'Stores what time has made of up to so many subscriptions, of accounts that nobody holds. One '
    'that fails is left, and the first error told.';

create or replace function pgsaas.due_tasks()
returns table (task text, due bigint, oldest_at timestamptz)
language sql stable
as $$
    select 'settle_subscriptions', count(*), min(x.due_at)
      from (select s.due_at from pgsaas.subscriptions s where s.due_at <= pgsaas.now()
             order by s.due_at limit 1000) x
    union all
    select 'reset_monthly_credits', count(*), min(x.next_reset_at)
      from (select b.next_reset_at from pgsaas.account_balances b
             where b.next_reset_at <= pgsaas.now() order by b.next_reset_at limit 1000) x
    union all
    select 'pay_referrals', count(*), min(x.earned_at)
      from (select r.earned_at from pgsaas.referrals r
             where r.earned_at is not null and r.paid_at is null
             order by r.earned_at limit 1000) x
$$;
comment on function pgsaas.due_tasks() is
    'How much of each task is due, counted up to 1,000, and since when the oldest of it.';

-- Late is what nobody did for a quarter of an hour, though somebody should look every minute.
create or replace function pgsaas.late_schedule() returns text
language sql stable
as $$
    select string_agg(format('%s has waited since %s', t.task, t.oldest_at at time zone 'UTC'),
               '; ' order by t.task) || coalesce(
           (select format('; %s was here last, at %s', r.runner, r.last_at at time zone 'UTC')
                   || coalesce(', and failed: ' || case when r.last_error_at = r.last_at
                          then r.last_error end, '')
              from pgsaas.runners r order by r.last_at desc limit 1),
           '; nobody has ever run it: `pgsaas cron schedule` or `pgsaas worker`')
      from pgsaas.due_tasks() t
     where t.oldest_at < pgsaas.now() - interval '15 minutes'
$$;
comment on function pgsaas.late_schedule() is
    'What is late by more than a quarter of an hour, and why; null if nothing is.';

create or replace function pgsaas.run_due(p_limit integer default 1000)
returns table (task text, done bigint, remaining bigint, error text)
language plpgsql volatile security definer set search_path = ''
as $$
#variable_conflict use_column
begin
    perform pgsaas.check_system();
    perform pgsaas.check_limit(coalesce(p_limit, 0));
    if not pgsaas.is_adopted() then
        raise exception 'this database is a copy: nothing runs until `pgsaas adopt`'
            using errcode = 'PT409';
    end if;
    foreach task in array '{reset_monthly_credits,settle_subscriptions,pay_referrals}'::text[]
    loop
        error := null;
        begin
            if task = 'settle_subscriptions' then
                select x.done, x.remaining, x.error into done, remaining, error
                  from pgsaas.settle_subscriptions(p_limit) x;
            elsif task = 'pay_referrals' then
                select x.done, x.remaining into done, remaining
                  from pgsaas.pay_referrals(p_limit) x;
            else
                select x.accounts_reset, x.remaining into done, remaining
                  from pgsaas.reset_monthly_credits(p_limit) x;
            end if;
        exception when others then    -- a step is undone whole; the next call tries again
            error := sqlerrm;
            done := 0;
            remaining := null;
        end;
        return next;
    end loop;
end $$;
comment on function pgsaas.run_due(integer) is
    'One step of each task that keeps the tables true, for up to p_limit accounts each: how much '
    'it did, what remains (counted up to 1,000), or the error that undid it. Only the system: '
    'PT403. PT409 in a copy of a database, 22023 for a limit below 1.';

create or replace function pgsaas.note_run(p_runner text, p_done bigint, p_error text default null)
returns void
language plpgsql volatile security definer set search_path = ''
as $$
begin
    perform pgsaas.check_system();
    insert into pgsaas.runners as r (runner, first_at, last_at, done, last_done_at, last_error,
        last_error_at)
    values (p_runner, pgsaas.now(), pgsaas.now(), p_done,
        case when p_done > 0 then pgsaas.now() end, p_error,
        case when p_error is not null then pgsaas.now() end)
    on conflict (runner) do update
       set last_at = excluded.last_at, runs = r.runs + 1, done = r.done + excluded.done,
           last_done_at = coalesce(excluded.last_done_at, r.last_done_at),
           last_error = coalesce(excluded.last_error, r.last_error),
           last_error_at = coalesce(excluded.last_error_at, r.last_error_at);
    delete from pgsaas.runners r where r.last_at < pgsaas.now() - interval '7 days';
end $$;
comment on function pgsaas.note_run(text, bigint, text) is
    'Remembers that a runner was here and what it did. Only the system: PT403. 23514 for a name '
    'that is empty or longer than 255 bytes.';

-- No SET and no definer: it commits between steps, so that a step that is undone undoes only
-- itself, and rows are not held until the end.
create or replace procedure pgsaas.run_all_due(
    p_runner text default 'pg_cron', p_limit integer default 1000)
language plpgsql
as $$
declare
    v_done bigint := 0;
    v_step record;
begin
    loop
        select coalesce(sum(r.done), 0)::bigint as done, coalesce(sum(r.remaining), 0) as remaining,
               string_agg(r.task || ': ' || r.error, '; ') as error
          into v_step from pgsaas.run_due(p_limit) r;
        commit;
        v_done := v_done + v_step.done;
        exit when v_step.remaining = 0 or v_step.done = 0;
    end loop;
    perform pgsaas.note_run(p_runner, v_done, v_step.error);
    commit;
end $$;
comment on procedure pgsaas.run_all_due(text, integer) is
    'Takes steps, each in a transaction of its own, until nothing is due any more, and notes who '
    'was here. Called on its own, never inside a transaction.';
