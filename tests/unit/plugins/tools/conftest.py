"""Real trees for the bundled tools: small ones below tmp_path, and the standard library."""

from __future__ import annotations

import random
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from toolring.plugins.tools.roots import CodeRoot, SourceFile
from toolring.plugins.tools.trees import walk

Write = Callable[[str, str | bytes], SourceFile]


@pytest.fixture
def root(tmp_path: Path) -> CodeRoot:
    (tmp_path / "root").mkdir()
    return CodeRoot(str(tmp_path / "root"))


@pytest.fixture
def write(root: CodeRoot) -> Write:
    """Writes a file below the root and finds it again."""

    def write(path: str, content: str | bytes) -> SourceFile:
        target = Path(root.path, path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content if isinstance(content, bytes) else content.encode())
        return root.file(path)

    return write


@pytest.fixture(scope="session")
def stdlib() -> CodeRoot:
    return CodeRoot(sysconfig.get_path("stdlib"))


@pytest.fixture(scope="session")
def sample(stdlib: CodeRoot) -> list[SourceFile]:
    """A hundred files of the standard library, always the same."""
    return random.Random(20).sample(list(walk(stdlib, ".", "*.py")), 100)
