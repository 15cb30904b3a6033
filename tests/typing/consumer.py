"""A program that uses every public name, as mypy and pyright see it. It is never run."""

from __future__ import annotations

import asyncio
import io
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, assert_type

import arq
import dramatiq
import saq
import saq.types
import taskiq
from fastapi import FastAPI, Request, Response, WebSocket

import careflow_storage
from careflow_storage import (
    BackblazeStorage,
    Checksum,
    ChecksumAlgorithm,
    CommonOptions,
    CustomerKey,
    DeleteResult,
    DownloadResult,
    Encryption,
    FileInfo,
    FileListing,
    FileMetadata,
    FileReader,
    FileStream,
    FolderContents,
    FolderListing,
    IfExists,
    IncompleteUpload,
    ObjectOptions,
    OnError,
    Progress,
    ProgressCallback,
    PurgeResult,
    RateLimit,
    RecordingCutOff,
    RecordingWriter,
    Retention,
    RetentionMode,
    ServedBody,
    ServedFile,
    SignedMethod,
    SignedRequest,
    StorageError,
    StorageSettings,
    UploadBody,
    UploadResult,
)
from careflow_storage.admin import (
    BucketInfo,
    CopyResult,
    CorsCheck,
    CorsMethod,
    CorsPreset,
    CorsRule,
    DefaultRetention,
    FileVersion,
    LifecycleRule,
    ObjectLock,
    Preflight,
    RestoreResult,
    StorageAdmin,
    VersionListing,
)
from careflow_storage.browser import (
    BrowserUpload,
    BrowserUploads,
    ExpiredTicketError,
    FileTooLargeError,
    FileTypeError,
    InvalidTicketError,
    RequestMethod,
    UploadedPart,
    UploadIncompleteError,
    UploadMismatchError,
    UploadPolicy,
)
from careflow_storage.content_types import detect_content_type
from careflow_storage.doctor import Diagnosis, Finding, Group, Verdict, diagnose
from careflow_storage.hooks import (
    CallEvent,
    ConnectionsEvent,
    Hooks,
    RequestEvent,
    RetryEvent,
)
from careflow_storage.integrations import arq as for_arq
from careflow_storage.integrations import celery as for_celery
from careflow_storage.integrations import dramatiq as for_dramatiq
from careflow_storage.integrations import saq as for_saq
from careflow_storage.integrations import taskiq as for_taskiq
from careflow_storage.integrations.asgi import (
    ClientDisconnectedError,
    RequestBody,
    StreamedBodies,
    streamed_body,
)
from careflow_storage.integrations.fastapi import (
    FormError,
    FormFile,
    FormTypeError,
    TwilioAudio,
    TwilioMedia,
    TwilioStream,
    WebSocketAudio,
    file_response,
    form_file,
    get_storage,
    install_error_handlers,
    record_twilio,
    redirect_response,
    storage_lifespan,
    twilio_media,
    uppy_router,
    websocket_audio,
)
from careflow_storage.integrations.fsspec import (
    AsyncReadFile,
    AsyncWriteFile,
    CareflowFile,
    CareflowFileSystem,
)
from careflow_storage.integrations.opentelemetry import OpenTelemetryHooks
from careflow_storage.integrations.portal import StoragePortal
from careflow_storage.integrations.problems import (
    MEDIA_TYPE,
    STATUSES,
    Problem,
    http_status,
    problem_for,
)
from careflow_storage.integrations.twilio import (
    CallIdOfRecording,
    OutboxOf,
    RecordingCallback,
    SignatureAlgorithm,
    SignedParams,
    queue_recording,
    read_callback,
    recording_router,
    verify_signature,
)
from careflow_storage.integrations.uppy import Authorize, CallIdOf, OnComplete
from careflow_storage.jobs import (
    AnyJob,
    ClusterError,
    CopyJob,
    DaskEngine,
    Engine,
    JobError,
    JobProgress,
    JobProgressCallback,
    JobRecord,
    JobReport,
    JobVersionError,
    KeyRange,
    LocalEngine,
    Location,
    MapJob,
    NoSuchJobError,
    ObjectError,
    PurgeJob,
    RetainJob,
    ShardResult,
    ShardTask,
    VerifyJob,
    WorkerLostError,
    list_jobs,
    plan_job,
    resume_job,
    run_job,
    show_job,
)
from careflow_storage.keys import (
    CAPABILITIES,
    PRESETS,
    ApplicationKeys,
    CreatedKey,
    Deliver,
    KeyInfo,
    Preset,
    RotationResult,
)
from careflow_storage.local import Identity, LocalServer, LocalServerError
from careflow_storage.media import (
    MediaInfo,
    MediaProcessError,
    RawFormat,
    UnsupportedMediaError,
    Waveform,
    WaveformTrack,
    make_seekable,
    probe,
    waveform,
)
from careflow_storage.migrate import (
    Carried,
    OldCodeFinding,
    OldCodeReport,
    Translation,
    Unresolved,
    check_old_code,
    translate_environment,
    write_translation,
)
from careflow_storage.outbox import (
    CredentialsError,
    CredentialsLookup,
    EntryListing,
    Outbox,
    OutboxEntry,
    OutboxError,
    OutboxFullError,
    OutboxState,
    OutboxStatus,
    SourceCredentials,
)
from careflow_storage.recordings import recording_key, validate_key
from careflow_storage.testing import (
    ApplicationKey,
    Attempt,
    B2Server,
    FaultProxy,
    Faults,
    Rule,
    StoredUpload,
    StoredVersion,
)
from careflow_storage.usage import (
    AWS_S3,
    B2_GUIDE,
    B2_TODAY,
    Alert,
    CallClass,
    CallPrice,
    Comparison,
    CostEstimate,
    CostItem,
    Prices,
    Stored,
    Thresholds,
    UsageReport,
    Watched,
    check_thresholds,
    classes,
    compare,
    draw_growth,
    estimate,
    load_prices,
    watch,
)


