"""The documentation is held to the code: what is undocumented, wrong or stale in it fails here."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import time
from collections.abc import Iterator
from datetime import datetime
from io import StringIO
from itertools import permutations
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from dotenv import dotenv_values
from prometheus_client.metrics import MetricWrapperBase

import schemas
from gateway import cli
from gateway.config import settings
from gateway.embedded.commands import describe
from gateway.embedded.outbox import Waiting
from gateway.observability.metrics import MULTIPROC_DIR, Metrics
from gateway.rabbitmq.outbox import RabbitOutbox
from gateway.rabbitmq.topology import HEARTBEAT_QUEUE_LENGTH, Topology
from pipeline import codes, deadline, order, payload
from tests.faults.faults import FAULTS
from tests.support.gateways import SEND, Gateway

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
RELIABILITY = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]

NOTHING = "–"


def table(heading: str) -> list[list[str]]:
    """The rows of the README's table whose first column has this heading."""
    found = re.search(
        rf"^ *\| {re.escape(heading)} \|.*\n *\|[-| ]+\|\n((?: *\|.*\n)+)", README, re.MULTILINE
    )
    assert found, f"the README has no table that begins with '{heading}'"
    return [[cell.strip() for cell in line.strip().strip("|").split(" | ")] for line in found[1].splitlines()]


def code(cell: str) -> list[str]:
    """What stands in back-quotes."""
    return re.findall(r"`([^`]+)`", cell)


def blocks(language: str, text: str = README) -> list[str]:
    """The fenced examples in this language."""
    fences = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", example, flags=re.MULTILINE) for indent, example in fences]


def python(file_name: str) -> str:
    """The example that begins with its file's name."""
    (example,) = [block for block in blocks("python") if block.startswith(f"# {file_name}\n")]
    return example


def environ(tmp_path: Path, **variables: str) -> dict[str, str]:
    """What a gateway needs at least."""
    embedded = f"embedded:{tmp_path / 'gateway.db'}"
    return {"REDIS_URL": embedded, "RABBITMQ_URL": embedded, **variables}


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The README's own stage, where it can be imported."""
    (tmp_path / "acme").mkdir()
    (tmp_path / "acme" / "__init__.py").touch()
    (tmp_path / "acme" / "stages.py").write_text(python("acme/stages.py"), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)


class TestConfiguration:
    def test_env_example_is_a_valid_configuration(self) -> None:
        written = dotenv_values(ROOT / ".env.example", interpolate=False)
        assert settings.load({name: value for name, value in written.items() if value}).warnings == ()

    @pytest.mark.usefixtures("acme")
    @pytest.mark.parametrize("example", blocks("toml"))
    def test_every_toml_example_is_a_valid_configuration(self, example: str, tmp_path: Path) -> None:
        (tmp_path / "gateway.toml").write_text(example, encoding="utf-8")
        settings.load(environ(tmp_path, GATEWAY_CONFIG=str(tmp_path / "gateway.toml")))

    def test_the_json_of_clients_and_providers_is_a_valid_configuration(self, tmp_path: Path) -> None:
        (example,) = [block for block in blocks("bash") if block.startswith("CLIENT_CONFIG=")]
        written = dotenv_values(stream=StringIO(example), interpolate=False)
        loaded = settings.load(environ(tmp_path, **{name: value or "" for name, value in written.items()}))
        assert (loaded.clients.names, sorted(loaded.providers.by_name)) == (["shop"], ["alpha"])

    def test_the_urls_of_an_installation_are_valid(self) -> None:
        (example,) = [block for block in blocks("bash") if block.startswith("REDIS_URL=redis")]
        written = dotenv_values(stream=StringIO(example), interpolate=False)
        redis_url, rabbitmq_url = settings.VARIABLES["redis_url"], settings.VARIABLES["rabbitmq_url"]
        for variable in (redis_url, rabbitmq_url):
            assert variable.read(written[variable.name] or "") == written[variable.name]
        (cluster,) = re.findall(r"`(amqp://\S+,amqp://\S+)`", README)
        assert rabbitmq_url.read(cluster) == cluster
        RabbitOutbox(cluster, Topology(), "server-a")
        of_redis = re.findall(r"`(redis\+\w+://\S+@\S+)`", README)
        assert len(of_redis) == 2
        assert [redis_url.read(url) for url in of_redis] == of_redis


