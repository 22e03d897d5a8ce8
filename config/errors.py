"""The one error that stands for every wrong setting, file or table."""


class ConfigurationError(Exception):
    """A setting, a vendor file or a code table is wrong.

    The message is one line: what is wrong, where (setting name, or file:line), what to do. Commands print it and
    exit with 2; it never carries a secret's value.
    """
