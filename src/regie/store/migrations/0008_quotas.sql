-- How many runs of a domain may be in hands, as the current release says; null is no bound.
-- No tenant: it is about all tenants of a domain together and about each of them alike.
create table regie.quota (
    domain text primary key,
    runs integer check (runs > 0),
    per_tenant integer check (per_tenant > 0),
    waiting integer check (waiting > 0)
);

-- A claim looks at the head of each tenant's queue and at what each tenant has in hands; so the domain leads, and all
-- tenants of it are read together. Workers of before read the queue of a domain by these too, with a sort.
create index run_queued on regie.run (domain, tenant, prio, ready_at) where owner is null and ready_at is not null;
create index run_in_hands on regie.run (domain, tenant) where owner is not null;
drop index regie.run_ready, regie.run_owned;

-- How much of what a vendor allows is left, shared by all gateways. The key is made of connector, bucket and a digest of
-- who shares it. What is full again says nothing and may be deleted. `about` is for people.
-- No tenant, no domain: what a vendor allows an app is shared by all of them.
create table regie.rate_budget (
    key text primary key,
    about text not null,
    at_once double precision not null,
    each_s double precision not null,
    level double precision not null,
    counted_at timestamptz not null default clock_timestamp(),
    closed_until timestamptz
) with (fillfactor = 50);
