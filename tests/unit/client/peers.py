"""Nodes that are played: clients without a socket, whose nodes say only what a test has them say."""

from __future__ import annotations

from errno import EMFILE
from typing import Any

from msgspec import Raw

from toolring import protocol
from toolring.client.nodes import Nodes
from toolring.client.session import Conversation, Pending
from toolring.errors import ToolringError, Unreachable
from toolring.protocol import ERROR, OK, Answer, Job, Welcome
from toolring.spec import ToolSpec

SPECS = [ToolSpec(name="read", read_only=True), ToolSpec(name="write"), ToolSpec(name="kin", affinity="who")]


class Sent(Pending):
    """A job at a node that is played."""

    def cancel(self) -> None:
        self.cancelled = True

    def answered(self, value: Any = None, run_us: int = 5) -> None:
        if isinstance(value, ToolringError):
            self.answer = Answer(self.job.id, ERROR, Raw(protocol.encode(value.to_wire())), run_us)
        else:
            self.answer = Answer(self.job.id, OK, Raw(protocol.encode(value)), run_us)


class Peer:
    """A client of one of them."""

    def __init__(self, address: str, world: World) -> None:
        self.address = address
        self.world = world
        self._conversation = Conversation("")
        self.heard = 0.0
        self.knocks = 0
        self.jobs: list[Sent] = []
        self.ended: tuple[str, bool] | None = None
        self.fault: Exception | None = None
        """What listening to it raises."""

    def _knock(self) -> float:
        self.knocks += 1
        return self._listen()

    def _listen(self) -> float:
        if self.fault is not None:
            raise self.fault
        life = self.world.alive.get(self.address)
        if life is not None:
            self.heard = self.world.now
            if not self._conversation.node:
                self._conversation.receive(protocol.encode(Welcome(protocol.VERSION, life, SPECS, {})))
        return self.heard

    def _end(self, why: str, lost: bool = False) -> None:
        if self.ended is not None:
            return
        self.ended = (why, lost)
        self._conversation.lose(why)

    def submit(self, tool: str = "read") -> Sent:
        if self.ended is not None:
            raise Unreachable(self.ended[0])
        job = Job(len(self.jobs), tool, Raw(b"\x80"))
        sent = Sent(job, "session", self.world.now + 60.0)
        self.jobs.append(sent)
        self._conversation.add(sent)
        self._conversation.messages()
        return sent


class World:
    """What all of them share: a clock that is set, and who lives, under the name of that life."""

    def __init__(self) -> None:
        self.now = 100.0
        self.alive: dict[str, str] = {}
        self.peers: list[Peer] = []
        self.short = False
        """There is no room for another client."""

    def connect(self, address: str) -> Peer:
        if self.short:
            raise OSError(EMFILE, "too many open files")
        self.peers.append(Peer(address, self))
        return self.peers[-1]

    def peer(self, address: str) -> Peer:
        """The newest client of a node."""
        return [peer for peer in self.peers if peer.address == address][-1]

    def nodes(self, *names: str, **more: Any) -> Nodes[Peer]:
        """All of these are up."""
        given: dict[str, Any] = {"strategy": "consistent_hash", "replication": None, "ranges": {}, **more}
        self.alive.update({address_of(name): f"{name}1" for name in names})
        nodes = Nodes([address_of(name) for name in names], self.connect, lost_after=1.0, clock=self.clock, **given)
        nodes.look()
        return nodes

    def clock(self) -> float:
        return self.now

    def pass_by(self, nodes: Nodes[Peer], seconds: float) -> None:
        """Time goes by, and the nodes are looked at as often as they are to be."""
        end = self.now + seconds
        while self.now < end - 1e-9:
            self.now += nodes.pause
            nodes.look()


def address_of(name: str) -> str:
    return f"ipc:///{name}.sock"
