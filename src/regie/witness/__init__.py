"""A witness: somebody outside who countersigns checkpoints of logs, those that continue what it has seen."""
