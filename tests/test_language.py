"""The language of the code is a test: names that say what they hold, sentences that say who acts.

Counted are names that are bound in ``kconnd/`` (variables and arguments), first words of docstring
sentences, comments, and constants. The bounds are those of the maintainers' page.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "kconnd"
MODULES = sorted(PACKAGE.rglob("*.py"))
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in MODULES}

VAGUE_WORDS = (
    "found one told asked given wanted seen known left made taken held others rest what who "
    "whoever other such both these those it them that this ones none some"
)
VAGUE = frozenset(re.findall(r"\w+", VAGUE_WORDS))
MAX_VAGUE = 0.005  # of all names that are bound
OPENER = re.compile(r"(What|Who|Whoever|Whatever|One|Of|Where|Wherever)\b")
MAX_OPENERS = 0.02  # of all sentences of docstrings
REFERENCE = re.compile(r"#.*\b(the same|as above)\b")
MOODS = re.compile(
    r"_?(AGAIN|DYING|ENDING|GLANCE|LEAST|LONGEST|MOMENT|MOST|PATIENCE|PAUSE|QUIET|REST|SOON|WHILE)$"
)
UNITS = re.compile(r"_(S|MS|US|NS|BYTES|CHARS|DIGITS|KIB|MIB|PERCENT|PER_S|TICKS|WEIGHT)$")
SECONDS = re.compile(r"#.*\b(seconds|milliseconds|bytes|percent)\b")


def bindings(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """List names of variables and arguments, each time that one is bound."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id.strip("_"), node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg.strip("_"), node.lineno


def sentences(tree: ast.AST) -> Iterator[str]:
    """List the sentences of all docstrings; what follows a colon counts as one."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        if isinstance(node, documented) and (text := ast.get_docstring(node)):
            yield from filter(None, (part.strip() for part in re.split(r"(?<=[.:])\s+", text)))


def test_names_say_what_they_hold() -> None:
    names = [(name, path, line) for path in MODULES for name, line in bindings(TREES[path])]
    vague = [f"{path}:{line}: {name}" for name, path, line in names if name in VAGUE]
    share = len(vague) / len(names)
    assert share <= MAX_VAGUE, f"{share:.2%} of {len(names)}:\n" + "\n".join(vague)


def test_sentences_begin_with_who_acts() -> None:
    told = [(sentence, path) for path in MODULES for sentence in sentences(TREES[path])]
    vague = [f"{path}: {sentence}" for sentence, path in told if OPENER.match(sentence)]
    share = len(vague) / len(told)
    assert share <= MAX_OPENERS, f"{share:.2%} of {len(told)}:\n" + "\n".join(vague)


def test_a_name_or_sentence_that_breaks_the_rule_would_be_counted() -> None:
    tree = ast.parse(
        'def f(told):\n    """What is there. One thing: of these."""\n    found = told'
    )
    assert [name for name, _ in bindings(tree)] == ["told", "found"]
    assert [bool(OPENER.match(one)) for one in sentences(tree)] == [True, True, False]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_comment_points_elsewhere(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert not [line for line in lines if REFERENCE.search(line)]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_constant_that_has_a_unit_names_it(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    for node in TREES[path].body:
        if not isinstance(node, ast.Assign) or not is_number(node.value):
            continue
        (target,) = node.targets
        if isinstance(target, ast.Name) and target.id.isupper():
            line = lines[node.lineno - 1]
            assert not MOODS.match(target.id), line
            assert UNITS.search(target.id) or not SECONDS.search(line), line


def is_number(node: ast.expr) -> bool:
    """Tell whether an expression is made of numbers alone."""
    parts = [part for part in ast.walk(node) if isinstance(part, ast.expr)]
    return all(isinstance(part, ast.Constant | ast.BinOp | ast.UnaryOp) for part in parts) and all(
        type(part.value) in {int, float} for part in parts if isinstance(part, ast.Constant)
    )
