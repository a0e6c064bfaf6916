"""The floors of docs/architecture.md, the public names, and what `import quickstudy` costs."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Set
from pathlib import Path

import pytest

import quickstudy

SOURCE = Path(quickstudy.__file__).parent
REPOSITORY = Path(__file__).parents[1]

# A room is a package or a single module; its floor is its number here.
FLOORS = {
    0: {
        *("episode", "targets", "keys", "registry", "errors", "files", "metrics"),
        *("callable_module", "allocator", "native", "hub"),
    },
    1: {"nets", "data"},
    2: {"inner"},
    3: {"learners"},
    4: {"train", "evaluate"},
    5: {"recipes", "doctor", "domains"},
    6: {
        *("api", "training", "testing", "predicting", "running", "rankcount", "runs", "runlist", "progress", "notes"),
        "resuming",
        "stressing",
        *("saved", "exporting", "exportfile", "hublearner", "sealed", "modelcard", "shipped", "estimators", "serve"),
        *("reporting", "sweeps", "reports", "memoryneed", "memorythere", "reproduce", "leaderboard"),
    },
    7: {"cli", "__init__", "__main__"},
}
FLOOR = {room: floor for floor, rooms in FLOORS.items() for room in rooms}
# Floors 0 and 6 are made of single files, which know each other; on the others neighbours do not.
OPEN_FLOORS = {0, 6, 7}
# Upward calls at run time: `quickstudy.train(...)` is a package that hands the call to quickstudy.api.
DYNAMIC = {"callable_module": {"quickstudy.api"}}


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imports(path: Path) -> Iterator[str]:
    """Modules of quickstudy that a file imports, wherever in the file it does."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "quickstudy")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "quickstudy":
            assert node.module is not None
            if node.module != "quickstudy":
                yield node.module
                continue
            for alias in node.names:  # `from quickstudy import api` names a room, `... import __version__` none
                yield f"quickstudy.{alias.name}" if alias.name in FLOOR else "quickstudy"
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively; write the whole name"


def graph() -> dict[str, set[str]]:
    found = {}
    for path in SOURCE.rglob("*.py"):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        found[".".join(["quickstudy", *parts])] = set(imports(path))
    return found


def violations(found: Mapping[str, Set[str]]) -> list[str]:
    wrong = []
    for module, imported in sorted(found.items()):
        here = room_of(module)
        for other in sorted(imported):
            there = room_of(other)
            down = FLOOR[there] < FLOOR[here]
            beside = FLOOR[there] == FLOOR[here] and (there == here or FLOOR[here] in OPEN_FLOORS)
            if not (down or beside):
                wrong.append(f"{module} (floor {FLOOR[here]}) imports {other} (floor {FLOOR[there]})")
    return wrong


def test_every_file_stands_on_a_floor() -> None:
    unknown = {room_of(module) for module in graph()} - set(FLOOR)
    assert not unknown, f"say in FLOORS, and in docs/architecture.md, on which floor {sorted(unknown)} stand"


def test_imports_point_downwards() -> None:
    assert violations(graph()) == []


@pytest.mark.parametrize(
    ("module", "imported"),
    [
        ("quickstudy.inner.descent", "quickstudy.learners.maml"),
        ("quickstudy.nets.conv4", "quickstudy.data.store"),
        ("quickstudy.train.engine", "quickstudy.evaluate.metatest"),
        ("quickstudy.keys", "quickstudy"),
        ("quickstudy.training", "quickstudy.cli.options"),
    ],
)
def test_a_wrong_direction_is_noticed(module: str, imported: str) -> None:
    assert len(violations({module: {imported}})) == 1


def test_only_the_documented_module_calls_upwards() -> None:
    """Addresses in strings are no imports; registries point to their own room, and one module points upwards."""
    address = re.compile(r"[\"'](quickstudy(?:\.\w+)+)(?::\w+)?[\"']")
    found: dict[str, set[str]] = {}
    for path in SOURCE.rglob("*.py"):
        room = room_of(".".join(["quickstudy", *path.relative_to(SOURCE).with_suffix("").parts]))
        for module in address.findall(path.read_text(encoding="utf-8")):
            if room_of(module) in FLOOR and FLOOR[room_of(module)] > FLOOR[room]:
                found.setdefault(room, set()).add(module)
    assert found == DYNAMIC


def test_the_page_names_every_room() -> None:
    page = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    packages = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    assert [room for room in sorted(packages) if f"`{room}/`" not in page] == []


# --- public names ------------------------------------------------------------------------------------


def test_public_names_are_sorted_and_there() -> None:
    assert quickstudy.__all__ == sorted(quickstudy.__all__)
    assert len(quickstudy.__all__) <= 60
    assert [name for name in quickstudy.__all__ if getattr(quickstudy, name, None) is None] == []
    assert set(quickstudy.__all__) <= set(dir(quickstudy))


@pytest.mark.parametrize("room", ["data", "doctor", "evaluate", "inner", "learners", "nets", "recipes", "train"])
def test_a_room_exports_what_it_says(room: str) -> None:
    module = getattr(quickstudy, room)
    assert module.__name__ == f"quickstudy.{room}"
    assert [name for name in module.__all__ if not hasattr(module, name)] == []
    assert len(set(module.__all__)) == len(module.__all__)


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="module 'quickstudy' has no attribute 'trian'"):
        quickstudy.trian  # noqa: B018


@pytest.mark.parametrize("first", ["import quickstudy", "import quickstudy.train", "from quickstudy.train import fit"])
def test_train_is_a_package_and_a_function(first: str) -> None:
    run_python(
        f"{first}; import quickstudy, quickstudy.api\n"
        "assert quickstudy.train.fit is not None\n"
        "quickstudy.api.train = lambda *given, **named: (given, named)\n"
        "assert quickstudy.train('x', resume=True) == (('x',), {'resume': True})"
    )


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "module",
    ["quickstudy", "quickstudy.cli", "quickstudy.registry", "quickstudy.errors", "quickstudy.files"],
)
def test_importing_is_light(module: str) -> None:
    loaded = run_python(f"import sys, {module}\nprint(*sys.modules)").split()
    assert {"torch", "numpy", "sklearn", "matplotlib", "scipy"}.isdisjoint(loaded)


def test_version_and_changelog_agree() -> None:
    text = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## (\S+)", text, flags=re.MULTILINE)
    assert newest is not None
    assert newest.group(1) == quickstudy.__version__
