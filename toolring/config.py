"""The configuration: frozen, loaded once, each value with where it came from.

Flags win over ``TOOLRING_*`` environment variables, those over the file, that over the defaults. Anything unknown
or of a wrong type is refused by name, with a suggestion, before anything runs.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any, Final, cast

import msgspec

from toolring.config_checks import check
from toolring.errors import ConfigError
from toolring.policy.alerts import EACH, AlertRule
from toolring.policy.alerts import NAME as ALERT_NAME
from toolring.policy.memory import MemoryPolicy
from toolring.policy.service import NAME, ServicePolicy
from toolring.process import ProcessLimits

FILE: Final = "toolring.toml"
SECRET: Final = frozenset({"dashboard.token"})
"""Settings whose values are shown to nobody."""
PREFIX: Final = "TOOLRING_"
_NOT_SETTINGS: Final = frozenset({"TOOLRING_ADDRESS", "TOOLRING_CONFIG", "TOOLRING_CODE_ROOT"})


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the file. Seconds and bytes throughout."""


class Node(Section, frozen=True):
    bind: str = ""
    """Where clients reach the node; empty: TOOLRING_ADDRESS, or else the ipc socket of this user."""
    workers: int = 0
    """Worker processes of each group that says nothing else; 0: one for each core."""
    tools: tuple[str, ...] = ()
    """What is served if the command line names no target; empty: the bundled tools."""
    start_method: str = "auto"
    """fork (from the warm zygote), spawn (a fresh interpreter each), or auto: fork unless the tools start threads."""
    watch: bool = False
    """Load the tools' code anew when one of its files changes."""


class Timeouts(Section, frozen=True):
    default: float = 60.0
    """Deadline of a job whose caller names none."""
    interrupt: float = 0.5
    """How long an interrupted tool may clean up before its process group gets SIGTERM."""
    terminate: float = 0.3
    """From SIGTERM to SIGKILL."""
    start: float = 120.0
    """How long a worker may take to become ready."""
    cooperate: float = 0.1
    """How long a tool that takes the Context may take to notice that its job has ended, before it is interrupted."""
    shield: float = 5.0
    """The most that a tool may put off its interruption with ``context.shield()``."""
    neighbours: float = 5.0
    """How long the runs beside an async one that doesn't end may take to end, if they may not be repeated."""
    drain: float = 30.0
    """How long a draining node waits for the jobs that it has accepted."""


class Limits(Section, frozen=True):
    backlog: int = 20_000
    backlog_bytes: int = 256 << 20
    per_client: int = 10_000
    """Jobs that one client may have in flight."""
    clients: int = 10_000
    """Clients that may be connected at once."""
    max_body: int = 64 << 20
    """Bytes of a job's arguments, or of a result."""
    deaths: int = 3
    """Workers that one job may kill before it is POISONED."""
    keep_seconds: float = 300.0
    """How long an answer is kept for its idempotency key, or for whoever submitted it."""
    keep_bytes: int = 64 << 20


class Jobs(Section, frozen=True):
    """What is kept of jobs that are over, for ``toolring why`` and ``toolring jobs``."""

    keep: int = 10_000
    """The last so many that went well; 0: none."""
    failures: int = 2_000
    """The last so many that did not."""


class OutputSection(Section, frozen=True):
    """What tools write: standard output and error, warnings, logging."""

    capture: bool = True
    """It becomes part of the record of each job, and lines of the node's log; else it goes to standard error."""
    max_bytes: int = 64 << 10
    """Of one attempt; what is beyond is counted and dropped."""
    keep_bytes: int = 16 << 20
    """Of all jobs that are kept; the oldest leaves."""


class Restarts(Section, frozen=True):
    intensity: int = 5
    """More workers than this that die within ``period`` before they did anything: their group is failing."""
    period: float = 10.0


