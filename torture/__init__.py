"""Breaks an installation of Regie on purpose, and checks afterwards that nothing was lost, doubled or left hanging."""
