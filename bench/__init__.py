"""Measures what Regie costs beside what its database costs in the same minutes."""
