"""Check successes of the control plane: their status, and the root of their document.

botocore reads any XML as the expected document, even a web page, and treats missing elements as
empty. But "no rules" is not the same as a document without rules in it.
"""

from __future__ import annotations

import re
from typing import Any, Final

from careflow_storage._s3.boto.read_timeout import is_own_call
from careflow_storage._s3.redaction import printable
from careflow_storage._s3.responses.check import explain_malformed, is_marked, is_web_page
from careflow_storage.errors import ServerResponseError

# By operation, how the root's name begins: not all servers end it as Amazon does.
_ROOTS: Final[dict[str, tuple[str, ...]]] = {
    "CopyObject": ("CopyObject",),
    "GetBucketCors": ("CORSConfiguration",),
    "GetBucketEncryption": ("ServerSideEncryptionConfiguration",),
    "GetBucketLifecycleConfiguration": ("LifecycleConfiguration",),
    "GetBucketLocation": ("LocationConstraint", "GetBucketLocation", "CreateBucketConfiguration"),
    "GetBucketVersioning": ("VersioningConfiguration", "GetBucketVersioning"),
    "GetObjectLegalHold": ("LegalHold",),
    "GetObjectLockConfiguration": ("ObjectLockConfiguration",),
    "GetObjectRetention": ("Retention",),
    "ListBuckets": ("ListAllMyBuckets",),
    "ListMultipartUploads": ("ListMultipartUploads",),
    "ListObjectVersions": ("ListVersions",),
    "ListObjects": ("ListBucket",),
    "ListObjectsV2": ("ListBucket",),
    "ListParts": ("ListParts",),
    "UploadPartCopy": ("CopyPart", "UploadPartCopy"),
}
# A prefix of its namespace is none of its name. What comes first are declarations and comments.
_find_root = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*+(?:<\?.*?\?>\s*+|<!--.*?-->\s*+)*+<(?:[\w.-]{1,100}:)?([\w.-]{1,100})",
    re.DOTALL,
).match


class WholeBody(bytes):
    """A body, and the status that it came with: botocore makes a 500 of what it cannot parse."""

    status: int


def check_success(operation_model: Any, response_dict: dict[str, Any], **_: Any) -> None:
    """Raise `ServerResponseError` for a success that is none of the operation's.

    A handler of botocore's event ``before-parse``. Not for the calls of a user of the lent client.
    """
    if not is_own_call():
        return
    body = response_dict["body"]
    if not isinstance(body, bytes):
        return  # the content of a file, which its reader reads
    status = body.status if isinstance(body, WholeBody) else response_dict["status_code"]
    if status >= 300:
        return
    headers = {name.lower(): value for name, value in response_dict["headers"].items()}
    problem = _problem(operation_model.name, operation_model.http["method"], status, headers, body)
    if problem is None:
        return
    error = ServerResponseError(
        f"Malformed response: {problem}.",
        status=status,
        # A whole document from S3 is no accident: such a server does not know the operation.
        retryable=not (is_marked(headers) and _is_whole(body)),
    )
    explain_malformed(error, status, headers, body)
    raise error


def _is_whole(body: bytes) -> bool:
    """Whether a document ends with the element that it begins with: it was not cut or damaged."""
    root = _find_root(body)
    if root is None:
        return False
    return re.search(rb"[</:]" + re.escape(root[1]) + rb"[^<>]*>\s*$", body) is not None


def _problem(
    operation: str, method: str, status: int, headers: dict[str, str], body: bytes
) -> str | None:
    roots = _ROOTS.get(operation)
    if roots is not None:
        found = _find_root(body)
        root = found[1].decode() if found else "missing"
        # Errors that come with the status 200 are botocore's to raise.
        if root == "Error" or root.startswith(roots):
            return None
        return f"its root is {printable(root, 40)}, not {roots[0]}"
    if is_marked(headers):
        return None
    if method == "DELETE" and status != 204:
        return f"HTTP {status} is no success of a deletion"
    if status not in (200, 204):
        return f"HTTP {status} is no success"
    if body:
        return "it has a body"
    if method == "HEAD" and is_web_page(headers):
        return "it is a web page"
    return None
