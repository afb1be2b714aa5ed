"""The documentation is held to the code: what is undocumented, wrong or stale in it fails here."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import sys
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
from gateway import __version__, cli
from gateway.config import settings
from gateway.embedded.commands import describe
from gateway.embedded.outbox import Waiting
from gateway.observability.metrics import Metrics
from gateway.rabbitmq.outbox import RabbitOutbox
from gateway.rabbitmq.topology import HEARTBEAT_QUEUE_LENGTH, Topology
from pipeline import codes, order, payload
from pipeline.timing import deadline
from tests.faults.faults import FAULTS
from tests.support.gateways import SEND, Gateway, key_of

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
RELIABILITY = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
INSIDE = {"README", "architecture", "performance", "reliability", "sizing"}
GUIDE = "\n".join(
    [
        README,
        *(
            page.read_text(encoding="utf-8")
            for page in sorted((ROOT / "docs").glob("*.md"))
            if page.stem not in INSIDE
        ),
    ]
)
"""What is written for senders, operators and Server B, whose examples are run here."""
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]

NOTHING = "–"


def table(heading: str) -> list[list[str]]:
    """The rows of the guide's only table whose first column has this heading."""
    (rows,) = re.findall(
        rf"^ *\| {re.escape(heading)} \|.*\n *\|[-| ]+\|\n((?: *\|.*\n)+)", GUIDE, re.MULTILINE
    )
    return [[cell.strip() for cell in line.strip().strip("|").split(" | ")] for line in rows.splitlines()]


def code(cell: str) -> list[str]:
    """What stands in back-quotes."""
    return re.findall(r"`([^`]+)`", cell)


def blocks(language: str, text: str = GUIDE) -> list[str]:
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
    """The guide's own stage, where it can be imported."""
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
        (cluster,) = re.findall(r"`(amqp://\S+,amqp://\S+)`", GUIDE)
        assert rabbitmq_url.read(cluster) == cluster
        RabbitOutbox(cluster, Topology(), "server-a")
        of_redis = re.findall(r"`(redis\+\w+://\S+@\S+)`", GUIDE)
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
        assert len(violations) == 2
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
        assert "Of the 120 orders of the\nfive stages these rules let 9 pass: `auth` stands before" in GUIDE
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
        without_claims = [name for name in order.DEFAULT_ORDER if name != "idempotency"]
        for names in (*permutations(order.DEFAULT_ORDER), *permutations(without_claims)):
            if not order.mistakes(names):
                warned |= {tuple(re.findall(r"'(\w+)'", warning)) for warning in order.warnings(names)}
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
    def test_the_stage_of_ones_own_is_found_by_the_command_that_is_shown(self, tmp_path: Path) -> None:
        (command,) = [block for block in blocks("bash") if block.startswith("PYTHONPATH=")]
        (example,) = [block for block in blocks("toml") if "acme.stages" in block]
        (tmp_path / "gateway.toml").write_text(example, encoding="utf-8")
        assert ".venv/bin/sms-gateway" in command
        command = command.replace(".venv/bin", str(Path(sys.executable).parent))

        def run(command: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                ["/bin/sh", "-c", command],
                cwd=tmp_path,
                env={},
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )

        found = run(command)
        assert (found.returncode, found.stderr) == (0, "")
        missed = run(command.replace("PYTHONPATH=. ", ""))
        assert missed.returncode == 2
        assert "Put the folder that holds 'acme' into PYTHONPATH" in missed.stderr

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
    def test_every_metric_is_in_the_table_with_its_type_and_labels(self) -> None:
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
        assert "make help" in GUIDE

    def test_the_pythons_that_are_promised_are_those_that_the_tests_run_on(self) -> None:
        setup = (ROOT / "setup.cfg").read_text(encoding="utf-8")
        promised = re.findall(r"^    Programming Language :: Python :: (3\.\d+)$", setup, re.MULTILINE)
        assert f"You need Python {', '.join(promised[:-1])} or {promised[-1]} and `make`" in README
        tox = (ROOT / "tox.ini").read_text(encoding="utf-8")
        (tested,) = re.findall(r"^    supported = (.+)$", tox, re.MULTILINE)
        assert tested == ", ".join(f"py{version.replace('.', '')}-quick" for version in promised)

    def test_the_demo_client_of_make_run_is_the_one_that_the_examples_use(self) -> None:
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        (key,) = re.findall(r"^DEMO_KEY = (\S+)$", makefile, re.MULTILINE)
        used = set(re.findall(r"API-Key(?:: |\": \")([\w-]+)", GUIDE))
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
        assert 'f"order-{n}-shipped"' in python("send_many.py")
        assert not {*curls, sender} & {f"order-{n}-shipped" for n in range(2001, 2101)}

    def test_the_bodies_that_are_received_are_valid(self) -> None:
        kinds = []
        for example in json_examples():
            kind = kind_of(example)
            kinds.append(kind)
            if kind in schemas.names():
                assert schemas.load(kind).violations(example) == []
        assert sorted(kinds) == [
            "accepted",
            "envelope",
            "error",
            "health",
            "heartbeat",
            "log",
            "log",
            "stored",
        ]

    def test_the_stored_message_looks_as_the_command_shows_it(self) -> None:
        (shown,) = [example for example in json_examples() if kind_of(example) == "stored"]
        (sent, *_) = curl_bodies()
        times = [datetime.fromisoformat(shown[name]) for name in ("created_at", "expires_at")]
        envelope = {"client": "demo", "providers_effective": [], **sent}
        stored = Waiting(shown["position"], shown["tracking_id"], json.dumps(envelope).encode(), *times)
        assert describe(stored, full=False) == shown

    def test_the_log_lines_and_the_health_report_look_like_real_ones(self, tmp_path: Path) -> None:
        with Gateway(tmp_path, environ(tmp_path)) as gateway:
            assert gateway.send("nothing").status_code == 429
            assert gateway.send().status_code == 202
            health = gateway.http.get("/readyz").json()
        lines = {line["status"]: line for line in gateway.log_lines() if line.get("status") in {202, 429}}
        shown_lines = {example["status"]: example for example in json_examples() if kind_of(example) == "log"}
        assert shown_lines.keys() == lines.keys()
        for status, line in lines.items():
            shown = shown_lines[status]
            assert list(shown) == list(line)
            for name in ("level", "service", "message", "error_code", "stage"):
                assert shown.get(name) == line.get(name)
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
            f"| 160 | 153 | {-(-properties['text']['maxLength'] // 153)} parts |",
            f"| 70 | 67 | {-(-properties['text']['maxLength'] // 67)} parts, of emoji twice as many |",
        ):
            assert stated in GUIDE


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
    def test_an_exhausted_quota_is_a_refusal_and_no_timeout(self) -> None:
        refused = {"error_code": "TOO_MANY_REQUESTS"}
        with pytest.raises(RuntimeError, match="TOO_MANY_REQUESTS"):
            self.send([httpx.Response(429, json=refused, headers={"Retry-After": "9999"})])

    def test_it_waits_for_a_reset_that_is_near(self, waits: list[float]) -> None:
        answers = [
            httpx.Response(429, json={}, headers={"Retry-After": "9"}),
            httpx.Response(202, json={"tracking_id": "t"}),
        ]
        assert self.send(list(answers), patience_seconds=60)[0] == "t"
        assert waits == [9]

    @pytest.mark.usefixtures("waits")
    def test_what_nobody_knows_yet_is_a_timeout(self) -> None:
        with pytest.raises(TimeoutError, match="no answer"):
            self.send([httpx.ConnectError("refused")] * 100, patience_seconds=-1)
        busy = httpx.Response(503, json={"error_code": "OUTCOME_UNKNOWN"}, headers={"Retry-After": "61"})
        with pytest.raises(TimeoutError, match="OUTCOME_UNKNOWN"):
            self.send([busy])