def settings() -> StorageSettings:
    made = StorageSettings(
        key_id="004a1b2c3d4e5f60000000001",
        bucket_name="careflow-recordings",
        region="us-west-004",
        part_size=64 * 2**20,
        connect_timeout=5,
        checksum="crc32",
    )
    assert_type(made.part_size, int)
    assert_type(made.memory_budget, int)
    assert_type(made.multipart_threshold, int)
    assert_type(made.bucket_name, str | None)
    assert_type(made.checksum, Literal["md5", "crc32", "sha256"])
    assert_type(made.is_configured, bool)
    assert_type(made.is_b2, bool)
    assert_type(made.missing_variables(), tuple[str, ...])
    assert_type(made.model_copy(update={"part_size": 5 * 2**20}), StorageSettings)
    return StorageSettings()


def show(progress: Progress) -> None:
    assert_type(progress.transferred, int)
    assert_type(progress.total, int | None)


async def show_later(progress: Progress) -> None:
    show(progress)


async def chunks() -> AsyncIterator[bytes]:
    yield b"voice"


async def uploads(storage: BackblazeStorage, folder: Path) -> None:
    assert_type(storage.settings, StorageSettings)
    assert_type(storage.is_configured(), bool)
    assert_type(await storage.initialize(), bool)
    assert_type(storage.request_counts(), dict[str, int])
    rate_limit = RateLimit(per_second=400, burst=10)
    rate_limit.per_second = 200.0
    assert_type(rate_limit.per_second, float)
    assert_type(rate_limit.burst, int)
    assert_type(rate_limit.current_per_second, float)
    assert_type(rate_limit.is_paused, bool)
    await rate_limit.acquire(first=True)
    rate_limit.slow_down()
    rate_limit.pause(1.0)
    await rate_limit.resume()
    BackblazeStorage(rate_limit=rate_limit)
    with storage.count_requests() as requests:
        assert_type(requests, Counter[str])
    encryption: Encryption = CustomerKey.generate()
    mode: RetentionMode = "governance"
    retention = Retention(mode=mode, retain_until=datetime.now(UTC) + timedelta(days=1))
    algorithm: ChecksumAlgorithm = "sha256"
    common: CommonOptions = {"checksum": algorithm, "retention": retention, "legal_hold": True}
    options: ObjectOptions = {**common, "content_type": "audio/webm", "encryption": encryption}
    bodies: list[UploadBody] = [
        *(b"voice", bytearray(b"voice"), memoryview(b"voice"), "text"),
        *(folder / "file", io.BytesIO(b"voice"), [b"vo", b"ice"], iter([b"voice"]), chunks()),
    ]
    callbacks: list[ProgressCallback] = [show, show_later]
    if_exists: IfExists = "return"
    for body in bodies:
        result = await storage.upload_file(
            "key",
            body,
            "audio/wav",
            size=5,
            if_exists=if_exists,
            max_size=9,
            read_timeout=5,
            min_rate=1000.0,
            resume=True,
            timeout=3,
            **common,
        )
        assert_type(result, UploadResult)
    result = await storage.upload_recording(
        *("CA1", b"voice", "a.webm"),
        recorded_at=datetime.now(UTC),
        progress=callbacks[0],
        **options,
    )
    assert_type(result.checksum, Checksum)
    assert_type(result.checksum.algorithm, ChecksumAlgorithm)
    assert_type(
        await storage.upload_from_url(
            *("CA1", "https://example.com/a.wav", "a.wav"), auth=("user", "password"), **options
        ),
        UploadResult,
    )
    assert_type(await storage.list_incomplete_uploads(), list[IncompleteUpload])
    assert_type(await storage.abort_stale_uploads(timedelta(days=1)), list[IncompleteUpload])
    await storage.abort_upload("key", "upload-id")
    assert_type(await storage.keep_incomplete_upload("key", "upload-id"), UploadResult)
    assert_type(
        await storage.sign_upload("key", content_type="audio/wav", md5=b"0" * 16), SignedRequest
    )


