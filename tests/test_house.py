"""The plan of the package: imports go upwards only, and a room is entered through its door."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import genre_utils

ROOT = Path(genre_utils.__file__).parent
FLOORS = (
    {"genres", "images", "support", "machine"},
    {"sources", "ocr", "networks"},
    {"dataset", "batches", "text", "models", "training", "fusion", "evaluation"}
    | {"saved_model", "predictor", "plots"},
    {"runs"},
    {"apps"},
    {"__main__", "__init__", "weights"},
)
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names}


def imported(file: Path) -> list[tuple[str, ...]]:
    """The names below `genre_utils` that a module imports, each as its parts."""
    names = []
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "genre_utils":
            names += [(alias.name,) for alias in node.names if alias.name != "__version__"]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("genre_utils."):
            path = tuple(node.module.split(".")[1:])
            inside = [path + (alias.name,) for alias in node.names]
            names += [n if (ROOT / Path(*n)).with_suffix(".py").exists() else path for n in inside]
        elif isinstance(node, ast.Import):
            assert not any(alias.name.startswith("genre_utils") for alias in node.names), file
    return names


def test_imports_go_upwards_in_no_circle_and_through_the_doors_of_rooms():
    rooms, modules = {}, {}
    for file in ROOT.rglob("*.py"):
        here = file.relative_to(ROOT).with_suffix("").parts
        for name in imported(file):
            modules.setdefault(here, set()).add(name)
            if name[0] != here[0]:
                assert FLOOR[name[0]] <= FLOOR[here[0]], f"{file} imports {name}"
                rooms.setdefault(here[0], set()).add(name[0])
    list(TopologicalSorter(rooms).static_order())
    list(TopologicalSorter(modules).static_order())


def test_a_room_is_entered_through_its_door():
    for file in ROOT.rglob("*.py"):
        here = file.relative_to(ROOT).parts[0]
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            path = (getattr(node, "module", None) or "").split(".")
            is_inside = path[0] == "genre_utils" and len(path) > 2
            assert not is_inside or path[1] == here, f"{file} imports {'.'.join(path)}"
