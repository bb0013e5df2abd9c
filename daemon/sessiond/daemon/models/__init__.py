"""Which model files this machine has, and which one a client means. `discover.discover` and `resolve.resolve`."""
