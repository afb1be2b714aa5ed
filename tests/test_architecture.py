"""The house: which way imports run, what the pipeline knows, how modules are named and how long they are."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("gateway", "pipeline", "schemas")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))

# Whom each package may import besides itself, of the three.
MAY_IMPORT = {"gateway": {"pipeline", "schemas"}, "pipeline": {"schemas"}, "schemas": set()}

# What the pipeline must not know: stores, brokers, files, the environment, the gateway's own libraries and the network.
FOREIGN = {
    "aiormq",
    "argparse",
    "dotenv",
    "hiredis",
    "logging",
    "loguru",
    "os",
    "pamqp",
    "pathlib",
    "prometheus_client",
    "redis",
    "signal",
    "socket",
    "sqlite3",
    "ssl",
    "subprocess",
    "sys",
    "threading",
    "uvicorn",
}
EXCUSED: dict[str, set[str]] = {}
NAMES_THAT_SAY_NOTHING = {
    "base",
    "bases",
    "common",
    "helper",
    "helpers",
    "manager",
    "managers",
    "misc",
    "util",
    "utils",
}
MOST_LINES = 300
MOST_ROOMS = 16

ADAPTERS = ("gateway.redis", "gateway.rabbitmq", "gateway.embedded")
MAY_KNOW_ADAPTERS = {
    "gateway/backends.py",  # the composition root of the adapters
    "gateway/config/parsers.py",  # a URL is judged by who will open it
}
# What a module may keep that changes, each with the reason beside it.
STATE_OF_MODULES: dict[str, list[str]] = {}
# The test by name that a module does not have, and where it is tested instead.
TESTED_ELSEWHERE: dict[str, Sequence[str]] = {
    "gateway/__main__.py": ["unit/gateway/test_cli.py"],
    "gateway/dependency.py": ["contract"],
    "gateway/process.py": ["integration/test_operations.py"],
    "gateway/serve.py": ["integration/test_operations.py"],
    "pipeline/ports.py": ["contract"],
    "schemas/__init__.py": ["unit/schemas/test_init.py"],
}
# Facts of many modules together.
UNITS_OF_MANY = {"tests/unit/schemas/test_init.py", "tests/unit/test_promised_times.py"}


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path) -> Iterator[str]:
    """Every module that is imported anywhere in a file, by its whole name."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(path)}:{node.lineno}: imports are absolute"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def tops(path: Path) -> set[str]:
    return {module.partition(".")[0] for module in imports(path)}


def public(body: list[ast.stmt], inside: str = "") -> Iterator[tuple[str, ast.AST]]:
    """The public classes and functions of a module, and the public methods of these classes."""
    for node in body:
        if isinstance(
            node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        ) and not node.name.startswith("_"):
            yield inside + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body, f"{inside}{node.name}.")


CHANGING = {
    *("add", "append", "appendleft", "clear", "discard", "extend", "insert", "pop", "popitem", "popleft"),
    *("remove", "reverse", "setdefault", "sort", "update"),
}


def changes(module: ast.Module) -> set[str]:
    """The module's own names that it changes in place, wherever in it."""
    own = {
        target.id
        for node in module.body
        if isinstance(node, (ast.Assign, ast.AnnAssign))
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    }
    found = set()
    for node in ast.walk(module):
        is_bound = isinstance(node, (ast.Subscript, ast.Attribute)) and not isinstance(node.ctx, ast.Load)
        is_changed = is_bound or (isinstance(node, ast.Attribute) and node.attr in CHANGING)
        changed = node.value if isinstance(node, (ast.Subscript, ast.Attribute)) and is_changed else None
        if isinstance(changed, ast.Name) and changed.id in own:
            found.add(changed.id)
    return found


def test_the_packages_are_there() -> None:
    """An empty walk would find nothing wrong."""
    for package in PACKAGES:
        assert any(path.is_relative_to(ROOT / package) for path in MODULES)
    assert len(MODULES) > 40


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_imports_run_one_way(path: Path) -> None:
    """Gateway → pipeline → schemas, and never back; nobody imports the tests."""
    package = path.relative_to(ROOT).parts[0]
    allowed = MAY_IMPORT[package] | {package}
    assert tops(path) & {*PACKAGES, "tests"} <= allowed


