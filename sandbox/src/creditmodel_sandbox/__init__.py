"""A one-machine Kubernetes API, controllers and node for laptops and CI without Docker."""
