"""TLS servers and certificate files, whoever made them."""