class CacheSection(Section, frozen=True):
    strategy: str = "s3fifo"
    """Which entry leaves a full memory: s3fifo, lru, lfu, fifo, sieve, wtinylfu, adaptive, or a plugin's."""
    max_entries: int = 10_000
    """Of each worker, for each strategy in use."""
    max_bytes: int = 64 << 20
    hot_bytes: int = 64 << 20
    """Results that the supervisor itself holds and gives; 0: none."""
    layers: tuple[str, ...] = ("sqlite",)
    """Stores behind the workers' memory, nearest first: sqlite, redis, lmdb, or a plugin's."""
    directory: str = ""
    """Where stores keep their files; empty: ``toolring`` in the user's cache directory."""
    url: str = "redis://127.0.0.1:6379/0"
    store_bytes: int = 256 << 20
    """Size of a store's file."""
    timeout: float = 0.1
    """Seconds after which a store that doesn't answer counts as empty."""
    local: float = 1.0
    """How long a result from a store that other nodes share is kept here without asking it again."""
    early: float = 1.0
    """How early results are renewed before they expire, by chance and by what they cost; 0: never."""
    namespace: str = ""
    """Nodes share results in stores only if they have the same; empty: the working directory and the targets."""


class ResultsSection(Section, frozen=True):
    """Results that are kept in files, and answered by a handle."""

    store_over: int = 0
    """Bytes of a result beyond which it is, unless its tool says something else; 0: none is."""
    preview: int = 1000
    """The most bytes of it that come with the handle."""
    keep: float = 600.0
    """Seconds since it was given last, at least as long as ``limits.keep_seconds``."""
    max_bytes: int = 1 << 30
    """Of all of them; the oldest leave for new ones."""
    directory: str = ""
    """Where a node makes a directory of its own for them; empty: ``toolring`` in the user's cache directory."""


class ToolSection(Section, frozen=True):
    """Policy of one tool, by its name, in place of what it declares itself."""

    timeout: float | None = None
    cache: float | None = None
    cache_strategy: str | None = None
    cache_stale: float | None = None
    cache_errors: float | None = None
    cache_scope: str | None = None
    cache_writes: bool | None = None
    tags: tuple[str, ...] | None = None
    invalidates: tuple[str, ...] | None = None
    affinity: str | None = None
    balancer: str | None = None
    group: str | None = None
    memory: int | None = None
    concurrency: int | None = None
    adaptive: bool | None = None
    rate: float | None = None
    burst: int | None = None
    backlog: int | None = None
    queue_timeout: float | None = None
    idle_timeout: float | None = None
    batch_delay: float | None = None
    retries: int | None = None
    retry_on: tuple[str, ...] | None = None
    retry_delay: float | None = None
    breaker: bool | dict[str, Any] | None = None
    store_over: int | None = None


class GroupSection(Section, frozen=True):
    """The workers that run the tools of one group, by its name."""

    workers: int = 0
    """Its processes, the most if there is a least; 0: ``node.workers``."""
    min_workers: int | None = None
    """The least of its processes: how many there are depends on what there is to do. None: always all."""
    scale_up_wait: float = 0.0
    """Seconds; jobs that wait for longer call for more of them. 0: 0.1."""
    scale_down_after: float = 0.0
    """Seconds after which those leave that weren't needed. 0: 30."""
    tools: tuple[str, ...] = ()
    """Tools that belong to it, whatever they declare themselves."""
    per_worker: int = 0
    """Runs that each of its processes has under way at once, for async tools only; 0: 100."""
    concurrency: int = 0
    """Runs under way at once in the whole group; 0: as many as its workers can."""
    adaptive: bool = False
    """Let the node find that number itself, at most ``concurrency``."""
    memory: int = 0
    """Bytes that all which runs at once may have declared together; 0: any number."""
    balancer: str = ""
    """Of its tools that name none themselves; empty: as the tool needs it."""
    backlog: int = 0
    """Jobs that may wait for it; 0: as many as the node allows."""
    max_jobs: int = 0
    """Jobs after which one of its workers is renewed; 0: any number."""
    max_age: float = 0.0
    """Seconds after which one is renewed."""
    max_idle: float = 0.0
    """Seconds without anything to do after which one is renewed that has done something."""
    max_memory: int = 0
    """Bytes of resident memory above which one is renewed, once it has finished what it runs."""
    address_space: int | None = None
    """Bytes of virtual memory of each of its processes: RLIMIT_AS. What says nothing is as the node has it."""
    cpu_seconds: int | None = None
    """Seconds of processor time in the life of each: RLIMIT_CPU."""
    open_files: int | None = None
    """RLIMIT_NOFILE of each."""
    core_bytes: int | None = None
    """Bytes of a core dump: RLIMIT_CORE."""
    nice: int = 0
    """Added to the node's own."""
    cpus: tuple[int, ...] = ()
    """Cores that its processes may run on; empty: all."""
    environment: dict[str, str] = {}
    """Variables that its processes have besides the node's; an empty one is taken away."""
    directory: str = ""
    """Where its processes work; empty: where the node does."""
    user: str = ""
    """Whose rights they have; needs a node that runs as root."""

    @property
    def process(self) -> ProcessLimits:
        """What each of its processes may have."""
        return ProcessLimits(**{name: getattr(self, name) for name in ProcessLimits._fields})


