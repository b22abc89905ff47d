from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from toolring.config import Config, GroupSection, check_tools, decided, flat, load, overrides
from toolring.errors import ConfigError
from toolring.policy.service import EndpointBreaker


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No configuration of the machine or the repository may leak in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(directory: Path, text: str, name: str = "toolring.toml") -> str:
    (directory / name).write_text(text)
    return str(directory / name)


def test_defaults_need_nothing() -> None:
    loaded = load(environment={})
    assert loaded.config == Config()
    assert set(loaded.sources.values()) == {"default"}
    assert set(loaded.sources) == set(flat(loaded.config))


def test_flags_win_over_the_environment_over_the_file_over_defaults(tmp_path: Path) -> None:
    file = written(
        tmp_path, "[node]\nworkers = 1\nstart_method = 'spawn'\n[cache]\nstrategy = 'file'\nmax_entries = 5\n"
    )
    environment = {"TOOLRING_NODE_WORKERS": "2", "TOOLRING_CACHE_STRATEGY": "environment", "PATH": "/bin"}
    loaded = load(file, environment, {"node.workers": 3, "node.bind": None})
    config, sources = loaded.config, loaded.sources
    assert (config.node.workers, sources["node.workers"]) == (3, "flag")
    assert (config.cache.strategy, sources["cache.strategy"]) == ("environment", "environment TOOLRING_CACHE_STRATEGY")
    assert (config.cache.max_entries, sources["cache.max_entries"]) == (5, f"file {file}")
    assert (config.node.bind, sources["node.bind"]) == ("", "default"), "a flag that was not given is none"


def test_where_the_file_is_looked_for(tmp_path: Path) -> None:
    written(tmp_path, "[tool.toolring.node]\nworkers = 4\n[tool.other]\nx = 1\n", "pyproject.toml")
    assert load(environment={}).config.node.workers == 4
    written(tmp_path, "[node]\nworkers = 5\n")
    assert load(environment={}).config.node.workers == 5
    named = written(tmp_path, "[node]\nworkers = 6\n", "named.toml")
    assert load(environment={"TOOLRING_CONFIG": named}).config.node.workers == 6
    given_ = written(tmp_path, "[node]\nworkers = 7\n", "given.toml")
    assert load(given_, {"TOOLRING_CONFIG": named}).config.node.workers == 7


