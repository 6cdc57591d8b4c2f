"""The gateway: the only process that holds secrets and reaches vendors. Workers and the web ask it over HTTP."""
