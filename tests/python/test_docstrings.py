# Contract: every public function, class, method and property has a docstring; its Args name each parameter, and its Raises each exception that its
# code raises, whether there or in a function of the package that it calls. What is described elsewhere is named: "as in `lstsq`", "see focal_loss".
# Oracle: the signature, and the raise statements in the source, followed through calls by name.
from __future__ import annotations

import ast
import builtins
import contextlib
import dataclasses
import functools
import importlib
import inspect
import re
import textwrap
import types

import pytest

MODULES = ["slipstick", "slipstick.logs", "slipstick.sketch", "slipstick.lowbit.studies"]
OF_TORCH = ["slipstick.losses", "slipstick.lowbit"]  # some of their names need it
NEVER_TOLD = {"AssertionError", "AttributeError", "NotImplementedError", "StopIteration"}
REFERENCE = re.compile(
    r"\b(?:see|as(?: in| for| of)?|(?:those|options|arguments) of)\s+((?:(?!(?:in|for|of)\b)`?\w[\w.]*`?(?:, | and |$)?)+)", re.IGNORECASE
)


def resolved(node, scope):
    """What an expression of names and dots stands for, None if that is not known."""
    if isinstance(node, ast.Name):
        return scope.get(node.id, getattr(builtins, node.id, None))
    if isinstance(node, ast.Attribute):
        base = resolved(node.value, scope)
        return getattr(base, node.attr, None) if isinstance(base, (types.ModuleType, type)) else None
    return None


def scope_of(function, body):
    """Global names, and those that the function imports itself."""
    scope = dict(function.__globals__)
    for node in ast.walk(body):
        if not isinstance(node, ast.ImportFrom):
            continue
        with contextlib.suppress(ImportError):  # of a package that is not installed
            module = importlib.import_module("." * node.level + (node.module or ""), function.__globals__["__package__"])
            for alias in node.names:
                if not hasattr(module, alias.name):
                    importlib.import_module(f"{module.__name__}.{alias.name}")
                scope[alias.asname or alias.name] = getattr(module, alias.name)
    return scope


def caught_in(body, scope):
    """For each statement inside a try, by its identity, the exceptions that do not leave it."""
    caught = {}
    for node in ast.walk(body):
        if not isinstance(node, ast.Try):
            continue
        kinds = []
        for handler in node.handlers:
            named = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
            kinds += [kind for kind in (resolved(each, scope) for each in named if each is not None) if isinstance(kind, type)]
        for statement in node.body:
            for inner in ast.walk(statement):
                caught.setdefault(id(inner), []).extend(kinds)
    return caught


def raised(function, owner=None, seen=None):
    """The exception classes that leave a function of the package."""
    seen = set() if seen is None else seen
    function = inspect.unwrap(function)
    if function in seen or not function.__module__.startswith("slipstick"):
        return set()
    seen.add(function)
    try:
        body = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    except (OSError, TypeError):  # made by dataclass
        return set()
    scope = scope_of(function, body)
    caught = caught_in(body, scope)
    found = set()
    for node in ast.walk(body):
        kinds = set()
        if isinstance(node, ast.Raise) and node.exc is not None:
            kind = resolved(node.exc.func if isinstance(node.exc, ast.Call) else node.exc, scope)
            kinds = {kind} if isinstance(kind, type) and issubclass(kind, BaseException) else set()
        elif isinstance(node, ast.Call):
            called, of = resolved(node.func, scope), owner
            if (
                called is None
                and isinstance(node.func, ast.Attribute)
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id == "self"
            ):
                called = getattr(owner, node.func.attr, None)
            if isinstance(called, type) and called.__module__.startswith("slipstick"):
                called, of = vars(called).get("__init__"), called
            if inspect.isfunction(called):
                kinds = raised(called, of, seen)
        found |= {kind for kind in kinds if not any(issubclass(kind, each) for each in caught.get(id(node), []))}
    return found