async def from_browsers(storage: BackblazeStorage) -> None:
    policy = UploadPolicy(max_size=2**30, content_types=("audio/*",), expires_in=600)
    broker = BrowserUploads(storage, secret=["new secret" * 2, b"old secret" * 2], policy=policy)
    assert_type(broker.policy, UploadPolicy)
    try:
        upload = await broker.create("CA1", "a.webm", content_type="audio/webm", size=5)
    except (FileTooLargeError, FileTypeError):
        return
    assert_type(upload, BrowserUpload)
    assert_type(await broker.sign(upload.ticket, part=1, subject="user"), SignedRequest)
    method: RequestMethod = "POST"
    signed = await broker.sign_request(upload.ticket, method, upload_id="id")
    assert_type(signed.method, Literal["PUT", "POST", "GET", "DELETE"])
    parts = await broker.list_parts(upload.ticket)
    assert_type(parts, list[UploadedPart])
    try:
        assert_type(await broker.complete(upload.ticket, parts), UploadResult)
    except UploadIncompleteError as error:
        assert_type(error.missing, tuple[int, ...])
    except (InvalidTicketError, ExpiredTicketError, UploadMismatchError):
        await broker.abort(upload.ticket, timeout=5)


async def media(storage: BackblazeStorage, key: CustomerKey) -> None:
    law: RawFormat = "mulaw"
    try:
        info = await probe(storage, "key", version_id="id", format=law, encryption=key, timeout=9)
        shape = await waveform(storage, "key", 100, format=law)
    except (UnsupportedMediaError, MediaProcessError):
        return
    assert_type(info, MediaInfo)
    assert_type(await make_seekable(storage, "key", encryption=key, timeout=9), UploadResult)
    assert_type(info.duration, float)
    assert_type(info.video_codec, str | None)
    assert_type(shape, Waveform)
    assert_type(shape.mix, WaveformTrack)
    assert_type(shape.mix.peaks, tuple[float, ...])


async def arq_job(ctx: dict[Any, Any], call_id: str) -> str:
    storage = for_arq.get_storage(ctx)
    assert_type(storage, BackblazeStorage)
    return (await storage.upload_recording(call_id, b"sound", "a.wav")).key


async def arq_startup(ctx: dict[Any, Any]) -> None:
    await for_arq.startup(ctx, StorageSettings(bucket_name="calls"))
    assert_type(await for_arq.abort_stale_uploads(ctx, older_than_hours=6, prefix="a/"), int)
    await for_arq.shutdown(ctx, grace=2)


class ArqWorker:
    functions = (arq_job,)
    cron_jobs = (arq.cron(for_arq.abort_stale_uploads, hour=3),)
    on_startup = for_arq.startup
    on_shutdown = for_arq.shutdown


async def saq_job(ctx: saq.types.Context, *, call_id: str) -> str:
    storage = for_saq.get_storage(ctx)
    assert_type(storage, BackblazeStorage)
    return (await storage.upload_recording(call_id, b"sound", "a.wav")).key


saq_settings: saq.types.SettingsDict[saq.types.Context] = {
    "functions": [saq_job],
    "startup": for_saq.startup,
    "shutdown": for_saq.shutdown,
    "cron_jobs": [saq.CronJob(for_saq.abort_stale_uploads, cron="17 3 * * *")],
}


async def taskiq_worker(broker: taskiq.AsyncBroker) -> None:
    for_taskiq.install(broker, StorageSettings(), grace=2, hooks=[], rate_limit=None)
    await for_taskiq.schedule_abort_stale_uploads(broker, older_than=timedelta(hours=6)).kiq()

    injected = taskiq.TaskiqDepends(for_taskiq.get_storage)

    async def store(call_id: str, storage: BackblazeStorage = injected) -> str:
        return (await storage.upload_recording(call_id, b"sound", "a.wav")).key

    await broker.register_task(store).kiq("CA1")


async def with_the_portal(storage: BackblazeStorage, call_id: str, *, name: str) -> int:
    return (await storage.upload_recording(call_id, b"sound", name)).size


def dramatiq_worker(broker: dramatiq.Broker) -> None:
    portal = for_dramatiq.install(broker, StorageSettings(), grace=2)
    assert_type(portal, StoragePortal)
    assert_type(portal.call(with_the_portal, "CA1", name="a.wav"), int)
    assert_type(portal.call(BackblazeStorage.get_file, "key"), bytes)
    assert_type(for_dramatiq.abort_stale_uploads_actor(broker, portal)(), int)


def celery_worker(app: Any) -> None:
    portal = for_celery.install(app, grace=2)
    assert_type(portal, StoragePortal)
    for_celery.schedule_abort_stale_uploads(app, portal, schedule=timedelta(hours=6), prefix="a/")
    with StoragePortal(StorageSettings(), hooks=[]) as own:
        own.close()


def outbox_of(request: Request) -> Outbox:
    found: Outbox = request.app.state.outbox
    return found


