"""Real servers of vendors, started for a test on the loopback and stopped after it. One module a server.

Those that the demo uses as well are in `regie_sandbox.servers`. `make counterparts` installs what they need. Where one
lacks, a test that needs it is skipped with the reason, and fails on CI.
"""
