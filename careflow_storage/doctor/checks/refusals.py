"""What it means that a key may not do something, or that there is nothing to try it on."""

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
    "Create a key that has it (`careflow-storage keys create`; keys cannot be changed). A key "
    "that is limited to a prefix is tried with --probe-prefix (probe_prefix=) below that."
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
        f"Denied ({in_words(error)}). What does not work: {loss}.",
        f"The application key lacks {capability}, or is limited to another bucket, or to a "
        f"prefix other than {context.probe_prefix}{locked}.",
        GRANT,
    )


def nothing_to_read() -> Outcome:
    return skipped("There is nothing to try it on: no probe is stored.")


def whose(context: DoctorContext) -> str:
    return "" if context.sample == context.probe else ", on a file that is there"
