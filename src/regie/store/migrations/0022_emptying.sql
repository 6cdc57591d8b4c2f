-- When the inputs and outputs of a run that is over were taken away, as the class of its domain says.
alter table regie.run add column emptied_at timestamptz;
create index run_to_empty on regie.run (domain, ended_at) where ended_at is not null and emptied_at is null;
