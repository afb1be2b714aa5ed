"""The servers that other tests rely on: that they serve, survive what tests do to them, and leave nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import aiormq
import pytest
from redis import Redis
from redis.exceptions import TimeoutError as RedisTimeout

from tests.support.broker import channel_of, consume
from tests.support.servers import RabbitServer, RedisServer, Server, ServerMissing, installed
from tests.support.waiting import until

ROOT = Path(__file__).parents[2]
INSTALLER = ROOT / "tests" / "install-servers.sh"

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    """A Redis of this module's own: what its tests do to it breaks nobody's connections."""
    with installed(RedisServer) as server:
        yield server


@pytest.fixture(scope="module")
def rabbit() -> Iterator[RabbitServer]:
    """A RabbitMQ of this module's own, for the same reason."""
    with installed(RabbitServer) as server:
        yield server


def redis_client(server: RedisServer) -> Redis:
    return Redis.from_url(server.url, socket_timeout=0.5, socket_connect_timeout=0.5)


def pids(server: Server) -> list[int]:
    return [process.pid for process in server._processes.values()]


def alive(pid: int) -> bool:
    """Whether the process runs. A zombie, which waits for its parent's attention, does not."""
    states = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return bool(states.stdout.strip()) and "Z" not in states.stdout


def test_redis_keeps_what_it_has_taken_through_a_kill(redis: RedisServer) -> None:
    with contextlib.closing(redis_client(redis)) as client:
        client.set("taken", "kept")
        redis.kill()
        assert not redis.is_running()
        redis.start()
        assert client.get("taken") == b"kept"
        client.delete("taken")


def test_redis_answers_nothing_while_it_is_paused(redis: RedisServer) -> None:
    with contextlib.closing(redis_client(redis)) as client:
        with redis.paused(), pytest.raises(RedisTimeout):
            client.ping()
        assert client.ping()


def test_redis_stops_while_it_is_paused_and_starts_again(redis: RedisServer) -> None:
    redis.pause()
    redis.restart()
    with contextlib.closing(redis_client(redis)) as client:
        assert client.ping()


async def declare_and_publish(url: str, queue: str) -> None:
    async with channel_of(url) as channel:
        await channel.queue_declare(queue, durable=True)
        await channel.basic_publish(
            b"kept", routing_key=queue, properties=aiormq.spec.Basic.Properties(delivery_mode=2)
        )


async def test_rabbit_keeps_what_it_has_confirmed_through_a_kill(rabbit: RabbitServer) -> None:
    await declare_and_publish(rabbit.url, "survivor")
    rabbit.kill()
    rabbit.start()
    assert [body for _, body in await consume(rabbit.url, "survivor")] == [b"kept"]
    rabbit.ctl("delete_queue", "survivor")


async def test_rabbit_answers_nothing_while_it_is_paused(rabbit: RabbitServer) -> None:
    publish = declare_and_publish(rabbit.url, "patient")
    with rabbit.paused(), pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await publish
    await declare_and_publish(rabbit.url, "patient")
    assert "patient" in rabbit.ctl("list_queues", "name")
    rabbit.ctl("delete_queue", "patient")


def test_rabbitmqctl_s_complaint_is_passed_on(rabbit: RabbitServer) -> None:
    with pytest.raises(RuntimeError, match="no_such_queue"):
        rabbit.ctl("delete_queue", "no_such_queue")


def test_nothing_is_left_when_redis_is_closed() -> None:
    with installed(RedisServer) as server:
        processes = pids(server)
        assert all(map(alive, processes))
    assert not any(map(alive, processes))
    assert not server.directory.exists()


def test_nothing_is_left_when_rabbit_is_closed(rabbit: RabbitServer) -> None:
    """The last test of this module's RabbitMQ, because one takes long to start."""
    processes = pids(rabbit)
    assert len(processes) == 2
    assert all(map(alive, processes))
    rabbit.close()
    assert not any(map(alive, processes))
    assert not rabbit.directory.exists()


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_when_the_test_run_is_killed(end: signal.Signals) -> None:
    program = """
from tests.support.servers import RedisServer
with RedisServer() as server:
    print(server.pid, server.directory, flush=True)
    input()
"""
    run = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with run:
        assert run.stdout is not None
        pid, directory = run.stdout.readline().split()
        assert alive(int(pid))
        run.send_signal(end)
    until(lambda: not alive(int(pid)))
    until(lambda: not Path(directory).exists())


def test_a_server_that_cannot_start_says_why() -> None:
    server = RedisServer()
    server.port = 1 << 17
    with pytest.raises(RuntimeError, match=r"RedisServer did not start(.|\n)*131072"):
        server.start()
    server.close()


@pytest.mark.parametrize("kind", [RedisServer, RabbitServer])
def test_a_missing_server_skips_at_home_and_fails_in_ci(
    kind: type[Server], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("tests.support.servers.RABBITMQ_FOLDERS", [])
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="install-servers"):
        installed(kind)
    monkeypatch.setenv("CI", "true")
    with pytest.raises(ServerMissing, match="install-servers"):
        installed(kind)


