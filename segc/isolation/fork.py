"""Work in a fork of a server, which must not run on in the server's loop."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import NoReturn


def work_and_exit(work: Callable[[], None]) -> NoReturn:
    """Do it, tell on stderr what it raises, and end this process: exit status 0, or 1 after an exception."""
    code = 1
    try:
        work()
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
