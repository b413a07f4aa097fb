-- Periods: how an account comes to have a monthly allowance.
--
-- The caller need not lock: both lock the account, settle it, take effect and store the balance, as
-- every writer does (30_ledger). What happens at a period's end is decided by 29_settlement and
-- posted by whoever touches the account next; the rooms of plans and subscriptions call these two
-- and nothing else of the ledger's.

create or replace function pgsaas.start_period(
    p_account_id uuid, p_allowance numeric, p_rollover_limit numeric default 0,
    p_anchor timestamptz default null)
returns void
language plpgsql volatile
as $$
declare
    v_b pgsaas.account_balances := pgsaas.settle_account(pgsaas.lock_account(p_account_id));
begin
    p_allowance := trim_scale(p_allowance);
    p_rollover_limit := trim_scale(p_rollover_limit);
    if v_b.account_id is null then
        perform pgsaas.raise_not_found('account');
    elsif v_b.period_anchor is not null then
        raise exception 'the account has a period already' using errcode = 'PT409';
    end if;
    v_b.allowance := p_allowance;
    v_b.period_granted := p_allowance;
    v_b.rollover_limit := p_rollover_limit;
    v_b.period_anchor := coalesce(p_anchor, v_b.last_at);
    v_b.period_count := 0;
    while pgsaas.period_end(v_b.period_anchor, v_b.period_count + 1) <= v_b.last_at loop
        v_b.period_count := v_b.period_count + 1;
    end loop;
    v_b.next_reset_at := pgsaas.period_end(v_b.period_anchor, v_b.period_count + 1);
    if p_allowance > 0 then
        v_b := pgsaas.open_grant(v_b, 'allowance', p_allowance, v_b.next_reset_at);
        v_b := pgsaas.append_row(v_b, pgsaas.new_row('grant', p_allowance, v_b.last_at,
            v_b.grant_count));
    end if;
    perform pgsaas.store_balance(v_b);
end $$;
comment on function pgsaas.start_period(uuid, numeric, numeric, timestamptz) is
    'Starts monthly periods, counted from p_anchor (null: now), with this allowance and rollover '
    'limit (null: none), and grants the first allowance. PT404 for no account, PT409 if it has '
    'periods already.';

create or replace function pgsaas.change_allowance(
    p_account_id uuid, p_allowance numeric, p_rollover_limit numeric default 0)
returns void
language plpgsql volatile
as $$
declare
    v_b pgsaas.account_balances := pgsaas.settle_account(pgsaas.lock_account(p_account_id));
    v_more numeric;
begin
    p_allowance := trim_scale(p_allowance);
    p_rollover_limit := trim_scale(p_rollover_limit);
    v_more := p_allowance - v_b.period_granted;
    if v_b.account_id is null then
        perform pgsaas.raise_not_found('account');
    elsif v_b.period_anchor is null then
        raise exception 'the account has no period yet' using errcode = 'PT409';
    end if;
    v_b.allowance := p_allowance;
    v_b.rollover_limit := p_rollover_limit;
    if v_more > 0 then
        v_b.period_granted := p_allowance;
        v_b := pgsaas.open_grant(v_b, 'allowance', v_more, v_b.next_reset_at);
        v_b := pgsaas.append_row(v_b, pgsaas.new_row('grant', v_more, v_b.last_at,
            v_b.grant_count));
    end if;
    perform pgsaas.store_balance(v_b);
end $$;
comment on function pgsaas.change_allowance(uuid, numeric, numeric) is
    'Changes the monthly allowance and the rollover limit from the next period on; what a higher '
    'allowance adds to the highest of this period is granted now, until its end; a lower one takes '
    'nothing. PT404 for no account, PT409 without a period.';
