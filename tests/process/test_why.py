"""The life of a job, as an operator hears it: with real processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.process import kit
from tests.process.kit import Background, Node, eventually, failure, lines, run_cli
from toolring import AsyncClient, Client
from toolring.errors import Cancelled, Expired, InvalidArguments, OutcomeUnknown, UnknownJob


def what(story: dict[str, Any]) -> list[str]:
    told: list[dict[str, Any]] = story["events"]
    return [event["what"] for event in told]


def text(story: dict[str, Any], kind: str) -> str:
    told: list[dict[str, Any]] = story["events"]
    return next(str(event["text"]) for event in told if event["what"] == kind)


def running(client: Client, spot: Path, number: int = 1) -> int:
    """The pid of the worker that runs a gate."""
    return int(eventually(lambda: lines(spot)[number - 1 :], "it runs")[-1].split()[0])


def let_go(spot: Path) -> None:
    Path(f"{spot}.open").touch()


def test_a_plain_job_from_its_acceptance_to_its_answer(client: Client, node: Node) -> None:
    with node.client(caller="me") as own:
        handle = own.submit("nap", {"seconds": 0.02, "x": 7})
        assert handle.result() == 7
        story = client.why(handle.id)
        assert (story["job"], story["tool"], story["caller"], story["state"]) == (handle.id, "nap", "me", "done")
        assert what(story) == ["accepted", "sent", "answered"]
        assert text(story, "accepted").startswith("accepted from caller 'me'; nothing waited")
        assert "the least work in hand of group default" in text(story, "sent")
        assert story["worker"] in node.workers()
        assert story["error"] is None
        assert 0.02 <= story["run"] <= story["seconds"]
        ats = [event["at"] for event in story["events"]]
        assert ats == sorted(ats)


def test_calls_are_kept_as_jobs_that_were_submitted_are(client: Client) -> None:
    assert client.call("echo", {"x": 1}) == 1
    slow = client.jobs("echo", slow=True)["jobs"]
    assert slow[0]["state"] == "done"
    assert what(client.why(slow[0]["job"])) == ["accepted", "sent", "answered"]


def test_one_that_waits_or_runs_tells_how_far_it_is(client: Client, tmp_path: Path) -> None:
    gates = [tmp_path / f"gate{n}" for n in range(2)]
    held = [client.submit("gate", {"path": str(gate)}) for gate in gates]
    pids = [running(client, gate) for gate in gates]
    waits = [client.submit("gate", {"path": str(gates[0])}) for _ in range(2)]
    story = eventually(lambda: (found := client.why(waits[1].id))["state"] == "queued" and found, "it waits")
    assert what(story) == ["accepted", "waits"]
    assert "1 before it" in text(story, "waits")
    assert story["events"][0]["behind"] == 1
    story = client.why(held[0].id)
    assert what(story) == ["accepted", "sent", "running"]
    assert story["worker"] == pids[0]
    for gate in gates:
        let_go(gate)
    for handle in (*held, *waits):
        handle.result()


def test_a_failure_is_kept_with_its_traceback(client: Client) -> None:
    error = failure(lambda: client.call("fail", {"message": "as told"}))
    job = error.facts["job"]
    story = client.why(job)
    assert (story["state"], story["error"]["code"]) == ("failed", "TOOL_ERROR")
    assert "as told" in text(story, "answered")
    assert "ValueError: as told" in story["error"]["traceback"]
    first = client.jobs(failed=True, limit=1)["jobs"][0]
    assert (first["job"], first["code"], first["tool"]) == (job, "TOOL_ERROR", "fail")
    assert (first["type"], first["message"]) == ("ValueError", "fail: ValueError: as told")


def test_a_lost_worker_and_the_attempt_after_it(client: Client, spot: Path) -> None:
    handle = client.submit("gate", {"path": str(spot)})
    first = running(client, spot)
    os.kill(first, signal.SIGKILL)
    second = running(client, spot, 2)
    let_go(spot)
    handle.result()
    story = client.why(handle.id)
    assert what(story) == ["accepted", "sent", "worker_lost", "sent", "answered"]
    assert f"(pid {first}) was lost while its tool ran: killed by SIGKILL" in text(story, "worker_lost")
    sent = [event for event in story["events"] if event["what"] == "sent"]
    assert [(event["attempt"], event["worker"]) for event in sent] == [(1, first), (2, second)]


def test_what_may_not_be_repeated_and_was_killed_by_an_operator(client: Client, spot: Path) -> None:
    handle = client.submit("note", {"path": str(spot), "number": 1, "seconds": 60})
    eventually(lambda: lines(spot), "it runs")
    pid = next(one["worker"] for one in client.jobs("note")["jobs"])
    client.kill(pid)
    assert isinstance(handle.exception(), OutcomeUnknown)
    story = client.why(handle.id)
    assert story["state"] == "outcome_unknown"
    assert "killed by an operator" in text(story, "worker_lost")


def test_a_deadline_and_who_cancelled(client: Client, spot: Path) -> None:
    error = failure(lambda: client.call("hang", {"how": "sleep", "path": str(spot)}, timeout=0.2))
    assert isinstance(error, Expired)
    story = client.why(error.facts["job"])
    assert story["state"] == "expired"
    assert what(story) == ["accepted", "sent", "interrupted", "answered"]
    assert client.jobs(failed=True, limit=1)["jobs"][0]["message"].endswith("while it ran")
    handle = client.submit("gate", {"path": str(spot) + "2"})
    running(client, Path(f"{spot}2"))
    client.cancel(handle.id)
    assert isinstance(handle.exception(), Cancelled)
    assert "cancelled by an operator" in text(client.why(handle.id), "answered")


def test_who_waited_for_another_hears_of_its_run(node: Node, client: Client, spot: Path) -> None:
    with node.client() as other:
        first = client.submit("gate", {"path": str(spot)}, key="why-one")
        pid = running(client, spot)
        second = other.submit("gate", {"path": str(spot)}, key="why-one")
        eventually(lambda: client.jobs()["total"] == 2, "both are in hand")
        assert text(client.why(second.id), "joined").startswith(f"waits for the answer of job {first.id}")
        let_go(spot)
        first.result()
        second.result()
    assert what(client.why(first.id)) == ["accepted", "sent", "answered"]
    story = client.why(second.id)
    assert what(story)[:2] == ["accepted", "joined"]
    assert first.id in text(story, "joined")
    assert story["worker"] == pid


def test_where_a_cached_result_came_from(client: Client, tmp_path: Path) -> None:
    spot = tmp_path / "tally"
    assert client.call("tally", {"path": str(spot)}) == 1
    ran = client.jobs("tally", slow=True, limit=1)["jobs"][0]["job"]
    story = client.why(ran)
    assert text(story, "cache") == "the result was in no cache"
    assert "by the balancer ring" in text(story, "sent")
    assert client.call("tally", {"path": str(spot)}) == 1
    held = [one["job"] for one in client.jobs("tally", slow=True)["jobs"]][-1]
    assert "a result that the supervisor held" in text(client.why(held), "answered")


def test_attempts_that_failed_before(tmp_path: Path) -> None:
    with kit.running(kit.HERE / "flow_tools.py", workers=1) as node, node.client() as client:
        spot = tmp_path / "spot"
        handle = client.submit("flaky", {"path": str(spot), "fails": 2})
        handle.result()
        story = client.why(handle.id)
        assert what(story) == ["accepted", *["sent", "failed"] * 2, "sent", "answered"]
        assert "tried again after" in text(story, "failed")
        assert story["attempt"] == 3


def test_what_is_not_known_is_refused_by_name(client: Client) -> None:
    for name in ("", "no-such", "00-1", "-5"):
        assert isinstance(failure(lambda name=name: client.why(name)), UnknownJob)  # type: ignore[misc]
    assert isinstance(failure(lambda: client.jobs(failed=True, limit=0)), InvalidArguments)


def test_no_more_are_kept_than_was_said() -> None:
    with kit.running(workers=1, TOOLRING_JOBS_KEEP="3", TOOLRING_JOBS_FAILURES="2") as node, node.client() as client:
        for n in range(5):
            client.call("echo", {"x": n})
            failure(lambda n=n: client.call("fail", {"message": str(n)}))  # type: ignore[misc]
        assert client.jobs("echo", slow=True)["total"] == 3
        failed = client.jobs(failed=True)
        assert failed["total"] == 2
        stories = [client.why(one["job"]) for one in failed["jobs"]]
        assert [story["error"]["message"][-1] for story in stories] == ["4", "3"]
    with kit.running(workers=1, TOOLRING_JOBS_KEEP="0", TOOLRING_JOBS_FAILURES="0") as node, node.client() as client:
        client.call("echo", {"x": 1})
        assert client.jobs(slow=True) == {"jobs": [], "total": 0}


def test_the_commands_show_it(node: Node, client: Client) -> None:
    error = failure(lambda: client.call("fail", {"message": "shown"}))
    job = error.facts["job"]
    shown = run_cli("why", job, address=node.address)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith(f"{job}: fail, ")
    assert "ValueError: shown" in shown.stdout
    assert json.loads(run_cli("why", job, "--json", address=node.address).stdout)["job"] == job
    table = run_cli("jobs", "--failed", "--limit", "1", address=node.address).stdout.splitlines()
    assert table[1].split()[:4] == [job, "fail", "-", "TOOL_ERROR"]
    assert table[1].endswith("ValueError: shown")
    assert "TOTAL S" in run_cli("jobs", "--slow", address=node.address).stdout
    wrong = run_cli("why", "x-1", address=node.address)
    assert (wrong.returncode, "UNKNOWN_JOB" in wrong.stderr) == (2, True)


def test_awaited_it_is_the_same(node: Node, client: Client) -> None:
    async def main() -> None:
        async with AsyncClient(node.address) as own:
            handle = await own.submit("echo", {"x": 1})
            await handle
            assert what(await own.why(handle.id)) == ["accepted", "sent", "answered"]
            assert (await own.jobs("echo", slow=True))["total"] > 0

    asyncio.run(main())


@pytest.mark.parametrize("key", [None, "kept-why"])
def test_what_runs_on_without_its_client(node: Node, client: Client, spot: Path, key: str | None) -> None:
    with node.client(caller="gone") as other:
        job = other.submit("gate", {"path": str(spot)}, key=key).id
        running(client, spot)
        call = Background(lambda: failure(lambda: other.call("nap", {"seconds": 60})))
        eventually(lambda: client.jobs("nap")["total"], "it is in hand")
        eventually(lambda: client.why(job)["state"] == "running", "it runs")
    call.result()
    eventually(lambda: client.jobs("nap")["total"] == 0, "its call is cancelled")
    assert client.why(job)["state"] == "running"
    client.cancel(job)
