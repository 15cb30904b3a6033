"""How B2 treats signatures that a browser presents."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta

from careflow_storage._s3.signing.signer import MAX_EXPIRES_IN, derive_signing_key, encode_key
from careflow_storage.doctor.b2_probes.expectation import as_expected, refused_as
from careflow_storage.doctor.context import PROBE, DoctorContext
from careflow_storage.doctor.models import Outcome

_ALGORITHM = "AWS4-HMAC-SHA256"
_BOUNDARY = "careflow-doctor-form"


async def signed_length(context: DoctorContext) -> Outcome:
    """A presigned PUT with a signed Content-Length takes no other length."""
    session = (await context.transfer()).session
    key = context.store("length.txt")
    url = session.signer.presign(
        await session.credentials(),
        "PUT",
        session.origin,
        f"/{session.bucket}/{encode_key(key)}",
        {},
        {"content-length": str(len(PROBE) - 1)},
        60,
    )
    raw_client = await context.raw_client()
    reply = await raw_client.fetch("PutObject", "PUT", url, body=PROBE)
    if reply.ok:
        context.leftovers.stored(key, reply.headers.get("x-amz-version-id"))
    return refused_as(reply, 403, "SignatureDoesNotMatch")


async def url_too_long(context: DoctorContext) -> Outcome:
    """A presigned URL is valid for at most 7 days. Signs one for 8 days, as no method does."""
    session = (await context.transfer()).session
    credentials = await session.credentials()
    now, path = datetime.now(UTC), f"/{session.bucket}/{encode_key(context.probe)}"
    scope = f"{now:%Y%m%d}/{session.signer.region}/s3/aws4_request"
    who = f"{credentials.access_key_id}/{scope}".replace("/", "%2F")
    query = (
        f"X-Amz-Algorithm={_ALGORITHM}&X-Amz-Credential={who}&X-Amz-Date={now:%Y%m%dT%H%M%SZ}"
        f"&X-Amz-Expires={MAX_EXPIRES_IN + 86_400}&X-Amz-SignedHeaders=host"
    )
    canonical = f"GET\n{path}\n{query}\nhost:{session.host}\n\nhost\nUNSIGNED-PAYLOAD"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    to_sign = f"{_ALGORITHM}\n{now:%Y%m%dT%H%M%SZ}\n{scope}\n{digest}"
    signature = _signature(credentials.secret_access_key, session.signer.region, now, to_sign)
    raw_client = await context.raw_client()
    reply = await raw_client.fetch(
        "GetObject", "GET", f"{session.origin}{path}?{query}&X-Amz-Signature={signature}"
    )
    return as_expected(reply, "a refusal (400 or 403)", reply.status in (400, 403), True)


async def post_policy(context: DoctorContext) -> Outcome:
    """Uploads by an HTML form are not implemented: browsers must PUT."""
    session = (await context.transfer()).session
    credentials = await session.credentials()
    key, now = context.store("form.txt"), datetime.now(UTC)
    fields = {
        "key": key,
        "x-amz-algorithm": _ALGORITHM,
        "x-amz-credential": (
            f"{credentials.access_key_id}/{now:%Y%m%d}/{session.signer.region}/s3/aws4_request"
        ),
        "x-amz-date": f"{now:%Y%m%dT%H%M%SZ}",
    }
    conditions = [{"bucket": session.bucket}, *({name: fields[name]} for name in fields)]
    ends = now + timedelta(minutes=5)
    policy = {"expiration": f"{ends:%Y-%m-%dT%H:%M:%SZ}", "conditions": conditions}
    fields["policy"] = base64.b64encode(json.dumps(policy).encode()).decode()
    fields["x-amz-signature"] = _signature(
        credentials.secret_access_key, session.signer.region, now, fields["policy"]
    )
    raw_client = await context.raw_client()
    reply = await raw_client.fetch(
        "PostObject",
        "POST",
        f"{session.origin}/{session.bucket}",
        {"content-type": f"multipart/form-data; boundary={_BOUNDARY}"},
        _form(fields),
    )
    if reply.ok:
        context.leftovers.stored(key, reply.headers.get("x-amz-version-id"))
    return refused_as(reply, 501, "NotImplemented")


def _form(fields: dict[str, str]) -> bytes:
    head = f"--{_BOUNDARY}\r\nContent-Disposition: form-data; name="
    parts = [f'{head}"{name}"\r\n\r\n{value}\r\n' for name, value in fields.items()]
    file = f'{head}"file"; filename="probe.txt"\r\nContent-Type: text/plain\r\n\r\n'
    return "".join([*parts, file]).encode() + PROBE + f"\r\n--{_BOUNDARY}--\r\n".encode()


def _signature(secret: str, region: str, now: datetime, text: str) -> str:
    key = derive_signing_key(secret, f"{now:%Y%m%d}", region, "s3")
    return hmac.digest(key, text.encode(), "sha256").hex()
