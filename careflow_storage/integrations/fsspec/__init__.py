"""fsspec: the files of the bucket by name, for pandas, Dask, pyarrow and others. Extra: ``fsspec``.

::

    frame = pandas.read_parquet("careflow://exports/calls.parquet")

The path after ``careflow://`` is a key in the bucket of the settings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from careflow_storage._lazy import lazy_exports

if TYPE_CHECKING:
    from careflow_storage.integrations.fsspec.files.async_files import AsyncReadFile, AsyncWriteFile
    from careflow_storage.integrations.fsspec.files.buffered_file import CareflowFile
    from careflow_storage.integrations.fsspec.filesystem import CareflowFileSystem
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "careflow_storage.integrations.fsspec.files.async_files": (
                "AsyncReadFile",
                "AsyncWriteFile",
            ),
            "careflow_storage.integrations.fsspec.files.buffered_file": ("CareflowFile",),
            "careflow_storage.integrations.fsspec.filesystem": ("CareflowFileSystem",),
        },
    )

__all__ = ["AsyncReadFile", "AsyncWriteFile", "CareflowFile", "CareflowFileSystem"]
