"""HTTP endpoints that serve one request after the other, each at its own pace: python -m benchmarks.endpoints 0.01 0.1

Prints a port for each number of seconds, and serves until its input ends.
"""

from __future__ import annotations

import asyncio
import sys
from functools import partial


async def answer(
    seconds: float, turn: asyncio.Lock, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    try:
        while await reader.readuntil(b"\r\n\r\n"):
            async with turn:
                await asyncio.sleep(seconds)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-type: application/json\r\n\r\n{}")
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main(paces: list[float]) -> None:
    ports = []
    for seconds in paces:
        server = await asyncio.start_server(partial(answer, seconds, asyncio.Lock()), "127.0.0.1", 0, backlog=1024)
        ports.append(server.sockets[0].getsockname()[1])
    print(*ports, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main([float(word) for word in sys.argv[1:]]))
