"""Print a result that a node has stored: all of it as toolring call would, or a part of its bytes; or write it to a
file.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from toolring.cli.options import add_address
from toolring.cli.output import as_line, plain, show

if TYPE_CHECKING:
    from toolring.client.stored import StoredResult


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("handle", metavar="HANDLE", help="as the call has given it")
    parser.add_argument("--offset", type=int, metavar="BYTES", help="only its bytes from there on")
    parser.add_argument("--length", type=int, metavar="BYTES", help="only so many bytes")
    parser.add_argument("--output", metavar="FILE", help="write the bytes to this file")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_address(parser)


def run(options: argparse.Namespace) -> int:
    from toolring.client.sync import Client

    with Client(options.address) as client:
        found = client.open_result(options.handle)
        part = options.offset is not None or options.length is not None
        offset = options.offset or 0
        if options.output is not None:
            written = found.save(options.output, offset, options.length)
            _say({"file": options.output, "bytes": written}, found, options.json)
        elif part:
            data = found.read(offset, options.length)
            if options.json:
                print(as_line({**_about(found), "offset": offset, "data": _text(found, data)}))
            else:
                show(data, sys.stdout)
        elif options.json:
            print(as_line({**_about(found), "result": found.value()}))
        else:
            show(found.value(), sys.stdout)
    return 0


def _say(done: dict[str, Any], found: StoredResult, as_json: bool) -> None:
    if as_json:
        print(json.dumps({**_about(found), **done}))
    else:
        print(f"{done['bytes']} bytes of {found.media} in {done['file']}")


def _about(found: StoredResult) -> dict[str, Any]:
    return {"stored": found.handle, "size": found.size, "media": found.media}


def _text(found: StoredResult, data: bytes) -> Any:
    """As JSON can hold it: text, as far as it is whole, else base64."""
    return data.decode("utf-8", "replace") if found.media.startswith("text/") else plain(data)
