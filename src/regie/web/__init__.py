"""HTTP for people, programs and outside systems: starts runs, shows them, takes decisions. Holds no tenant's secret."""