class TestErrors:
    def test_every_code_is_in_the_table_with_its_status(self) -> None:
        rows = [(code(name)[0], int(status)) for name, status, *_ in table("code")]
        assert rows == [(known.name, known.status) for known in codes.ALL]

    def test_the_table_says_which_refusals_are_stored(self) -> None:
        stored = {code(name)[0] for name, *_, again in table("code") if "stored" in again}
        assert stored == {known.name for known in codes.ALL if known.is_verdict}

    def test_the_error_that_is_shown_is_the_one_for_the_mistake_that_is_made(self) -> None:
        (error,) = [example for example in json_examples() if kind_of(example) == "error"]
        assert schemas.load("error").violations(error) == []
        assert error["message"] == codes.INVALID_PAYLOAD.message
        (mistaken,) = [body for body in curl_bodies() if not schemas.load("request").is_valid(body)]
        violations = schemas.load("request").violations(mistaken)
        assert error["details"] == {"errors": [violation.as_json() for violation in violations]}


class TestStages:
    def test_every_stage_is_in_the_table_with_what_it_needs_and_provides(self) -> None:
        rows = {code(name)[0]: (needs, provides) for name, needs, provides, _ in table("stage")}
        assert rows == {
            name: (order.words(stage.needs), order.words(stage.provides))
            for name, stage in order.BUILT_IN.items()
        }

    def test_the_default_order_is_stated(self) -> None:
        assert f"The default is `{', '.join(order.DEFAULT_ORDER)}`." in README

    def test_the_rules_that_are_stated_let_just_the_legal_orders_pass(self) -> None:
        assert "Of the 120 orders of the five stages these\nrules let 9 pass: `auth` stands before" in README
        stated = [
            ("auth", "idempotency"),
            ("idempotency", "quota"),
            ("validation", "provider_gate"),
            ("validation", "quota"),
        ]
        legal = 0
        for names in permutations(order.DEFAULT_ORDER):
            passes = all(names.index(first) < names.index(then) for first, then in stated)
            assert passes == (not order.mistakes(names)), names
            legal += passes
        assert legal == 9

    def test_every_weakness_that_is_warned_of_is_in_the_table(self) -> None:
        weaker = [code(first) for first, _ in table("order")]
        warned = set()
        for names in permutations(order.DEFAULT_ORDER):
            if not order.mistakes(names):
                warned |= {tuple(re.findall(r"'(\w+)'", warning)) for warning in order.warnings(names)}
        warned.add(("idempotency",))
        assert len(warned) == 6
        for first, *then in warned:
            assert any(
                first in row[: len(row) - len(then)] and row[-1:] == (then or [first]) for row in weaker
            )

    @pytest.mark.usefixtures("acme")
    def test_the_stage_of_ones_own_works(self, tmp_path: Path) -> None:
        (example,) = [block for block in blocks("toml") if "acme.stages" in block]
        (tmp_path / "gateway.toml").write_text(example, encoding="utf-8")
        file = str(tmp_path / "gateway.toml")
        with Gateway(tmp_path, environ(tmp_path, GATEWAY_CONFIG=file)) as gateway:
            blocked = [gateway.send(to="+19005550100", key="k") for _ in range(2)]
            allowed = gateway.send()
        assert [answer.status_code for answer in blocked] == [422, 422]
        assert blocked[0].json()["error_code"] == "RECIPIENT_BLOCKED"
        assert blocked[1].headers["Idempotent-Replayed"] == "true"
        assert allowed.status_code == 202

    @pytest.mark.usefixtures("acme")
    def test_the_stage_of_ones_own_is_judged_by_its_needs(self) -> None:
        name = "acme.stages:Blocklist"
        (mistake,) = order.mistakes([name, *order.DEFAULT_ORDER])
        assert str(mistake).startswith(
            f"stage '{name}' needs the message, which 'validation' provides only later"
        )

    @pytest.mark.usefixtures("acme")
    def test_the_stage_of_ones_own_refuses_bad_options(self, tmp_path: Path) -> None:
        (example,) = [block for block in blocks("toml") if "acme.stages" in block]
        (tmp_path / "gateway.toml").write_text(
            example.replace('["+1900", "+44909"]', '"+1900"'), encoding="utf-8"
        )
        with pytest.raises(settings.ConfigurationError, match="prefixes: write a list of strings"):
            settings.load(environ(tmp_path, GATEWAY_CONFIG=str(tmp_path / "gateway.toml")))


