"""The sandbox of SQL templates: the filters and methods of `engine.sandbox`, and a budget per statement.

Rendering is charged as it proceeds: each loop iteration, each call, each text, and the length of what is iterated over. The
charges are inserted into the template's syntax tree, since Jinja has no hook for loops and literal text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from jinja2 import nodes, pass_context
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from engine.sandbox import methods, operators
from engine.sandbox.budget import LARGEST, Budget
from engine.sandbox.filters import FILTERS
from engine.sandbox.tests import TESTS

_BUDGET: ContextVar[Budget | None] = ContextVar("budget", default=None)
_CALL = 20
"""Steps charged for a call: it takes as long as that many loop iterations."""
_ENTER, _WALK, _JOIN = "(enter)", "(walk)", "(join)"
"""Filter names that no template can write."""


def budget() -> Budget:
    """Return the budget of the statement that is being rendered."""
    return _BUDGET.get() or Budget()


@contextmanager
def bounded(rows: int) -> Iterator[None]:
    """Set the budget for rendering one statement that looks up `rows` rows by their keys."""
    token = _BUDGET.set(Budget(LARGEST + 1000 * rows))
    try:
        yield
    finally:
        _BUDGET.reset(token)


class BoundedSandbox(ImmutableSandboxedEnvironment):
    """The sandbox. Mappings such as `after` expose only their keys: a column may be called `items`."""

    intercepted_binops = operators.SIGNS

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.globals = {"range": _range, "namespace": Namespace, "dict": dict}
        self.filters = {name: _filter(work) for name, work in FILTERS.items()}
        self.filters |= {_ENTER: _enter, _WALK: _walked, _JOIN: _joined}
        self.tests = {name: _test(work) for name, work in TESTS.items()}

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        return _counting(super()._parse(source, name, filename))

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Return an attribute or an entry, without Python's internals."""
        if isinstance(obj, Mapping) and not isinstance(obj, dict):
            return obj[attribute] if attribute in obj else self.undefined(obj=obj, name=attribute)
        return super().getattr(obj, attribute)

    def wrap_str_format(self, value: Any) -> None:
        """Disable Jinja's special case: `call` handles the methods of text."""

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:  # noqa: ARG002 - Jinja's signature
        """Apply an operator within the budget."""
        return operators.calculate(budget(), operator, left, right)

    def call(self, context: Context, obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Call a macro, a global or an allowed method."""
        budget().take(_CALL + sum(map(_size, args)))
        bound = methods.of_value(obj)
        if bound:
            value, name = bound
            # The compiler adds these inside loops and blocks; only template functions take them.
            kwargs = {key: given for key, given in kwargs.items() if key not in ("_loop_vars", "_block_vars")}
            return methods.method(value, name)(budget(), value, *args, **kwargs)
        return super().call(context, obj, *args, **kwargs)


def _counting(tree: nodes.Template) -> nodes.Template:
    """Insert the charges: entering a body costs the length of its literal text, iterating over a value costs its length."""
    bodies: list[Any] = [tree, *tree.find_all((nodes.Block, nodes.Macro, nodes.CallBlock, nodes.For))]
    costs = [1 + sum(len(part.data) for part in node.find_all(nodes.TemplateData)) for node in bodies]
    for loop in list(tree.find_all(nodes.For)):
        loop.iter = _walk(loop.iter)
    for compare in list(tree.find_all(nodes.Compare)):
        compare.expr = _walk(compare.expr)
        for part in compare.ops:
            part.expr = _walk(part.expr)
    for item in list(tree.find_all(nodes.Getitem)):
        if isinstance(item.arg, nodes.Slice):
            item.node = _walk(item.node)
    for concat in list(tree.find_all(nodes.Concat)):
        joined = nodes.List(concat.nodes, lineno=concat.lineno)
        concat.nodes = [nodes.Filter(joined, _JOIN, [], [], None, None, lineno=concat.lineno)]
    for node, cost in zip(bodies, costs, strict=True):
        paid = nodes.Filter(nodes.Const(cost), _ENTER, [], [], None, None, lineno=node.lineno)
        node.body.insert(0, nodes.ExprStmt(paid, lineno=node.lineno))
    return tree


def _walk(node: Any) -> Any:
    if isinstance(node, nodes.Const):
        return node
    return nodes.Filter(node, _WALK, [], [], None, None, lineno=node.lineno)


@pass_context
def _enter(_: Context, cost: int) -> None:
    budget().take(cost)


@pass_context
def _walked(_: Context, value: Any) -> Any:
    budget().take(_size(value))
    return value


@pass_context
def _joined(_: Context, parts: list[Any]) -> str:
    return operators.join(budget(), ["None" if part is None else part for part in parts])


def _size(value: Any) -> int:
    return len(value) if isinstance(value, (str, bytes, list, tuple, dict, range)) else 1


def _range(*bounds: int) -> range:
    numbers = range(*bounds)
    budget().take(len(numbers))
    return numbers


def _filter(work: Callable[..., Any]) -> Callable[..., Any]:
    # The compiler does not constant-fold a filter that takes the context.
    @pass_context
    def call(_: Context, value: Any, *args: Any, **named: Any) -> Any:
        return work(budget(), value, *args, **named)

    return call


def _test(work: Callable[..., Any]) -> Callable[..., Any]:
    @pass_context
    def call(_: Context, value: Any, *args: Any, **named: Any) -> Any:
        budget().take(_size(value) + sum(map(_size, args)))
        return work(value, *args, **named)

    return call
