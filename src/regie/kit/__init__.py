"""Tools for the authors of connectors: an HTTP session that speaks our errors, paging, and the shape of a connector."""
