"""The client's socket: a DEALER that sends and receives a conversation's messages without ever blocking."""

from __future__ import annotations

from typing import Any, Final

import zmq

from toolring.client.session import Conversation
from toolring.protocol import INLINE

_send = zmq.backend.Socket.send  # without the sugar: two thirds of the price
_get: Any = zmq.backend.Socket.get
_RCVMORE: Final = int(zmq.RCVMORE)
_EVENTS: Final = int(zmq.EVENTS)
_POLLIN: Final = int(zmq.POLLIN)
_SNDMORE: Final = int(zmq.SNDMORE)
_DONTWAIT: Final = int(zmq.DONTWAIT)


class Transport:
    """One connection; reconnects by itself. To be used by one thread at a time.

    ``fd`` becomes readable when something may have arrived; it is edge-triggered, so ``exchange`` always receives
    until nothing is left.
    """

    def __init__(self, address: str, conversation: Conversation) -> None:
        self._conversation = conversation
        self._context: zmq.Context[Any] = zmq.Context()
        self._socket: zmq.Socket[bytes] = self._context.socket(zmq.DEALER)
        self._socket.linger = 200
        self._socket.sndhwm = self._socket.rcvhwm = 0
        self._socket.reconnect_ivl = 20
        self._socket.reconnect_ivl_max = 80 if address.startswith("ipc:") else 500  # it costs nobody but this machine
        self._socket.heartbeat_ivl = 2000
        self._socket.heartbeat_timeout = 6000
        self._socket.connect(address)
        self.fd = int(self._socket.getsockopt(zmq.FD))
        self.received = 0

    def exchange(self) -> None:
        """Send what the conversation has to send, and hand it whatever has arrived."""
        conversation = self._conversation
        socket = self._socket
        while True:
            for head, body in conversation.messages():
                if body is None:
                    _send(socket, head)
                else:
                    _send(socket, head, _SNDMORE)
                    socket.send(body, copy=len(body) <= INLINE)
            receive = socket.recv
            take = conversation.receive
            while _get(socket, _EVENTS) & _POLLIN:  # cheaper than to catch zmq.Again
                head = receive(_DONTWAIT)
                self.received += 1
                if _get(socket, _RCVMORE):
                    frame = receive(copy=False)
                    take(head, frame.buffer)
                else:
                    take(head)
            if not conversation.has_messages:
                return

    def close(self, lost: bool) -> None:
        """``lost``: nobody is there to take what has not left yet, so don't wait for it."""
        self._socket.close(0 if lost else None)
        self._context.term()
