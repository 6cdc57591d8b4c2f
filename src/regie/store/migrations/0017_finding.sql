-- What an auditor has in hand leads to a run: the outside system's id of a request or of what was made (as a digest, for
-- the ids are sealed with their receipt), our marker in a vendor's object, a correlation id, a ticket.
alter table regie.effect add column request_mark text, add column remote_mark text;
create index effect_by_request on regie.effect (request_mark) where request_mark is not null;
create index effect_by_remote on regie.effect (remote_mark) where remote_mark is not null;
create index effect_by_marker on regie.effect (left(effect_key, 20));
-- A run's own id is its correlation id, unless another one was given.
create index run_by_corr on regie.run (corr) where corr <> id::text;
create index run_by_ticket on regie.run (ticket) where ticket <> '';
