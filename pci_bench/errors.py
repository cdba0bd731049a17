"""The one exception that stands for a user's mistake."""


class UserError(ValueError):
    """Something that the user can put right.

    The message is whole sentences: what was found, where, what was expected, and what to do next. The command line
    prints it without a traceback and exits with 2.
    """