async def twilio(app: FastAPI, box: Outbox, request: Request) -> None:
    source: OutboxOf = outbox_of
    app.include_router(recording_router(source, auth_token="token", legal_hold=True))

    def call_id_of(request: Request, callback: RecordingCallback) -> str:
        return f"anna.{callback.call_id}"

    call_of: CallIdOfRecording = call_id_of
    router = recording_router(box, auth_token=["one", "two"], format="mp3", call_id_of=call_of)
    app.include_router(router)
    callback = await read_callback(request, auth_token="token", public_url="https://example.com")
    assert_type(callback, RecordingCallback)
    assert_type(await queue_recording(box, callback, call_id="1", metadata={}), OutboxEntry | None)
    params: SignedParams = {"CallSid": "CA1"}
    algorithm: SignatureAlgorithm = "HMAC_SHA256"
    assert_type(verify_signature("token", "url", params, None, algorithm=algorithm), bool)


def user_of(request: Request) -> str:
    return request.headers["x-user"]


async def call_of(request: Request, metadata: Mapping[str, str]) -> str:
    return metadata["call_id"]


def uppy(storage: BackblazeStorage, app: FastAPI) -> None:
    async def record(result: UploadResult, subject: str) -> None:
        print(subject, result.key)

    on_complete: OnComplete = record
    authorize: Authorize = user_of
    call_id_of: CallIdOf = call_of
    broker = BrowserUploads(storage, secret="a secret of sixteen bytes")
    app.include_router(
        uppy_router(broker, authorize=authorize, call_id_of=call_id_of, on_complete=on_complete),
        prefix="/uploads",
    )


async def web(settings: StorageSettings, request: Request) -> None:
    app = FastAPI(lifespan=storage_lifespan(lifespan=storage_lifespan(settings), grace=1))
    install_error_handlers(app)
    storage = get_storage(request)
    assert_type(storage, BackblazeStorage)
    assert_type(await file_response(storage, "key", request, download_as="a.webm"), Response)
    assert_type(await redirect_response(storage, "key", expires_in=300, check=False), Response)


async def asgi(storage: BackblazeStorage, app: FastAPI, request: Request) -> None:
    StreamedBodies(app, lambda scope: bool(scope["method"] == "PUT"))
    body = streamed_body(request.scope)
    assert_type(body, RequestBody)
    assert_type(body.size, int | None)
    try:
        await storage.upload_recording("CA1", body, "a.webm", size=body.size)
    except ClientDisconnectedError:
        print((await body.receive())["type"])


async def forms(storage: BackblazeStorage, request: Request) -> None:
    try:
        async with form_file(request, "audio", max_size=5, read_timeout=5, min_rate=1) as part:
            assert_type(part, FormFile)
            assert_type(part.filename, str)
            assert_type(part.content_type, str | None)
            assert_type(part.fields, dict[str, str])
            await storage.upload_recording("CA1", part, part.filename)
    except FormTypeError:
        pass
    except FormError as error:
        print(error.message)


async def sockets(storage: BackblazeStorage, websocket: WebSocket) -> None:
    audio = websocket_audio(websocket, "end", max_size=5, max_message_size=5, read_timeout=None)
    assert_type(audio, WebSocketAudio)
    try:
        async for chunk in audio:
            assert_type(chunk, bytes)
        await storage.upload_recording("CA1", audio, "call.webm")
    except RecordingCutOff as error:
        assert_type(error.close_code, int | None)
    results = await record_twilio(storage, websocket, "CA1", metadata={"agent": "42"})
    assert_type(results, list[UploadResult])
    media = twilio_media(websocket, read_timeout=5)
    assert_type(media, TwilioMedia)
    stream = await media.start()
    assert_type(stream, TwilioStream)
    print(stream.stream_sid, stream.call_sid, stream.tracks, stream.parameters)
    async for piece in media:
        assert_type(piece, TwilioAudio)
        print(piece.track, piece.data, piece.timestamp)


def problem_of(error: StorageError) -> None:
    problem = problem_for(error)
    assert_type(problem, Problem)
    assert_type(problem.status, int)
    assert_type(problem.headers, dict[str, str])
    assert_type(problem.content, dict[str, Any])
    assert_type(problem.body, bytes)
    assert_type(http_status(error), int)
    print(MEDIA_TYPE, STATUSES[StorageError])


async def live(storage: BackblazeStorage) -> None:
    on_error: OnError = "keep"
    async with storage.open_recording(
        "CA1", "a.webm", on_error=on_error, live_read=True, if_exists="error", max_size=10**9
    ) as writer:
        assert_type(writer, RecordingWriter)
        await writer.write(b"voice")
        await writer.write(memoryview(b"voice"))
        writer.mark_partial("hung up")
        writer.finish()
        assert_type(writer.key, str)
        assert_type(writer.upload_id, str | None)
        assert_type(writer.bytes_written, int)
        assert_type(writer.uploaded, int)
    assert_type(writer.result, UploadResult)
    if writer.kept_file is not None:
        print(writer.kept_file)


