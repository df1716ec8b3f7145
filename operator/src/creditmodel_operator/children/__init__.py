"""One module per child kind: each builds the manifest that the API server is asked for, from plain values."""