def test_raised_follows_calls_and_except():
    from slipstick import _arguments

    assert raised(_arguments.integer) == {TypeError}  # of the two in it, one is caught
    assert raised(_arguments.thread_count) == {TypeError, ValueError}


def sections(text):
    """The parts of a docstring by their titles, and what is in front of them under ''."""
    parts, titles = {}, [""]
    for line in text.splitlines():
        heading = re.fullmatch(r"((?:Args|Returns|Raises|Notes|Attributes|Yields)(?:, (?:Args|Returns|Raises|Notes))*):(.*)", line)
        if heading:
            titles, line = heading[1].split(", "), heading[2]
        for title in titles:
            parts[title] = parts.get(title, "") + line + "\n"
    return parts


def public(name):
    """(name, object, class that it belongs to, function with its parameters) of all that a module offers."""
    module = importlib.import_module(name)
    for each in module.__all__:
        value = getattr(module, each)
        if inspect.isfunction(value):
            yield each, value, None, value
        elif isinstance(value, type):
            yield each, value, value, vars(value).get("__init__")
            for key, member in vars(value).items():
                member = member.__func__ if isinstance(member, (staticmethod, classmethod)) else member
                if key.startswith("_"):
                    continue
                if inspect.isfunction(member):
                    yield f"{each}.{key}", member, value, member
                elif isinstance(member, (property, functools.cached_property)):
                    yield f"{each}.{key}", member, value, member.fget if isinstance(member, property) else member.func


def own_doc(value):
    text = vars(value).get("__doc__") if isinstance(value, type) else value.__doc__
    return inspect.cleandoc(text) if text else ""


def told(name, docs, title, seen=()):
    """The text of a section, with those of what the docstring refers to."""
    text = docs.get(name, "")
    parts = sections(text)
    out = parts.get(title, "") + (parts.get("Attributes", "") + parts.get("", "") if title == "Args" and "Args" not in parts else "")
    for listed in REFERENCE.findall(text):
        for other in re.findall(r"\w+(?:\.\w+)*", listed):
            for full in (other, f"{name.split('.')[0]}.{other}"):
                if full in docs and full != name and full not in seen:
                    out += told(full, docs, title, (*seen, name))
    return out


def missing(module):
    """What is left untold, a line each."""
    members = list(public(module))
    docs = {name: own_doc(value) for name, value, _, _ in members}
    out = []
    for name, value, owner, function in members:
        if not docs[name]:
            out.append(f"{name}: has no docstring")
            continue
        if not inspect.isfunction(inspect.unwrap(function) if function else None):
            continue
        given_back = isinstance(value, type) and (dataclasses.is_dataclass(value) or re.match(r"What `?\w+`? (gives|returns)", docs[name]))
        if not given_back and not isinstance(value, (property, functools.cached_property)):  # what users get, they do not make
            parameters = [each for each in inspect.signature(inspect.unwrap(function)).parameters if each not in ("self", "cls")]
            args = told(name, docs, "Args")
            out += [f"{name}: Args do not name {each}" for each in parameters if not re.search(rf"\b{each}\b", args)]
        raises = told(name, docs, "Raises")
        kinds = {kind.__name__ for kind in raised(function, owner) if not kind.__name__.startswith("_")} - NEVER_TOLD
        out += [f"{name}: Raises do not name {kind}" for kind in sorted(kinds) if not re.search(rf"\b{kind}\b", raises)]
    return out


@pytest.mark.parametrize("module", [*MODULES, *(pytest.param(each, marks=pytest.mark.torch) for each in OF_TORCH)])
def test_docstrings_tell_arguments_and_exceptions(module):
    if module in OF_TORCH:
        pytest.importorskip("torch")
    assert missing(module) == []


def test_estimators_tell_them_too():
    pytest.importorskip("sklearn")
    module = importlib.import_module("slipstick.sketch.estimators")
    for value in vars(module).values():
        if isinstance(value, type) and value.__module__ == module.__name__ and not value.__name__.startswith("_"):
            assert own_doc(value)
