"""Compiles an expression's Jinja syntax tree to functions over a record, bounded and without access to Python.

Only the functions in the tables of `engine.sandbox` can be called, and a function is never a value.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jinja2 import Environment, StrictUndefined, UndefinedError, nodes
from jinja2.parser import Parser

from engine.sandbox import methods, operators
from engine.sandbox.budget import LARGEST, Budget, whole
from engine.sandbox.filters import FILTERS, TAKE_NULL
from engine.sandbox.tests import TESTS
from engine.spec.allowed import NotAllowed, check_filter, check_method, check_test
from engine.spec.null import Evaluate, Null, compared, decided, none_of, present, written

_LONGEST = 10_000
"""Maximum characters of an expression."""
_DEEPEST = 150
"""Maximum depth of nested operations: each is a call on Python's stack."""
_SYNTAX = Environment()  # noqa: S701 - parses only
_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "eq": operator.eq, "ne": operator.ne, "gt": operator.gt, "gteq": operator.ge, "lt": operator.lt, "lteq": operator.le,
    "in": lambda left, right: left in right, "notin": lambda left, right: left not in right,
}  # fmt: skip


class Scope(Budget):
    """One evaluation: the record and the remaining budget."""

    __slots__ = ("record",)

    def __init__(self, record: Mapping[str, Any]) -> None:
        super().__init__(LARGEST)
        self.record = record


