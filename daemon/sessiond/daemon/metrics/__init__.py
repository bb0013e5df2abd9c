"""What the daemon counts of itself, and how it tells it: Prometheus metrics over HTTP, and a short form in GetRuntime."""
