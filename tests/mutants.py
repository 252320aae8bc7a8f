"""`make mutants`: would the tests notice if the code were wrong?

A sample of small changes, each made in a copy of the tree and met by the tests that cover its file. Prints each one, the diffs of
those that nobody noticed, and ends with 1 where fewer than 90 % were caught. The same tests meet the unchanged tree first: where one
fails there, nothing that follows would prove anything, and it ends with 2. Changes without effect are named, with the reason, in
tests/equivalents.txt.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

ROOT = Path(__file__).parent.parent
SECONDS = 1200
"""For all tests of one mutant: what took longer has proved nothing, and counts as not noticed."""
HANGS = 120
"""Seconds after which one test counts as hanging: that is noticed."""
ENOUGH = 0.9
LEDGER = "contract changes rejects history case crash ledger_retries lost_connections first_run since why parking plans"
SPEC = (
    "schema reader interpolation expressions patterns validate misspelt_columns hints secrets masking transform columns"
)
STAGES = "stages contract delivery isolation since narrow fields transform twins sent_again changed_columns spread pace"
# What covers a file: the longest beginning of its path counts. The quickest tests first: one that fails ends the mutant.
COVERED = {
    "engine/runtime/api_check.py": "api_check schedule",
    "engine/cli": "cli usage hints several validate schedule rejects why plan_shows terminal receive_script changes",
    "engine/runtime/connection_check.py": "validate connect cli narrow misspelt_columns places encoding",
    "engine/db": "tsql connect reader contract source_errors ledger_retries lost_connections",
    "engine/demo": "receive_script cli hostile_answers",
    "engine/http": "session verdicts token_endpoint hostile_answers delivery secrets conflict parking wrong_request",
    "engine/sync/ledger": LEDGER,
    "engine/store/encoding.py": "encoding contract",
    "engine/sync/ledger/fence.py": "fence contract",
    "engine/store/places.py": "places contract first_run",
    "engine/observe": "secrets masking terminal words cli trouble_shown delivery",
    "engine/sync/plan.py": "plan_shows cli parking narrow since changes",
    "engine/sync/preflight.py": "first_run cli",
    "engine/sandbox": "template_bounds expressions",
    "engine/runtime/schedule.py": "schedule starts regressions",
    "engine/spec": SPEC,
    "engine/sync/read": STAGES,
    "engine/sync/send": f"delivery verdicts parking {STAGES}",
    "engine/sync/shape": STAGES,
    "engine/sync/spec": SPEC,
    "engine/store": f"migrations {LEDGER}",
    "engine/runs/lease.py": f"contract {LEDGER}",
    "engine/runs": "schedule starts regressions",
    "engine/sync/why.py": "why history since_promises",
    "engine": "identity cli delivery parking conflict isolation trouble_shown crash cancel spread",
    "templates/sql/catalogue": "places connect contract",
    "templates/sql/ledger": f"tsql {LEDGER}",
    "templates/sql/mssql": "tsql contract",
    "templates/sql": f"tsql {LEDGER} narrow twins spread hr_across_databases",
}
_SWAPS: dict[type[ast.AST], tuple[str, str]] = {
    ast.Eq: ("==", "!="), ast.NotEq: ("!=", "=="), ast.Lt: ("<", "<="), ast.LtE: ("<=", "<"), ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"), ast.IsNot: ("is not", "is"), ast.Is: ("is", "is not"), ast.NotIn: ("not in", "in"),
    ast.In: ("in", "not in"), ast.And: ("and", "or"), ast.Or: ("or", "and"), ast.Add: ("+", "-"), ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"), ast.Div: ("/", "*"),
}  # fmt: skip
_SQL = [
    (r"\bNOT EXISTS\b", "EXISTS"), (r"\bIS NOT NULL\b", "IS NULL"), (r"\bIS NULL\b", "IS NOT NULL"), (r"\bAND\b", "OR"),
    (r"\bOR\b", "AND"), (r"<>", "="), (r"(?<![<>])=", "<>"), (r"(?<![<-])(?<!->)>=?(?!=|>)", "<"), (r"<(?![>=])", ">"),
    (r"\bDESC\b", "ASC"), (r"\bDISTINCT\b", ""), (r"\bLEFT JOIN\b", "JOIN"), (r"\bMAX\b", "MIN"),
]  # fmt: skip


PYTEST = [
    sys.executable,
    *["-m", "pytest", "-q", "-x", "--randomly-dont-reorganize", "-p", "no:cacheprovider"],
    f"--timeout={HANGS}",
]


@dataclass(frozen=True)
class Mutant:
    """One change of one file."""

    file: str
    begin: int
    end: int
    text: str

    def of(self, source: str) -> str:
        """The file with the change."""
        return source[: self.begin] + self.text + source[self.end :]

    def lines(self, source: str) -> tuple[int, str, str]:
        """The number of the line that is changed, as it was and as it is."""
        number = source.count("\n", 0, self.begin)
        return number + 1, source.splitlines()[number].strip(), self.of(source).splitlines()[number].strip()


def in_sql(file: str, source: str) -> Iterator[Mutant]:
    """Wrong comparisons, conditions and orders of a template; not in comments, expressions and texts."""
    hidden = re.sub(
        r"\{#.*?#\}|\{\{.*?\}\}|\{%.*?%\}|'[^']*'", lambda found: "~" * len(found[0]), source, flags=re.DOTALL
    )
    for pattern, text in _SQL:
        for found in re.finditer(pattern, hidden):
            yield Mutant(file, found.start(), found.end(), text)


def in_python(file: str, source: str) -> Iterator[Mutant]:
    """Wrong comparisons, conditions, signs, numbers and truths of a module.

    Not in annotations, decorators, assertions and docstrings; nor the numbers over 100, which are limits.
    """
    starts = [0]
    for line in source.encode().splitlines(keepends=True):
        starts.append(starts[-1] + len(line))

    def place(line: int, column: int) -> int:
        return len(source.encode()[: starts[line - 1] + column].decode())

    def begin(node: ast.expr) -> int:
        return place(node.lineno, node.col_offset)

    def end(node: ast.expr) -> int:
        return place(node.end_lineno or 0, node.end_col_offset or 0)

    for node in _code(ast.parse(source)):
        if isinstance(node, ast.Compare):
            pairs = zip([node.left, *node.comparators[:-1]], node.ops, node.comparators, strict=True)
            between = [(end(left), begin(right), type(op)) for left, op, right in pairs]
        elif isinstance(node, ast.BoolOp):
            pairs_ = zip(node.values, node.values[1:], strict=False)
            between = [(end(left), begin(right), type(node.op)) for left, right in pairs_]
        elif isinstance(node, ast.BinOp):
            between = [(end(node.left), begin(node.right), type(node.op))]
        else:
            between = []
            if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
                yield Mutant(file, begin(node), begin(node.operand), "")
            elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
                yield Mutant(file, begin(node), end(node), str(not node.value))
            elif isinstance(node, ast.Constant) and type(node.value) is int and node.value <= 100:
                yield Mutant(file, begin(node), end(node), str(node.value + 1))
        for first, last, kind in between:
            old, new = _SWAPS.get(kind, ("", ""))
            found = re.search(rf"(?<![\w<>=!]){re.escape(old)}(?![\w<>=])", source[first:last]) if old else None
            if found:
                yield Mutant(file, first + found.start(), first + found.end(), new)


def _code(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes whose change changes what is done."""
    for name, value in ast.iter_fields(tree):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not isinstance(child, ast.Assert):
                yield child
                yield from _code(child)


