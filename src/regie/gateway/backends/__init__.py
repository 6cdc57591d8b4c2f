"""The places besides the vault where secrets may be kept, one module a kind, and which of them serves whom."""