@pytest.mark.parametrize(
    ("text", "key", "says"),
    [
        ("[nod]\nworkers = 1", "nod", r"did you mean node\?"),
        ("[node]\nworker = 1", "node.worker", r"did you mean node\.workers\?"),
        ("[cache]\nworkers = 1", "cache.workers", "node.workers"),
        ("workers = 1", "workers", "unknown section"),
        ("node = 1", "node", "must be a section"),
        ("[node]\nworkers = 'two'", "node.workers", "Expected `int`, got `str`"),
        ("[node]\nworkers = 1.5", "node.workers", "Expected `int`"),
        ("[node]\nworkers = true", "node.workers", "Expected `int`"),
        ("[node]\nworkers = -1", "node.workers", "at least 0"),
        ("[node]\nworkers = 1025", "node.workers", "at most 1024"),
        ("[node]\ntools = 'one'", "node.tools", "Expected `array`"),
        ("[node]\nstart_method = 'thread'", "node.start_method", "auto, fork, spawn"),
        ("[log]\nlevel = 'loud'", "log.level", "debug, info"),
        ("[timeouts]\ndefault = 0", "timeouts.default", "greater than 0"),
        ("[timeouts]\ndefault = nan", "timeouts.default", "greater than 0"),
        ("[timeouts]\ndefault = inf", "timeouts.default", "greater than 0"),
        ("[cache]\nmax_entries = 0", "cache.max_entries", "at least 1"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path: Path, text: str, key: str, says: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(ConfigError, match=says) as caught:
        load(file, {})
    assert caught.value.facts["key"] == key
    assert file in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("TOOLRING_NODE_WORKER", "1", "did you mean TOOLRING_NODE_WORKERS"),
        ("TOOLRING_NODE_WORKERS", "many", "environment TOOLRING_NODE_WORKERS"),
        ("TOOLRING_NODE_WORKERS", "", "environment TOOLRING_NODE_WORKERS"),
        ("TOOLRING_TIMEOUTS_DEFAULT", "nan", "greater than 0"),
        ("TOOLRING_LOG_FORMAT", "xml", "must be one of"),
    ],
)
def test_what_is_wrong_in_the_environment_is_named(variable: str, value: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load(environment={variable: value})


def test_the_environment_speaks_every_type() -> None:
    config = load(
        environment={
            "TOOLRING_NODE_TOOLS": "a.py,b.py:one",
            "TOOLRING_PLUGINS_BLOCK": "",
            "TOOLRING_TIMEOUTS_DEFAULT": "2",
            "TOOLRING_LIMITS_BACKLOG": "7",
            "TOOLRING_NODE_BIND": "",
            "TOOLRING_ADDRESS": "not a setting",
        }
    ).config
    assert config.node.tools == ("a.py", "b.py:one")
    assert config.plugins.block == ()
    assert config.timeouts.default == 2.0
    assert config.limits.backlog == 7
    assert config.node.bind == ""


def test_every_setting_has_a_variable_that_sets_it() -> None:
    defaults = flat(Config())
    samples = {bool: "true", int: "17", float: "0.25", str: "x", tuple: "x,y"}
    choices = {"node.start_method": "spawn", "log.format": "json", "log.level": "error"}
    choices.update({"metrics.figures": "false", "metrics.listen": "127.0.0.1:0", "metrics.statsd": "[::1]:8125"})
    choices["alerting.defaults"] = "false"
    choices["output.capture"] = "false"
    choices.update({"dashboard.listen": "127.0.0.1:0", "dashboard.token": "0123456789abcdef"})
    choices.update({"memory.kill_rss": "2000000000", "memory.kill_share": "0.9"})  # more than the soft ones
    for name, value in defaults.items():
        variable = "TOOLRING_" + name.upper().replace(".", "_")
        text = choices.get(name, samples[type(value)])
        loaded = load(environment={variable: text})
        assert flat(loaded.config)[name] != value, name
        assert loaded.sources[name] == f"environment {variable}"


def test_an_integer_is_a_number_of_seconds_too(tmp_path: Path) -> None:
    assert load(written(tmp_path, "[timeouts]\ndefault = 5"), {}).config.timeouts.default == 5.0


@pytest.mark.parametrize(
    ("content", "says"), [(b"[node", "not valid TOML"), (b"\xff\xfe", "not valid TOML"), (None, "can't read")]
)
def test_a_file_that_can_not_be_read(tmp_path: Path, content: bytes | None, says: str) -> None:
    file = tmp_path / "broken.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=says) as caught:
        load(str(file), {})
    assert caught.value.facts["file"] == str(file)


def test_it_is_frozen() -> None:
    config = load(environment={}).config
    with pytest.raises(AttributeError):
        config.node.workers = 3  # type: ignore[misc]


def test_the_values_given_are_not_changed() -> None:
    environment = {"TOOLRING_NODE_WORKERS": "2"}
    load(environment=environment, flags={"node.workers": 3})
    assert environment == {"TOOLRING_NODE_WORKERS": "2"}


# ---- policy of single tools


def test_a_tools_section_is_kept_with_its_sources(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text('[tools.look]\ncache = 7\ntags = ["a"]\n[tools."my.tool"]\ncache_scope = "caller"\n')
    loaded = load(str(file), environment={})
    values = flat(loaded.config)
    assert values["tools.look.cache"] == 7.0
    assert values["tools.look.tags"] == ("a",)
    assert values["tools.my.tool.cache_scope"] == "caller"
    assert loaded.sources["tools.look.cache"] == f"file {file}"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[tools.look]\nchache = 7\n", "unknown key tools.look.chache; did you mean cache?"),
        ('[tools.look]\ncache = "long"\n', "tools.look.cache = 'long'"),
        ("[tools]\nlook = 7\n", r"tools.look must be a section, \[tools.look\]"),
    ],
)
def test_a_tools_section_that_is_wrong_is_refused_by_name(tmp_path: Path, text: str, why: str) -> None:
    file = tmp_path / "x.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=why):
        load(str(file), environment={})


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[tools.look]\nread_only = true\n", "read_only"),
        ("[tools.look]\nname = 'x'\n", "name"),
        ("[tools.look]\ncache = true\n", "tools.look.cache"),
        ("[tools.look]\ncache_writes = 1\n", "tools.look.cache_writes"),
        ("[tools.look]\ntags = 'a'\n", "tools.look.tags"),
        ("[tools.look]\ntags = [1]\n", "tools.look.tags"),
        ("[tools.look]\naffinity = 1\n", "tools.look.affinity"),
        ("tools = 1\n", "tools"),
        ("[tools]\nlook = 7\n", "tools.look"),
    ],
)
def test_what_is_wrong_in_a_tools_section_is_named_with_its_file(tmp_path: Path, text: str, key: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load(file, {})
    assert caught.value.facts["key"] == key
    assert file in str(caught.value)


def test_what_a_tools_section_leaves_out_is_the_tools_own(tmp_path: Path) -> None:
    file = written(tmp_path, "[tools.look]\ncache = 0\ntags = []\n[tools.other]\n")
    loaded = load(file, {})
    assert decided(loaded.config.tools["look"]) == {"cache": 0.0, "tags": ()}
    assert "other" not in loaded.config.tools or decided(loaded.config.tools["other"]) == {}
    assert {name for name in loaded.sources if name.startswith("tools.")} == {"tools.look.cache", "tools.look.tags"}


def test_a_tools_section_in_pyproject_says_so(tmp_path: Path) -> None:
    written(tmp_path, "[tool.toolring.tools.look]\ncache = 7\n", "pyproject.toml")
    loaded = load(environment={})
    assert loaded.sources["tools.look.cache"] == "file pyproject.toml"


def test_a_tools_policy_has_no_variable() -> None:
    with pytest.raises(ConfigError, match="unknown environment variable TOOLRING_TOOLS_LOOK_CACHE"):
        load(environment={"TOOLRING_TOOLS_LOOK_CACHE": "7"})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("hot_bytes = -1", "at least 0"),
        ("early = -0.1", "at least 0"),
        ("local = 0", "greater than 0"),
        ("timeout = 0", "greater than 0"),
        ("store_bytes = 0", "greater than 0"),
        ("max_bytes = 0", "at least 1"),
        ("layers = 'sqlite'", "Expected `array`"),
    ],
)
def test_what_is_wrong_in_the_caches_section_is_named(tmp_path: Path, text: str, says: str) -> None:
    file = written(tmp_path, f"[cache]\n{text}\n")
    with pytest.raises(ConfigError, match=says) as caught:
        load(file, {})
    assert caught.value.facts["key"] == f"cache.{text.split(maxsplit=1)[0]}"


