"""The house: which way imports run, what the pipeline knows, how modules are named and how long they are."""

from __future__ import annotations

import ast
from collections.abc import Iterator
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
# Random bytes by the hundred, and word of a fork, whose child must not draw the same: nothing of the environment.
EXCUSED = {"pipeline/ids.py": {"os"}}
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
    assert tops(path) & FOREIGN <= EXCUSED.get(name(path), set())
    called = {
        node.func.id
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert called & {"open", "print", "input", "__import__", "eval", "exec"} == set()


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_no_adapter_knows_another(path: Path) -> None:
    """Redis, RabbitMQ and the embedded file meet only in the composition root and on the command line."""
    adapters = {"gateway.redis", "gateway.rabbitmq", "gateway.embedded"}
    known = {
        module
        for module in adapters
        if any((found + ".").startswith(module + ".") for found in imports(path))
    }
    own = {module for module in adapters if path.is_relative_to(ROOT / module.replace(".", "/"))}
    if own and path.stem != "commands":
        assert known <= own


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
def test_nothing_of_a_request_lives_in_a_module(path: Path) -> None:
    """No module rebinds its own globals: what lives with a request lives in its context."""
    rebinding = [node.lineno for node in ast.walk(tree(path)) if isinstance(node, ast.Global)]
    assert rebinding == []


def test_every_module_of_ours_has_a_unit_test() -> None:
    """``pipeline/quota.py`` is tested by ``tests/unit/test_quota.py``; those named here are tested elsewhere."""
    elsewhere = {
        "gateway/__init__": "says the version, which tests/unit/test_cli.py reads",
        "gateway/__main__": "tests/unit/test_cli.py",
        "gateway/dependency": "only protocols",
        "gateway/process": "tests/integration/test_operations.py, on real processes",
        "gateway/providers": "tests/unit/test_configured_providers.py",
        "gateway/serve": "tests/integration, over sockets",
        "pipeline/__init__": "empty",
        "pipeline/ports": "only protocols; tests/contract",
        "schemas/__init__": "tests/unit/test_schemas.py",
    }
    tested = {path.stem.removeprefix("test_") for path in (ROOT / "tests/unit").glob("test_*.py")}
    ours = [path for path in MODULES if path.parent.name in PACKAGES]
    missing = {
        str(path.relative_to(ROOT).with_suffix("")) for path in ours if path.stem not in tested
    } - elsewhere.keys()
    assert missing == set()
