-- Promotion codes and referrals.
-- Longest lock: none beyond the new tables' own.
-- depends: 0009-jobs

set local role pgsaas_owner;

create table if not exists pgsaas.rewards (
    reward_id text not null,
    reward_kind text not null,
    description text,
    credits numeric not null,
    referrer_credits numeric not null default 0,
    expires_after interval,
    starts_at timestamptz,
    ends_at timestamptz,
    max_redemptions integer,
    account_age interval,
    redeemed integer not null default 0,
    is_active boolean not null default true,
    created_at timestamptz not null,
    changed_at timestamptz not null,
    constraint rewards_pkey primary key (reward_id),
    constraint rewards_reward_id_check check (reward_id ~ '^[A-Z0-9][A-Z0-9_-]{0,63}$'),
    constraint rewards_reward_kind_check check (reward_kind in ('code', 'referral')),
    constraint rewards_description_check check (octet_length(description) <= 4096),
    constraint rewards_credits_check check (credits >= 0 and credits <= 1000000000000
        and credits = round(credits, 6) and referrer_credits >= 0 and referrer_credits <= 1000000000000
        and referrer_credits = round(referrer_credits, 6)),
    constraint rewards_redeemed_check check (redeemed >= 0 and redeemed <= max_redemptions)
);
create unique index if not exists rewards_referral_idx on pgsaas.rewards (reward_kind)
    where reward_kind = 'referral' and is_active;
alter table pgsaas.rewards enable row level security;
comment on table pgsaas.rewards is
    'Promotion codes, and at most one way to reward referrals.';
comment on column pgsaas.rewards.account_age is 'Only accounts that are not older than this may redeem it.';

create table if not exists pgsaas.redemptions (
    account_id uuid not null,
    reward_id text not null,
    redeemed_at timestamptz not null,
    seq bigint not null,
    grant_id bigint not null,
    constraint redemptions_pkey primary key (account_id, reward_id),
    constraint redemptions_account_fkey foreign key (account_id) references pgsaas.accounts (account_id)
);
alter table pgsaas.redemptions enable row level security;
comment on table pgsaas.redemptions is 'Which account has redeemed which code.';

create table if not exists pgsaas.redeemed_subjects (
    reward_id text not null,
    subject_hash bytea not null,
    constraint redeemed_subjects_pkey primary key (reward_id, subject_hash)
);
alter table pgsaas.redeemed_subjects enable row level security;
comment on table pgsaas.redeemed_subjects is
    'Salted hashes of the ids and addresses behind redemptions: a second account brings no second reward.';

create table if not exists pgsaas.referral_codes (
    referral_code text not null,
    account_id uuid not null,
    constraint referral_codes_pkey primary key (referral_code)
);
create unique index if not exists referral_codes_account_idx on pgsaas.referral_codes (account_id);
alter table pgsaas.referral_codes enable row level security;
comment on table pgsaas.referral_codes is 'The code by which an account refers others.';

create table if not exists pgsaas.referrals (
    account_id uuid not null,
    referrer_id uuid not null,
    referred_at timestamptz not null,
    earned_at timestamptz,
    paid_at timestamptz,
    credits numeric not null default 0,
    referrer_credits numeric not null default 0,
    expires_after interval,
    constraint referrals_pkey primary key (account_id),
    constraint referrals_account_fkey foreign key (account_id) references pgsaas.accounts (account_id),
    constraint referrals_self_check check (account_id <> referrer_id)
);
create index if not exists referrals_unpaid_idx on pgsaas.referrals (earned_at)
    where earned_at is not null and paid_at is null;
alter table pgsaas.referrals enable row level security;
comment on table pgsaas.referrals is
    'Who referred whom; earned when the account first pays, paid when the referrer has been granted it.';
