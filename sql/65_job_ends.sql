-- The ends of jobs: charged what they came to, or given back.
--
-- complete_job() charges what the work came to, less or more than was held, fail_job() gives
-- everything back, also what was charged before. A job that is completed after it was abandoned is
-- charged directly, as far as there are credits. Each may be said again: it has one effect.
--
-- Lock rule: the account's row of the ledger first, then its job (settle_job, 64_jobs).

create or replace function pgsaas.complete_job(
    p_account_id uuid, p_job_id uuid, p_cost numeric default null, p_output jsonb default null,
    p_shortfall text default 'partial')
returns table (success boolean, new_balance numeric, available numeric, error_code text,
    error_message text, seq bigint, replayed boolean, cost numeric)
language plpgsql volatile security definer set search_path = '' rows 1
as $$
#variable_conflict use_column
declare
    v_found record;
    v_job pgsaas.jobs;
    v_was numeric;
begin
    perform pgsaas.check_cost(p_cost);
    perform pgsaas.check_request(null, p_output);
    perform pgsaas.check_shortfall(p_shortfall);
    v_found := pgsaas.settle_job(p_account_id, p_job_id);
    v_job := v_found.p_job;
    if p_shortfall = 'debt' and not pgsaas.acts_as_system() then
        raise exception 'only the system puts an account into debt' using errcode = 'PT403';
    end if;
    success := false;
    replayed := false;
    if v_job.job_status = 'completed'
       and coalesce(p_cost in (v_job.cost_credits, v_job.asked_credits), p_cost is null) then
        success := true;
        replayed := true;
        seq := v_job.seq;
        cost := v_job.cost_credits;
        new_balance := v_job.balance_after;
        select g.available into available from pgsaas.get_balance(p_account_id) g;
        return next;
        return;
    elsif v_job.job_status in ('completed', 'failed') then
        raise exception 'the job is % already', v_job.job_status using errcode = 'PT409';
    end if;
    v_was := case v_job.job_status when 'running' then v_job.cost_credits else 0 end;
    p_cost := coalesce(p_cost, v_job.cost_credits);
    cost := p_cost;
    if p_cost > v_was and p_shortfall <> 'debt' then
        perform pgsaas.abandon_jobs(p_account_id, v_found.p_at);
        cost := least(p_cost, v_was + pgsaas.room_in_caps(p_account_id, v_job.subjects,
            v_found.p_at));
    end if;
    if cost < p_cost and p_shortfall = 'refuse' then
        error_code := 'DEDUCTION_FAILED';
        error_message := format('the spend caps leave room for %s credits, not for %s',
            trim_scale(cost), trim_scale(p_cost));
        select g.balance, g.available into new_balance, available
          from pgsaas.get_balance(p_account_id) g;
        cost := null;
        return next;
        return;
    end if;
    if v_job.job_status = 'running' and (v_found.p_hold).state = 'open' and cost > 0 then
        select c.success, c.new_balance, c.available, c.error_code, c.error_message, c.seq,
               c.captured
          into success, new_balance, available, error_code, error_message, seq, cost
          from pgsaas.capture_hold(p_account_id, v_job.hold_id, cost, p_shortfall) c;
    else
        if v_job.job_status = 'running' and (v_found.p_hold).state = 'open' then
            perform pgsaas.release_hold(p_account_id, v_job.hold_id);
        end if;
        select g.balance, g.available into new_balance, available
          from pgsaas.get_balance(p_account_id) g;
        if p_shortfall = 'partial' and not pgsaas.is_shadow() then
            cost := least(cost, available);
        end if;
        success := true;
        if cost > 0 then    -- the hold has lapsed or was released, or there was none
            select d.success, d.new_balance, d.available, d.error_code, d.error_message, d.seq
              into success, new_balance, available, error_code, error_message, seq
              from pgsaas.deduct_credits(p_account_id, cost, p_job_id, v_job.agent_id,
                  v_job.job_type) d;
            cost := case when success then cost end;
        end if;
    end if;
    if success then
        v_job.job_status := 'completed';
        v_job.cost_credits := cost;
        v_job.asked_credits := p_cost;
        v_job.seq := seq;
        v_job.balance_after := new_balance;
        v_job.ended_at := v_found.p_at;
        v_job.output := p_output;
        perform pgsaas.store_job(v_job);
        perform pgsaas.recount_job(v_job, v_was, v_found.p_at);
    end if;
    return next;
