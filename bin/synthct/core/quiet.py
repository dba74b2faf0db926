"""What C and C++ libraries print is kept from the user: the exception that follows says it in one line."""

import contextlib
import os


@contextlib.contextmanager
def quiet():
    """Nothing that is written to the process's standard error shows, whoever writes it."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
