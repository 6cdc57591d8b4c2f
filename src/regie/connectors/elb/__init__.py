"""AWS load balancers: certificates of their listeners."""
