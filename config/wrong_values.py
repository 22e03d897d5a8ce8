"""Messages for wrong values of settings and files. They name YAML's and JSON's types, not Python's."""

import re

from pydantic_core import ErrorDetails

_MESSAGES = {
    "missing": "is missing",
    "extra_forbidden": "there is no such name here; correct it, or remove it",
    "string_type": "must be a text; put it in quotes",
    "model_type": "must be names with values",
    "dict_type": "must be names with values",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "frozen_set_type": "must be a list",
    "set_type": "must be a list",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a whole number of fewer digits",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
}


def message_of(error: ErrorDetails) -> str:
    """Return the message of a pydantic error, without the value and without Python's names."""
    text = error["msg"].removeprefix("Value error, ")
    text = re.sub(r"^[A-Z]\w+ should ", "must ", text)
    return _MESSAGES.get(error["type"], text.partition(" after validation")[0])
