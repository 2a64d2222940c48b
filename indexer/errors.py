"""The error that the command line and the server show as one line, without a traceback."""


class NeurariumError(Exception):
    """A problem the user can fix.

    The message says what was wrong, with the value, and what to do. The command line prints it as
    one line and exits with code 2.
    """
