-- What has been accepted for a target and does not show yet, so that nobody asks for it again meanwhile.
-- Without the domain: two domains of a tenant may act on the same thing.
create index effect_pending on regie.effect (tenant, target) where state = 'pending';
