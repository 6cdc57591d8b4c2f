"""An imaginary outside world to try Regie in: vendor APIs with the vendors' rules, and a ledger of every write."""
