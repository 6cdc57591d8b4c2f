-- In which form a run and its events, and a release, are written; up to which one a worker reads. Whoever reads only
-- earlier forms leaves a run to others, instead of losing what it does not know.
alter table regie.run add column format integer not null default 1;
alter table regie.release add column format integer not null default 1;
alter table regie.worker add column reads integer not null default 1;
