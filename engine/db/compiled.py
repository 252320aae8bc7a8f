"""The compiled form of the templates that ship with the engine, kept as Python keeps that of its modules.

Compiling them is a tenth of a short run. Like Python's own it stands in `__pycache__` beside its source, is made anew when the source or
what compiled it has changed, and is not written where Python may not write bytecode (`PYTHONDONTWRITEBYTECODE`) or the folder is
not writable. Templates of a project are compiled by each process: nothing is written into a user's folders.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from jinja2 import compiler
from jinja2.bccache import Bucket, FileSystemBytecodeCache


class Compiled(FileSystemBytecodeCache):
    """Serves the templates below `folder`. `makers` are the source files that decide what becomes of a template."""

    def __init__(self, folder: Path, makers: Sequence[str | None]) -> None:
        super().__init__(str(folder / "__pycache__"), "%s.cache")
        self._folder = folder
        files = [Path(file) for file in (*makers, compiler.__file__) if file]
        self._made_by = "".join(f"{file.stat().st_mtime_ns}:" for file in files if file.exists())

    def get_cache_key(self, name: str, filename: str | None = None) -> str:  # noqa: ARG002 - Jinja's signature
        """A name of its own for each file; of a project's template none, and it is not kept."""
        if filename is None or not Path(filename).is_relative_to(self._folder):
            return ""
        return f"{Path(filename).relative_to(self._folder).as_posix().replace('/', '.')}.{sys.implementation.cache_tag}"

    def get_source_checksum(self, source: str) -> str:
        """Changes with the source, and with what compiles it."""
        return super().get_source_checksum(self._made_by + source)

    def load_bytecode(self, bucket: Bucket) -> None:
        """What was kept, if it is of this source."""
        if bucket.key:
            # A file that was cut short is compiled again.
            with suppress(OSError, EOFError, ValueError):
                super().load_bytecode(bucket)

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Keep it for the next process, where that is allowed."""
        if not bucket.key or sys.dont_write_bytecode:
            return
        with suppress(OSError):
            Path(self.directory).mkdir(exist_ok=True)
            super().dump_bytecode(bucket)
