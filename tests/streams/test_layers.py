"""The direction of imports: downwards between rooms, and never in a circle (architecture.md §2.2)."""

import ast
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

pytestmark = pytest.mark.xdist_group("layers")  # in one process, which parses all modules once

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

TOPS = ("fhirline.config", "fhirline.mappers", "fhirline.streams", "fhirline.topics")

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


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


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


def for_types(node: ast.AST) -> bool:
    """Tell whether a statement is ``if TYPE_CHECKING:``, whose imports do not run."""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def module_of(name: str, known: Iterable[str]) -> str:
    """Return the module that an imported name is, or is in."""
    while name not in known:
        name = name.rpartition(".")[0]
    return name


@cache
def arrows() -> dict[str, set[str]]:
    """Return each module with the modules of ours that it imports when it runs, also inside functions."""
    found: dict[str, set[str]] = {}
    paths = modules()
    for module, path in paths.items():
        tree = ast.Module([node for node in parsed(path).body if not for_types(node)], [])
        names = (name for name in imported(tree) if any(name.startswith(f"{top}.") or name == top for top in TOPS))
        found[module] = {module_of(name, paths) for name in names} - {module}
    return found


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """Return the nodes of one circle; none where there is no circle."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def between_folders(folder: str, found: Mapping[str, set[str]], folders: Iterable[str]) -> dict[str, set[str]]:
    """Return the arrows between the folders of a folder. Its own modules may import them, and be imported by them."""
    inner = {name for name in folders if name.rpartition(".")[0] == folder}

    def inner_of(module: str) -> str | None:
        return next((name for name in inner if f"{module}.".startswith(f"{name}.")), None)

    graph: dict[str, set[str]] = {name: set() for name in inner}
    for module, targets in found.items():
        if (source := inner_of(module)) is not None:
            graph[source] |= {name for target in targets if (name := inner_of(target)) not in (None, source) and name}
    return graph


def test_every_room_has_a_floor() -> None:
    rooms = {room_of(module) for module in modules()} - {"streams"}
    assert rooms == FLOOR_OF.keys()


def test_imports_point_downwards() -> None:
    upwards = [
        f"{module} imports {name}"
        for module, path in modules().items()
        if module != "fhirline.streams"
        for name in imported(parsed(path))
        if room_of(name) != room_of(module) and FLOOR_OF[room_of(name)] >= FLOOR_OF[room_of(module)]
    ]
    assert upwards == []


def test_the_package_of_all_rooms_imports_none() -> None:
    """``streams/__init__.py`` runs before any room of it is imported."""
    tree = parsed(ROOT / "streams" / "__init__.py")
    assert [*imported(tree)] == []


def test_no_module_imports_itself_through_others() -> None:
    assert circle(arrows()) == []


def test_no_folder_imports_its_neighbour_and_is_imported_by_it() -> None:
    """``tables/views`` once imported ``tables/without_identities``, which imports ``tables/views``.

    So did ``replay``, ``keys`` and ``erasure`` of ``operate``, in a circle of three.
    """
    folders = {module for module, path in modules().items() if path.name == "__init__.py"}
    found = arrows()
    circles = [circle(between_folders(folder, found, folders)) for folder in sorted(folders)]
    assert [names for names in circles if names] == []
