"""Real servers of vendors, started on the loopback for as long as they are needed. One module a server.

The tests start them one by one; `python -m regie_sandbox.servers` puts a company together from them for the demo of
certificates. Debian has all of them: `make counterparts` installs them.
"""
