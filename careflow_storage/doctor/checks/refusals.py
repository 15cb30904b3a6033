"""Findings for a request that is denied, or that there is no file for."""

from __future__ import annotations

from careflow_storage.doctor.context import DoctorContext
from careflow_storage.doctor.explain import (
    NOT_S3_CAUSE,
    NOT_S3_SOLUTION,
    in_words,
    is_not_s3_enabled,
    outcome_of,
)
from careflow_storage.doctor.models import Outcome, failed, skipped, warned
from careflow_storage.doctor.raw_client import Reply
from careflow_storage.errors import AccessDeniedError, CapExceededError

GRANT = (
    "Create a key that has it (`careflow-storage keys create`; keys cannot be changed). For a "
    "key that is limited to a prefix, pass one below it: --probe-prefix (probe_prefix=)."
)


def refused(context: DoctorContext, reply: Reply | None, capability: str, loss: str) -> Outcome:
    if reply is None:
        return skipped("There was no response to judge.")
    error = reply.error()
    if isinstance(error, AccessDeniedError):
        return denied(context, error, capability, loss)
    return outcome_of(error)


def denied(context: DoctorContext, error: AccessDeniedError, capability: str, loss: str) -> Outcome:
    if isinstance(error, CapExceededError):
        return outcome_of(error)
    if is_not_s3_enabled(error):
        return failed(in_words(error), NOT_S3_CAUSE, NOT_S3_SOLUTION)
    locked = ", or object lock keeps the version" if capability == "deleteFiles" else ""
    return warned(
        f"Denied ({in_words(error)}). Without it these do not work: {loss}.",
        f"The application key lacks {capability}, or is limited to another bucket, or to a "
        f"prefix other than {context.probe_prefix}{locked}.",
        GRANT,
    )


def nothing_to_read() -> Outcome:
    return skipped("There is no file to try it on: no probe is stored.")


def whose(context: DoctorContext) -> str:
    return "" if context.sample == context.probe else ", on an existing file"
