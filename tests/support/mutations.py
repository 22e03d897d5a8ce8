"""Broken variants of the golden cases' bodies: what a vendor might send tomorrow, or an attacker today."""

import copy
import random
from collections.abc import Iterator
from typing import Any

JUNK: tuple[Any, ...] = (
    None,
    "",
    "   ",
    0,
    -1,
    1.5,
    9_007_199_254_740_993,
    1e300,
    True,
    [],
    {},
    [[]],
    {"a": {"b": [1, None, {"c": ""}]}},
    "x" * 5_000,
    "1 MB " * 200_000,
    "\u202eمرحبا\u200f עולם",
    "<script>alert('x')</script>&amp;]]>",
    "tab\tline\nbreak\r\u0000\u0007\u0085\u00a0\u3000\ufffe",
    "2024-13-45T99:99:99Z",
    "https://example.org/room?token=abc",
    "😀" * 50,
    "|/%~",
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value below ``value``."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in children:
        yield (*path, key)
        yield from places(item, (*path, key))


def mutated(body: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """One to four changes: drop, retype, null, rename, nest, wrap in a list, duplicate, add, swap."""
    changed = copy.deepcopy(body)
    for _ in range(rng.randint(1, 4)):
        found = list(places(changed))
        if not found:
            break
        path = rng.choice(found)
        parent = changed
        for key in path[:-1]:
            parent = parent[key]
        key, value = path[-1], parent[path[-1]]
        match rng.choice(("drop", "junk", "junk", "rename", "nest", "list", "twice", "add", "swap")):
            case "drop":
                del parent[key]
            case "junk":
                parent[key] = copy.deepcopy(rng.choice(JUNK))
            case "rename" if isinstance(parent, dict):
                parent[f"{key}2"] = parent.pop(key)
            case "nest":
                parent[key] = {"value": value}
            case "list":
                parent[key] = [value, value]
            case "twice" if isinstance(parent, list):
                parent.append(copy.deepcopy(value))
            case "add":
                where = value if isinstance(value, dict) else parent
                if isinstance(where, dict):
                    where[rng.choice(("new", "Token", "pin", "url", "a/b~c", ""))] = copy.deepcopy(rng.choice(JUNK))
            case "swap":
                other = rng.choice(found)
                source: Any = changed
                try:
                    for step in other:
                        source = source[step]
                except (KeyError, IndexError, TypeError):
                    continue
                parent[key] = copy.deepcopy(source)
    return changed
