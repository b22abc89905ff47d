"""gRPC: one synchronous server process with two threads, msgpack instead of protobuf, over a Unix socket.

As a script (``python -m benchmarks.peers.rpc ADDRESS``) it is the server.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import msgspec

from benchmarks.peers.base import Futures
from benchmarks.processes import end, line_of, python
from benchmarks.work import FUNCTIONS

_OPTIONS = [("grpc.max_receive_message_length", 1 << 26), ("grpc.max_send_message_length", 1 << 26)]
_encode = msgspec.msgpack.encode
_decode = msgspec.msgpack.decode


class Grpc(Futures):
    distributions = ("grpcio",)

    def start(self) -> None:
        self._directory = tempfile.mkdtemp(prefix="bench-")
        address = f"unix:{self._directory}/s"
        self._server = python("-m", "benchmarks.peers.rpc", address)
        line_of(self._server)
        self._channel = grpc.insecure_channel(address, options=_OPTIONS)
        self._stubs = {job: self._channel.unary_unary(f"/bench.Jobs/{job}", _encode, _decode) for job in FUNCTIONS}

    def stop(self) -> None:
        self._channel.close()
        end([self._server])
        shutil.rmtree(self._directory, ignore_errors=True)

    def call(self, job: str, argument: Any) -> Any:
        return self._stubs[job](argument)

    def submit(self, job: str, argument: Any) -> Any:
        return self._stubs[job].future(argument)

    def wait(self, handle: Any) -> Any:
        return handle.result()


def _handler(function: Callable[[Any], Any]) -> Any:
    return grpc.unary_unary_rpc_method_handler(lambda request, context: function(request), _decode, _encode)


def serve(address: str) -> None:
    server = grpc.server(ThreadPoolExecutor(2), options=_OPTIONS)
    handlers = {job: _handler(function) for job, function in FUNCTIONS.items()}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Jobs", handlers),))
    server.add_insecure_port(address)
    server.start()
    print("ready", flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    serve(sys.argv[1])
