"""Tools that write, in all ways that there are."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

from toolring import Context, tool

logging.getLogger("early").addHandler(logging.StreamHandler())
print("while it is imported")


@tool(read_only=True)
def says(text: str, context: Context) -> int:
    """In each way once."""
    print("out", text, sep=": ")
    print("err", text, sep=": ", file=sys.stderr)
    warnings.warn(f"warn: {text}", RuntimeWarning, stacklevel=1)
    logging.getLogger("mine").warning("log: %s", text)
    logging.getLogger("early").error("early: %s", text)
    context.logger.info("own", text=text)
    sys.stdout.write("no end")
    return os.getpid()


@tool(read_only=True)
def quiet() -> int:
    return os.getpid()


@tool(read_only=True)
def floods(lines: int) -> None:
    for number in range(lines):
        print(f"line {number}", "x" * 100)


@tool
def dies(path: str) -> None:
    print("the last words")
    Path(path).touch()
    os.kill(os.getpid(), signal.SIGKILL)


@tool(read_only=True)
def waits(path: str) -> None:
    print("it has begun")
    while not Path(f"{path}.open").exists():
        time.sleep(0.005)


@tool(read_only=True)
def hangs(path: str) -> None:
    sys.stdout.write("50% done")
    sys.stdout.flush()
    waits(path)


@tool(read_only=True)
def threads(text: str) -> None:
    thread = threading.Thread(target=print, args=(f"from a thread: {text}",))
    thread.start()
    thread.join()


@tool(read_only=True)
def outside(text: str) -> None:
    """What isn't Python's own."""
    os.write(1, f"descriptor: {text}\n".encode())
    subprocess.run([sys.executable, "-c", f"print('child: {text}')"], check=True)
    if (pid := os.fork()) == 0:
        print(f"fork: {text}", flush=True)
        os._exit(0)
    os.waitpid(pid, 0)


@tool(read_only=True)
def fails(text: str) -> None:
    print(text)
    raise ValueError("and fails")


@tool(read_only=True)
def odd() -> None:
    print("half \udce9 a character", "\x1b[2J", "last\r")
    print("y" * 20_000)


@tool(read_only=True)
async def together(name: str, others: int) -> None:
    """Each writes in turns with the others."""
    for number in range(5):
        print(f"{name} {number} ", end="")
        await asyncio.sleep(0.001)
        print(f"of {others}")
    await asyncio.to_thread(print, f"{name} from a thread")
