"""The controllers of the sandbox: what turns Deployments, Jobs and the rest into pods, and keeps their status true.

Each controller is a module with `observe(cache, key)`, which takes one frozen snapshot, and `reconcile(snapshot, now)`,
which is pure and returns the actions to take. `runtime` carries them out.
"""