def test_nothing_held_and_nothing_early_are_settings_too(tmp_path: Path) -> None:
    config = load(written(tmp_path, "[cache]\nhot_bytes = 0\nearly = 0\nlayers = []\n"), {}).config
    assert (config.cache.hot_bytes, config.cache.early, config.cache.layers) == (0, 0.0, ())


@pytest.mark.parametrize("value", ["nan", "inf", "-1"])
def test_a_number_that_is_none_is_refused(tmp_path: Path, value: str) -> None:
    file = tmp_path / "x.toml"
    file.write_text(f"[cache]\nearly = {value}\n")
    with pytest.raises(ConfigError, match=r"cache\.early"):
        load(str(file), environment={})


# ---- callers


def test_a_callers_section_is_kept_with_its_sources(tmp_path: Path) -> None:
    file = written(tmp_path, '[callers.ann]\nweight = 2\n[callers."*"]\nrate = 5.0\n')
    loaded = load(file, environment={})
    assert loaded.config.callers["ann"].weight == 2.0
    assert loaded.config.callers["*"].rate == 5.0
    assert loaded.sources["callers.ann.weight"] == f"file {file}"
    assert flat(loaded.config)["callers.*.rate"] == 5.0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[callers.ann]\nwieght = 2\n", "unknown key callers.ann.wieght; did you mean weight"),
        ("[callers.ann]\nweight = 0\n", "callers.ann.weight = 0.0 must be greater than 0"),
        ("[callers.ann]\nrate = -1.0\n", "callers.ann.rate = -1.0 must be at least 0"),
        ("[callers.ann]\nburst = 1.5\n", "Expected `int`"),
        ("[callers.ann]\nburst = 5\n", "callers.ann.burst = 5: burst= does nothing without rate="),
        ('[callers."*"]\nburst = 5\nrate = 0\n', "callers.*.burst = 5: burst= does nothing without rate="),
        (
            '[callers.ann]\nburst = 5\n[callers."*"]\nrate = 1\n',
            "callers.ann.burst = 5: burst= does nothing without rate=",
        ),
        ("[callers]\nann = 1\n", r"callers.ann must be a section"),
    ],
)
def test_what_is_wrong_in_a_callers_section_is_named(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, text), environment={})
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("text", "burst", "rate"), [("burst = 5\nrate = 1\n", 5, 1.0), ("burst = 0\n", 0, 0.0), ("rate = 1\n", 0, 1.0)]
)
def test_a_callers_burst_goes_with_its_rate(tmp_path: Path, text: str, burst: int, rate: float) -> None:
    section = load(written(tmp_path, f"[callers.ann]\n{text}"), environment={}).config.callers["ann"]
    assert (section.burst, section.rate) == (burst, rate)