async def downloads(storage: BackblazeStorage, folder: Path, key: CustomerKey) -> None:
    assert_type(await storage.get_file("key", encryption=key), bytes)
    stream = storage.stream_file("key", start=1, end=3)
    assert_type(stream, FileStream)
    async with stream:
        async for chunk in stream:
            assert_type(chunk, bytes)
        assert_type(stream.metadata, FileMetadata)
    assert_type(await stream.read(), bytes)
    await stream.aclose()
    served = await storage.serve_file(
        "key", method="HEAD", headers={"Range": "bytes=0-1"}, download_as="call.webm"
    )
    assert_type(served, ServedFile)
    assert_type(served.status, int)
    assert_type(served.headers, dict[str, str])
    assert_type(served.body, ServedBody)
    async with served.body:
        async for chunk in served.body:
            assert_type(chunk, bytes)
    await served.body.aclose()
    async with await storage.open_file("key") as file:
        assert_type(file, FileReader)
        assert_type(await file.read(10), bytes)
        assert_type(await file.seek(0, io.SEEK_END), int)
        assert_type(file.tell(), int)
        assert_type(file.size, int)
        assert_type(file.metadata, FileMetadata)
        async for chunk in file:
            assert_type(chunk, bytes)
    await file.aclose()
    done = await storage.download_file("key", folder / "file", resume=True, progress=show)
    assert_type(done, DownloadResult)
    assert_type(done.verified, Literal["md5", "composite-md5", "length"])
    found = await storage.get_file_metadata("key")
    assert_type(found, FileMetadata)
    assert_type(found.retention, Retention | None)
    assert_type(found.cache_control, str | None)
    assert_type(await storage.file_exists("key"), bool)
    method: SignedMethod = "HEAD"
    assert_type(await storage.get_signed_url("key", 60, method=method), str)
    assert_type(await storage.get_signed_urls(["a", "b"]), list[str])
    assert_type(CustomerKey.from_base64(key.to_base64()), CustomerKey)
    assert_type(key.md5, str)
    assert_type(key.headers(), dict[str, str])


async def listings(storage: BackblazeStorage) -> None:
    assert_type(
        await storage.copy_from(
            storage,
            "key",
            "copy",
            metadata={"a": "b"},
            retention="keep",
            legal_hold="keep",
            if_exists="return",
            resume=True,
        ),
        UploadResult,
    )
    files = storage.list_files("recordings/", 10)
    storage.list_files("recordings/", start_after="recordings/a", until="recordings/b")
    assert_type(files, FileListing)
    assert_type(await files, list[FileInfo])
    async for file in files:
        assert_type(file, FileInfo)
    async for page in files.pages():
        assert_type(page, list[FileInfo])
    folder = storage.list_folder("recordings/")
    assert_type(folder, FolderListing)
    assert_type(await folder, FolderContents)
    async for contents in folder.pages():
        assert_type(contents.files, list[FileInfo])


async def deletions(storage: BackblazeStorage) -> None:
    assert_type(await storage.delete_file("key", version_id="v1"), DeleteResult)
    assert_type(await storage.delete_files({"a", "b"}), list[DeleteResult])
    assert_type(await storage.purge_file("key"), PurgeResult)


async def bucket(admin: StorageAdmin) -> None:
    assert_type(await admin.create_bucket("careflow-new", env="staging"), BucketInfo)
    assert_type(await admin.list_buckets(), list[BucketInfo])
    assert_type(await admin.head_bucket(), BucketInfo)
    await admin.delete_bucket("careflow-new", confirm="careflow-new")
    assert_type(await admin.get_bucket_encryption(), Literal["SSE-B2"] | None)
    await admin.set_bucket_encryption("SSE-B2")
    preset: CorsPreset = "multipart"
    methods: list[CorsMethod] = ["GET", "PUT"]
    assert_type(await admin.allow_browser_uploads("https://app.example", preset), list[CorsRule])
    await admin.allow_browser_uploads(["https://app.example"], methods=methods)
    rule = CorsRule(name="app", allowed_origins=("https://app.example",), allowed_methods=("GET",))
    assert_type(await admin.get_cors_rules(), list[CorsRule])
    await admin.set_cors_rules([rule])
    assert_type(await admin.put_cors_rule(rule), list[CorsRule])
    assert_type(await admin.remove_cors_rule("app"), list[CorsRule])
    check = await admin.check_cors("https://app.example", "PUT")
    assert_type(check, CorsCheck)
    assert_type(check.preflight, Preflight)
    expiry = LifecycleRule(prefix="recordings/", hide_after_days=365)
    assert_type(await admin.get_lifecycle_rules(), list[LifecycleRule])
    await admin.set_lifecycle_rules([expiry])
    assert_type(await admin.put_lifecycle_rule(expiry), list[LifecycleRule])
    assert_type(await admin.remove_lifecycle_rule("recordings/"), list[LifecycleRule])
    assert_type(await admin.expire_recordings(hide_after_days=365), list[LifecycleRule])