class Compiled:
    """A compiled expression: `evaluate` returns its value in a `Scope`.

    `needed` are the columns it requires, `optional` those that may be absent. Raises `NotAllowed` and Jinja's `TemplateSyntaxError`.
    """

    def __init__(self, text: str) -> None:
        if len(text) > _LONGEST:
            raise NotAllowed(f"it has {len(text):,} characters; an expression has at most {_LONGEST:,}")
        parser = Parser(_SYNTAX, text, state="variable")
        tree = parser.parse_expression()
        if not parser.stream.eos:
            raise NotAllowed(f"{parser.stream.current.value!r} stands where the expression should end")
        self.needed: set[str] = set()
        self.optional: set[str] = set()
        self._depth = 0
        self.evaluate = self._build(tree)

    def _build(self, node: nodes.Node) -> Evaluate:
        kind = _KINDS.get(type(node))
        if kind is None:
            raise NotAllowed(f"{type(node).__name__} is not allowed in an expression")
        self._depth += 1
        if self._depth > _DEEPEST:
            raise NotAllowed(f"it is too large: more than {_DEEPEST} operations inside each other")
        built = kind(self, node)
        self._depth -= 1
        return built

    def _all(self, parts: Sequence[nodes.Node]) -> list[Evaluate]:
        return [self._build(part) for part in parts]

    def _const(self, node: nodes.Const) -> Evaluate:
        value = whole(node.value)
        return lambda _: value

    def _list(self, node: nodes.List) -> Evaluate:
        items = self._all(node.items)
        return lambda scope: [item(scope) for item in items]

    def _tuple(self, node: nodes.Tuple) -> Evaluate:
        items = self._all(node.items)
        return lambda scope: tuple([item(scope) for item in items])

    def _dict(self, node: nodes.Dict) -> Evaluate:
        pairs = [(self._build(pair.key), self._build(pair.value)) for pair in node.items]
        return lambda scope: {key(scope): value(scope) for key, value in pairs}

    def _name(self, node: nodes.Name) -> Evaluate:
        name = node.name
        self.needed.add(name)

        def look(scope: Scope) -> Any:
            try:
                return scope.record[name]
            except KeyError:
                raise UndefinedError(f"{name!r} is undefined") from None

        return look

    def _lenient(self, node: nodes.Node) -> Evaluate:
        """Build an operand that may be absent: a column, or a part of its value."""
        if not isinstance(node, (nodes.Name, nodes.Getattr, nodes.Getitem)):
            return self._build(node)
        needed = set(self.needed)
        inner = self._build(node)
        self.optional |= self.needed - needed
        self.needed = needed

        def look(scope: Scope) -> Any:
            try:
                return inner(scope)
            except UndefinedError as failure:
                return StrictUndefined(str(failure))

        return look

    def _attribute(self, node: nodes.Getattr) -> Evaluate:
        owner, name, said = self._build(node.node), node.attr, written(node.node)
        return lambda scope: methods.attribute(present(owner(scope), said), name)

    def _element(self, node: nodes.Getitem) -> Evaluate:
        if isinstance(node.arg, nodes.Slice):
            return self._slice(node.node, node.arg)
        owner, key, said = self._build(node.node), self._build(node.arg), written(node.node)
        return lambda scope: methods.element(present(owner(scope), said), key(scope))

    def _slice(self, node: nodes.Expr, bounds: nodes.Slice) -> Evaluate:
        owner, said = self._build(node), written(node)
        parts = [self._build(part) if part else None for part in (bounds.start, bounds.stop, bounds.step)]

        def cut(scope: Scope) -> Any:
            value = present(owner(scope), said)
            scope.take(len(value))
            return value[slice(*[part(scope) if part else None for part in parts])]

        return cut

    def _call(self, node: nodes.Call) -> Evaluate:
        call = self._arguments(node)
        if isinstance(node.node, nodes.Name) and node.node.name == "range":
            return lambda scope: call(scope, lambda *args: _range(scope, *args))
        if not isinstance(node.node, nodes.Getattr):
            raise NotAllowed(f"{written(node.node)!r} cannot be called; `range` and the methods of values can")
        owner, name, said = self._build(node.node.node), node.node.attr, written(node.node.node)
        check_method(name)

        def method(scope: Scope) -> Any:
            value = present(owner(scope), said)
            work = methods.method(value, name)
            return call(scope, lambda *args, **more: work(scope, value, *args, **more))

        return method

    def _filter(self, node: nodes.Filter) -> Evaluate:
        check_filter(node)
        assert node.node is not None, "checked"  # noqa: S101
        work, takes_null, said = FILTERS[node.name], node.name in TAKE_NULL, written(node.node)
        value = self._lenient(node.node) if node.name in ("default", "d") else self._build(node.node)
        call = self._arguments(node)

        def change(scope: Scope) -> Any:
            found = value(scope)
            if not takes_null:
                present(found, said)
            return call(scope, lambda *args, **more: work(scope, found, *args, **more))

        return change

    def _test(self, node: nodes.Test) -> Evaluate:
        check_test(node)
        test, said = TESTS[node.name], written(node.node)
        value = self._lenient(node.node) if node.name in ("defined", "undefined") else self._build(node.node)
        call = self._arguments(node)

        def ask(scope: Scope) -> Any:
            found = value(scope)
            try:
                return call(scope, lambda *args, **more: test(found, *args, **more))
            except TypeError:
                present(found, said)
                raise

        return ask

    def _arguments(self, node: nodes.Call | nodes.Filter | nodes.Test) -> Callable[[Scope, Callable[..., Any]], Any]:
        """Return a function that calls another with a node's arguments. It raises `Null` for a NULL that the other cannot take."""
        if node.dyn_args or node.dyn_kwargs:
            raise NotAllowed("`*` and `**` are not allowed among arguments")
        args, said = self._all(node.args), [written(part) for part in node.args]
        more = {str(pair.key): self._build(pair.value) for pair in node.kwargs}

        def call(scope: Scope, function: Callable[..., Any]) -> Any:
            given = [arg(scope) for arg in args]
            try:
                return function(*given, **{key: value(scope) for key, value in more.items()})
            except TypeError:
                none_of(given, said)
                raise

        return call

    def _not(self, node: nodes.Not) -> Evaluate:
        value = self._build(node.node)
        return lambda scope: not value(scope)

    def _sign(self, node: nodes.UnaryExpr) -> Evaluate:
        value, said = self._build(node.node), written(node.node)
        change = operator.neg if isinstance(node, nodes.Neg) else operator.pos
        return lambda scope: change(present(value(scope), said))

    def _calculation(self, node: nodes.BinExpr) -> Evaluate:
        left, right, sign = self._build(node.left), self._build(node.right), node.operator
        said = written(node.left), written(node.right)

        def calculate(scope: Scope) -> Any:
            first, second = left(scope), right(scope)
            try:
                return operators.calculate(scope, sign, first, second)
            except TypeError:
                none_of((first, second), said)
                raise

        return calculate

    def _text(self, node: nodes.Concat) -> Evaluate:
        parts, said = self._all(node.nodes), [written(part) for part in node.nodes]

        def join(scope: Scope) -> str:
            found = [part(scope) for part in parts]
            none_of(found, said)
            return operators.join(scope, found)

        return join

    def _choice(self, node: nodes.CondExpr) -> Evaluate:
        condition, then = self._build(node.test), self._build(node.expr1)
        otherwise = self._build(node.expr2) if node.expr2 else _no_else
        return lambda scope: then(scope) if condition(scope) else otherwise(scope)

    def _and(self, node: nodes.And) -> Evaluate:
        return decided(self._build(node.left), self._build(node.right), by=False)

    def _or(self, node: nodes.Or) -> Evaluate:
        return decided(self._build(node.left), self._build(node.right), by=True)

    def _comparison(self, node: nodes.Compare) -> Evaluate:
        steps = [self._compare(_COMPARISONS[part.op], written(part.expr), part.expr) for part in node.ops]
        return _chain(self._build(node.expr), written(node.expr), steps)

    def _compare(self, holds: Callable[[Any, Any], Any], said: str, node: nodes.Expr) -> _Step:
        return holds, said, self._build(node)


