"""The grammar of ``kconnd-ctl`` as plain data: every verb with its operands, options and texts.

`VERBS` is the only list of verbs and options. Three modules use this list:
`kconnd.cli.command_line` parses command lines, `kconnd.cli.help_text` renders help texts, and
`kconnd.cli.suggestions` suggests corrections of misspelled verbs and options.

Rules. Every run of ``kconnd-ctl`` imports this module. To make the import fast, the module contains
plain data and imports nothing at run time. Texts are not wrapped here, because the help is wrapped
to the width of the terminal. The module is long because the list is: all verbs stand on one page,
and the classes define how to read it. A blank line separates paragraphs. Later versions may add
fields to the output of ``--json``, but must not remove fields.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypedDict, Unpack

    class OptionDetails(TypedDict, total=False):
        """The optional attributes of an `Option`."""

        name: str
        metavar: str
        default: Any
        choices: tuple[str, ...]
        is_number: bool
        is_required: bool
        is_repeatable: bool

    class VerbDetails(TypedDict, total=False):
        """The optional attributes of a `Verb`."""

        description: str
        example: str
        json_reply: str
        operands: tuple[Operand, ...]
        options: tuple[Option, ...]
        exclusive: tuple[tuple[str, ...], ...]
        passes_words_to: str
        passes_words_after: str
        changes: bool


class Operand:
    """A positional argument of a verb.

    Parameters
    ----------
    name : str
        The name of the attribute of `Arguments` that holds the value.
    metavar : str
        The operand's name in help texts: ``NAME``, ``FILE``, ``PATH`` …
    summary : str
        One line for the help.
    count : str
        The number of values: ``""`` for exactly one, ``?`` for at most one, ``*`` for any number,
        ``+`` for at least one. With ``*`` and ``+``, the value is a list, and the operand must be
        the last operand of the verb.
    choices : tuple of str
        The allowed values; empty if any value is allowed.
    """

    def __init__(
        self,
        name: str,
        metavar: str,
        summary: str,
        count: str = "",
        choices: tuple[str, ...] = (),
    ) -> None:
        self.name, self.metavar, self.summary = name, metavar, summary
        self.count, self.choices = count, choices


class Option:
    """An option of a verb: a flag, or an option that takes a value.

    Parameters
    ----------
    *spellings : str
        The spellings of the option, such as ``-n`` and ``--lines``.
    summary : str
        One line for the help.
    **details
        ``name``: the attribute of `Arguments` that holds the value; by default, it is derived from
        the longest spelling. ``metavar``: the value's name in help texts; an option that has
        neither a metavar nor choices is a flag. ``default``: the value if the option is absent.
        ``choices``: the allowed values. ``is_number``: the value is a whole number.
        ``is_required``: the option is mandatory. ``is_repeatable``: the value is a list, and each
        occurrence appends to it.
    """

    name = ""
    metavar = ""
    default: Any = None
    choices: tuple[str, ...] = ()
    is_number = is_required = is_repeatable = False

    def __init__(self, *spellings: str, summary: str, **details: Unpack[OptionDetails]) -> None:
        self.spellings, self.summary = spellings, summary
        vars(self).update(details)
        self.name = self.name or max(spellings, key=len).lstrip("-").replace("-", "_")
        self.takes_value = bool(self.metavar or self.choices)
        if not self.takes_value:
            self.default = False


class Verb:
    """A verb of ``kconnd-ctl``.

    Parameters
    ----------
    name : str
        The word that the user types.
    group : str
        The heading under which the overview lists the verb.
    handler : str
        The function that runs the verb, as ``module:function`` in `kconnd.cli`.
    summary : str
        One line for the overview.
    **details
        ``description`` and ``example``: texts for the verb's help. ``json_reply``: the fields of
        the verb's output with ``--json``. ``operands`` and ``options``: the verb's arguments except
        the `COMMON_OPTIONS`. ``exclusive``: groups of options; a command line may contain at most
        one option of each group. ``passes_words_to``: the program that gets the words after ``--``.
        ``passes_words_after``: the metavar of an operand that names a program; all words after this
        operand, including options, are passed to the program. ``changes``: whether the verb changes
        anything. If so, the verb is not suggested for a misspelled word that may mean a look-up (a
        verb that changes nothing).
    """

    description = example = json_reply = passes_words_to = passes_words_after = ""
    operands: tuple[Operand, ...] = ()
    options: tuple[Option, ...] = ()
    exclusive: tuple[tuple[str, ...], ...] = ()
    changes = False

    def __init__(
        self, name: str, group: str, handler: str, summary: str, **details: Unpack[VerbDetails]
    ) -> None:
        self.name, self.group, self.handler, self.summary = name, group, handler, summary
        vars(self).update(details)


LOOK, CHANGE, ATTACH, PROFILES = "Look", "Change", "Attach", "Profiles and help"

COMMON_OPTIONS = (
    Option("-h", "--help", summary="show this help and exit"),
    Option("--json", summary="print JSON on stdout, and nothing else"),
    Option("--socket", metavar="PATH", default="", summary="the socket of the daemon"),
)
NAMES = Operand("names", "NAME", "a kernel, or a pattern such as 'lab*'", "+")
NAME = Operand("name", "NAME", "a kernel")
FOLLOW = Option("-f", "--follow", summary="print new lines as they arrive")
TIMEOUT = Option(
    "--timeout",
    metavar="TIME",
    default="infinity",
    summary="give up after this time, such as 30s or 5min",
)
YES = Option("--yes", summary="do not ask for confirmation")
NO_WAIT = Option("--no-wait", summary="return at once")
NOW = Option("--now", summary="send SIGTERM at once, without running exit functions")

KERNEL_JSON = """\
an object with name, profile, jupyter_name (Jupyter's name of the kernel spec from which the name \
is derived), owner, state, wanted, reason, waits_for, pid, generation, restarts, \
started_at, ready_after (seconds), launcher, launcher_note (why it is not the requested launcher), \
limits {memory, cpu, tasks, open_files} (those that are enforced), limits_unenforced (which limits \
of the profile are not enforced, and why), \
umask_source (profile, client, account or daemon), session {client, pid, taken_at, variables, \
absent, unsent}, \
umask, program (its path), program_origin (where it was found), notebook {path, folder, file} (the \
notebook for which it was started, and what identifies its file), kernel_name, language, \
language_version, implementation, implementation_version, protocol_version, connection_file, \
connection {transport, ip, shell_port, iopub_port, stdin_port, \
control_port, hb_port, signature_scheme, encrypted}, heartbeat {state, last_at}, \
execution_state, last_activity, kept_alive (why idle.stop_after does not stop it), clients, \
memory (bytes), last_exit {code, signal, reason, at, output_tail, requested}, log_file, \
profile_status, next_attempt_at, unanswered (that it reports idle and does not answer on its \
shell channel), in_subshells (that it runs cells in subshells only), warnings. Times are ISO 8601 \
in UTC. A field that does not apply is null. Several names or a pattern give a list of these \
objects."""
KERNELS_JSON = """\
{"kernels": [KERNEL], "errors": [{"name", "code", "message", "hint", "output"}]}

KERNEL is the object that kconnd-ctl info --json prints."""

_VERBS = (
    # --- verbs that only read
    Verb(
        "list",
        LOOK,
        "kernel_list:list_kernels",
        "all kernels: state, memory, idle time",
        description="List kernels with their state, the memory of all their processes, and their "
        "idle time.\n\nWith --all, installed kernel specs without a kernel are listed as "
        "startable, with the command that kconnd-ctl start NAME would run.\n\nIf profiles have "
        "faults, a line on stderr says so.",
        example="kconnd-ctl list 'lab*'",
        json_reply='{"kernels": [KERNEL], "elsewhere": [{"name", "machine", "state", "as_of"}], '
        '"shared": [KERNEL], "faulty_profiles": COUNT, "startable": [{"name", "jupyter_name", '
        '"kernel_spec", "display_name", "argv", "error"}]}'
        "\n\nKERNEL is the object that kconnd-ctl info --json prints; elsewhere lists kernels on "
        "other machines that share this home folder; shared lists the kernels of other users that "
        "you may see, each named OWNER/NAME: those of the machine's profiles, and those that users "
        "whose daemons are running share by profiles of their own; startable is there with --all, "
        "and its error is why a start would fail, or empty.",
        operands=(Operand("names", "NAME", "list only these kernels; patterns work", "*"),),
        options=(
            Option("--all", summary="list kernel specs that could be started, too"),
            Option("--all-users", summary="list everybody's kernels; for root and kconnd-admin"),
        ),
        exclusive=(("--all", "--all-users"),),
    ),
    Verb(
        "info",
        LOOK,
        "kernel_info:info",
        "everything about a kernel; --json for programs",
        description="Show everything about a kernel: its state and the reason for it, its process, "
        "how to connect to it, and its last exit.\n\nThe connection key is not shown; kconnd-ctl "
        "connection prints it for those who may use it.",
        example="kconnd-ctl info mykernel --json",
        json_reply=KERNEL_JSON,
        operands=(NAMES,),
    ),
    Verb(
        "why",
        LOOK,
        "query_verbs:why",
        "the latest decisions about a kernel and their reasons",
        description="Show the latest decisions about a kernel and the reason for each.",
        example="kconnd-ctl why mykernel",
        json_reply='{"name", "decisions": [{"at", "what", "reason"}]}\n\nSeveral names or a '
        "pattern give a list of these objects.",
        operands=(NAMES,),
    ),
    Verb(
        "logs",
        LOOK,
        "streams:logs",
        "the output of a kernel; -f follows it",
        description="Print the output of kernels. With several names, each line starts with the "
        "name of its kernel. Colours are the only control sequences that are printed, unless "
        "--raw is given.",
        example="kconnd-ctl logs -f mykernel",
        json_reply='one object per line: {"name", "text"}; text can hold several lines',
        operands=(NAMES,),
        options=(
            Option(
                "-n",
                "--lines",
                metavar="N",
                is_number=True,
                default=100,
                summary="how many of the last lines to print (default: 100)",
            ),
            FOLLOW,
            Option("--raw", summary="print all control sequences, which can steer the terminal"),
        ),
    ),
    Verb(
        "events",
        LOOK,
        "streams:events",
        "the events of kernels; -f follows them",
        description="Print the events of kernels since the daemon started.",
        example="kconnd-ctl events -f mykernel",
        json_reply='one object per line: {"at", "kernel", "event", "message"}',
        operands=(Operand("name", "NAME", "print the events of this kernel only", "?"),),
        options=(FOLLOW,),
    ),
    Verb(
        "wait",
        LOOK,
        "query_verbs:wait",
        "wait until a kernel is ready, or stopped",
        description="Wait until kernels are ready, or stopped.",
        example="kconnd-ctl wait lab --timeout 30s",
        json_reply=KERNELS_JSON,
        operands=(NAMES,),
        options=(
            Option(
                "--for",
                name="goal",
                default="ready",
                choices=("ready", "stopped"),
                summary="the state to wait for (default: ready)",
            ),
            TIMEOUT,
        ),
    ),
    # --- verbs that change something
    Verb(
        "start",
        CHANGE,
        "command_verbs:start",
        "start a kernel and wait until it answers",
        description="Start kernels and wait until each of them answers. A name is a profile, an "
        "installed kernel spec, or PROFILE@INSTANCE. Where no daemon runs, one is started.",
        example="kconnd-ctl start mykernel mykernel@exp1",
        json_reply=KERNELS_JSON,
        operands=(NAMES,),
        options=(NO_WAIT,),
        changes=True,
    ),
    Verb(
        "stop",
        CHANGE,
        "command_verbs:stop",
        "stop a kernel and wait until all of its processes have exited",
        description="Stop kernels and wait until all of their processes have exited. Everything "
        "that they hold in memory is lost.\n\nA kernel that is asked to stop runs its exit "
        "functions (atexit), for at most the stop_timeout of its profile; stop prints what it "
        "waits for. --now skips them: it sends SIGTERM and then SIGKILL, even while another stop "
        "is in progress.\n\nA pattern or --all lists the kernels that it would stop, and asks for "
        "confirmation.\n\nA kernel stops even if the disk is full or read-only; stop then prints "
        "on stderr what could not be recorded, and the exit code is 0.",
        example="kconnd-ctl stop 'exp*'",
        json_reply=KERNELS_JSON,
        operands=(Operand("names", "NAME", NAMES.summary, "*"),),
        options=(
            Option("--all", summary="stop every kernel that is up"),
            YES,
            NO_WAIT,
            NOW,
        ),
        changes=True,
    ),
    Verb(
        "restart",
        CHANGE,
        "command_verbs:restart",
        "replace a kernel's process; name, ports and key stay",
        description="Replace the process of a kernel. Its name, ports and key stay, so attached "
        "clients stay connected; its memory is lost.\n\n--new-key locks out everybody who has the "
        "old key.\n\nA pattern selects only kernels that are up; restart lists what would be lost, "
        "and asks for confirmation.\n\nIf a full or read-only disk would prevent the kernel from "
        "starting again, it is not stopped, and the exit code is 1.",
        example="kconnd-ctl restart mykernel",
        json_reply=KERNELS_JSON,
        operands=(NAMES,),
        options=(
            Option("--new-key", summary="replace the connection key; the old one stops working"),
            YES,
            NO_WAIT,
            NOW,
        ),
        changes=True,
    ),
    Verb(
        "interrupt",
        CHANGE,
        "command_verbs:interrupt",
        "interrupt the code that a kernel is running",
        description="Interrupt the code that a kernel is running, in the way that its kernel spec "
        "defines. A kernel that is still starting is not interrupted: it runs no code yet, and an "
        "interrupt could terminate it. An idle kernel is not interrupted either. The command waits "
        "until the code has ended; if it still runs after 5 seconds, the command fails with "
        "exit code 1. Some kernels exit on any interrupt; interrupt then reports that the kernel "
        "exited, with exit code 3.",
        example="kconnd-ctl interrupt mykernel",
        json_reply=f"{KERNELS_JSON} A further field, interrupt, is idle (nothing was sent), ended, "
        "subshell-runs (the cell of the main shell has ended) or sent (the effect is unknown).",
        operands=(NAMES,),
        changes=True,
    ),
    Verb(
        "signal",
        CHANGE,
        "command_verbs:signal",
        "send a signal to a kernel",
        description="Send a signal to a kernel and to the processes of its process group.",
        example="kconnd-ctl signal mykernel -s USR1",
        json_reply=KERNELS_JSON,
        operands=(NAMES,),
        options=(
            Option(
                "-s",
                "--signal",
                metavar="SIG",
                is_required=True,
                summary="the name or number of the signal",
            ),
        ),
        changes=True,
    ),
    # --- verbs that attach to a kernel
    Verb(
        "run",
        ATTACH,
        "run:run",
        "run code on a kernel: a file, or -c CODE",
        description="Run a file, or lines of code, on a kernel, which is started if necessary. "
        "Output is printed as it arrives. An error prints its traceback on stderr and gives exit "
        "code 1; sys.exit(3) gives exit code 3. Answers to input() are read from stdin. The value "
        "of the last expression is printed for -c, and not for a file.\n\nAll words "
        "after FILE are arguments of the script, which finds them in sys.argv, on a Python kernel "
        "only.\n\nA result without text "
        "is printed as <image/png, 12 kB>, or with --save as the path of a new file.\n\nThe code "
        "is sent once the kernel is idle. Before that, --timeout and Ctrl-C end the command, and "
        "the code never runs; after that, they interrupt the kernel, and Ctrl-C gives exit code "
        "130. A second Ctrl-C ends the command and leaves the kernel as it is.",
        example="kconnd-ctl run mykernel -c 'print(6 * 7)'",
        json_reply='{"msg_type", "header", "parent_header", "metadata", "content"}: each Jupyter '
        "message, one per line, as it arrives",
        operands=(NAME, Operand("file", "FILE", "a file of code to run; - is stdin", "?")),
        passes_words_after="FILE",
        options=(
            Option("-c", "--code", metavar="CODE", is_repeatable=True, summary="code to run"),
            Option("--save", metavar="DIR", summary="save images, HTML and PDF as files in DIR"),
            TIMEOUT,
        ),
        exclusive=(("--json", "--save"),),
        changes=True,
    ),
    Verb(
        "console",
        ATTACH,
        "console:console",
        "open a terminal console on a kernel",
        description="Open a terminal console on a kernel, which is started if necessary. Leaving "
        "the console, with exit or Ctrl-D, leaves the kernel running. The words after -- are "
        "passed to jupyter console.",
        example="kconnd-ctl console mykernel -- --simple-prompt",
        json_reply='{"name", "connection_file", "command": [WORD]}; the console is not opened',
        operands=(NAME,),
        passes_words_to="jupyter console",
        changes=True,
    ),
    Verb(
        "qtconsole",
        ATTACH,
        "qtconsole:qtconsole",
        "open a Qt console on a kernel",
        description="Open a Qt console on a kernel, which is started if necessary, and wait until "
        "its window is closed. Closing it leaves the kernel running. The words after -- are passed "
        "to jupyter qtconsole.",
        example="kconnd-ctl qtconsole mykernel -- --style=monokai",
        json_reply='{"argv"}: the command, which is not run',
        operands=(NAME,),
        passes_words_to="jupyter qtconsole",
        changes=True,
    ),
    Verb(
        "connection",
        ATTACH,
        "query_verbs:connection",
        "print the connection file of a kernel, for any Jupyter client",
        description="Print the content of a kernel's connection file. It includes the key, so keep "
        "it private.",
        example="kconnd-ctl connection mykernel > kernel.json",
        json_reply="the connection file, which is printed as JSON with and without this option",
        operands=(NAME,),
    ),
    Verb(
        "kernelspec",
        ATTACH,
        "kernelspec:kernelspec",
        "let JupyterLab, notebooks and papermill choose your profiles",
        description="Write, remove or list kernel specs for profiles. With them JupyterLab, "
        "notebooks, nbclient and papermill can choose a profile: each attaches to the kernel that "
        "kconnd manages, and leaves it running. kconnd must also be installed in the environment "
        "of that Jupyter.\n\nprobe tests what the software of a kernel supports: Unix sockets, "
        "CURVE, requests on control, heartbeats, interrupts and an orderly shutdown. It starts "
        "kernels of its own and terminates them; a running kernel of this name is not touched. "
        "The next start uses the facts, until the software changes. probe --forget drops all "
        "facts that probes and starts have shown.",
        example="kconnd-ctl kernelspec install --all",
        json_reply='{"installed": [SPEC]}, {"removed": [SPEC]} or {"kernelspecs": [SPEC]}; with '
        'probe {"probed": [PROBE], "errors": [ERROR]}, with probe --forget {"forgotten": [{"name", '
        '"forgotten"}], "errors": [ERROR]}\n\n'
        'SPEC is {"name", "profile", "path"}. PROBE is {"name", "implementation", '
        '"implementation_version", "language", "interrupt_mode", "probed_at", "took_s", "facts": '
        '[{"fact", "meaning", "value", "evidence"}]}; the value of a fact that could not be tested '
        'is null. ERROR is {"name", "code", "message", "hint", "output"}.',
        operands=(
            Operand(
                "action",
                "ACTION",
                "install, remove, list or probe",
                choices=("install", "remove", "list", "probe"),
            ),
            Operand("profiles", "PROFILE", "a profile, any kernel, or OWNER/NAME", "*"),
        ),
        options=(
            Option("--all", summary="every profile"),
            Option("--user", summary="below your home folder; this is the default"),
            Option("--prefix", metavar="DIR", summary="in an environment: DIR/share/jupyter"),
            Option("--forget", summary="with probe: drop the facts instead"),
        ),
        exclusive=(("--user", "--prefix"),),
        changes=True,
    ),
    # --- profiles, the daemon, and help
    Verb(
        "check",
        PROFILES,
        "check:check",
        "report the faults in profiles, and starts that would fail",
        description="Read profiles as the daemon does, and report every fault with its file, line "
        "and column. A warning is a reason for which a start would fail now: a missing kernel "
        "spec, program, folder or environment file, an unknown user or group. No kernel is "
        "started, no program is run, and no daemon is needed.\n\nWithout PATH, check reads the "
        "folders of the daemon that answers, or the default folders if none does.\n\nThe exit "
        "code is 1 if there are faults, 0 if there are only warnings, and 2 if a path does not "
        "exist.",
        json_reply='{"profiles": [{"name", "file", "line"}], "faults": [FAULT], "warnings": '
        '[FAULT], "not_looked_at": [TEXT], "read": [PATH], "daemon": SOCKET}\n\nFAULT is {"file", '
        '"line", "column", "path", "message", "hint"}; path is the key, such as restart.policy. '
        "daemon is null if no daemon answers.",
        example="kconnd-ctl check configs/ ~/lab.yaml",
        operands=(
            Operand(
                "paths",
                "PATH",
                "a file or folder of profiles (default: those that the daemon reads)",
                "*",
            ),
        ),
    ),
    Verb(
        "schema",
        PROFILES,
        "check:schema",
        "print the JSON Schema of profiles, for editors",
        description="Print the JSON Schema of a file of profiles, which editors use for completion "
        "and checks. Editors with a YAML language server read its path from the first line of a "
        "profile file:\n\n# yaml-language-server: $schema=/home/me/kconnd.schema.json",
        example="kconnd-ctl schema > ~/kconnd.schema.json",
    ),
    Verb(
        "reload",
        PROFILES,
        "command_verbs:reload",
        "read the profiles again; live kernels are not touched",
        description="Make the daemon read its profiles again. Live kernels are not touched. The "
        "exit code is 1 if a profile has faults.",
        json_reply='{"added": [NAME], "changed": [NAME], "removed": [NAME], "unchanged": COUNT, '
        '"faults": [{"file", "line", "column", "path", "message", "hint"}]}',
        changes=True,
    ),
    Verb(
        "profiles",
        PROFILES,
        "query_verbs:profiles",
        "the profiles that the daemon has read",
        description="List the profiles that the daemon has read, and their faults.",
    ),
    Verb(
        "health",
        PROFILES,
        "query_verbs:health",
        "the daemon: version, process, folders",
        description="Show the daemon that answers: its version, process, folders and counts.",
    ),
    Verb(
        "doctor",
        PROFILES,
        "doctor:doctor",
        "check this machine for problems, and how to fix them",
        description="Check this machine for problems that affect kconnd, and print how to fix each "
        "of them. Works without a daemon. The exit code is 1 if something is bad.",
        json_reply='{"findings": [{"level": "ok|warn|bad", "what", "cure"}]}',
    ),
    Verb(
        "help",
        PROFILES,
        "help_text:show_help",
        "describe a verb",
        description="Describe a verb, or list all verbs.",
        example="kconnd-ctl help start",
        operands=(Operand("topic", "VERB", "the verb to describe", "?"),),
    ),
)
VERBS = {verb.name: verb for verb in _VERBS}
