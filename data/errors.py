"""The one error a user causes and can mend; the command line prints it as one line and exits with 2."""


class InputError(ValueError):
    """What was wrong, where, and what to do about it, in one sentence fit to be shown without a traceback."""