_Step = tuple[Callable[[Any, Any], Any], str, Evaluate]


def _chain(first: Evaluate, said: str, steps: list[_Step]) -> Evaluate:
    """`a < b < c`: false if any comparison is false, else unknown if any is unknown."""
    if len(steps) == 1:
        holds, name, part = steps[0]
        names = (said, name)
        return lambda scope: compared(holds, first(scope), part(scope), names)

    def compare(scope: Scope) -> bool:
        left, before, unknown = first(scope), said, None
        for holds, name, part in steps:
            right = part(scope)
            try:
                if not compared(holds, left, right, (before, name)):
                    return False
            except Null as failure:
                unknown = unknown or failure
            left, before = right, name
        if unknown:
            raise unknown
        return True

    return compare


def _range(scope: Scope, *bounds: int) -> list[int]:
    numbers = range(*bounds)
    scope.take(len(numbers))
    return list(numbers)


def _no_else(_: Any) -> Any:
    raise UndefinedError("the condition of `if` is false, and there is no `else`")


_KINDS: dict[type[nodes.Node], Callable[[Compiled, Any], Evaluate]] = {
    nodes.Const: Compiled._const, nodes.List: Compiled._list, nodes.Tuple: Compiled._tuple, nodes.Dict: Compiled._dict,
    nodes.Name: Compiled._name, nodes.Getattr: Compiled._attribute, nodes.Getitem: Compiled._element,
    nodes.Call: Compiled._call, nodes.Filter: Compiled._filter, nodes.Test: Compiled._test, nodes.Not: Compiled._not,
    nodes.Neg: Compiled._sign, nodes.Pos: Compiled._sign, nodes.Concat: Compiled._text, nodes.CondExpr: Compiled._choice,
    nodes.And: Compiled._and, nodes.Or: Compiled._or, nodes.Compare: Compiled._comparison,
    **dict.fromkeys((nodes.Add, nodes.Sub, nodes.Mul, nodes.Div, nodes.FloorDiv, nodes.Mod, nodes.Pow), Compiled._calculation),
}  # fmt: skip
