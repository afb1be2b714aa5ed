"""The configured clients."""

from __future__ import annotations

import gc
import hashlib
import hmac
import json

import pytest

from gateway.config import api_keys, clients
from gateway.config.clients import ConfiguredClients
from pipeline.facts import Client

KEY = "s3cr3t-acme-0123456789"
KEY_FORM = "the API key must be 1 to 255 visible ASCII characters, or 'sha256:' and 64 lower-case hex digits"
DIGEST = "sha256:" + hashlib.sha256(KEY.encode()).hexdigest()


def test_a_key_is_known_as_itself_and_by_its_digest() -> None:
    """Both forms of configuration let the same key in; the digest itself is no key."""
    for configured in (KEY, DIGEST):
        found = ConfiguredClients({configured: {"name": "acme", "daily_quota": 0}})
        assert found.authenticate(KEY.encode()) == Client("acme", daily_quota=0)
        assert found.authenticate(DIGEST.encode()) is None
        assert found.authenticate(hashlib.sha256(KEY.encode()).digest()) is None


def test_whole_digests_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """How long a wrong key takes says nothing of a right one: nothing but this comparison lets a key in."""
    compared: list[tuple[bytes, bytes]] = []

    def differ(known: bytes, given: bytes) -> bool:
        compared.append((known, given))
        return False

    found = ConfiguredClients({KEY: {"name": "acme"}})
    monkeypatch.setattr(hmac, "compare_digest", differ)
    assert found.authenticate(KEY.encode()) is None
    digest = hashlib.sha256(KEY.encode()).digest()
    assert compared == [(digest, digest)]


def test_absent_members_have_their_defaults() -> None:
    """A client is active and without a limit unless the configuration says otherwise."""
    assert ConfiguredClients({KEY: {"name": "acme"}}).authenticate(KEY.encode()) == Client("acme", True, None)
    explicit = {"name": "acme", "is_active": True, "daily_quota": None}
    assert ConfiguredClients({KEY: explicit}).authenticate(KEY.encode()) == Client("acme", True, None)


def test_an_inactive_client_is_nobody() -> None:
    """Neither its key nor its name leads to it."""
    found = ConfiguredClients({KEY: {"name": "acme", "is_active": False}})
    assert found.authenticate(KEY.encode()) is None
    assert found.named("acme") is None


def test_two_keys_of_one_name_are_one_client() -> None:
    """That is how a key is rotated: both work, then the old one is made inactive, then it is removed."""
    new = KEY + "-new"
    found = ConfiguredClients({KEY: {"name": "acme", "is_active": False}, new: {"name": "acme"}})
    assert (len(found), found.names) == (1, ["acme"])
    assert found.authenticate(KEY.encode()) is None
    assert found.authenticate(new.encode()) == found.named("acme") == Client("acme")


def test_no_key_is_kept() -> None:
    """In the process only digests are kept: the key is in nothing that the object refers to."""
    key = "s3cr3t-that-is-nowhere-else"
    found = ConfiguredClients(json.loads(json.dumps({key: {"name": "acme"}})))
    reached: list[object] = [found]
    seen: set[int] = set()
    while reached:
        thing = reached.pop()
        if id(thing) in seen or isinstance(thing, type):
            continue
        seen.add(id(thing))
        assert key not in repr(thing)
        reached += gc.get_referents(thing)
    assert len(seen) > 5


def test_the_fingerprint_is_over_digests() -> None:
    """A key and its digest make one fingerprint; order and white space do not matter; any change does."""
    entry = {"name": "acme", "daily_quota": 5}
    one = ConfiguredClients({KEY: entry, "k2": {"name": "b"}}).fingerprint
    assert one == ConfiguredClients({"k2": {"name": "b"}, DIGEST: dict(reversed(entry.items()))}).fingerprint
    assert one != ConfiguredClients({KEY: entry, "k3": {"name": "b"}}).fingerprint
    assert one != ConfiguredClients({KEY: entry | {"daily_quota": 6}, "k2": {"name": "b"}}).fingerprint
    assert ConfiguredClients({}).fingerprint == hashlib.sha256(b"{}").hexdigest()


