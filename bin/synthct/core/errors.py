"""The exceptions that mean "what the user gave is wrong"."""

import re

FAULT_FILE = "SYNTHCT_FAULT_FILE"  # environment: where one of several processes of a run leaves what is wrong
LONG = re.compile(r"\S{400,}(?<![:,;])")  # nobody reads on; longer than most paths


class InputError(Exception):
    """Bad input: the message is one line that says which file or value, what was found and what was expected.

    The tools in ``bin/`` print it without a traceback and exit with status 2 (see `synthct.core.cli`).
    """

    def __init__(self, message: str):
        line = " ".join(str(message).split())
        super().__init__(LONG.sub(lambda word: f"{word[0][:60]}…{word[0][-20:]} ({len(word[0])} letters)", line))


class PatientError(InputError):
    """What was given for one patient cannot be used, whatever the settings; other patients of a cohort can."""


class OutputError(InputError):
    """An output cannot be written: no patient's fault, so that no cohort goes on past it."""


class PairError(PatientError):
    """This pair of images cannot be registered, whatever the settings; other pairs of a cohort can."""