end $$;
comment on function pgsaas.complete_job(uuid, uuid, numeric, jsonb, text) is
    'Ends a job and charges what it came to: p_cost, less or more than was held (null: what was '
    'asked for). p_shortfall says what becomes of more than is available: partial (charge what '
    'there is), refuse (the job goes on) or debt, as in capture_hold(); beyond what the spend caps '
    'leave now there is nothing, but for debt (refuse: DEDUCTION_FAILED). One whose hold has '
    'lapsed or was released meanwhile is charged directly, and then debt is as refuse; one whose '
    'hold somebody captured was completed by that. Said again it is answered as the first time. '
    'PT409 for one that failed, or was completed at another cost, PT403 for debt by a member, '
    'PT404, 22023; INSUFFICIENT_CREDITS and ACCOUNT_FROZEN as in capture_hold().';

create or replace function pgsaas.fail_job(
    p_account_id uuid, p_job_id uuid, p_error text default null)
returns table (success boolean, new_balance numeric, available numeric, error_code text,
    error_message text, seq bigint, replayed boolean, refunded numeric)
language plpgsql volatile security definer set search_path = '' rows 1
as $$
#variable_conflict use_column
declare
    v_found record;
    v_job pgsaas.jobs;
    v_was numeric;
    v_held numeric;    -- of it, what its hold counted for, unless that had lapsed
    v_ended_at timestamptz;
begin
    perform pgsaas.check_request(null, null, p_error);
    v_found := pgsaas.settle_job(p_account_id, p_job_id);
    v_job := v_found.p_job;
    success := true;
    replayed := v_job.job_status = 'failed';
    refunded := 0;
    if v_job.job_status = 'running' then
        if (v_found.p_hold).state = 'open' then
            refunded := v_job.cost_credits;
            perform pgsaas.release_hold(p_account_id, v_job.hold_id);
        end if;
    elsif v_job.job_status = 'completed' and v_job.cost_credits > 0 then
        if not pgsaas.acts_as_system() then
            raise exception 'only the system gives back what was charged' using errcode = 'PT403';
        end if;
        select r.success, r.error_code, r.error_message, r.seq
          into success, error_code, error_message, seq
          from pgsaas.refund_credits(p_account_id, v_job.seq, null, coalesce(p_error,
              'the job failed')) r;
        select t.amount into refunded from pgsaas.credit_transactions t    -- what was left of it
         where success and t.account_id = p_account_id and t.seq = fail_job.seq;
        refunded := coalesce(refunded, 0);
        if error_code = 'REFUND_EXCEEDS' then    -- all of it was given back before
            success := true;
            error_code := null;
            error_message := null;
        end if;
    end if;
    if success and not replayed then
        v_was := case when v_job.job_status <> 'abandoned' then v_job.cost_credits else 0 end;
        v_ended_at := v_job.ended_at;
        v_held := case when v_job.hold_id is null or v_ended_at >= v_job.expires_at then 0
            else least(v_was, (v_found.p_hold).amount) end;
        v_job.job_status := 'failed';
        v_job.cost_credits := 0;
        v_job.ended_at := v_found.p_at;
        v_job.error := p_error;
        perform pgsaas.store_job(v_job);
        perform pgsaas.uncount_spend(p_account_id, v_job.subjects, v_held, v_found.p_at,
            v_job.created_at, v_job.hold_id);
        perform pgsaas.uncount_spend(p_account_id, v_job.subjects, v_was - v_held, v_found.p_at,
            v_ended_at, null, v_job.seq);
    end if;
    select g.balance, g.available into new_balance, available
      from pgsaas.get_balance(p_account_id) g;
    return next;
end $$;
comment on function pgsaas.fail_job(uuid, uuid, text) is
    'Ends a job that has failed: what it held is free again; what one that was completed was '
    'charged is given back, by the system only (PT403): refunded is what was not given back '
    'before. The spend caps count it no more. Said again it changes nothing. PT404, 22023.';