# ---- groups of workers


def test_a_groups_section_is_kept_with_its_sources(tmp_path: Path) -> None:
    text = """
        [groups.heavy]
        workers = 4
        tools = ["a", "b"]
        memory = 1_000_000_000
        backlog = 50

        [groups.async]
        per_worker = 500
        concurrency = 20
        adaptive = true

        [groups."a.b"]
        workers = 1
    """
    file = written(tmp_path, text)
    loaded = load(file, environment={})
    assert loaded.config.groups == {
        "heavy": GroupSection(workers=4, tools=("a", "b"), memory=1_000_000_000, backlog=50),
        "async": GroupSection(per_worker=500, concurrency=20, adaptive=True),
        "a.b": GroupSection(workers=1),
    }
    groups = {name: source for name, source in loaded.sources.items() if name.startswith("groups.")}
    assert set(groups.values()) == {f"file {file}"}
    assert set(groups) == {
        *("groups.heavy.workers", "groups.heavy.tools", "groups.heavy.memory", "groups.heavy.backlog"),
        *("groups.async.per_worker", "groups.async.concurrency", "groups.async.adaptive", "groups.a.b.workers"),
    }
    values = flat(loaded.config)
    assert (values["groups.heavy.memory"], values["groups.async.per_worker"]) == (1_000_000_000, 500)
    assert values["groups.a.b.per_worker"] == 0, "what it leaves out is told, too"


@pytest.mark.parametrize(
    ("text", "says", "key"),
    [
        ("[groups.heavy]\nworker = 2\n", "unknown key groups.heavy.worker; did you mean workers?", "worker"),
        ("[groups]\nheavy = 2\n", "groups.heavy must be a section, [groups.heavy]", "groups.heavy"),
        ("[groups.heavy]\nworkers = 1.5\n", "Expected `int`", "groups.heavy.workers"),
        ("[groups.heavy]\nworkers = true\n", "Expected `int`", "groups.heavy.workers"),
        ("[groups.heavy]\nworkers = -1\n", "must be at least 0", "groups.heavy.workers"),
        ("[groups.heavy]\nworkers = 1025\n", "must be at most 1024", "groups.heavy.workers"),
        ("[groups.heavy]\nmemory = -1\n", "must be at least 0", "groups.heavy.memory"),
        ("[groups.heavy]\nper_worker = -1\n", "must be at least 0", "groups.heavy.per_worker"),
        ("[groups.heavy]\nadaptive = 1\n", "Expected `bool`", "groups.heavy.adaptive"),
        ("[groups.heavy]\ntools = 'a'\n", "Expected `array`", "groups.heavy.tools"),
        ("[groups.heavy]\ntools = [1]\n", "Expected `str`", "groups.heavy.tools"),
    ],
)
def test_what_is_wrong_in_a_groups_section_is_named_with_its_file(
    tmp_path: Path, text: str, says: str, key: str
) -> None:
    file = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load(file, environment={})
    assert says in str(caught.value)
    assert file in str(caught.value)
    assert caught.value.facts["key"] == key


def test_a_groups_policy_has_no_variable() -> None:
    with pytest.raises(ConfigError, match="unknown environment variable TOOLRING_GROUPS_HEAVY_WORKERS"):
        load(environment={"TOOLRING_GROUPS_HEAVY_WORKERS": "7"})


