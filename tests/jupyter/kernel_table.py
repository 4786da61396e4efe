"""Kernels of many kinds as a table: how each is installed, code in its language, what it does.

Kernels differ where the protocol is silent or a kernel departs from it: how an interrupted cell is
replied to, whether an interrupt ends the kernel, whether ``input()`` works. Each difference is a
value in a row. `tests.jupyter.test_kernel_table` measures all rows against a daemon and compares.

A row without ``pip`` and ``npm`` is in the tests' own environment, or is installed with apt by
``scripts/test``; ``scripts/nightly`` installs the programs that the others need. The others
get an environment of their own, since installing two kernels into one can downgrade ipykernel in
silence.
"""

from dataclasses import dataclass, field

PYTHON = {
    "hello": "print(6 * 7)",
    "error": "1 / 0",
    "input": "print(input('who? '))",
    "name": "import os\nprint(os.environ['KCONND_KERNEL'])",
    "endless": "import time\nprint('begun', flush=True)\nfor _ in range(600): time.sleep(0.1)",
}
# What the usual kernel does; a row names only what differs from it.
USUAL = {
    "error": 1,  # exit status of kconnd-ctl run
    "input": "answered",
    "ctrl_c": 130,  # exit status of kconnd-ctl run
    "after_ctrl_c": "runs",  # the next cell
    "interrupt": "ends the cell",
    "restart": "runs",
    "adoption": "runs",
    "transport_learned": "Unix sockets",
    "left": [],  # processes and files that a stop leaves behind
}


@dataclass(frozen=True)
class KernelRow:
    """One kernel.

    Parameters
    ----------
    name : str
        Its name in the table.
    profile : str
        Its profile. ``{venv}`` is the folder of its environment, ``{python}`` the tests' Python.
    implementation, language : str
        What it says of itself.
    code : dict of str to str
        Cells: ``hello`` prints 42, ``error`` fails, ``input`` prints a line of stdin, ``name``
        prints the kernel's name (if a warm kernel learns it), and ``endless`` prints ``begun`` and
        runs on. Where a cell is executed statement by statement,
        an interrupt between two of them is lost, so ``endless`` prints within a loop.
    differs : dict
        The values that differ from `USUAL`.
    pip, npm : tuple of str
        The packages of its own environment.
    prints_at_once : bool
        Whether it publishes output while a cell runs. If not, ``endless`` makes a file ``{gate}``
        after 0.2 s; at once, the file could exist before the ``busy`` of the cell has arrived.
    program : str
        A program that it needs; without it the row is skipped.
    below_python : tuple of int, optional
        The first version of Python with which its package does not run; the row is skipped there.
    nightly : bool
        Whether it is tested in ``scripts/nightly`` alone.
    """

    name: str
    profile: str
    implementation: str
    language: str
    code: dict[str, str]
    differs: dict[str, object] = field(default_factory=dict)
    pip: tuple[str, ...] = ()
    npm: tuple[str, ...] = ()
    program: str = ""
    below_python: tuple[int, int] | None = None
    prints_at_once: bool = True
    nightly: bool = True

    def expected(self) -> dict[str, object]:
        own = {"implementation": self.implementation, "language": self.language}
        silent = {} if "input" in self.code else {"input": "not tried"}
        return {**USUAL, **own, **silent, **self.differs}


