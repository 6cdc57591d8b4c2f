-- Before a change is made the gateway asks what we have done to its target since it looked; see decision 0011.
create index effect_of_target on regie.effect (tenant, target, settled_at);
