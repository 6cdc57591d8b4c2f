"""The only room that knows how runs are made durable. One port (`port.py`), engines behind it: `inline`, `postgres`."""
