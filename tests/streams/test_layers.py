"""The direction of imports between rooms: only downwards (architecture.md §2.2)."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]

FLOORS = (
    {"config"},
    {"topics"},
    {"mappers"},
    {"streams.http"},
    {"streams.kafka"},
    {"streams.observe"},
    {"streams.step1_receive", "streams.step3_restore", "streams.step4_normalize", "streams.step5_publish"},
    {"streams.step2_consume", "streams.enrich", "streams.deliver", "streams.tables"},
    {"streams.operate", "streams.demo", "streams.authoring"},
    {"streams.console"},
    {"streams.cli"},
)
"""The rooms by floor, lowest first. A room imports from lower floors and from itself, never from its neighbours."""

FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def room_of(module: str) -> str:
    """``fhirline.streams.kafka.reader`` → ``streams.kafka``; ``fhirline.topics.declared`` → ``topics``."""
    _, top, *rest = module.split(".")
    return f"streams.{rest[0]}" if top == "streams" and rest else top


def modules() -> dict[str, Path]:
    """Return all modules of ours with their files."""
    paths = [path for folder in ("config", "mappers", "topics", "streams") for path in (ROOT / folder).rglob("*.py")]
    names = [".".join(("fhirline", *path.relative_to(ROOT).with_suffix("").parts)) for path in paths]
    return {name.removesuffix(".__init__"): path for name, path in sorted(zip(names, paths, strict=True))}


def imported(tree: ast.Module) -> Iterator[str]:
    """Every module of ours that a source imports, also inside functions and for types only."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            names = [f"{node.module}.{name.name}" for name in node.names]
        elif isinstance(node, ast.Import):
            names = [name.name for name in node.names]
        else:
            continue
        yield from (name for name in names if name.startswith("fhirline."))


def test_every_room_has_a_floor() -> None:
    rooms = {room_of(module) for module in modules()} - {"streams"}
    assert rooms == FLOOR_OF.keys()


def test_imports_point_downwards() -> None:
    upwards = [
        f"{module} imports {name}"
        for module, path in modules().items()
        if module != "fhirline.streams"
        for name in imported(ast.parse(path.read_text("utf-8")))
        if room_of(name) != room_of(module) and FLOOR_OF[room_of(name)] >= FLOOR_OF[room_of(module)]
    ]
    assert upwards == []


def test_the_package_of_all_rooms_imports_none() -> None:
    """``streams/__init__.py`` runs before any room of it is imported."""
    tree = ast.parse((ROOT / "streams" / "__init__.py").read_text("utf-8"))
    assert [*imported(tree)] == []
