"""Contract suites for plugin authors: one import, and pytest runs the whole contract on your own plugin.

    from toolring.testing import CacheStoreContract, CacheStrategyContract

    class TestMine(CacheStrategyContract):
        factory = MyStrategy

    class TestMyStore(CacheStoreContract):
        def settings(self, directory):
            return StoreSettings(directory, "", 1 << 24, 1.0)

        factory = MyStore

Needs hypothesis, which toolring itself does not install: ``pip install pytest hypothesis``.
"""

from __future__ import annotations

try:
    import hypothesis as hypothesis
except ImportError as error:  # pragma: no cover - whoever tests toolring has it
    raise ImportError("toolring.testing needs hypothesis: pip install pytest hypothesis") from error

from toolring.testing.balancers import BalancerContract as BalancerContract
from toolring.testing.sinks import FAMILIES as FAMILIES
from toolring.testing.sinks import FIGURES as FIGURES
from toolring.testing.sinks import MetricsSinkContract as MetricsSinkContract
from toolring.testing.stores import CacheStoreContract as CacheStoreContract
from toolring.testing.strategies import CacheStrategyContract as CacheStrategyContract

__all__ = [
    "FAMILIES",
    "FIGURES",
    "BalancerContract",
    "CacheStoreContract",
    "CacheStrategyContract",
    "MetricsSinkContract",
]
