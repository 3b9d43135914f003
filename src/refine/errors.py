"""The one exception whose text is written for the person at the keyboard."""


class RefineError(Exception):
    """Bad input: a file, a setting or a checkpoint that cannot be used.

    The message is one line that names the thing and the mend. Commands print it without a
    traceback and exit with a code other than 0; every other exception is a bug of ours and keeps
    its traceback.
    """