async def versions(admin: StorageAdmin) -> None:
    listing = admin.list_file_versions("recordings/")
    assert_type(listing, VersionListing)
    assert_type(await listing, list[FileVersion])
    async for version in listing:
        assert_type(version, FileVersion)
    async for page in listing.pages():
        assert_type(await admin.delete_file_versions(page), list[DeleteResult])
    assert_type(await admin.delete_file_version("key", "v1"), DeleteResult)
    assert_type(await admin.restore_file("key"), RestoreResult)
    assert_type(await admin.purge_file("key", confirm="key"), PurgeResult)
    assert_type(await admin.purge_files("tests/", dry_run=True), PurgeResult)
    admin.list_file_versions("recordings/", start_after="recordings/a", until="recordings/b")
    assert_type(await admin.copy_file("key", "copy", metadata={"a": "b"}), CopyResult)
    assert_type(await admin.move_file("key", "moved", if_exists="return"), CopyResult)
    lock = await admin.get_object_lock()
    assert_type(lock, ObjectLock)
    assert_type(lock.default, DefaultRetention | None)
    await admin.set_object_lock(DefaultRetention(mode="governance", days=30))
    assert_type(await admin.get_retention("key"), Retention | None)
    await admin.set_retention("key", None, bypass_governance=True)
    assert_type(await admin.get_legal_hold("key"), bool)
    await admin.set_legal_hold("key", True)


def deliver(key: CreatedKey) -> None:
    print(key.application_key.get_secret_value())


async def keys(admin: StorageAdmin) -> None:
    assert_type(admin.keys, ApplicationKeys)
    preset: Preset = "uploader"
    created = await admin.keys.create("web", preset, bucket="careflow-recordings")
    assert_type(created, CreatedKey)
    await admin.keys.create("web", CAPABILITIES & {"listFiles"}, expires_in=timedelta(days=1))
    await admin.keys.create("web", PRESETS["app"])
    assert_type(await admin.keys.list(), list[KeyInfo])
    assert_type(await admin.keys.delete(created.key_id), KeyInfo)
    target: Deliver = deliver
    rotated = await admin.keys.rotate(created.key_id, deliver=target, grace=timedelta(hours=1))
    assert_type(rotated, RotationResult)
    assert_type(await admin.keys.finish_rotation(created.key_id), tuple[KeyInfo, ...])
    assert_type(ApplicationKeys.of_settings(settings()), ApplicationKeys)
    ApplicationKeys("key-id", "application-key")


async def usage(storage: BackblazeStorage, folder: Path) -> None:
    report = await storage.admin.usage("recordings/", top=3)
    assert_type(report, UsageReport)
    assert_type(report.total, Stored)
    assert_type(report.total.billed_bytes, int)
    assert_type(report.complete, bool)
    cost = estimate(report, B2_GUIDE)
    assert_type(cost, CostEstimate)
    assert_type(cost.items, tuple[CostItem, ...])
    assert_type(cost.cost_of("storage"), Decimal)
    assert_type(compare(10**12, B2_TODAY, AWS_S3), Comparison)
    assert_type(classes(storage.request_counts()), dict[CallClass, int])
    prices = load_prices(folder / "prices.json")
    assert_type(prices, Prices)
    assert_type(prices.calls, dict[CallClass, CallPrice])
    limits = Thresholds(bytes=10**12)
    for alert in check_thresholds(report, limits):
        assert_type(alert, Alert)
        what: Watched = alert.what
        print(what)
    assert_type(await draw_growth(report, folder / "growth.png", prices=prices), Path)
    await watch(storage, limits, print)


def seen(finding: Finding) -> None:
    group: Group = finding.group
    verdict: Verdict = finding.verdict
    print(group, verdict)


async def doctor() -> None:
    diagnosis = await diagnose(settings(), origin="https://app.example", on_finding=seen)
    assert_type(diagnosis, Diagnosis)
    assert_type(diagnosis.verdict, Verdict)
    assert_type(diagnosis.exit_code(strict=True), int)
    assert_type(diagnosis.of("clock"), Finding | None)


async def migrate() -> None:
    translation = translate_environment({"AWS_ACCESS_KEY_ID": "x"})
    assert_type(translation, Translation)
    assert_type(translation.carried, tuple[Carried, ...])
    assert_type(translation.unresolved, tuple[Unresolved, ...])
    assert_type(translation.preview, str)
    await write_translation(translation, ".env")
    report = await check_old_code(settings())
    assert_type(report, OldCodeReport)
    assert_type(report.findings, tuple[OldCodeFinding, ...])
    assert_type(report.unchanged, bool)


async def outbox(storage: BackblazeStorage, folder: Path) -> None:
    state: OutboxState = "dead"
    basic: SourceCredentials = ("key", "secret")
    lookup: CredentialsLookup = {"twilio": basic, "other": {"Authorization": "Bearer token"}}
    try:
        async with Outbox(folder, storage, max_bytes=10**9, credentials=lookup) as box:
            assert_type(box, Outbox)
            entry = await box.put_recording(
                "CA1",
                chunks(),
                "a.webm",
                if_exists="return",
                max_size=10**9,
                read_timeout=30,
                min_rate=1000,
                checksum="crc32",
            )
            assert_type(entry, OutboxEntry)
            assert_type(entry.state, OutboxState)
            assert_type(await box.status(), OutboxStatus)
            assert_type(await box.drain(), OutboxStatus)
            assert_type(await box.get(entry.id), OutboxEntry | None)
            assert_type(box.entries(state), EntryListing)
            assert_type(await box.dead_letters(), list[OutboxEntry])
            async for each in box.entries():
                assert_type(each, OutboxEntry)
            assert_type(await box.retry(entry.id), OutboxEntry)
            assert_type(await box.retry_all(), int)
            announced = await box.put_url(
                "CA1", "https://example.com/a", "a.wav", auth_name="twilio", if_exists="error"
            )
            assert_type(announced.url, str | None)
            await box.discard(entry.id)
            await box.run()
            await box.close(1.0)
    except (OutboxFullError, CredentialsError) as known:
        error: OutboxError = known
        assert_type(error.retryable, bool)


