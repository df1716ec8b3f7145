"""`creditmodel-sandbox`: the command line. Each part is imported only when it is asked for."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

__all__ = ["main"]

PARTS = ("apiserver", "controllers", "node")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one part in the foreground, or manage an instance of all three."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments and arguments[0] in PARTS:
        part = import_module(f"creditmodel_sandbox.{arguments[0]}.main")
        code: int = part.main(arguments[1:])
        return code
    from creditmodel_sandbox import supervisor

    return supervisor.main(arguments)


if __name__ == "__main__":
    sys.exit(main())
