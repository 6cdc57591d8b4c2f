"""Real servers of vendors, started for a test on the loopback and stopped after it. One module a server.

`make counterparts` installs what they need. Where one lacks, a test that needs it is skipped with the reason, and fails
on CI.
"""
