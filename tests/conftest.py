"""For all tests: no test fails because the machine was slow."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("toolring", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("toolring")