def sample(count: int, seed: int) -> list[Mutant]:
    """So many of all mutants, one of four in the SQL templates; the same ones for the same seed and tree."""
    python = [
        mutant
        for file in sorted(ROOT.glob("engine/**/*.py"))
        for mutant in in_python(file.relative_to(ROOT).as_posix(), file.read_text("utf-8"))
    ]
    sql = [
        mutant
        for file in sorted(ROOT.glob("templates/sql/**/*.j2"))
        for mutant in in_sql(file.relative_to(ROOT).as_posix(), file.read_text("utf-8"))
    ]
    dice = random.Random(seed)
    return dice.sample(python, count - count // 4) + dice.sample(sql, count // 4)


def tests_of(file: str) -> list[str]:
    """The test files that cover a file, and one of its own name where there is one."""
    best = max((path for path in COVERED if file.startswith(path)), key=len)
    own = Path(file).name.split(".")[0]
    files = {
        test.stem.removeprefix("test_"): test.relative_to(ROOT).as_posix() for test in ROOT.glob("tests/**/test_*.py")
    }
    names = dict.fromkeys([*([own] if own in files else []), *COVERED[best].split()])
    return [files[name] for name in names]


def equivalents() -> set[tuple[str, str, str]]:
    """The file, the line as it is and as it would be, of changes that have no effect."""
    known = (ROOT / "tests" / "equivalents.txt").read_text("utf-8").splitlines()
    parts = [line.split(" | ") for line in known if line and not line.startswith("#")]
    return {(file, before, after) for file, before, after, _reason in parts}


def fate(mutant: Mutant, tree: Path) -> tuple[str, str]:
    """`caught`, `lived` or `equal`, and the test that noticed. The tree is left as it was."""
    file = tree / mutant.file
    source = file.read_text("utf-8")
    if (mutant.file, *mutant.lines(source)[1:]) in equivalents():
        return "equal", ""
    file.write_text(mutant.of(source), "utf-8")
    said = (tree / "said.txt").open("w+")
    try:
        process = subprocess.Popen(
            [*PYTEST, f"--basetemp={tree}-tmp", *tests_of(mutant.file)], cwd=tree, env={**os.environ, "PYTHONPATH": str(tree)},
            stdout=said, stderr=said, start_new_session=True,
        )  # fmt: skip
        try:
            if process.wait(SECONDS) == 0:
                return "lived", ""
            said.seek(0)
            found = re.search(r"(?m)^(?:FAILED|ERROR) (\S+)", text := said.read())
            return "caught", found[1] if found else text.strip().rpartition("\n")[2][:100]
        except subprocess.TimeoutExpired:
            return "lived", f"after {SECONDS} s"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait(30)
    finally:
        said.close()
        file.write_text(source, "utf-8")


def _copy(tree: Path) -> Path:
    away = shutil.ignore_patterns(".git", ".venv", "var", "dist", "*cache*")
    return Path(shutil.copytree(ROOT, tree, ignore=away))


def _in_one_of(trees: SimpleQueue[Path], mutant: Mutant) -> tuple[str, str]:
    tree = trees.get()
    try:
        return fate(mutant, tree)
    finally:
        trees.put(tree)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--seed", type=int, default=9)
    parser.add_argument("--jobs", type=int, default=2, help="so many at once, each in a copy of its own")
    parser.add_argument("--only", default="", help="only those of files whose path holds this")
    parser.add_argument(
        "--passed", action="store_true", help="the unchanged tree has just passed its tests: go on at once"
    )
    chosen = parser.parse_args()
    fates: dict[str, list[Mutant]] = {"caught": [], "lived": [], "equal": []}
    # An end by a signal ends the tests of the moment and removes the copies too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))
    wanted = [mutant for mutant in sample(chosen.count, chosen.seed) if chosen.only in mutant.file]
    with tempfile.TemporaryDirectory(prefix="syncledger-mutants-") as folder, ThreadPoolExecutor(chosen.jobs) as pool:
        trees: SimpleQueue[Path] = SimpleQueue()
        for number in range(chosen.jobs):
            trees.put(_copy(Path(folder) / f"tree{number}"))
        first = trees.get()
        tests = sorted({test for mutant in wanted for test in tests_of(mutant.file)})
        if (
            not chosen.passed
            and subprocess.run(
                [*PYTEST, f"--basetemp={first}-tmp", *tests],
                cwd=first,
                env={**os.environ, "PYTHONPATH": str(first)},
                check=False,
            ).returncode
        ):
            print("the unchanged tree does not pass these tests: see above")
            return 2
        trees.put(first)
        for mutant, (became, by) in zip(wanted, pool.map(lambda one: _in_one_of(trees, one), wanted), strict=True):
            line, before, after = mutant.lines((ROOT / mutant.file).read_text("utf-8"))
            fates[became].append(mutant)
            print(f"{became:7}{mutant.file}:{line}: {before} -> {after} [{by}]", flush=True)
    for mutant in fates["lived"]:
        source = (ROOT / mutant.file).read_text("utf-8")
        changed = mutant.of(source).splitlines(keepends=True)
        sys.stdout.writelines(
            difflib.unified_diff(source.splitlines(keepends=True), changed, mutant.file, mutant.file, n=2)
        )
    counted = {name: len(found) for name, found in fates.items()}
    judged = counted["caught"] + counted["lived"]
    print(f"{counted['caught']} caught, {counted['lived']} lived, {counted['equal']} without effect")
    return 0 if counted["caught"] >= ENOUGH * judged else 1


if __name__ == "__main__":
    sys.exit(main())
