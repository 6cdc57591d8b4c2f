-- A run that a fault of ours throws out of a worker's hands is tried again at again_at, and set aside when that goes on:
-- dropped_n counts how often it was dropped since the commit dropped_seq, so that a run which moves on counts anew.
alter table regie.run
    add column again_at timestamptz,
    add column dropped_n integer not null default 0,
    add column dropped_seq bigint;
create index run_again on regie.run (domain, again_at) where again_at is not null;