@pytest.mark.parametrize(
    "path", [path for path in MODULES if path.is_relative_to(ROOT / "pipeline")], ids=name
)
def test_the_pipeline_knows_neither_stores_nor_the_environment(path: Path) -> None:
    """What it needs from outside stands in its ports; nothing there opens, reads or logs anything by itself."""
    assert tops(path) & FOREIGN == EXCUSED.get(name(path), set())
    called = {
        node.func.id
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert called & {"open", "print", "input", "__import__", "eval", "exec"} == set()


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_adapters_meet_only_in_the_composition_root(path: Path) -> None:
    """Whoever is no adapter knows at most one of them, and an adapter knows itself alone."""
    known = {
        adapter
        for adapter in ADAPTERS
        if any((found + ".").startswith(adapter + ".") for found in imports(path))
    }
    own = {adapter for adapter in ADAPTERS if path.is_relative_to(ROOT / adapter.replace(".", "/"))}
    if name(path) in MAY_KNOW_ADAPTERS:
        assert len(known) > 1, "an excuse that nobody needs any more"
    else:
        assert known <= own if own else len(known) <= 1


@pytest.mark.parametrize("path", MODULES + TESTS, ids=name)
def test_every_file_is_short_and_well_named(path: Path) -> None:
    """Nobody scrolls for long, and no name says nothing."""
    assert path.stem not in NAMES_THAT_SAY_NOTHING
    assert path.parent.name not in NAMES_THAT_SAY_NOTHING
    if path in MODULES:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


@pytest.mark.parametrize("path", MODULES + TESTS, ids=name)
def test_every_module_begins_with_a_sentence(path: Path) -> None:
    """It says what the module is, on one line, and ends."""
    documentation = ast.get_docstring(tree(path))
    assert documentation, "a module begins with a docstring"
    assert documentation.split("\n\n")[0].endswith(".")


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_everything_public_says_what_it_does(path: Path) -> None:
    """Each public class, function and method has a docstring."""
    silent = [found for found, node in public(tree(path).body) if not ast.get_docstring(node)]  # type: ignore[arg-type]  # They all can have one.
    assert silent == []


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_nothing_that_changes_lives_in_a_module(path: Path) -> None:
    """No module rebinds its globals or changes what they hold: two gateways in one process share nothing."""
    found = tree(path)
    assert [node.lineno for node in ast.walk(found) if isinstance(node, ast.Global)] == []
    assert sorted(changes(found)) == sorted(STATE_OF_MODULES.get(name(path), []))


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_every_module_has_a_unit_test(path: Path) -> None:
    """``pipeline/stages/quota.py`` is tested by ``tests/unit/pipeline/stages/test_quota.py``, and so on."""
    module = path.relative_to(ROOT)
    test = ROOT / "tests" / "unit" / module.with_name(f"test_{path.stem}.py")
    if name(path) in TESTED_ELSEWHERE:
        assert not test.exists(), "it has a unit test after all"
        assert [
            place for place in TESTED_ELSEWHERE[name(path)] if not (ROOT / "tests" / place).exists()
        ] == []
    elif path.stem != "__init__":
        assert test.exists(), f"{test.relative_to(ROOT)} is missing"


def test_no_excuse_outlives_its_module() -> None:
    """What is excused is there."""
    excused = [*EXCUSED, *MAY_KNOW_ADAPTERS, *STATE_OF_MODULES, *TESTED_ELSEWHERE]
    assert [module for module in excused if not (ROOT / module).exists()] == []


def test_every_unit_test_has_its_module() -> None:
    """A test whose module has moved or gone is found."""
    units = [
        path
        for path in TESTS
        if path.is_relative_to(ROOT / "tests" / "unit") and path.stem.startswith("test_")
    ]
    homeless = {
        name(path)
        for path in units
        if not (
            ROOT
            / path.relative_to(ROOT / "tests" / "unit").with_name(f"{path.stem.removeprefix('test_')}.py")
        ).exists()
    }
    assert homeless == UNITS_OF_MANY


def test_no_floor_holds_more_rooms_than_one_can_remember() -> None:
    """Where there are more than a dozen modules side by side, some belong together."""
    floors = {path.parent for path in MODULES}
    crowded = {name(floor): len(list(floor.glob("[!_]*.py"))) for floor in floors}
    assert {floor: rooms for floor, rooms in crowded.items() if rooms > MOST_ROOMS} == {}