class CallerSection(Section, frozen=True):
    """What one caller, by its name, may do; the section ``"*"`` is for all who have none of their own."""

    weight: float = 1.0
    """Its share of the workers, beside the weights of the others who want them at the same time."""
    rate: float = 0.0
    """Jobs per second that it may submit; 0: any number."""
    burst: int = 0
    """Jobs that it may submit at once, within its rate; 0: those of one second."""
    in_flight: int = 0
    """Jobs that it may have in hand; 0: as many as ``limits.per_client`` allows each of its clients."""


class ResourceSection(Section, frozen=True):
    """Settings of a pool of resources, by its name, in place of what its declaration says."""

    min: int | None = None
    max: int | None = None
    acquire_timeout: float | None = None
    create_timeout: float | None = None
    idle_timeout: float | None = None
    max_lifetime: float | None = None
    max_uses: int | None = None
    max_waiting: int | None = None
    validate_after: float | None = None
    keepalive: float | None = None
    leak_after: float | None = None


class Plugins(Section, frozen=True):
    load: tuple[str, ...] = ()
    """Modules to load beside those that installed packages offer."""
    allow: tuple[str, ...] = ()
    """If not empty, the only entry points that are loaded."""
    block: tuple[str, ...] = ()


class Metrics(Section, frozen=True):
    figures: bool = True
    """Count what docs/metrics.md lists."""
    listen: str = ""
    """HOST:PORT where /metrics, /healthz and /readyz are served over HTTP; empty: nowhere."""
    sinks: tuple[str, ...] = ()
    interval: float = 10.0
    file: str = ""
    """Where the sink ``jsonlines`` writes."""
    statsd: str = ""
    """HOST:PORT of a StatsD server, for the sink ``statsd``."""


class DashboardSection(Section, frozen=True):
    """Pages about the node for a browser."""

    listen: str = ""
    """HOST:PORT where they are served; empty: nowhere."""
    token: str = ""
    """Who looks must know it; needed anywhere but on loopback."""


class TracingSection(Section, frozen=True):
    sinks: tuple[str, ...] = ()
    """Where spans of traced jobs go; none: no spans are made."""
    sample: float = 0.0
    """The share of jobs without a trace of their caller's that get one."""


class Alerting(Section, frozen=True):
    """What the rules of [alerts.NAME] have in common."""

    defaults: bool = True
    """Watch the rules that ship, too."""
    interval: float = 5.0
    """Between two looks at the figures."""
    command: tuple[str, ...] = ()
    """Run for each alert that fires, is repeated, or is over: a program and its arguments, not a shell's line."""
    timeout: float = 10.0
    """What one run of it may take."""


class Log(Section, frozen=True):
    format: str = "auto"
    """console, json, or auto: console on a terminal."""
    level: str = "info"


