"""Run a tool many times. Each line of FILE, or of standard input, is one JSON object, the arguments of a call; for each
of them one is printed: result, or error. They come in the order of the input. With --unordered they come as they are
ready, and each has an index, from 0 on. The input may be endless: it is read one line further than the window.

toolring map count_words texts.jsonl                   a line out for each line in
toolring map count_words --chunk 64 < texts.jsonl      very short calls: 64 as one job
producer | toolring map search --errors keep           an error stands in its place, and the rest goes on
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Generator, Iterator
from contextlib import closing
from typing import Any, BinaryIO, Final, cast

import msgspec

from toolring.cli.options import add_address
from toolring.cli.output import as_line
from toolring.errors import InvalidArguments, ToolringError

_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tool", metavar="TOOL")
    parser.add_argument("file", metavar="FILE", nargs="?", help="one JSON object a line (default: -, standard input)")
    parser.add_argument("--chunk", type=int, default=1, metavar="N", help="send so many calls as one job (default: 1)")
    parser.add_argument("--window", type=int, metavar="N", help="calls under way at once (default: 256, or 64 chunks)")
    parser.add_argument(
        "--timeout", type=float, metavar="SECONDS", help="end a job's work after so long (default: the node's)"
    )
    parser.add_argument("--unordered", action="store_true", help="print results as they are ready, with their index")
    parser.add_argument(
        "--errors",
        default="stop",
        choices=("stop", "keep"),
        help="end at the first, with its exit status; or print each in its place, and end with 1 if there was any "
        "(default: stop)",
    )
    parser.add_argument("--priority", default="normal", choices=("low", "normal", "high"), help="among your own jobs")
    parser.add_argument("--partition", default="", help="who shares a cached result, for tools with that scope")
    add_address(parser)


def run(options: argparse.Namespace) -> int:
    from toolring.client.sync import Client

    failed = False
    with _opened(options.file) as source, Client(options.address) as client:
        client.policy(options.tool)  # an unknown tool is refused before a line is read
        calls = Calls(source)
        given = client.map(
            options.tool,
            calls,
            timeout=options.timeout,
            window=options.window,
            chunk=options.chunk,
            ordered=not options.unordered,
            errors="return",
            progress=not sys.stdout.isatty(),  # there, the results would be written into the bar
            partition=options.partition,
            priority=options.priority,
        )
        # Closed before an error is told, so that the bar has left its line.
        with closing(cast("Generator[Any, None, None]", given)) as results:
            for index, result in results if options.unordered else enumerate(results):
                place = {"index": index} if options.unordered else {}
                if not isinstance(result, ToolringError):
                    print(as_line({**place, "result": result}), flush=True)
                elif options.errors == "keep":
                    failed = True
                    print(as_line({**place, "error": result.to_wire()}), flush=True)
                else:
                    result.message = f"line {index + 1}: {result.message}"
                    raise result
    if calls.wrong is not None:
        raise calls.wrong
    return int(failed)


def _opened(file: str | None) -> BinaryIO:
    try:
        if file is None or file == "-":
            return open(0, "rb", closefd=False)
        return open(file, "rb")
    except (OSError, ValueError) as error:  # the latter: a null byte in the name
        name = "standard input" if file is None or file == "-" else file
        why = getattr(error, "strerror", None) or error
        raise InvalidArguments(f"{name} can't be read: {why}", argument="file") from None


class Calls:
    """The calls that a file holds, read no earlier than they are wanted. They end at a line that is none."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self.wrong: InvalidArguments | OSError | None = None
        """Why they ended early. It isn't raised on the spot: that would cancel the calls before it."""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        try:
            for number, line in enumerate(self._source, 1):
                yield _call(line, number)
        except (InvalidArguments, OSError) as error:
            self.wrong = error


def _call(line: bytes, number: int) -> dict[str, Any]:
    try:
        return _decode(line)
    except (ValueError, RecursionError) as error:  # among them msgspec's own, and that of bytes that are no UTF-8
        why = str(error) if line.strip() else "it is empty"
        raise InvalidArguments(f"line {number} is not a JSON object: {why}", line=number) from None