class Machine:
    """A machine on which nothing is installed but what the installer itself runs on, and an ``apt-get`` of ours."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.bin = root / "bin"
        self.policy = root / "usr" / "sbin" / "policy-rc.d"
        self.policy.parent.mkdir(parents=True)
        self.bin.mkdir()
        for tool in ("cat", "chmod", "env", "rm", "sh", "tee"):
            (self.bin / tool).symlink_to(shutil.which(tool) or tool)
        self.program("sleep")
        self.program("id", "echo 0")

    def program(self, name: str, body: str = "exit 0") -> None:
        """Install a program."""
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)

    def apt_get(self, body: str = "") -> None:
        """Install an ``apt-get`` that notes how it is called, and installs the servers unless ``body`` exits first."""
        self.program(
            "apt-get",
            f"""
            echo "$DEBIAN_FRONTEND $*" >> {self.root}/calls
            case "$*" in *update) exit 0;; esac
            cat {self.policy} >> {self.root}/policy-when-installing
            {body}
            for package; do case $package in *-server)
                echo '#!/bin/sh' > {self.bin}/$package; chmod 755 {self.bin}/$package;;
            esac; done
            """,
        )

    @property
    def calls(self) -> list[str]:
        """How ``apt-get`` was called."""
        calls = self.root / "calls"
        return calls.read_text().splitlines() if calls.exists() else []

    def install(self) -> subprocess.CompletedProcess[str]:
        """Run the installer here."""
        env = {"PATH": str(self.bin), "SERVERS_ROOT": str(self.root)}
        return subprocess.run(
            ["/bin/sh", INSTALLER], env=env, capture_output=True, text=True, timeout=30, check=False
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_installer_does_nothing_where_the_servers_are(machine: Machine) -> None:
    machine.apt_get()
    machine.program("redis-server")
    machine.program("rabbitmq-server")
    done = machine.install()
    assert (done.returncode, done.stdout, done.stderr, machine.calls) == (0, "", "", [])


def test_installer_finds_rabbitmq_where_only_root_has_it_on_the_path(machine: Machine) -> None:
    machine.program("redis-server")
    folder = machine.root / "usr" / "lib" / "rabbitmq" / "bin"
    folder.mkdir(parents=True)
    (machine.bin / "redis-server").rename(folder / "rabbitmq-server")
    machine.program("redis-server")
    assert machine.install().returncode == 0


def test_installer_installs_only_what_is_missing_and_starts_no_service(machine: Machine) -> None:
    machine.apt_get()
    machine.program("redis-server")
    done = machine.install()
    assert done.returncode == 0, done.stderr
    update, install = machine.calls
    assert update.startswith("noninteractive ")
    assert update.endswith(" update")
    assert install.endswith(" install --no-install-recommends rabbitmq-server")
    assert "exit 101" in (machine.root / "policy-when-installing").read_text()
    assert not machine.policy.exists()


def test_installer_leaves_the_machine_s_own_service_policy_alone(machine: Machine) -> None:
    machine.apt_get()
    machine.policy.write_text("#!/bin/sh\nexit 101 # ours\n")
    assert machine.install().returncode == 0
    assert "ours" in machine.policy.read_text()


def test_installer_tries_again_when_the_network_fails(machine: Machine) -> None:
    machine.apt_get(
        f"echo >> {machine.root}/tries; [ $(cat {machine.root}/tries | wc -l) -ge 3 ] || exit 100"
    )
    (machine.bin / "wc").symlink_to(shutil.which("wc") or "wc")
    assert machine.install().returncode == 0
    assert len(machine.calls) == 6


def test_installer_gives_up_when_the_network_stays_down(machine: Machine) -> None:
    machine.apt_get("exit 100")
    done = machine.install()
    assert done.returncode == 1
    assert "apt-get could not install them" in done.stderr
    assert not machine.policy.exists()


def test_installer_says_what_to_install_where_it_may_not(machine: Machine) -> None:
    machine.apt_get()
    machine.program("id", "echo 1000")
    machine.program("sudo", "exit 1")
    done = machine.install()
    assert (done.returncode, machine.calls) == (1, [])
    assert "only root may" in done.stderr
    assert "sudo apt-get install redis-server rabbitmq-server" in done.stderr


def test_installer_uses_a_sudo_that_asks_for_no_password(machine: Machine) -> None:
    machine.apt_get()
    machine.program("id", "echo 1000")
    machine.program("sudo", f'echo "$*" >> {machine.root}/sudo; shift; [ "$1" = true ] || exec "$@"')
    assert machine.install().returncode == 0
    assert "-n env DEBIAN_FRONTEND=noninteractive apt-get" in (machine.root / "sudo").read_text()


def test_installer_says_what_to_install_on_macos(machine: Machine) -> None:
    done = machine.install()
    assert done.returncode == 1
    assert "brew install redis rabbitmq" in done.stderr