class Config(Section, frozen=True):
    """The whole configuration of a node."""

    node: Node = Node()
    timeouts: Timeouts = Timeouts()
    limits: Limits = Limits()
    jobs: Jobs = Jobs()
    output: OutputSection = OutputSection()
    restarts: Restarts = Restarts()
    cache: CacheSection = CacheSection()
    results: ResultsSection = ResultsSection()
    groups: dict[str, GroupSection] = {}
    tools: dict[str, ToolSection] = {}
    callers: dict[str, CallerSection] = {}
    memory: MemoryPolicy = MemoryPolicy()
    services: dict[str, ServicePolicy] = {}
    resources: dict[str, ResourceSection] = {}
    plugins: Plugins = Plugins()
    metrics: Metrics = Metrics()
    dashboard: DashboardSection = DashboardSection()
    tracing: TracingSection = TracingSection()
    alerting: Alerting = Alerting()
    alerts: dict[str, AlertRule] = {}
    log: Log = Log()


_NAMED: Final[Mapping[str, Mapping[str, Any]]] = {
    "groups": {field.name: field.type for field in msgspec.structs.fields(GroupSection)},
    "tools": {field.name: field.type for field in msgspec.structs.fields(ToolSection)},
    "callers": {field.name: field.type for field in msgspec.structs.fields(CallerSection)},
    "services": {field.name: field.type for field in msgspec.structs.fields(ServicePolicy)},
    "resources": {field.name: field.type for field in msgspec.structs.fields(ResourceSection)},
    "alerts": {field.encode_name: field.type for field in msgspec.structs.fields(AlertRule)},
}
"""Sections with one table for each name: the keys of such a table, and their types."""


_MUST_SAY: Final = {"services": "endpoints", "alerts": "figure"}
"""The key of such a table that it makes no sense without."""


class Loaded(msgspec.Struct, frozen=True):
    """A configuration and the source of each value: ``default``, ``file PATH``, ``environment NAME`` or ``flag``."""

    config: Config
    sources: dict[str, str]