class TestManyMessages:
    """The example that sends many, run as a program of its own against a real gateway."""

    @pytest.fixture
    def gateway(self, tmp_path: Path) -> Iterator[Gateway]:
        with Gateway(tmp_path, environ(tmp_path)) as gateway:
            yield gateway

    def outcomes(self, gateway: Gateway, directory: Path, client: str) -> dict[str, str]:
        """What it prints of each key."""
        for name in ("sender.py", "send_many.py"):
            program = python(name).replace("http://127.0.0.1:8000", gateway.url)
            program = program.replace("demo-key-for-local-use-only", key_of(client))
            (directory / name).write_text(program, encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "send_many.py"],
            cwd=directory,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return dict(line.split(" ", 1) for line in done.stdout.splitlines())

    def test_each_message_is_sent_once_however_often_it_is_run(
        self, gateway: Gateway, tmp_path: Path
    ) -> None:
        first = self.outcomes(gateway, tmp_path, "acme")
        assert list(first) == [f"order-{number}-shipped" for number in range(2001, 2101)]
        assert {len(tracking_id) for tracking_id in first.values()} == {36}
        assert len(set(first.values())) == 100
        assert self.outcomes(gateway, tmp_path, "acme") == first

    def test_beyond_the_quota_each_ends_with_a_refusal(self, gateway: Gateway, tmp_path: Path) -> None:
        outcomes = self.outcomes(gateway, tmp_path, "crowd").values()
        refused = [outcome for outcome in outcomes if outcome.startswith("429 ")]
        assert len(refused) == 1
        assert "TOO_MANY_REQUESTS" in refused[0]


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

    def test_every_page_is_in_the_index(self) -> None:
        folder = ROOT / "docs"
        index = (folder / "README.md").read_text(encoding="utf-8")
        pages = {page.name for page in folder.glob("*.md")} - {"README.md"}
        assert {page for page in pages if f"]({page})" not in index} == set()

    def test_the_readme_is_short(self) -> None:
        assert len(README.splitlines()) <= 260

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

    def test_the_service_runs_what_the_installation_has_put_there(self) -> None:
        (installation,) = [block for block in blocks("bash") if block.startswith("python3 -m venv")]
        (upgrade,) = [block for block in blocks("bash") if "systemctl restart" in block]
        (unit,) = blocks("ini")
        (link,) = re.findall(r"^ln -sfn (\S+) (\S+)$", installation, re.MULTILINE)
        assert f"python3 -m venv {link[1]}-{__version__}\n" in installation
        assert link[0] == f"{Path(link[1]).name}-{__version__}"
        assert f"ExecStart={link[1]}/bin/sms-gateway serve" in unit
        assert f" {link[1]}\n" in upgrade

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
    """What the guide's curls send, each to the path of a send."""
    bodies = []
    for example in blocks("bash"):
        if example.startswith("curl"):
            words = shlex.split(example)
            assert any(word.endswith(f"127.0.0.1:8000{SEND}") for word in words)
            bodies.append(json.loads(words[words.index("-d") + 1]))
    return bodies


def json_examples() -> list[Any]:
    """The guide's JSON documents."""
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
