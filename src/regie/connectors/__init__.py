"""One folder per vendor. Only the gateway imports from here; it finds the folders with `regie.kit.discovery`."""
