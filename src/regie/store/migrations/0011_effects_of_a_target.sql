-- What has been done to one target lately: a ticket that was closed, an object that another run has just made.
create index effect_of_target on regie.effect (tenant, target, intended_at);
drop index regie.effect_of_closing;
