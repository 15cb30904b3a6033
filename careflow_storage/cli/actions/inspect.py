"""``careflow-storage info``, ``exists`` and ``url``."""

from __future__ import annotations

from pathlib import Path

from careflow_storage import BackblazeStorage
from careflow_storage._s3.requests.presign import SignedMethod
from careflow_storage.cli.exit_codes import NOT_FOUND
from careflow_storage.cli.ui.keyfile import read_customer_key
from careflow_storage.cli.ui.output import Output
from careflow_storage.cli.ui.progress import human_size
from careflow_storage.media import probe


async def info(
    storage: BackblazeStorage,
    output: Output,
    key: str,
    version_id: str | None,
    customer_key_file: Path | None,
    *,
    media: bool,
) -> None:
    """Print the metadata of a file, and with ``media`` its format and duration."""
    encryption = read_customer_key(customer_key_file)
    found = await storage.get_file_metadata(key, version_id=version_id, encryption=encryption)
    fields = {**dict(found), "size": f"{found.size:,} ({human_size(found.size)})"}
    if not media:
        output.item(found)
        output.fields(fields)
        return
    read = await probe(
        storage, key, version_id=version_id or found.version_id, encryption=encryption
    )
    facts = read.model_dump(exclude={"key", "version_id", "size"})
    output.item({**found.model_dump(mode="json"), "media": facts})
    output.fields({**fields, **facts, "duration": f"{read.duration:.2f} s"})


async def exists(storage: BackblazeStorage, output: Output, key: str) -> int | None:
    """Print whether a file exists; return an exit code if it does not."""
    found = await storage.file_exists(key)
    output.line("yes" if found else "no")
    output.item({"key": key, "exists": found})
    return None if found else NOT_FOUND


async def url(
    storage: BackblazeStorage,
    output: Output,
    key: str,
    seconds: int,
    *,
    method: SignedMethod,
    download_as: str | None,
    content_type: str | None,
    version_id: str | None,
) -> None:
    """Print a presigned URL, and nothing else."""
    signed = await storage.get_signed_url(
        key,
        seconds,
        method=method,
        download_as=download_as,
        content_type=content_type,
        version_id=version_id,
    )
    output.line(signed)
    output.item({"key": key, "url": signed, "method": method, "expires_in": seconds})
