-- What the notary makes of the leaves: one log for each tenant and domain, and the anchor log, whose leaves are the
-- checkpoints of the others. log_id stands for tenant and domain. Nothing here is sealed: it is what auditors get.
insert into audit.log (tenant, domain, origin) select '', 'anchor', 'audit.' || name || '/anchor' from regie.deployment;

-- Leaves in their order, from 0. The database refuses a hash that is not the leaf's.
create table audit.leaf (
    log_id integer not null,
    idx bigint not null check (idx >= 0),
    entry_id uuid not null unique,
    run_id uuid,
    run_seq integer,
    leaf bytea not null check (octet_length(leaf) <= 65535),
    leaf_hash bytea not null check (leaf_hash = sha256('\x00'::bytea || leaf)),
    at timestamptz not null,
    primary key (log_id, idx),
    check ((run_id is null) = (run_seq is null))
);
create index leaf_of_run on audit.leaf (run_id, run_seq) where run_id is not null;
-- The newest facts outside runs, for people.
create index leaf_outside on audit.leaf (log_id, at desc) where run_id is null;

-- 256 hashes that stand beside each other.
create table audit.tile (
    log_id integer not null,
    level integer not null,
    n bigint not null,
    data bytea not null check (octet_length(data) = 8192),
    primary key (log_id, level, n)
);

-- anchor_idx is where the anchor log holds this checkpoint; the anchor's own are held by no log.
create table audit.checkpoint (
    log_id integer not null,
    size bigint not null,
    root bytea not null check (octet_length(root) = 32),
    note text not null,
    anchor_idx bigint,
    at timestamptz not null default clock_timestamp(),
    primary key (log_id, size)
);

-- Witnesses' lines on checkpoints of the anchor log. No tenant: it stands for all of them.
create table audit.cosignature (
    anchor_size bigint not null,
    witness text not null,
    line text not null,
    at timestamptz not null default clock_timestamp(),
    primary key (anchor_size, witness)
);

-- Public keys of the notary, from which size of the anchor log each one signs. No tenant: it signs for all of them.
create table audit.signing_key (
    public bytea primary key check (octet_length(public) = 32),
    from_size bigint not null unique,
    at timestamptz not null default clock_timestamp()
);

-- All leaves, whether the notary has taken them in yet or not.
create view audit.entry as
    select entry_id, log_id, run_id, run_seq, leaf, at from audit.leaf
    union all
    select entry_id, log_id, run_id, run_seq, leaf, at from audit.intake;

-- A seat belt: the owner of a table can take it off. What shows a change is the proofs.
create function audit.refuse_change() returns trigger language plpgsql as $$
begin
    raise exception 'audit.% only grows', tg_table_name;
end
$$;
create trigger leaf_only_grows before update or delete or truncate on audit.leaf
    for each statement execute function audit.refuse_change();
create trigger tile_only_grows before update or delete or truncate on audit.tile
    for each statement execute function audit.refuse_change();
create trigger checkpoint_only_grows before update or delete or truncate on audit.checkpoint
    for each statement execute function audit.refuse_change();

-- Every leaf passes through here within a second or two: without this it would be mostly room that is not used any more.
alter table audit.intake set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
