"""The sandbox's node: runs pods as local processes, and can join any API server with nothing but a kubeconfig.

docs/sandbox.md lists what it does not do, and what happens instead.
"""