async def local() -> None:
    reader = Identity("id", "key", ("Read:bucket",))
    assert_type((reader.key_id, reader.application_key), tuple[str, str])
    print(reader.actions)
    server = LocalServer(bucket="careflow-local", identities=[reader])
    try:
        server.start()
    except LocalServerError as error:
        assert_type(error.hint, str | None)
    assert_type(server.wait(1.0), bool)
    server.stop()
    async with LocalServer() as server, BackblazeStorage(server.settings()) as storage:
        assert_type(server.endpoint, str)
        assert_type(server.environment(), dict[str, str])
        server.create_bucket("other", versioned=False)
        await storage.close()


async def emulator() -> None:
    with B2Server(region="eu-central-003") as server:
        assert_type(server.settings(part_size=5 * 2**20), StorageSettings)
        assert_type(server.environment(fast_retries=False), dict[str, str])
        assert_type((server.endpoint, server.region, server.bucket), tuple[str, str, str])
        assert_type(server.key, ApplicationKey)
        assert_type(server.master_key, ApplicationKey)
        assert_type(server.requests, list[Attempt])
        assert_type(server.capped, frozenset[str])
        server.capped = frozenset({"storage"})
        assert_type(server.clock_skew, timedelta)
        server.create_bucket("other-bucket")
        key = server.create_key(capabilities=["readFiles"], expires_in=timedelta(hours=1))
        server.delete_key(key)
        assert_type(server.versions("key"), list[StoredVersion])
        assert_type(server.incomplete_uploads(), list[StoredUpload])
        assert_type(server.faults, Faults)
        assert_type(server.faults.next("PutObject", status=503), Rule)
        assert_type(server.faults.always("PutObject", delay=1.0), Rule)
        server.faults.random(0.1, seed=1)
        server.faults.clear()
        server.reset()
        server.start()
        server.stop()
    async with FaultProxy("http://127.0.0.1:9000") as proxy:
        assert_type(proxy.add(status=503), Rule)
        assert_type(proxy.count("PUT"), int)
        assert_type(proxy.connections, int)
        assert_type(proxy.log, list[Attempt])
        assert_type(proxy.url, str)
        proxy.clear()


def jobs_of(folder: Path) -> list[AnyJob]:
    there = Location(env_file="old.env", bucket="calls")
    here = Location(env_file=folder / ".env")
    assert_type(here.settings(), StorageSettings)
    lock = Retention(mode="governance", retain_until=datetime(2030, 1, 1, tzinfo=UTC))
    return [
        CopyJob(source=there, target=here, prefix="recordings/", rate=400, retention=lock),
        VerifyJob(source=there, target=here, target_prefix="copies/", deep=True),
        PurgeJob(location=here, older_than=timedelta(days=365), versions="noncurrent"),
        RetainJob(mode="compliance", days=30, legal_hold=True, keys_file=folder / "keys.txt"),
        MapJob("package.module:function", location=here, concurrency=2, timeout=60.0),
    ]


async def jobs(folder: Path, engine: Engine) -> None:
    def show_progress(progress: JobProgress) -> None:
        assert_type(progress.objects, int)

    callback: JobProgressCallback = show_progress
    for job in jobs_of(folder):
        assert_type(await plan_job(job), JobReport)
        report = await run_job(job, engine=LocalEngine(processes=4), progress=callback)
        assert_type(report.job, CopyJob | VerifyJob | PurgeJob | RetainJob | MapJob)
        assert_type(report.state, Literal["planned", "unfinished", "stopped", "finished"])
        assert_type(report.details, dict[str, int])
        assert_type(report.lost, list[KeyRange])
        assert_type(report.calls(), dict[CallClass, int])
        assert_type(report.cost("location", AWS_S3), CostEstimate)
        assert_type(report.bytes_per_second, float)
        report = await resume_job(job.job_id, Location(), engine=engine)
    assert_type(await list_jobs(Location(), 10), list[JobRecord])
    assert_type(await show_job("20260131T235959-0123abcd", Location()), JobReport)


async def shards(engine: Engine, task: ShardTask) -> None:
    async with engine:
        result = await engine.run(task)
    assert_type(result, ShardResult)
    assert_type(result.rest, KeyRange | None)
    assert_type(result.errors, list[ObjectError])
    assert_type(engine.capacity, int)
    assert_type(engine.workers, int)
    assert_type(DaskEngine("tcp://scheduler:8786").workers, int)


def error_of_a_job(error: JobError) -> str:
    match error:
        case NoSuchJobError() | JobVersionError():
            return "begin another job"
        case WorkerLostError() | ClusterError():
            return "look at the worker's log"
        case _:
            return error.message


