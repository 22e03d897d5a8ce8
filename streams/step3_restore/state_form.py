"""The form of a state entry's record in clear, by which another producer's record is told from ours."""

import orjson


def entry_key(key: bytes) -> tuple[str, str, str] | None:
    """Return the raw key, the subject and the name that a plain record's key holds; None where it has another form.

    >>> entry_key(b'["acme|1","Patient/1","name"]')
    ('acme|1', 'Patient/1', 'name')
    >>> [entry_key(key) for key in (b"", b"x", b"[", b"[1,2,3]", b'["a","b"]', b'"abc"')]
    [None, None, None, None, None, None]
    """
    try:
        held = orjson.loads(key)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(held, list) or len(held) != 3 or not all(isinstance(part, str) for part in held):
        return None
    owner, subject, name = held
    return owner, subject, name


def is_entry(value: bytes) -> bool:
    """Tell whether a plain record's value is that of a state entry.

    >>> is_entry(b'{"s":[1717243205,"125","key","2024-06-01T12:00:05.125Z"],"v":null}')
    True
    >>> [is_entry(value) for value in (b"", b"[]", b'{"v":1}', b'{"s":[1,2,3,4],"v":1}', b'{"s":[1,"","k","t"]}')]
    [False, False, False, False, False]
    """
    try:
        held = orjson.loads(value)
        seconds, fraction, event_key, at = held["s"]
    except (ValueError, TypeError, KeyError):
        return False
    return isinstance(seconds, int) and all(isinstance(part, str) for part in (fraction, event_key, at)) and "v" in held