class TestMetrics:
    def test_every_metric_is_in_the_table_with_its_type_and_labels(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv(MULTIPROC_DIR, raising=False)
        exist = set()
        for metric in Metrics().registry._collector_to_names:
            if isinstance(metric, MetricWrapperBase):
                (family,) = metric.describe()
                suffix = "_total" if family.type == "counter" else ""
                exist.add((family.name + suffix, family.type, tuple(metric._labelnames)))
        assert len(exist) > 20
        documented = [(code(name)[0], kind, tuple(code(labels))) for name, kind, labels, _ in table("metric")]
        assert len(documented) == len(set(documented))
        assert set(documented) == exist


class TestCommands:
    def test_every_command_and_option_is_in_the_table(self) -> None:
        rows = {code(name)[0]: text for name, text in table("command")}
        exist = dict(commands(cli._parser(), "sms-gateway"))
        assert rows.keys() == exist.keys()
        for name, options in exist.items():
            for option in options:
                assert option in rows[name], f"{name} {option}"

    def test_every_target_of_make_is_in_the_table(self) -> None:
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        exist = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
        documented = {code(name)[0].removeprefix("make ") for name, _ in table("target")}
        assert documented == exist - {"help"}
        assert "make help" in README

    def test_the_demo_client_of_make_run_is_the_one_that_the_examples_use(self) -> None:
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        (key,) = re.findall(r"^DEMO_KEY = (\S+)$", makefile, re.MULTILINE)
        used = set(re.findall(r"API-Key(?:: |\": \")([\w-]+)", README))
        assert used == {key}


class TestExamples:
    @pytest.mark.parametrize("example", blocks("python"))
    def test_python_compiles(self, example: str) -> None:
        compile(example, example.splitlines()[0], "exec")

    def test_the_bodies_that_are_sent_are_valid_but_for_the_mistake_on_purpose(self) -> None:
        verdicts = [schemas.load("request").is_valid(body) for body in curl_bodies()]
        assert verdicts == [True, False, True]

    def test_each_key_is_used_for_one_message(self) -> None:
        curls = re.findall(r"Idempotency-Key: ([\w-]+)", "\n".join(blocks("bash")))
        (sender,) = re.findall(r'}, "([\w-]+)"\)\)$', python("sender.py"), re.MULTILINE)
        assert len({*curls, sender}) == len(curls) + 1

    def test_the_bodies_that_are_received_are_valid(self) -> None:
        kinds = []
        for example in json_examples():
            kind = kind_of(example)
            kinds.append(kind)
            if kind in schemas.names():
                assert schemas.load(kind).violations(example) == []
        assert sorted(kinds) == ["accepted", "envelope", "error", "health", "heartbeat", "log", "stored"]

    def test_the_stored_message_looks_as_the_command_shows_it(self) -> None:
        (shown,) = [example for example in json_examples() if kind_of(example) == "stored"]
        (sent, *_) = curl_bodies()
        times = [datetime.fromisoformat(shown[name]) for name in ("created_at", "expires_at")]
        envelope = {"client": "demo", "providers_effective": [], **sent}
        stored = Waiting(shown["position"], shown["tracking_id"], json.dumps(envelope).encode(), *times)
        assert describe(stored, full=False) == shown

    def test_the_log_line_and_the_health_report_look_like_real_ones(self, tmp_path: Path) -> None:
        with Gateway(tmp_path, environ(tmp_path)) as gateway:
            assert gateway.send("nothing").status_code == 429
            health = gateway.http.get("/readyz").json()
        (line,) = [line for line in gateway.log_lines() if line.get("status") == 429]
        (shown,) = [example for example in json_examples() if kind_of(example) == "log"]
        assert list(shown) == list(line)
        same = ("level", "service", "message", "error_code", "stage")
        assert [shown[name] for name in same] == [line[name] for name in same]
        (shown,) = [example for example in json_examples() if kind_of(example) == "health"]
        assert shown.keys() == health.keys()
        assert shown["dependencies"].keys() == health["dependencies"].keys()
        for report in health["dependencies"].values():
            assert shown["dependencies"]["store"].keys() == report.keys()

    def test_the_members_of_a_request_are_in_the_table(self) -> None:
        document = schemas.load("request").document
        rows = {code(name)[0]: need for name, need, _ in table("member")}
        assert rows == {
            name: "required" if name in document["required"] else "optional"
            for name in document["properties"]
        }

    def test_the_limits_that_are_stated_are_those_of_the_code(self) -> None:
        properties = schemas.load("request").document["properties"]
        ttl = properties["ttl_seconds"]
        for stated in (
            f"at most {payload.MAX_BODY_BYTES // 1024} KiB",
            f"A body has {deadline.BODY_SECONDS:g} s to arrive and the rest another {deadline.REQUEST_SECONDS:g} s",
            f"{properties['text']['minLength']} to {properties['text']['maxLength']} characters",
            f"up to {properties['providers']['maxItems']} provider names",
            f"{ttl['minimum']} to {ttl['maximum']} seconds, {ttl['default']} when left out",
            f"keeps the last {HEARTBEAT_QUEUE_LENGTH} of them",
        ):
            assert stated in README


class TestSender:
    """The README's sender, against answers made up here."""

    def send(
        self, answers: list[httpx.Response | Exception], **patience: float
    ) -> tuple[str, list[httpx.Request]]:
        sender = ModuleType("sender")
        exec(python("sender.py"), sender.__dict__)  # noqa: S102 - what is run stands in the README
        requests = []

        def answer(request: httpx.Request) -> httpx.Response:
            requests.append(request)
            given = answers[len(requests) - 1]
            if isinstance(given, Exception):
                raise given
            return given

        with httpx.Client(base_url="http://gateway", transport=httpx.MockTransport(answer)) as gateway:
            return sender.send(gateway, {"to": "+14155552671", "text": "hello"}, "k-1", **patience), requests

    @pytest.fixture
    def waits(self, monkeypatch: pytest.MonkeyPatch) -> list[float]:
        waits: list[float] = []
        monkeypatch.setattr(time, "sleep", waits.append)
        return waits

    def test_it_repeats_one_request_until_it_is_accepted(self, waits: list[float]) -> None:
        tracking_id, requests = self.send(
            [
                httpx.ConnectError("refused"),
                httpx.Response(502, text="<html>a proxy's own words</html>"),
                httpx.Response(503, json={"error_code": "OUTCOME_UNKNOWN"}, headers={"Retry-After": "3"}),
                httpx.Response(
                    409, json={"error_code": "IDEMPOTENCY_IN_PROGRESS"}, headers={"Retry-After": "1"}
                ),
                httpx.Response(202, json={"tracking_id": "t"}),
            ]
        )
        assert tracking_id == "t"
        assert {request.headers["Idempotency-Key"] for request in requests} == {"k-1"}
        assert {request.content for request in requests} == {requests[0].content}
        assert {request.url.path for request in requests} == {SEND}
        assert len(waits) == 4
        assert waits[2] >= 3

    @pytest.mark.usefixtures("waits")
    def test_it_does_not_repeat_what_will_not_change(self) -> None:
        with pytest.raises(RuntimeError, match=r"409 .*PROVIDER_DISABLED"):
            self.send([httpx.Response(409, json={"error_code": "PROVIDER_DISABLED"})])

    @pytest.mark.usefixtures("waits")
    def test_it_does_not_wait_for_the_reset_of_a_quota(self) -> None:
        refused = {"error_code": "TOO_MANY_REQUESTS"}
        with pytest.raises(TimeoutError, match="TOO_MANY_REQUESTS"):
            self.send([httpx.Response(429, json=refused, headers={"Retry-After": "9999"})])


class TestPages:
    @pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
    def test_every_link_leads_somewhere(self, page: Path) -> None:
        text = re.sub(
            r"^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
        )
        links = re.findall(r"\]\(([^)\s]+)\)", text)
        for link in links:
            if link.startswith("https://"):
                continue
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            assert target.exists(), link
            if anchor:
                assert anchor in anchors(target), link

    def test_the_files_that_are_named_exist(self) -> None:
        named = set(re.findall(r"`((?:gateway|pipeline|schemas)/[\w/.]*)`", ARCHITECTURE))
        assert len(named) > 30
        assert [path for path in named if not (ROOT / path).exists()] == []

    def test_the_tests_and_faults_that_are_named_exist(self) -> None:
        """Each trap is named with the tests that would fail if the gateway fell into it."""
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", RELIABILITY)
        assert len(named) > 30
        assert [
            f"{file}::{test}"
            for file, test in named
            if not re.search(rf"^ *(?:async )?def {test}\(", (ROOT / file).read_text(), re.MULTILINE)
        ] == []
        assert {fault.name for fault in FAULTS if fault.name not in RELIABILITY} == set()

    def test_the_proxy_waits_for_slow_heads_and_bodies(self) -> None:
        (example,) = blocks("nginx")
        found = dict(re.findall(r"^ *(\w+) ([\w.]+);$", example, re.MULTILINE))
        assert {"client_header_timeout", "client_body_timeout"} <= found.keys()
        assert found["proxy_request_buffering"] == "on"
        # A send has its answer by then.
        assert int(found["proxy_read_timeout"].removesuffix("s")) > (
            deadline.BODY_SECONDS + deadline.REQUEST_SECONDS
        )

    @pytest.mark.parametrize("package", ["pipeline", "gateway"])
    def test_every_module_is_in_the_tour(self, package: str) -> None:
        modules = {
            f"{package}/{path.name}" for path in (ROOT / package).glob("*.py") if "__" not in path.name
        }
        packages = {f"{package}/{path.parent.name}/" for path in (ROOT / package).glob("*/__init__.py")}
        assert {path for path in modules | packages if f"`{path}`" not in ARCHITECTURE} == set()

    def test_every_decision_is_listed_and_has_its_three_parts(self) -> None:
        folder = ROOT / "docs" / "decisions"
        listed = (folder / "README.md").read_text(encoding="utf-8")
        records = sorted(folder.glob("[0-9]*.md"))
        for number, record in enumerate(records, 1):
            text = record.read_text(encoding="utf-8")
            title = text.splitlines()[0].removeprefix("# ")
            assert title.startswith(f"{number:04d} ")
            assert f"[{title}]({record.name})" in listed
            assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]

    def test_the_change_log_keeps_its_form(self) -> None:
        text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
        releases = re.findall(r"^## (.+)$", text, re.MULTILINE)
        assert releases[0] == "[Unreleased]"
        for release in releases[1:]:
            assert re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d{2}-\d{2}", release)
        kinds = set(re.findall(r"^### (.+)$", text, re.MULTILINE))
        assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def commands(parser: argparse.ArgumentParser, name: str) -> Iterator[tuple[str, list[str]]]:
    """Every command with its arguments as one would type them, and its options."""
    options: list[str] = []
    words = [name]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, command in action.choices.items():
                yield from commands(command, f"{name} {word}")
            return
        if not action.option_strings:
            words.append(str(action.metavar))
        elif action.dest != "help":
            options.append(action.option_strings[-1])
    yield " ".join(words), options


def curl_bodies() -> list[Any]:
    """What the README's curls send, each to the path of a send."""
    bodies = []
    for example in blocks("bash"):
        if example.startswith("curl"):
            words = shlex.split(example)
            assert any(word.endswith(f"127.0.0.1:8000{SEND}") for word in words)
            bodies.append(json.loads(words[words.index("-d") + 1]))
    return bodies


def json_examples() -> list[Any]:
    """The README's JSON documents."""
    return [json.loads(example) for example in blocks("json")]


def kind_of(document: dict[str, Any]) -> str:
    """What a document is, by a member that only its kind has."""
    marks = {
        "success": "accepted",
        "details": "error",
        "dependencies": "health",
        "instance_id": "heartbeat",
        "level": "log",
        "position": "stored",
        "providers_effective": "envelope",
    }
    (kind,) = {marks[member] for member in document.keys() & marks.keys()}
    return kind


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