@pytest.mark.parametrize("key", ["", "a b", "sha256:" + "A" * 64, "SHA256:" + "0" * 64], ids=repr)
def test_a_key_that_is_none_is_told_by_its_entry(key: str) -> None:
    """In the words of ``api_keys``, whether or not the schema sees it too; once."""
    (told,) = clients.mistakes({"other-key-0123456789": {"name": "b"}, key: {"name": "acme"}})
    assert told == f"entry 2 (client 'acme'): {api_keys.mistake(key)}"


def test_a_key_in_the_place_of_a_name_is_not_shown() -> None:
    """Names are public; a key whose place was mistaken would be, too."""
    key, _ = api_keys.new()
    for document in ({"acme-0123456789abc": {"name": key}}, {"acme": {"name": key, "daily_quota": -1}}):
        (told,) = clients.mistakes(document)
        assert key not in told
    (told,) = clients.mistakes({"a b": {"name": f"amqp://user:{'s3cr3t' * 12}@host/"}})[:1]
    assert "s3cr3t" not in told


@pytest.mark.parametrize("name", ["acme\n", "a\u2028\n", ""], ids=ascii)
def test_a_name_that_ends_with_a_line_is_refused(name: str) -> None:
    """A line end at the end of a name comes from a file, and is not meant."""
    (told,) = clients.mistakes({KEY: {"name": name}})
    assert told.endswith(", name: must be 1 to 64 characters without control characters")


def test_a_key_that_ends_with_a_line_is_refused() -> None:
    """It came from a file, and no header could ever carry it."""
    (told,) = clients.mistakes({KEY + "\n": {"name": "acme"}})
    assert told == f"entry 1 (client 'acme'): {KEY_FORM}"


def test_a_quota_is_a_whole_number() -> None:
    """JSON Schema counts 5.0 among the integers; stores and headers are given 5."""
    client = ConfiguredClients({KEY: {"name": "acme", "daily_quota": 5.0}}).named("acme")
    assert client is not None
    assert repr(client.daily_quota) == "5"


@pytest.mark.parametrize("name", ["a", "x" * 64, "شرکت", "Øre & {Co}", " "])
def test_a_name_may_be_in_any_script(name: str) -> None:
    """Clients are companies, and companies have names."""
    assert clients.mistakes({KEY: {"name": name}}) == []


def test_every_mistake_is_told_by_entry_and_never_by_key() -> None:
    """Entries are counted from 1, and named where they have a name."""
    told = clients.mistakes(
        {
            "s3cr3t 1": {"name": "one"},
            "s3cr3t-2": {"name": "two", "daily_quota": True},
            "s3cr3t-3": {"name": 3},
            "s3cr3t-4": "four",
            "s3cr3t-5": {},
        }
    )
    assert told == [
        f"entry 1 (client 'one'): {KEY_FORM}",
        "entry 2 (client 'two'), daily_quota: must be of type integer or null",
        "entry 3, name: must be of type string",
        "entry 4: must be of type object",
        "entry 5, name: is required",
    ]


def test_what_is_no_object_is_told_as_a_whole() -> None:
    """There are no entries to count."""
    assert clients.mistakes([]) == ["the whole document: must be of type object"]


def test_a_mistake_in_every_one_of_many_entries_is_told() -> None:
    """Each is found by its place, whatever their number: the list is walked once and not once for each of them."""
    told = clients.mistakes({f"key-of-client-{number}": {} for number in range(5000)})
    assert sorted(told) == sorted(f"entry {number}, name: is required" for number in range(1, 5001))


def test_short_keys_are_warned_of() -> None:
    """A key that can be guessed is served with a warning that does not show it; a digest cannot be judged."""
    enough = "x" * 16
    assert clients.warnings({enough: {"name": "acme"}}) == []
    (told,) = clients.warnings({enough[1:]: {"name": "x"}})
    assert "'x'" in told
    (told,) = clients.warnings({"s3cr3t": {"name": "acme"}, KEY: {"name": "b"}, DIGEST: {"name": "c"}})
    assert "'acme'" in told
    assert "s3cr3t" not in told


def test_a_new_key_is_configured_by_its_digest() -> None:
    """The key that is handed out is the one that the entry lets in, and it is long enough not to be warned of."""
    key, digest = api_keys.new()
    assert ConfiguredClients({digest: {"name": "acme"}}).authenticate(key.encode()) == Client("acme")
    assert clients.mistakes({key: {"name": "acme"}}) == clients.warnings({key: {"name": "acme"}}) == []
