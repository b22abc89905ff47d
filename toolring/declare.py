"""``@tool``: a function becomes a Tool, which carries its frozen ToolSpec and decodes its own arguments.

The type hints become one msgspec struct: it validates msgpack bytes at C speed and gives the JSON Schema.
There is no registry here; a catalogue finds the tools in a module that the operator names.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import inspect
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import (
    Annotated,
    Any,
    Final,
    Generic,
    NamedTuple,
    ParamSpec,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
    overload,
)

import msgspec

from toolring import batches
from toolring.context import Context
from toolring.errors import InvalidArguments, TooDeep
from toolring.given import GivenPool, GivenService, Wanted
from toolring.policy.declared import UNCACHED, decided, refused
from toolring.spec import ToolSpec

P = ParamSpec("P")
R = TypeVar("R")

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")
_CULPRIT = re.compile(r"(?:- at|in) `\$\.([^\W\d]\w*)")
_KIND: Final = {False: "a plain function", True: "an async function"}
_FIELD = re.compile(r"(?:field|argument) `([^`]+)`")


class Wants(NamedTuple):
    """What toolring passes to a tool besides the Context, by its parameters."""

    services: Mapping[str, Wanted] = MappingProxyType({})
    resources: Mapping[str, Any] = MappingProxyType({})
    """Pools: one of what they hold is given for the length of a run."""


_NOTHING: Final = Wants()


class Tool(Generic[P, R]):
    """A declared tool. Calling it calls the plain function, so it stays testable on its own."""

    def __init__(
        self,
        function: Callable[P, R],
        spec: ToolSpec,
        arguments: type[msgspec.Struct],
        context: str | None,
        policy: Mapping[str, Any],
        item: batches.Item | None = None,
        given: Wants = _NOTHING,
    ):
        functools.update_wrapper(self, function)
        self.function = function
        self.spec = spec
        self.arguments = arguments
        self.context_parameter = context
        self.item = item
        """Of a tool that takes many calls in one run: what makes one element of its list."""
        self.services = given.services
        self.resources = given.resources
        self._given = given
        self._policy = policy
        self._decode = msgspec.msgpack.Decoder(arguments).decode

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<tool {self.spec.name}>"

    def under(self, policy: Mapping[str, Any]) -> Tool[P, R]:
        """The same tool with some of its policy decided by somebody else. Raises LoadError as ``@tool`` does."""
        merged = {**self._policy, **policy}
        if policy.get("cache") == 0:
            merged.update(UNCACHED)
        return self.described(decided(self.spec, merged, self.arguments.__struct_fields__))

    def described(self, spec: ToolSpec) -> Tool[P, R]:
        """The same tool under another specification."""
        other = copy.copy(self)
        other.spec = spec
        return other

    def decode(self, body: Any) -> msgspec.Struct:
        """Validate a msgpack map of arguments; defaults are filled in.

        Raises InvalidArguments naming the argument, or TooDeep.
        """
        try:
            return self._decode(body)
        except msgspec.DecodeError as error:
            raise self._refusal(str(error)) from None
        except RecursionError:
            raise TooDeep(f"{self.spec.name}: the arguments nest too deeply", tool=self.spec.name) from None
        except Exception as error:  # an unhashable member of a set, or the tool's own types as they are made
            raise self._refusal(f"{type(error).__name__}: {error}") from None

    def _refusal(self, text: str) -> InvalidArguments:
        name = self.spec.name
        text = text.replace("Object contains unknown field", "unexpected argument")
        text = text.replace("Object missing required field", "missing required argument")
        found = _CULPRIT.search(text) or _FIELD.search(text)
        argument = found.group(1) if found else None
        reason = text.replace("$.", "").replace(" - at `$`", "")
        known = ", ".join(self.arguments.__struct_encode_fields__) or "none"
        return InvalidArguments(f"{name}: {reason} (arguments: {known})", tool=name, argument=argument)


@overload
def tool(function: Callable[P, R], /) -> Tool[P, R]: ...
@overload
def tool(
    *,
    name: str | None = ...,
    description: str | None = ...,
    read_only: bool = ...,
    idempotent: bool = ...,
    destructive: bool | None = ...,
    open_world: bool = ...,
    timeout: float | None = ...,
    cache: float | None = ...,
    cache_strategy: str | None = ...,
    cache_stale: float = ...,
    cache_errors: float = ...,
    cache_scope: str = ...,
    cache_writes: bool = ...,
    tags: Sequence[str] = ...,
    invalidates: Sequence[str] = ...,
    affinity: str | None = ...,
    balancer: str | None = ...,
    group: str | None = ...,
    memory: int = ...,
    concurrency: int | None = ...,
    adaptive: bool = ...,
    rate: float | None = ...,
    burst: int | None = ...,
    backlog: int | None = ...,
    queue_timeout: float | None = ...,
    idle_timeout: float | None = ...,
    batch: int | None = ...,
    batch_delay: float = ...,
    retries: int = ...,
    retry_on: Sequence[str] = ...,
    retry_delay: float = ...,
    breaker: bool | Mapping[str, Any] = ...,
    store_over: int | None = ...,
) -> Callable[[Callable[P, R]], Tool[P, R]]: ...
def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    read_only: bool = False,
    idempotent: bool = False,
    destructive: bool | None = None,
    open_world: bool = True,
    timeout: float | None = None,
    cache: float | None = None,
    cache_strategy: str | None = None,
    cache_stale: float = 0.0,
    cache_errors: float = 0.0,
    cache_scope: str = "public",
    cache_writes: bool = False,
    tags: Sequence[str] = (),
    invalidates: Sequence[str] = (),
    affinity: str | None = None,
    balancer: str | None = None,
    group: str | None = None,
    memory: int = 0,
    concurrency: int | None = None,
    adaptive: bool = False,
    rate: float | None = None,
    burst: int | None = None,
    backlog: int | None = None,
    queue_timeout: float | None = None,
    idle_timeout: float | None = None,
    batch: int | None = None,
    batch_delay: float = 0.005,
    retries: int = 0,
    retry_on: Sequence[str] = (),
    retry_delay: float = 0.1,
    breaker: bool | Mapping[str, Any] = False,
    store_over: int | None = None,
) -> Any:
    """Declare a function as a tool.

    Args:
        name: what callers use; the function's name by default.
        description: the docstring by default.
        read_only, idempotent, destructive, open_world: as in MCP. Only a tool that is read_only or idempotent is
            run again after its worker died in the middle of it. ``destructive`` defaults to ``not read_only``.
        timeout: seconds that one run may last; then it is ended.
        cache: seconds for which a result answers equal arguments (0 or None: no cache). For read_only tools only,
            unless ``cache_writes=True`` says that you know what it means for a tool with side effects.
        cache_strategy: name of an eviction strategy; the node's default otherwise.
        cache_stale: for so many seconds more an outdated result is given at once, while it is renewed behind.
        cache_errors: seconds for which an error that the tool raises answers equal arguments.
        cache_scope: who shares results: ``public`` (everybody), ``caller`` (those who connect under the same
            caller's name) or ``partition`` (calls that name the same partition). Nameless calls are not cached then.
        tags: what the results depend on, as ``("users", "user:{id}")``; ``{id}`` is the argument's value.
        invalidates: tags whose results are outdated once this tool has run, however it ended.
        affinity: name of the argument whose value picks the worker, so that equal values share one worker's caches.
        balancer: name of a balancer; least outstanding by default, the ring with affinity or a cache.
        group: the workers that run it, by a name that the configuration may say more of (``[groups.NAME]``); by default
            ``default``, and ``async`` for async functions. A group is for one of these two kinds.
        memory: bytes that one run needs, about. What a group has of it is shared by what runs there at once.
        concurrency: runs of this tool that the node has under way at once, over all its workers.
        adaptive: let the node find how many may run at once, from how much slower they get (at most ``concurrency``).
        rate: starts per second; more wait. ``burst``: starts at once, after a pause (those of one second by default).
        backlog: calls that may wait; more are refused with BUSY.
        queue_timeout: seconds that a call may wait until it starts; then it ends as EXPIRED.
        idle_timeout: seconds that a run may go without yielding anything or calling ``context.progress``.
        batch: calls that one run may take. The function's one parameter is a list then: of a Struct or dataclass, whose
            fields are the arguments of a call, or of anything else, which is the one argument of a call. It returns a
            list with a result, or an exception, for each.
        batch_delay: seconds that a call waits for others, until there are ``batch``.
        retries: runs again after an error that says it may pass: raised as ``toolring.Retry``, or of a type that
            ``retry_on`` names (``("TimeoutError",)``). For tools that are read_only or idempotent.
        retry_delay: seconds before the first of them, on average; doubled each time, up to 30 s.
        breaker: a circuit breaker of its own: True, or what differs from the defaults, as ``{"failure_rate": 0.3,
            "slow": 2.0, "wait": 10.0}`` (see BreakerPolicy). While it is open calls are refused with CIRCUIT_OPEN.
        store_over: bytes beyond which a result is kept by the node, and the call returns a ``StoredResult``: a preview,
            and a handle to read it by; 0: never. The node's ``results.store_over`` by default.

    Raises:
        LoadError: the declaration makes no sense; the message names the tool and what to change.
    """
    policy = {
        "read_only": read_only,
        "idempotent": idempotent,
        "destructive": destructive,
        "open_world": open_world,
        "timeout": timeout,
        "cache": cache,
        "cache_strategy": cache_strategy,
        "cache_stale": cache_stale,
        "cache_errors": cache_errors,
        "cache_scope": cache_scope,
        "cache_writes": cache_writes,
        "tags": tags,
        "invalidates": invalidates,
        "affinity": affinity,
        "balancer": balancer,
        "memory": memory,
        "concurrency": concurrency,
        "adaptive": adaptive,
        "rate": rate,
        "burst": burst,
        "backlog": backlog,
        "queue_timeout": queue_timeout,
        "idle_timeout": idle_timeout,
        "batch": batch,
        "batch_delay": batch_delay,
        "retries": retries,
        "retry_on": retry_on,
        "retry_delay": retry_delay,
        "breaker": breaker,
        "store_over": store_over,
    }

    def declare(target: Callable[..., Any]) -> Tool[Any, Any]:
        tool_name = name if name is not None else getattr(target, "__name__", "")
        check_name(tool_name)
        if description is not None and not isinstance(description, str):
            raise refused(tool_name, f"description={description!r} is not text")
        concurrent = _is(target, inspect.iscoroutinefunction, inspect.isasyncgenfunction)
        parameters, context, given = _parameters(tool_name, target, concurrent)
        item = None
        if batch is not None:
            item, parameters = batches.of_one_call(tool_name, parameters)
        arguments = _struct(tool_name, parameters)
        about = ToolSpec(
            name=tool_name,
            description=description if description is not None else inspect.getdoc(target) or "",
            parameters=_schema(arguments),
            concurrent=concurrent,
            streams=_is(target, inspect.isgeneratorfunction, inspect.isasyncgenfunction),
            version=_digest(target),
            asks=context is not None,
        )
        whole = {**policy, "group": group if group is not None else "async" if about.concurrent else "default"}
        spec = decided(about, whole, arguments.__struct_fields__)
        return Tool(target, spec, arguments, context, whole, item, given)

    return declare if function is None else declare(function)


def check_name(name: Any) -> None:
    """Raise LoadError unless a tool may be called so."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise refused(name, "a name has 1 to 128 letters, digits, '_', '.' or '-' and begins with a letter or '_'")


DEFAULTS: Final[Mapping[str, Any]] = {
    name: parameter.default
    for name, parameter in inspect.signature(tool).parameters.items()
    if name not in ("function", "name", "description")
}
"""What a tool that says nothing has for its policy."""


def _is(function: Callable[..., Any], *kinds: Callable[[Any], bool]) -> bool:
    """Is it, or its ``__call__``, of one of these kinds?"""
    return any(kind(function) or kind(getattr(function, "__call__", None)) for kind in kinds)  # noqa: B004


def _parameters(name: str, function: Callable[..., Any], concurrent: bool) -> tuple[list[Any], str | None, Wants]:
    """A function's parameters as fields of a struct; the name of the one that takes the Context, and what others
    want."""
    if not inspect.isroutine(function) and not inspect.isclass(function):
        function = getattr(function, "__call__", function)  # noqa: B004  # an object's own hints are its class's
    try:
        hints = get_type_hints(function, include_extras=True)
    except Exception as error:
        raise refused(name, f"its type hints can't be resolved: {error}") from error
    fields: list[Any] = []
    context = None
    services: dict[str, Wanted] = {}
    resources: dict[str, GivenPool] = {}
    around = getattr(inspect.unwrap(function), "__globals__", {})
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise refused(name, f"{parameter} has no schema; name each argument")
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise refused(name, f"argument {parameter.name!r} is positional-only; callers name their arguments")
        kind = hints.get(parameter.name, Any)
        if kind is Context or (Context in get_args(kind) and set(get_args(kind)) == {Context, type(None)}):
            if context is not None:
                raise refused(name, "it asks for the Context twice")
            context = parameter.name
        elif (wanted := _wanted(parameter.name, kind)) is not None:
            if wanted.concurrent is not concurrent:
                right = "AsyncService, whose methods are awaited" if concurrent else "Service"
                raise refused(name, f"parameter {parameter.name!r}: {_KIND[concurrent]} takes {right}")
            services[parameter.name] = wanted
        elif (pool := _pool(parameter, kind, around)) is not None:
            if pool.concurrent is not concurrent:
                right = "an async resource" if concurrent else "a plain one"
                raise refused(name, f"parameter {parameter.name!r}: {_KIND[concurrent]} takes {right}")
            if not pool.name:
                pool.configure(name=parameter.name)
            resources[parameter.name] = pool
        elif parameter.default is parameter.empty:
            fields.append((parameter.name, kind))
        else:
            fields.append((parameter.name, kind, _default(parameter.default)))
    return fields, context, Wants(services, resources)


def overlooked(tool: Tool[..., Any]) -> str:
    """An argument that has the name of a resource of the function's module: that was declared after the tool was.
    Empty: there is none."""
    around = getattr(inspect.unwrap(tool.function), "__globals__", {})
    fields = msgspec.structs.fields(tool.arguments)
    return next((one.name for one in fields if one.required and isinstance(around.get(one.name), GivenPool)), "")


def _pool(parameter: inspect.Parameter, kind: Any, around: Mapping[str, Any]) -> GivenPool | None:
    """The resource that a parameter asks for: the one of its name in the function's module, or as ``Annotated[type,
    pool]`` says."""
    for said in get_args(kind)[1:] if get_origin(kind) is Annotated else ():
        if isinstance(said, GivenPool):
            return said
    found = around.get(parameter.name) if parameter.default is parameter.empty else None
    return found if isinstance(found, GivenPool) else None


def _wanted(parameter: str, kind: Any) -> Wanted | None:
    """The service that a parameter asks for: the one of its name, or as ``Annotated[Service, "name"]`` says."""
    named = parameter
    if get_origin(kind) is Annotated:
        kind, said, *_ = get_args(kind)
        named = said if isinstance(said, str) else parameter
    if isinstance(kind, type) and issubclass(kind, GivenService):
        return Wanted(named, kind.concurrent)
    return None


def _struct(name: str, fields: list[Any]) -> type[msgspec.Struct]:
    title = f"{name.replace('.', '_').replace('-', '_')}_arguments"  # unlike any class among them
    try:
        return _validating(title, fields)
    except Exception as error:  # a NameError, too: the hints of a class that one of them is made of
        raise refused(name, _why_unfit(title, fields, error)) from error


def _validating(title: str, fields: list[Any]) -> type[msgspec.Struct]:
    struct = msgspec.defstruct(title, fields, kw_only=True, forbid_unknown_fields=True)
    msgspec.msgpack.Decoder(struct)
    msgspec.json.schema(struct)
    return struct


def _why_unfit(title: str, fields: list[Any], error: Exception) -> str:
    """The culprit is the first argument that can't be validated by itself."""
    culprit = "its signature"
    for field in fields:
        try:
            _validating(title, [field])
        except Exception as its_own:
            culprit, error = f"argument {field[0]!r}", its_own
            break
    reason = (str(error) or repr(error)).splitlines()[-1]  # what stands before tells how to extend msgspec
    advice = "; use typing.Any, or a type that msgspec knows" if isinstance(error, TypeError) else ""
    return f"{culprit} can't be validated: {reason}{advice}"


def _default(value: Any) -> Any:
    """Mutable defaults are shared by plain functions; here each call gets its own copy."""
    if isinstance(value, list | dict | set | bytearray):
        return msgspec.field(default_factory=functools.partial(copy.deepcopy, value))
    return value


def _schema(arguments: type[msgspec.Struct]) -> dict[str, Any]:
    schema = msgspec.json.schema(arguments)
    definitions = schema.pop("$defs", {})
    own = dict(definitions.pop(arguments.__name__))
    own.pop("title", None)
    if definitions:
        own["$defs"] = definitions
    return own


def _digest(function: Callable[..., Any]) -> str:
    """A short digest of the source of the module: a tool's version as far as caches care, its helpers' changes too."""
    code = getattr(function, "__code__", None)
    try:
        source = _source(getattr(function, "__module__", None)) or inspect.getsource(function)
    except (OSError, TypeError):
        source = repr((code.co_code, code.co_consts)) if code is not None else repr(function)
    name = getattr(function, "__qualname__", "")
    return hashlib.blake2b(f"{name}\0{source}".encode(errors="replace"), digest_size=8).hexdigest()


@functools.cache
def _source(module: str | None) -> str:
    try:
        return inspect.getsource(sys.modules[module or ""])
    except (OSError, TypeError, KeyError):
        return ""
