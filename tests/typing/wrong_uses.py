"""Mistakes that mypy and pyright must report: an ignored line without an error is an error."""

from __future__ import annotations

from careflow_storage import BackblazeStorage, Encryption, ObjectOptions, StorageSettings
from careflow_storage.admin import CorsMethod
from careflow_storage.outbox import Outbox


async def calls(storage: BackblazeStorage, box: Outbox) -> None:
    await storage.upload_file("key")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await storage.upload_file("key", 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await storage.upload_file("key", b"", checksum="sha1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await storage.upload_file("key", b"", colour="red")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await storage.get_signed_url("key", method="POST")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await storage.get_file("key", encryption="SSE-B2")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await storage.get_file("key", "v1")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    storage.open_recording("CA1", "a.webm", on_error="retry")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    print(storage.list_file)  # type: ignore[attr-defined]  # pyright: ignore
    await storage.admin.purge_file("key")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    box.entries("sent")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def values(settings: StorageSettings) -> None:
    StorageSettings(retry_attempts="many")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    StorageSettings(keyid="x")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    print(settings.regoin)  # type: ignore[attr-defined]  # pyright: ignore
    encryption: Encryption = b"0" * 32  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    method: CorsMethod = "PATCH"  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    options: ObjectOptions = {"size": 1}  # type: ignore[typeddict-unknown-key]  # pyright: ignore[reportAssignmentType]
    print(encryption, method, options)
