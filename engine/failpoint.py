"""Points at which a test may kill the process, to prove what a crash there means. Nothing happens without the variable.

`SYNCLEDGER_FAILPOINT=7` kills this process with SIGKILL when the seventh durable step is reached;
`SYNCLEDGER_FAILPOINT=settle:2` when the step named `settle` is reached for the second time.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

VARIABLE = "SYNCLEDGER_FAILPOINT"


def invalid() -> str | None:
    """What is wrong with the variable; None where nothing is."""
    wanted = os.environ.get(VARIABLE, "")
    number = wanted.rpartition(":")[2]
    if not wanted or (number.isdecimal() and int(number) > 0):
        return None
    return (
        f"{VARIABLE} is {wanted!r:.100}; write a number from 1, or a step and a number such as 'settle:2', or unset it"
    )


def _nothing(_step: str) -> None:
    """What every step costs outside of tests."""


def _killer(wanted: str) -> Callable[[str], None]:
    name, _, number = wanted.rpartition(":")
    left = int(number)

    def reached(step: str) -> None:
        nonlocal left
        if name in ("", step):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return reached


reached: Callable[[str], None] = (
    _killer(os.environ[VARIABLE]) if os.environ.get(VARIABLE) and not invalid() else _nothing
)