def load(
    file: str | None = None,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> Loaded:
    """Read the configuration.

    Args:
        file: a TOML file; by default the one that TOOLRING_CONFIG names, else ``toolring.toml`` or the table
            ``[tool.toolring]`` of ``pyproject.toml`` in the working directory, if there is one.
        environment: ``os.environ`` by default. ``TOOLRING_CACHE_STRATEGY=lru`` sets ``cache.strategy``.
        flags: values by dotted name, as ``{"node.workers": 4}``.

    Raises:
        ConfigError: naming the file, variable or flag, what is wrong with it and what would be right.
    """
    environment = os.environ if environment is None else environment
    values: dict[str, Any] = {}
    sources: dict[str, str] = {name: "default" for name, _ in _settings()}
    path, table = _file(file or environment.get("TOOLRING_CONFIG"))
    for name, value in _flatten(table, f"file {path}"):
        values[name] = value
        sources[name] = f"file {path}"
    for variable, name, value in _from_environment(environment):
        values[name] = value
        sources[name] = f"environment {variable}"
    for name, value in (flags or {}).items():
        if value is not None:
            values[name] = value
            sources[name] = "flag"
    config = _build(values, sources)
    check(config, flat(config), sources)
    return Loaded(config, sources)


def flat(config: Config) -> dict[str, Any]:
    """Every value by its dotted name, in the order of the documentation."""
    values = {name: getattr(getattr(config, name.split(".")[0]), name.split(".")[1]) for name, _ in _settings()}
    for tool, policy in config.tools.items():
        values.update({f"tools.{tool}.{key}": value for key, value in decided(policy).items()})
    for name, pool in config.resources.items():
        values.update({f"resources.{name}.{key}": value for key, value in decided(pool).items()})
    for kind in ("groups", "callers", "services", "alerts"):
        for name, section in getattr(config, kind).items():
            values.update({f"{kind}.{name}.{key}": value for key, value in msgspec.to_builtins(section).items()})
    return values


def forget_secrets(environment: MutableMapping[str, str]) -> None:
    """Take variables with secrets away, once they are read: they aren't for the tools. The kernel still shows them, to
    the same user, in /proc/PID/environ."""
    for name in SECRET:
        environment.pop(PREFIX + name.upper().replace(".", "_"), None)


def overrides(config: Config) -> dict[str, dict[str, Any]]:
    """What the configuration decides of each tool's policy, by its section and by the group that names it.

    Raises ConfigError for a tool that is put into two groups.
    """
    found = {name: decided(section) for name, section in config.tools.items()}
    for group, section in config.groups.items():
        for tool in section.tools:
            policy = found.setdefault(tool, {})
            if policy.setdefault("group", group) != group:
                text = f"the tool {tool!r} is in the group {policy['group']!r} and in groups.{group}.tools"
                raise ConfigError(text, key=f"groups.{group}.tools")
    return found


def check_tools(config: Config, served: Collection[str]) -> None:
    """Whatever names a tool names one that is served. Raises ConfigError."""
    known = ", ".join(sorted(served))
    for group, section in config.groups.items():
        for tool in section.tools:
            if tool not in served:
                text = f"groups.{group}.tools names {tool!r}, but no such tool is served; there is {known}"
                raise ConfigError(text, key=f"groups.{group}.tools")
    for tool in config.tools:
        if tool not in served:
            text = f"the configuration has [tools.{tool}], but no such tool is served; there is {known}"
            raise ConfigError(text, key=f"tools.{tool}")


def check_alerts(config: Config, tools: Collection[str], groups: Collection[str]) -> None:
    """Whatever an alert is about is there. Raises ConfigError."""
    for name, rule in config.alerts.items():
        for kind, there in (("tool", tools), ("group", groups), ("service", config.services)):
            of = getattr(rule, kind)
            if of and of != EACH and of not in there:
                key, known = f"alerts.{name}.{kind}", ", ".join(sorted(there)) or "none"
                raise ConfigError(f"{key} = {of!r}, but there is no such {kind}; there is {known}", key=key)


def decided(section: ToolSection | ResourceSection) -> dict[str, Any]:
    """What a section says, without what it leaves to the tool, or to the declaration."""
    return {key: value for key, value in msgspec.structs.asdict(section).items() if value is not None}


def _settings() -> Iterator[tuple[str, Any]]:
    for section in msgspec.structs.fields(Config):
        if section.name not in _NAMED:
            for field in msgspec.structs.fields(section.type):
                yield f"{section.name}.{field.name}", field.type


def _file(named: str | None) -> tuple[str, dict[str, Any]]:
    if named is not None:
        return named, _read(Path(named))
    if Path(FILE).is_file():
        return FILE, _read(Path(FILE))
    project = Path("pyproject.toml")
    if project.is_file():
        table = _read(project).get("tool", {}).get("toolring", {})
        if table:
            return "pyproject.toml", table
    return "", {}


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"can't read the configuration {path}: {error.strerror}", file=str(path)) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}", file=str(path)) from None


def _flatten(table: Mapping[str, Any], source: str) -> Iterator[tuple[str, Any]]:
    sections = {field.name for field in msgspec.structs.fields(Config)}
    known = {name for name, _ in _settings()}
    for section, content in table.items():
        if section not in sections:
            raise ConfigError(f"{source}: unknown section [{section}]{_suggest(section, sections)}", key=section)
        if not isinstance(content, dict):
            raise ConfigError(f"{source}: {section} must be a section, [{section}]", key=section)
        if section in _NAMED:
            yield from _named(section, content, source)
            continue
        for key, value in content.items():
            name = f"{section}.{key}"
            if name not in known:
                raise ConfigError(f"{source}: unknown key {name}{_suggest(name, known)}", key=name)
            yield name, value


