"""The pluggy markers of the project ``toolring``."""

from __future__ import annotations

import pluggy

hookspec = pluggy.HookspecMarker("toolring")
hookimpl = pluggy.HookimplMarker("toolring")
"""Marks a function as an implementation of one of the hooks in ``toolring.plugins.specs``."""
