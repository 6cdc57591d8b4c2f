"""TLS as a client sees it: handshakes that show what is presented, and what to make of that.

`certificates`, `names`, `trust`, `revocation` and `judging` are pure. `starttls` speaks over anything that can send and
receive. `handshake`, `asking` and `scanning` reach the network; connectors get them from the gateway.
"""
