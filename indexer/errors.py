"""The errors a user can cause. They stand apart so that the command line and the server can show
each as one clear line, without a traceback."""


class NeurariumError(Exception):
    """A mistake or a circumstance the user can do something about.

    The message says what was wrong, with the value, and what to do. The command line prints it as
    one line and exits with code 2.
    """
