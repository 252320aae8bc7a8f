"""Bytecode cache for the templates that ship with the engine.

Compiling them takes a tenth of a short run. Like Python's bytecode, the cache is in `__pycache__` beside its source, is rebuilt when
the source or its compiler has changed, and is not written if Python may not write bytecode (`PYTHONDONTWRITEBYTECODE`) or the folder
is not writable. Templates of a project are compiled by each process: nothing is written into a user's folders.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from jinja2 import compiler
from jinja2.bccache import Bucket, FileSystemBytecodeCache


class Compiled(FileSystemBytecodeCache):
    """Caches the templates below `folder`. `makers` are the source files that affect the compiled form."""

    def __init__(self, folder: Path, makers: Sequence[str | None]) -> None:
        super().__init__(str(folder / "__pycache__"), "%s.cache")
        self._folder = folder
        files = [Path(file) for file in (*makers, compiler.__file__) if file]
        self._made_by = "".join(f"{file.stat().st_mtime_ns}:" for file in files if file.exists())

    def get_cache_key(self, name: str, filename: str | None = None) -> str:  # noqa: ARG002 - Jinja's signature
        """Return a unique name per file; empty for a project's template, which is not cached."""
        if filename is None or not Path(filename).is_relative_to(self._folder):
            return ""
        return f"{Path(filename).relative_to(self._folder).as_posix().replace('/', '.')}.{sys.implementation.cache_tag}"

    def get_source_checksum(self, source: str) -> str:
        """Return a checksum of the source and its compiler."""
        return super().get_source_checksum(self._made_by + source)

    def load_bytecode(self, bucket: Bucket) -> None:
        """Load the cached bytecode if it matches the source."""
        if bucket.key:
            # A truncated file is compiled again.
            with suppress(OSError, EOFError, ValueError):
                super().load_bytecode(bucket)

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Save the bytecode for the next process, if that is allowed."""
        if not bucket.key or sys.dont_write_bytecode:
            return
        with suppress(OSError):
            Path(self.directory).mkdir(exist_ok=True)
            super().dump_bytecode(bucket)
