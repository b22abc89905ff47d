"""A metrics sink that appends one JSON object an interval to a file. The file may be rotated under it."""

from __future__ import annotations

import errno
import json
import os
import stat
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from toolring.errors import ConfigError
from toolring.plugins.specs import AlertEvent, SinkSettings


class JsonLines:
    """Each line is written whole or not at all: what a full disk leaves of one is taken away again."""

    def __init__(self, settings: SinkSettings) -> None:
        self._path = _named(settings)
        self._fd = self._open()

    @staticmethod
    def check(settings: SinkSettings) -> None:
        """Could it be written to? No file is made, and who reads from a pipe doesn't notice. Raises ConfigError, and
        OSError."""
        path = _named(settings)
        try:
            if not stat.S_ISFIFO(os.stat(path).st_mode):
                os.close(os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NONBLOCK))
        except FileNotFoundError:
            directory = os.path.dirname(path) or "."
            if not os.access(directory, os.W_OK | os.X_OK):
                text = f"metrics.file: there can be no file in {directory}"
                raise ConfigError(text, key="metrics.file") from None

    def emit(self, figures: Mapping[str, Any]) -> None:
        self._write(figures)

    def alert(self, event: AlertEvent) -> None:
        self._write({"time": time.time(), "alert": asdict(event)})

    def _write(self, what: Mapping[str, Any]) -> None:
        line = json.dumps(what, separators=(",", ":")).encode() + b"\n"
        if self._moved():
            old, self._fd = self._fd, self._open()
            os.close(old)
        size = os.fstat(self._fd).st_size
        written = os.write(self._fd, line)
        if written < len(line):
            os.ftruncate(self._fd, size)
            raise OSError(f"{self._path}: only {written} of {len(line)} bytes could be written; is the disk full?")

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> int:
        """Without waiting for somebody who reads, if it is a pipe."""
        try:
            fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o644)
        except OSError as error:
            if error.errno == errno.ENXIO:
                text = f"metrics.file: {self._path} is a pipe, or the like, that nobody reads"
                raise ConfigError(text, key="metrics.file") from None
            raise
        os.set_blocking(fd, True)
        return fd

    def _moved(self) -> bool:
        """Is the path another file's by now, or nobody's?"""
        ours = os.fstat(self._fd)
        try:
            there = os.stat(self._path)
        except FileNotFoundError:
            return True
        return (ours.st_dev, ours.st_ino) != (there.st_dev, there.st_ino)


def _named(settings: SinkSettings) -> str:
    if not settings.file:
        raise ConfigError("metrics.sinks names jsonlines, but metrics.file names no file", key="metrics.file")
    return settings.file
