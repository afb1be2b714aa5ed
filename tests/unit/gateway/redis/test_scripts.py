"""The scripts as they are sent: whole, and known to the server by their digest."""

from __future__ import annotations

import hashlib
import re
from importlib.resources import files

import pytest

from gateway.redis import scripts
from gateway.redis.scripts import Script

SCRIPTS = [value for value in vars(scripts).values() if isinstance(value, Script)]
FILES = {
    file.name: file.read_bytes() for file in files("gateway.redis").iterdir() if file.name.endswith(".lua")
}
DEFINITIONS = {"record.lua", "counter.lua"}


def test_every_file_is_a_script_or_defines_what_scripts_use() -> None:
    """None is forgotten in the package, and none is left that nobody calls."""
    assert {f"{script.name}.lua" for script in SCRIPTS} | DEFINITIONS == FILES.keys()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_a_script_is_known_by_its_digest(script: Script) -> None:
    """As EVALSHA wants it: SHA-1, in lower-case hexadecimal digits."""
    assert script.sha == hashlib.sha1(script.source, usedforsecurity=False).hexdigest().encode()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_a_script_has_what_it_uses(script: Script) -> None:
    """Defined before it, in the order of the text."""
    assert script.source.endswith(FILES[f"{script.name}.lua"])
    body = FILES[f"{script.name}.lua"]
    for definitions in DEFINITIONS:
        names = re.findall(rb"^local (?:function )?(\w+)", FILES[definitions], re.MULTILINE)
        if any(re.search(rb"\b%s\b" % name, body) for name in names):
            assert FILES[definitions] in script.source, definitions


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_no_script_writes_a_key_without_an_end(script: Script) -> None:
    """Whatever creates a key says in the same script when it expires: a crash in between leaves nothing for ever."""
    creates = re.search(rb"'(SET|INCR|INCRBY)'|'HSET', record, 'f'", script.source)
    assert not creates or re.search(rb"'(PEXPIRE|EXPIRE)'|'PX'", script.source)
