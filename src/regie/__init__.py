"""Regie: workflows that plan changes in outside systems, ask the right people, make the changes and prove them."""

import gc

COLLECTED_AFTER = 50_000
"""Objects made and not freed until memory is looked through; what is done for a run or a request frees itself."""

# From the first import on: looking through all that is loaded, again and again, took a sixth of a process's start.
gc.set_threshold(COLLECTED_AFTER, 20, 100)
