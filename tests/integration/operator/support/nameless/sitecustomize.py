"""On the operator's PYTHONPATH: its user has a number and no name, as in an image, or where a cluster chooses it."""

import os
import pwd
from typing import NoReturn


def _nobody(uid: int) -> NoReturn:
    raise KeyError(f"getpwuid(): uid not found: {uid}")


pwd.getpwuid = _nobody
for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
    os.environ.pop(name, None)
