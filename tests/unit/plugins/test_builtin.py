from __future__ import annotations

import subprocess
import sys

import pytest

from toolring.errors import PluginError
from toolring.plugins.builtin import Store


def test_a_store_whose_package_is_missing_says_what_to_install() -> None:
    with pytest.raises(PluginError, match=r"No module named 'no_such_package'; pip install 'toolring\[some\]'"):
        Store("no_such_package.store", "Any", extra="some").check()


def test_who_only_looks_for_plugins_imports_no_store() -> None:
    code = (
        "import sys; from toolring.plugins.registry import load_plugins; load_plugins();"
        "print([name for name in ('sqlite3', 'redis', 'lmdb') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