ROWS = (
    KernelRow(
        "ipykernel",
        "argv: ['{python}', -m, ipykernel_launcher, -f, '{connection_file}']",
        "ipython",
        "python",
        PYTHON,
        nightly=False,
    ),
    KernelRow(
        "bash_kernel",
        "argv: ['{python}', -m, bash_kernel, -f, '{connection_file}']",
        "bash_kernel",
        "bash",
        {
            "hello": "echo $((6 * 7))",
            "error": "nosuch",
            "name": "echo $KCONND_KERNEL",
            "endless": "( (sleep 0.5; touch {gate}) & ); sleep 60",
        },
        # bash_kernel 0.10 can lose an interrupt while it publishes output, also without kconnd,
        # and bash ignores one that comes when a child has just ended.
        prints_at_once=False,
        nightly=False,
    ),
    KernelRow(
        "xeus-python",
        "kernel: xpython",
        "xeus-python",
        "python",
        PYTHON,
        {"after_ctrl_c": "busy", "interrupt": "is refused", "transport_learned": "tcp"},
        nightly=False,
    ),
    KernelRow(
        "deno",
        "argv: ['{venv}/bin/deno', jupyter, --kernel, --conn, '{connection_file}']",
        "Deno kernel",
        "typescript",
        {
            "hello": "console.log(6 * 7)",
            "error": "throw new Error('x')",
            "input": "console.log(prompt('who?'))",
            "name": "console.log(Deno.env.get('KCONND_KERNEL'))",
            "endless": "console.log('begun'); await new Promise(r => setTimeout(r, 60000))",
        },
        {"after_ctrl_c": "busy", "interrupt": "is refused", "transport_learned": "tcp"},
        nightly=False,
    ),
    KernelRow(
        "IRkernel",
        "kernel: ir",
        "IRkernel",
        "R",
        {
            "hello": "cat(6 * 7)",
            "error": "stop('x')",
            "input": "cat(readline('who? '))",
            "name": "cat(Sys.getenv('KCONND_KERNEL'))",
            "endless": "cat('begun\\n'); flush.console(); for (i in 1:600) Sys.sleep(0.1)",
        },
        program="R",
        nightly=False,
    ),
    KernelRow(
        "ipykernel 6.29",
        "argv: ['{venv}/bin/python', -m, ipykernel_launcher, -f, '{connection_file}']",
        "ipython",
        "python",
        PYTHON,
        pip=("ipykernel==6.29.5",),
    ),
    KernelRow(
        "async-kernel",
        "kernel: async",
        "async-kernel",
        "python",
        PYTHON,
        pip=("async-kernel",),
    ),
    KernelRow(
        "octave_kernel",
        "kernel: octave",
        "Octave Kernel",
        "octave",
        {
            "hello": "disp(6 * 7)",
            "error": "error('x')",
            "input": "disp(input('who? ', 's'))",
            "name": "disp(getenv('KCONND_KERNEL'))",
            "endless": "for i = 1:600, if i == 3, fclose(fopen('{gate}', 'w')); end; "
            "pause(0.1); end",
        },
        {"error": 0},
        program="octave",
        prints_at_once=False,
    ),
    KernelRow(
        "calysto-scheme",
        "kernel: calysto_scheme",
        "scheme",
        "scheme",
        {
            "hello": "(display (* 6 7))",
            "error": "(car 1)",
            "input": "(display (read))",
            "endless": '(define (f) (f)) (begin (display "begun") (newline) (f))',
        },
        pip=("calysto-scheme",),
    ),
    KernelRow(
        "gnuplot_kernel",
        "argv: ['{venv}/bin/python', -m, gnuplot_kernel, -f, '{connection_file}']",
        "Gnuplot Kernel",
        "gnuplot",
        {
            "hello": "print 6 * 7",
            "error": "nosuch",
            "endless": "pause 0.2\nsystem('touch {gate}')\npause 60",
        },
        pip=("gnuplot_kernel",),
        program="gnuplot",
        prints_at_once=False,
    ),
    KernelRow(
        "jupyter-c-kernel",
        "argv: ['{venv}/bin/python', -m, jupyter_c_kernel, -f, '{connection_file}']",
        "jupyter_c_kernel",
        "c",
        {
            "hello": '#include <stdio.h>\nint main() { printf("42\\n"); }',
            "error": "int main() { return 3; }",
            "endless": "#include <stdio.h>\n#include <unistd.h>\n"
            'int main() { printf("begun\\n"); fflush(stdout); sleep(60); }',
        },
        {"error": 0},
        pip=("jupyter-c-kernel", "ipykernel==6.29.5"),
        program="gcc",
    ),
    KernelRow(
        "ilua",
        "kernel: lua",
        "ILua",
        "lua",
        {
            "hello": "print(6 * 7)",
            "error": "error('x')",
            "input": "print(io.read())",
            "endless": "print('begun') while true do end",
        },
        {
            "after_ctrl_c": "busy",
            "interrupt": "has no effect",
            "input": "not asked",
            "transport_learned": "tcp",
        },
        pip=("ilua",),
        program="lua5.3",
        below_python=(3, 12),  # ilua 0.2.1 imports distutils
    ),
    KernelRow(
        "JJava",
        "kernel: java",
        "JJava",
        "Java",
        {
            "hello": "System.out.println(6 * 7)",
            "error": 'throw new RuntimeException("x");',
            "input": "System.out.println(new java.util.Scanner(System.in).nextLine())",
            "endless": "for (int i = 0; i < 600; i++) "
            '{ if (i == 1) System.out.println("begun"); Thread.sleep(100); }',
        },
        {"transport_learned": "tcp"},
        pip=("jjava",),
        program="java",
    ),
    KernelRow(
        "Kotlin",
        "kernel: kotlin",
        "Kotlin",
        "kotlin",
        {
            "hello": "println(6 * 7)",
            "error": 'error("x")',
            "input": "println(readLine())",
            "endless": 'for (i in 1..600) { if (i == 2) println("begun"); Thread.sleep(100) }',
        },
        {"transport_learned": "tcp"},
        pip=("kotlin-jupyter-kernel",),
        program="java",
    ),
    KernelRow(
        "tslab",
        "argv: ['{venv}/node_modules/.bin/tslab', kernel, --config-path, '{connection_file}']",
        "tslab",
        "typescript",
        {
            "hello": "console.log(6 * 7)",
            "error": "throw new Error('x')",
            "name": "import process from 'process'; console.log(process.env.KCONND_KERNEL)",
            "endless": "for (let i = 0; i < 600; i++) { if (i == 1) console.log('begun'); "
            "await new Promise(r => setTimeout(r, 100)); }",
        },
        {"transport_learned": "tcp"},
        npm=("tslab", "@types/node"),
        program="npm",
    ),
)
