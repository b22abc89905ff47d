"""Any data as JSON can hold it, for people: nothing is rebuilt from it."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from typing import Any


def plain(value: Any, other: Callable[[Any], Any] = str) -> Any:
    """Bytes become base64, other keys and values their text; ``other`` says what becomes of what isn't data."""
    if isinstance(value, dict):
        return {str(key): plain(item, other) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, other) for item in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no number for it
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return other(value)
