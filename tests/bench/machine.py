"""Where and of what a run was made: machine, versions, revision."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path

from tests.support.servers import RabbitServer, redis_binary

_PACKAGES = ("uvicorn", "uvloop", "httptools", "starlette", "aiormq", "redis", "hiredis", "jsonschema-rs")


def machine() -> dict[str, str]:
    """Cores, processor and system, and how busy they are with other things before the run."""
    information = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    model = re.search(r"^model name\s*: (.+)$", information, re.MULTILINE)
    return {
        "cores": str(os.cpu_count()),
        "processor": model[1] if model else platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "load": f"{os.getloadavg()[0]:.1f}",
    }


def versions(broker: RabbitServer) -> dict[str, str]:
    """Python, the packages on the path of a request, the two servers, and wrk."""
    return {
        "python": platform.python_version(),
        **{package: version(package) for package in _PACKAGES},
        "redis-server": _first(r"v=([\d.]+)", _printed(str(redis_binary()), "--version")),
        "rabbitmq-server": broker.ctl("version").strip(),
        "wrk": _first(r"wrk (\S+)", _printed("wrk", "--version")),
    }


def revision() -> str:
    """The commit of this tree, with a plus when files differ from it."""
    root = Path(__file__).parents[2]
    commit = _printed("git", "-C", str(root), "rev-parse", "--short=12", "HEAD").strip()
    changed = _printed("git", "-C", str(root), "status", "--porcelain", "--untracked-files=no").strip()
    return (commit or "unknown") + "+" * bool(changed)


def _printed(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30).stdout
    except FileNotFoundError:
        return ""


def _first(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    return found[1] if found else "unknown"
