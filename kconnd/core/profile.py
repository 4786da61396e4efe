from typing import Any, Literal
import math
from pydantic import BaseModel, ConfigDict
from kconnd.core.lifecycle import Policy


class M(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Ports(M):
    range: tuple[int, int] | None = None
    fixed: tuple[int, ...] = ()


class Restart(M):
    policy: str = "on-failure"
    max_failures: int = 5
    backoff: float = 0.5
    backoff_max: float = 60
    stable_after: float = 60


class HB(M):
    interval: float = 10
    misses: int = 3
    action: str = "report"


class Idle(M):
    stop_after: float = math.inf


class Log(M):
    max_size: int = 10 << 20
    keep: int = 3


class Profile(M):
    name: str
    kernel: str = ""
    python: str = ""
    argv: tuple[str, ...] = ()
    env: dict[str, str] = {}
    env_file: str = ""
    cwd: str = ""
    shell: str = "none"
    setup: tuple[str, ...] = ()
    transport: str = "auto"
    encryption: str = "auto"
    ip: str = "127.0.0.1"
    ports: Ports = Ports()
    start: str = "on-demand"
    restart: Restart = Restart()
    startup_timeout: float = 60
    stop_timeout: float = 10
    heartbeat: HB = HB()
    idle: Idle = Idle()
    log: Log = Log()

    def instantiate(self, i):
        return self

    def policy(self) -> Policy:
        r = self.restart
        return Policy(
            restart=r.policy,
            max_failures=r.max_failures,
            backoff=r.backoff,
            backoff_max=r.backoff_max,
            stable_after=r.stable_after,
            startup_timeout=self.startup_timeout,
            stop_timeout=self.stop_timeout,
            restart_unresponsive=self.heartbeat.action == "restart",
        )
