set local role pgsaas_owner;
drop table if exists pgsaas.referrals, pgsaas.referral_codes, pgsaas.redeemed_subjects, pgsaas.redemptions, pgsaas.rewards;
