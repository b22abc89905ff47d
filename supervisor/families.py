"""The fixed list of a node's metrics: their names, kinds, labels and meanings. docs/metrics.md lists the same.

Names follow Prometheus' conventions: base units, counters without the ``_total`` that their samples bear. A test holds
this list, the page that is served and the documentation against each other.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple


class Kind(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Family(NamedTuple):
    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str

    @property
    def unit(self) -> str:
        last = self.name.rpartition("_")[2]
        return last if last in ("seconds", "bytes") else ""


_C, _G, _H = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM
_TOOL: Final = ("tool", "group")
_WORKER: Final = ("worker", "group")
_ENDPOINT: Final = ("service", "endpoint")
_PROCESS: Final = ("process",)

FAMILIES: Final = tuple(
    Family(f"toolring_{name}", kind, labels, text)
    for name, kind, labels, text in (
        # of the node
        ("build_info", _G, ("version",), "Always 1; the version is a label."),
        ("start_time_seconds", _G, (), "When the node started, in Unix time."),
        ("healthy", _G, (), "1 unless workers keep dying before they can do anything."),
        ("draining", _G, (), "1 once the node finishes what it has and takes nothing more."),
        ("clients", _G, (), "Clients that are connected."),
        ("jobs_accepted", _C, (), "Jobs that were accepted."),
        ("jobs_refused", _C, ("code",), "Jobs that were refused at the door, by the error's code."),
        ("backlog_jobs", _G, (), "Jobs that wait for a worker, or to be tried again."),
        ("running_jobs", _G, (), "Jobs that workers hold."),
        ("in_hand_bytes", _G, (), "Arguments of the jobs that are in hand."),
        ("workers", _G, ("group", "state"), "Workers by what they do."),
        ("worker_exits", _C, ("during", "cause"), "Workers that ended, by their state and how the process ended."),
        ("worker_deaths", _C, (), "Of those, the ones that nobody wanted to end."),
        ("renewals", _C, (), "Workers that successors took over from."),
        ("code_generation", _G, (), "Counts the generations of the tools' code, from 1."),
        (
            "alerts_firing",
            _G,
            ("alert", "severity"),
            "Of how many tools, groups, services or the node each alert fires.",
        ),
        ("alert_commands", _C, ("outcome",), "Alerts for the command: sent, failed or dropped."),
        ("sink_emits", _C, ("sink", "outcome"), "Sets of figures, and alerts, for a sink: sent, dropped or failed."),
        ("span_emits", _C, ("sink", "outcome"), "Batches of spans for a sink: sent or failed."),
        ("spans_dropped", _C, ("sink",), "Spans that no sink was given: too many waited, or it kept failing."),
        ("series_passed_over", _C, (), "How often something was counted as another name's, since there are too many."),
        (
            "measured_left_out",
            _C,
            (),
            "What tools measured that is left out: too many series, or of another kind.",
        ),
        # of tools
        ("jobs", _C, _TOOL, "Final answers."),
        ("operations", _C, _TOOL, "Calls in those: several of a chunk."),
        ("job_errors", _C, (*_TOOL, "code"), "Calls that failed, by the error's code: of a chunk each."),
        ("job_failures", _C, _TOOL, "Of those, the ones that weren't their callers' mistakes."),
        ("job_retries", _C, _TOOL, "Runs that failed and were tried again."),
        ("job_losses", _C, _TOOL, "Runs that ended with their worker, whether they were repeated or not."),
        ("argument_bytes", _C, _TOOL, "Encoded arguments of answered jobs."),
        ("result_bytes", _C, _TOOL, "Encoded results and errors."),
        ("cache_hits", _C, (*_TOOL, "layer"), "Answers from a cache, by its layer."),
        ("job_response_seconds", _H, _TOOL, "From acceptance to the final answer, for each caller."),
        (
            "job_queue_seconds",
            _H,
            _TOOL,
            "Until a job is sent to a worker, or ends before: from acceptance, or since it might run again.",
        ),
        ("job_run_seconds", _H, _TOOL, "Arguments checked, tool called, result encoded: as the worker measured it."),
        ("job_overhead_seconds", _H, _TOOL, "From being sent to the answer, less the run."),
        ("breaker_open", _G, ("tool",), "1 while a tool's circuit refuses calls; for tools whose circuit is armed."),
        # of workers
        ("worker_jobs", _C, _WORKER, "Runs."),
        (
            "worker_errors",
            _C,
            (*_WORKER, "code"),
            "Calls in those that failed, by the error's code; LOST: without an answer, and perhaps repeated.",
        ),
        ("worker_queue_seconds", _H, _WORKER, "As job_queue_seconds, by the worker that ran the job."),
        ("worker_run_seconds", _H, _WORKER, "As job_run_seconds."),
        ("worker_overhead_seconds", _H, _WORKER, "As job_overhead_seconds."),
        ("group_spread", _G, ("group",), "Most runs of one worker of a group in five minutes, divided by their mean."),
        # of caches and pools
        ("cache_entries", _G, ("layer",), "Entries, over all workers."),
        ("cache_bytes", _G, ("layer",), "What they take."),
        ("cache_evictions", _C, ("layer",), "Entries that had to leave."),
        ("pool_resources", _G, ("pool", "state"), "Resources, over all workers: active or idle."),
        ("pool_waiting", _G, ("pool",), "Calls that wait for a resource."),
        ("pool_created", _C, ("pool",), "Resources that were made."),
        ("pool_create_errors", _C, ("pool",), "Attempts to make one that failed."),
        ("pool_timeouts", _C, ("pool",), "Calls that got none in time."),
        # of services
        ("service_requests", _C, _ENDPOINT, "Requests to an endpoint."),
        ("service_errors", _C, _ENDPOINT, "Of those, the ones that failed."),
        ("service_seconds", _C, _ENDPOINT, "What they took, in all."),
        ("service_refused", _C, _ENDPOINT, "Requests that it would have had, but nobody got: all circuits were open."),
        ("service_under_way", _G, _ENDPOINT, "Requests that have no answer yet."),
        (
            "service_health",
            _G,
            (*_ENDPOINT, "health"),
            "Workers, each of which learns by itself, by what they hold of it.",
        ),
        ("service_circuits", _G, (*_ENDPOINT, "state"), "Workers by the state of their circuit for it."),
        ("service_retries", _C, ("service",), "Requests that were sent again."),
        # of the machine
        ("process_cpu_seconds", _C, _PROCESS, "Processor time; a worker's slot adds up over those who had it."),
        ("process_read_bytes", _C, _PROCESS, "Read from disk."),
        ("process_written_bytes", _C, _PROCESS, "Written to disk."),
        ("process_resident_bytes", _G, _PROCESS, "Resident memory."),
        ("process_threads", _G, _PROCESS, "Threads."),
        ("process_open_fds", _G, _PROCESS, "Open file descriptors."),
        ("network_received_bytes", _C, (), "Over all interfaces of the machine or container but loopback."),
        ("network_sent_bytes", _C, (), "Over all interfaces of the machine or container but loopback."),
    )
)
BY_NAME: Final = {family.name: family for family in FAMILIES}
