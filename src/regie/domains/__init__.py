"""The business areas Regie ships with, one folder each: `domain.yaml` and `workflows/`. They do not know each other."""
