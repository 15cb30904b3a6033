"""Run the checks in order, within their time limits, and skip those that cannot succeed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from careflow_storage.admin.cors.limits import origin_problem
from careflow_storage.doctor.advice import command
from careflow_storage.doctor.b2_probes.probes import CHECKS as LIVE_CHECKS
from careflow_storage.doctor.checks import access, bucket, identity, locked, network, settings
from careflow_storage.doctor.context import DoctorContext, new_folder
from careflow_storage.doctor.explain import in_words, outcome_of
from careflow_storage.doctor.models import (
    Diagnosis,
    Finding,
    Group,
    Outcome,
    failed,
    passed,
    skipped,
    warned,
)
from careflow_storage.errors import InvalidInputError
from careflow_storage.recordings import validate_key
from careflow_storage.settings import StorageSettings

_CHECK_SECONDS = 15.0
_ALL_SECONDS = 50.0
_LIVE_SECONDS = 120.0
_LONGEST_PROBE = "nothing-is-here"

Response = Outcome | list[Outcome] | None


@dataclass(frozen=True, slots=True)
class Check:
    """One check. It is skipped unless all checks that it ``needs`` ran and did not fail.

    A check that does not apply has no outcome.
    """

    group: Group
    name: str
    run: Callable[[DoctorContext], Awaitable[Response]]
    needs: tuple[str, ...] = ()


_ENDPOINT = ("settings", "BACKBLAZE_ENDPOINT")
_ALL_SETTINGS = (
    *_ENDPOINT,
    *("BACKBLAZE_KEY_ID", "BACKBLAZE_APPLICATION_KEY", "BACKBLAZE_BUCKET_NAME"),
)
_BUCKET = ("credentials", "bucket")
_PUT = (*_BUCKET, "put")

CHECKS: tuple[Check, ...] = (
    Check("settings", "settings", settings.settings),
    Check("settings", "key form", settings.key_form, _ALL_SETTINGS),
    Check("network", "endpoint", network.endpoint, _ENDPOINT),
    Check("network", "dns", network.dns, ("endpoint",)),
    Check("network", "tcp", network.tcp, ("dns",)),
    Check("network", "tls", network.tls, ("tcp",)),
    Check("network", "http", network.http, ("tcp", "tls")),
    Check("network", "clock", network.clock, ("http",)),
    Check("access", "credentials", identity.credentials, ("http", *_ALL_SETTINGS)),
    Check("access", "bucket", identity.bucket, ("credentials",)),
    Check("access", "list", access.list_files, _BUCKET),
    Check("access", "default retention", locked.default_retention, _BUCKET),
    Check("access", "put", access.put, _BUCKET),
    Check("access", "head", access.head, _BUCKET),
    Check("access", "get", access.get, _BUCKET),
    Check("access", "missing file", access.missing_file, _BUCKET),
    Check("access", "presigned url", access.presigned_url, _BUCKET),
    Check("access", "multipart", access.multipart, _BUCKET),
    Check("access", "list versions", access.list_versions, _BUCKET),
    Check("access", "list uploads", access.list_uploads, _BUCKET),
    Check("access", "delete", access.delete, _PUT),
    Check("access", "erase", access.erase, _PUT),
    Check("access", "usable", access.usable, _BUCKET),
    Check("bucket", "configuration", bucket.configuration, _BUCKET),
    Check("bucket", "cors", bucket.cors, ("configuration",)),
    Check("bucket", "lifecycle", bucket.lifecycle, ("configuration",)),
    Check("bucket", "public", bucket.public, ("configuration",)),
    Check("bucket", "encryption", bucket.encryption, ("configuration",)),
    Check("bucket", "versioning", bucket.versioning, ("configuration",)),
    Check("bucket", "object lock", bucket.object_lock, ("configuration",)),
    Check("bucket", "stale uploads", bucket.stale_uploads, _BUCKET),
)


async def diagnose(
    settings: StorageSettings | Mapping[str, Any] | None = None,
    *,
    origin: str | None = None,
    live: bool = False,
    probe_prefix: str = "careflow-doctor/",
    on_finding: Callable[[Finding], None] | None = None,
) -> Diagnosis:
    """Find out why the storage does not work: settings, network, key, bucket, CORS, lifecycle.

    A failing check does not raise: it becomes a finding with a cause and a solution. The checks
    store small probes below ``probe_prefix`` and erase them, also when cancelled. If the key may
    not erase, the probes are hidden, and the finding ``clean up`` names them. In a bucket that
    locks every new file nothing is stored. Sends about 40 requests, of B2's classes A to C, and
    takes at most about a minute (two with ``live``), even if the server does not respond.

    Args:
        settings: The settings in use; or arguments of `StorageSettings`, to find out what is
            malformed in them; None reads the environment.
        origin: The origin of a web page, such as ``https://app.example``. Checks whether the
            page may upload and play.
        live: Also check what only a real B2 account can show, and compare it with the
            assumptions of this library. About 40 more requests.
        probe_prefix: Where to store the probes, in a folder of their own. If the key is limited
            to a prefix, this must begin with it.
        on_finding: Called with each finding as soon as it is available.

    Raises:
        InvalidInputError: ``probe_prefix`` cannot begin a key, or ``origin`` is not an origin.
    """
    validate_key(f"{new_folder(probe_prefix)}{_LONGEST_PROBE}")
    problem = origin_problem(origin) if origin is not None else None
    if problem is not None:
        raise InvalidInputError(f"origin: {problem}.")
    given = settings if isinstance(settings, StorageSettings) else None
    values = {} if settings is None or given is not None else dict(settings)
    context = DoctorContext(values, given, origin, live, probe_prefix)
    findings: list[Finding] = []
    run = _Run(context, findings, on_finding or (lambda _: None))
    try:
        await run.all()
    finally:
        await context.close()
    return Diagnosis(findings=tuple(findings))


class _Run:
    """One run of all checks."""

    def __init__(
        self,
        context: DoctorContext,
        findings: list[Finding],
        on_finding: Callable[[Finding], None],
    ) -> None:
        self._context = context
        self._findings = findings
        self._on_finding = on_finding
        self._ends = time.monotonic() + (_LIVE_SECONDS if context.live else _ALL_SECONDS)
        self._verdicts: dict[str, str] = {}
        self._reasons: dict[str, str] = {}

    async def all(self) -> None:
        """Run every check, then erase the probes."""
        more = LIVE_CHECKS if self._context.live else {}
        checks = (*CHECKS, *(Check("live", name, run, _PUT) for name, run in more.items()))
        for check in checks:
            await self._one(check)
        if self._context.leftovers.keys or self._context.locks is not None:
            await self._one(Check("end", "clean up", _clean_up))

    async def _one(self, check: Check) -> None:
        started = time.perf_counter()
        outcomes = self._left_out(check) or await self._outcomes(check)
        seconds = time.perf_counter() - started
        # A check that does not apply counts as passed for those that need it.
        self._verdicts.setdefault(check.name, "pass")
        for outcome in outcomes:
            name = outcome.check or check.name
            self._verdicts[name] = outcome.verdict
            finding = Finding(
                group=check.group,
                check=name,
                verdict=outcome.verdict,
                found=outcome.found,
                cause=outcome.cause,
                solution=outcome.solution,
                seconds=round(seconds, 3),
            )
            self._findings.append(finding)
            self._on_finding(finding)

    def _left_out(self, check: Check) -> list[Outcome]:
        for needed in check.needs:
            verdict = self._verdicts.get(needed)
            if verdict == "fail" or (verdict == "skip" and needed in self._reasons):
                self._reasons[check.name] = root = self._reasons.get(needed, needed)
                return [skipped(f"Skipped, because {root} failed.")]
        if check.group == "live" and self._context.locks is not None:
            return [skipped("Skipped: the bucket locks every new file.")]
        if check.group != "end" and time.monotonic() > self._ends:
            return [skipped("Skipped: the diagnosis has taken too long already.")]
        return []

    async def _outcomes(self, check: Check) -> list[Outcome]:
        try:
            async with asyncio.timeout(_CHECK_SECONDS):
                response = await check.run(self._context)
        except Exception as error:  # noqa: BLE001 - becomes a finding
            if type(error) is TimeoutError and error.errno is None:
                return [_too_slow()]
            return [outcome_of(error)]
        if response is None:
            return []
        return response if isinstance(response, list) else [response]


def _too_slow() -> Outcome:
    return failed(
        f"The check took longer than {_CHECK_SECONDS:g} s.",
        "Network or location: the server is slow, or drops requests.",
        "Check the network, and that BACKBLAZE_ENDPOINT is the region nearest to you.",
    )


async def _clean_up(context: DoctorContext) -> Outcome:
    if not context.leftovers.keys:
        return passed("No probe was stored: nothing is left in the bucket.")
    try:
        left = await context.clean_up()
    except Exception as error:  # noqa: BLE001 - becomes a finding
        left = [in_words(error)]
    if not left:
        return passed("All probes are erased: nothing is left in the bucket.")
    erase = command("rm", "--prefix", context.folder, "--all-versions")
    return warned(
        f"Left in the bucket: {', '.join(left)}",
        "The application key may not erase versions (deleteFiles, listFiles), or object lock "
        "keeps them.",
        f"Harmless: some bytes in the doctor's own folder. Erase it with a key that may: {erase}.",
    )
