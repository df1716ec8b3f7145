"""A Kubernetes API server for one machine: HTTPS on loopback, one SQLite file, stock clients."""