@pytest.mark.parametrize(
    ("text", "decides"),
    [
        ("", {}),
        ("[tools.a]\n", {}),
        ("[tools.a]\nmemory = 5\ngroup = 'x'\n", {"a": {"memory": 5, "group": "x"}}),
        ("[groups.x]\nworkers = 1\n", {}),
        ("[groups.x]\ntools = ['a', 'b', 'a']\n", {"a": {"group": "x"}, "b": {"group": "x"}}),
        ("[tools.a]\nmemory = 5\n[groups.x]\ntools = ['a']\n", {"a": {"memory": 5, "group": "x"}}),
        ("[tools.a]\ngroup = 'x'\n[groups.x]\ntools = ['a']\n", {"a": {"group": "x"}}),
        ("[groups.x]\ntools = ['a']\n[groups.y]\ntools = ['b']\n", {"a": {"group": "x"}, "b": {"group": "y"}}),
        ("[tools.a]\nidle_timeout = 5\nbatch_delay = 0\n", {"a": {"idle_timeout": 5.0, "batch_delay": 0.0}}),
    ],
)
def test_what_is_decided_of_each_tool(tmp_path: Path, text: str, decides: dict[str, Any]) -> None:
    config = load(written(tmp_path, text), environment={}).config
    assert overrides(config) == decides
    assert overrides(config) == decides, "and nothing is changed by asking"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[groups.x]\ntools = ['a']\n[groups.y]\ntools = ['b', 'a']\n", "groups.y.tools"),
        ("[tools.a]\ngroup = 'x'\n[groups.y]\ntools = ['a']\n", "groups.y.tools"),
    ],
)
def test_a_tool_is_in_one_group(tmp_path: Path, text: str, key: str) -> None:
    config = load(written(tmp_path, text), environment={}).config
    with pytest.raises(ConfigError, match=r"the tool 'a' is in the group 'x' and in groups\.y\.tools") as caught:
        overrides(config)
    assert caught.value.facts["key"] == key


@pytest.mark.parametrize(
    ("text", "says", "key"),
    [
        (
            "[groups.x]\ntools = ['b', 'zz']\n",
            "groups.x.tools names 'zz', but no such tool is served; there is a, b",
            "groups.x.tools",
        ),
        (
            "[tools.zz]\ngroup = 'x'\n",
            "the configuration has [tools.zz], but no such tool is served; there is a, b",
            "tools.zz",
        ),
    ],
)
def test_what_names_a_tool_that_is_not_served_is_named_itself(tmp_path: Path, text: str, says: str, key: str) -> None:
    config = load(written(tmp_path, text), environment={}).config
    with pytest.raises(ConfigError) as caught:
        check_tools(config, ["b", "a"])
    assert str(caught.value) == says
    assert caught.value.facts["key"] == key
    check_tools(config, ["a", "b", "zz"])


# ---- services


def test_services_are_checked_as_a_whole(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text(
        '[services.back-office]\nendpoints = ["http://a"]\nbreaker = {wait = 3.0}\nejection = {errors = 2}\n'
        '[services.shop]\nendpoints = ["http://b", "http://c"]\nbreaker = false\n'
    )
    loaded = load(str(file), {})
    services = loaded.config.services
    assert services["back-office"].circuit == EndpointBreaker(wait=3.0)
    assert services["back-office"].ejection.errors == 2
    assert services["shop"].circuit is None
    assert flat(loaded.config)["services.shop.endpoints"] == ("http://b", "http://c")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("[services.a]", "services.a: endpoints is empty"),
        ('[services.a]\nendpoint = ["http://a"]', "did you mean endpoints"),
        ('[services.a]\nendpoints = "http://a"', "services.a.endpoints"),
        ('[services.a]\nendpoints = ["http://a"]\nbreaker = {wait = -1}', "wait"),
        ('[services.a]\nendpoints = ["http://a"]\nbreaker = {ignore = ["503"]}', "ignore= is for tools"),
        ('[services.a]\nendpoints = ["http://a/{version}"]', "no version="),
        ('[services.a]\nendpoints = ["http://a"]\nejection = {wrong = 1}', "wrong"),
        ('[services."a b"]\nendpoints = ["http://a"]', "a service's name"),
        ("[services.a]\nendpoints = [%s]" % ",".join(f'"http://a{n}"' for n in range(300)), "300 endpoints"),  # noqa: UP031
        ("[services]\na = 1", "must be a section"),
    ],
)
def test_what_is_wrong_with_a_service_is_named(tmp_path: Path, text: str, what: str) -> None:
    file = tmp_path / "a.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(str(file), {})
    assert what in str(caught.value)