def _named(section: str, tables: Mapping[str, Any], source: str) -> Iterator[tuple[str, Any]]:
    known = _NAMED[section]
    for name, table in tables.items():
        whole = f"{section}.{name}"
        if not isinstance(table, dict):
            raise ConfigError(f"{source}: {whole} must be a section, [{whole}]", key=whole)
        if section in _MUST_SAY:
            table = {_MUST_SAY[section]: "" if section == "alerts" else (), **table}
        for key, value in table.items():
            if key not in known:
                raise ConfigError(f"{source}: unknown key {whole}.{key}{_suggest(key, set(known))}", key=key)
            yield f"{whole}.{key}", value


def _suggest(word: str, known: set[str]) -> str:
    close = difflib.get_close_matches(word, known, 1, 0.6) or [
        k for k in known if k.split(".")[-1] == word.rsplit(".", maxsplit=1)[-1]
    ]
    return f"; did you mean {close[0]}?" if close else f"; there is {', '.join(sorted(known))}"


def _from_environment(environment: Mapping[str, str]) -> Iterator[tuple[str, str, Any]]:
    known = {PREFIX + name.upper().replace(".", "_"): (name, kind) for name, kind in _settings()}
    for variable, text in sorted(environment.items()):
        if not variable.startswith(PREFIX) or variable in _NOT_SETTINGS:
            continue
        if variable not in known:
            raise ConfigError(f"unknown environment variable {variable}{_suggest(variable, set(known))}", key=variable)
        name, kind = known[variable]
        value: Any = text if kind in (int, float, str, bool) else [part for part in text.split(",") if part]
        yield variable, name, value


def _build(values: Mapping[str, Any], sources: Mapping[str, str]) -> Config:
    types = dict(_settings())
    tree: dict[str, Any] = {section: {} for section in _NAMED}
    for name, value in values.items():
        path, _, key = name.rpartition(".")
        section, _, of = path.partition(".")
        named = _NAMED.get(section)
        place = tree.setdefault(section, {}) if named is None else tree[section].setdefault(of, {})
        kind = types[name] if named is None else named[key]
        strict = not sources[name].startswith("environment")
        try:
            place[key] = msgspec.convert(value, kind, strict=strict)
        except msgspec.ValidationError as error:
            raise ConfigError(f"{sources[name]}: {name} = {value!r}: {error}", key=name) from None
    tree["memory"] = _whole("memory", MemoryPolicy, tree.get("memory", {}), sources)
    tree["alerts"] = {name: _alert(name, said, sources) for name, said in tree["alerts"].items()}
    tree["services"] = {name: _service(name, said, sources) for name, said in tree["services"].items()}
    return msgspec.convert(tree, Config)


def _service(name: str, said: Mapping[str, Any], sources: Mapping[str, str]) -> ServicePolicy:
    key = f"services.{name}"
    source = next(source for known, source in sources.items() if known.startswith(f"{key}."))
    if not NAME.fullmatch(name):
        text = f"{source}: [{key}]: a service's name has 1 to 64 letters, digits, '_' or '-' and begins with a letter"
        raise ConfigError(text, key=key)
    return cast(ServicePolicy, _whole(key, ServicePolicy, said, sources))


def _alert(name: str, said: Mapping[str, Any], sources: Mapping[str, str]) -> AlertRule:
    key = f"alerts.{name}"
    if not ALERT_NAME.fullmatch(name):
        source = next(source for known, source in sources.items() if known.startswith(f"{key}."))
        text = f"{source}: [{key}]: an alert's name has 1 to 64 letters, digits, '_' or '-' and begins with a letter"
        raise ConfigError(text, key=key)
    fields = {"holds" if one == "for" else one: value for one, value in said.items()}
    return cast(AlertRule, _whole(key, AlertRule, fields, sources))


def _whole(key: str, kind: Callable[..., Any], said: Mapping[str, Any], sources: Mapping[str, str]) -> Any:
    """A section that is checked as a whole."""
    try:
        return kind(**said)
    except ValueError as error:
        known = [source for name, source in sources.items() if name.startswith(f"{key}.") and source != "default"]
        raise ConfigError(f"{known[0] if known else 'default'}: {key}: {error}", key=key) from None