def file_system(file: CareflowFile) -> None:
    fs = CareflowFileSystem(env_file="b2.env", bucket_name="calls", listings_expiry_time=60)
    assert_type(fs.protocol, str)
    assert_type(fs.root_marker, str)
    assert_type(fs.blocksize, int)
    assert_type(fs.loop, asyncio.AbstractEventLoop | None)
    fs.mv("a", "b", recursive=True)
    fs.rmdir("a")
    fs.touch("a")
    fs.invalidate_cache("a")
    print(fs.created("a"), fs.modified("a"), fs.checksum("a"), fs.ukey("a"), fs.sign("a"))
    print(fs.metadata("a"), fs.open("a", "rt", encoding="utf-8").read())
    print(CareflowFile.DEFAULT_BLOCK_SIZE)
    assert_type(file.write(b""), int)
    file.commit()
    file.discard()
    file.close()
    fs.close()


async def files_of_coroutines(fs: CareflowFileSystem) -> None:
    file = await fs.open_async("a", "wb", content_type="text/plain")
    if isinstance(file, AsyncReadFile):
        assert_type(await file.read(4), bytes)
        assert_type(await file.seek(0), int)
        assert_type((file.path, file.size, file.tell(), file.mode), tuple[str, int, int, str])
        await file.close()
    else:
        assert_type(file, AsyncWriteFile)
        assert_type(await file.write(b""), int)
        assert_type(await file.close(), UploadResult | None)
        await file.discard()
    await fs.aclose()


class Metrics(Hooks):
    record_keys = True

    def call_started(self, call: CallEvent) -> None:
        assert_type(call.method, str)
        assert_type(call.parent, CallEvent | None)

    def call_ended(self, call: CallEvent) -> None:
        assert_type((call.bucket, call.key), tuple[str | None, str | None])
        assert_type((call.duration, call.error_type), tuple[float | None, str | None])

    def request_sent(self, request: RequestEvent) -> None:
        assert_type(request.call, CallEvent | None)
        assert_type((request.operation, request.http_method), tuple[str, str])
        assert_type((request.server_address, request.server_port), tuple[str, int])
        assert_type((request.attempt, request.part_number), tuple[int, int | None])
        assert_type((request.upload_id, request.request_bytes), tuple[str | None, int | None])

    def response_received(self, request: RequestEvent) -> None:
        assert_type((request.status, request.request_id), tuple[int | None, str | None])

    def request_ended(self, request: RequestEvent) -> None:
        assert_type((request.response_bytes, request.error_code), tuple[int | None, str | None])

    def retry_scheduled(self, retry: RetryEvent) -> None:
        assert_type((retry.attempt, retry.delay), tuple[int, float])

    def connections_changed(self, connections: ConnectionsEvent) -> None:
        assert_type((connections.active, connections.idle), tuple[int, int])
        assert_type((connections.active_change, connections.idle_change), tuple[int, int])


async def hooks() -> None:
    BackblazeStorage(hooks=[Metrics(), OpenTelemetryHooks(record_keys=True)])


def names() -> None:
    assert_type(recording_key("CA1", "a.webm", 1), str)
    assert_type(validate_key("key"), str)
    assert_type(detect_content_type("a.webm", b""), str)
    assert_type(careflow_storage.__version__, str)


def errors(error: StorageError) -> None:
    assert_type(error.retryable, bool)
    if isinstance(error, careflow_storage.NotConfiguredError):
        assert_type(error.missing, tuple[str, ...])
    families: list[type[StorageError]] = [
        careflow_storage.AccessDeniedError,
        careflow_storage.BodyChangedError,
        careflow_storage.BodyTimeoutError,
        careflow_storage.BucketExistsError,
        careflow_storage.BucketNotEmptyError,
        careflow_storage.CapExceededError,
        careflow_storage.ChecksumMismatchError,
        careflow_storage.ConnectionFailedError,
        careflow_storage.FileLockedError,
        careflow_storage.FileTooLargeError,
        careflow_storage.InvalidCredentialsError,
        careflow_storage.InvalidInputError,
        careflow_storage.InvalidPathError,
        careflow_storage.InvalidRangeError,
        careflow_storage.LocalFileError,
        careflow_storage.MissingExtraError,
        careflow_storage.NoSuchApplicationKeyError,
        careflow_storage.NoSuchBucketError,
        careflow_storage.NoSuchConfigurationError,
        careflow_storage.NoSuchKeyError,
        careflow_storage.NoSuchUploadError,
        careflow_storage.NotSupportedError,
        careflow_storage.PoolTimeoutError,
        careflow_storage.PreconditionFailedError,
        careflow_storage.ServerResponseError,
        careflow_storage.ServiceUnavailableError,
        careflow_storage.SizeMismatchError,
        careflow_storage.SourceError,
        careflow_storage.SourceTooLargeError,
        careflow_storage.StorageClosedError,
        careflow_storage.StorageTimeoutError,
        careflow_storage.TransferError,
        careflow_storage.WrongLoopError,
    ]
    print(families)
