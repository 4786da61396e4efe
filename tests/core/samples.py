"""Connections, records and states of kernels for tests, as strategies and as constants."""

from hypothesis import strategies as st

from kconnd.core.kernel.events import Event, Step
from kconnd.core.kernel.lifecycle import Desired, Lifecycle, Policy, State, StopCause
from kconnd.core.kernel.record import Decision, Facts, KernelRecord, LastExit, Origin
from kconnd.core.kernel.transitions import decide
from kconnd.core.launch.connection import ConnectionInfo, CurveKeys
from kconnd.core.launch.notebook import Notebook, Run
from kconnd.core.launch.program_search import Program
from kconnd.core.launch.session import Session

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
CONNECTIONS = st.builds(
    ConnectionInfo,
    transport=st.sampled_from(["tcp", "ipc"]),
    ip=st.sampled_from(["127.0.0.1", "::1", "/run/kconnd/ipc/lab"]),
    ports=st.tuples(*[st.integers(1, 65535)] * 5),
    key=TEXT,
    kernel_name=TEXT,
    curve=st.none() | st.builds(CurveKeys, TEXT, TEXT),
)
SECRETS = ConnectionInfo(
    "tcp", "127.0.0.1", (1, 2, 3, 4, 5), "K3Y", "python3", CurveKeys("PUBL1C", "S3CRET")
)
LIFECYCLES = st.builds(
    Lifecycle,
    state=st.sampled_from(State),
    desired=st.sampled_from(Desired),
    generation=st.integers(0),
    restarts=st.integers(0),
    failures=st.integers(0),
    port_tries=st.integers(0, 5),
    proved=st.booleans(),
    unresponsive=st.booleans(),
    step=st.none() | st.sampled_from(Step),
    stop_cause=st.none() | st.sampled_from(StopCause),
    new_key=st.booleans(),
    reason=TEXT,
)
SESSIONS = st.builds(
    Session,
    path=TEXT,
    prefix=TEXT,
    variables=st.dictionaries(TEXT, TEXT, max_size=3),
    umask=st.none() | st.integers(0, 0o777),
    requested=st.lists(TEXT, max_size=3, unique=True).map(lambda names: tuple(sorted(names))),
    client=TEXT,
    pid=st.integers(0, 1 << 22),
    time=st.floats(0, 4e9),
)
TIMES = st.none() | st.floats(0, 4e9)
RECORDS = st.builds(
    KernelRecord,
    name=st.just("lab"),
    lifecycle=LIFECYCLES,
    profile=st.none() | st.just({"name": "lab"}),
    handle=st.none() | st.just({"launcher": "local", "kernel": [1, 2]}),
    connection=st.none() | CONNECTIONS,
    facts=st.builds(Facts, started_at=TIMES, warnings=st.tuples(TEXT)),
    last_exit=st.none()
    | st.builds(LastExit, st.none() | st.integers(), st.none(), TEXT, TIMES, TEXT),
    decisions=st.lists(st.builds(Decision, st.floats(0, 4e9), TEXT, TEXT), max_size=3).map(tuple),
    origin=st.none() | st.builds(Origin, TEXT, TEXT, TEXT, TEXT),
    program=st.none() | st.builds(Program, TEXT, TEXT, TEXT, TEXT, st.booleans()),
    session=st.none() | SESSIONS,
    notebook=st.none()
    | st.builds(
        Notebook,
        st.just("/h"),
        TEXT,
        TEXT,
        st.none() | st.builds(Run, st.integers(), st.integers()),
    ),
)


def after(
    *events: Event,
    kernel: Lifecycle | None = None,
    policy: Policy | None = None,
    now: float = 0.0,
) -> Lifecycle:
    """Return the state of a kernel, by default a new one, after some events at one time."""
    kernel = kernel or Lifecycle()
    for event in events:
        kernel, _ = decide(kernel, event, policy or Policy(), now)
    return kernel
