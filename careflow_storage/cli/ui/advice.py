"""Turns advice of the library, which names its methods, into advice that names commands."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from shlex import quote

# What does the same as a method. A method without a command is left out of this table.
_COMMANDS: Mapping[str, str] = {
    "abort_stale_uploads": "uploads abort --older-than 1d",
    "abort_upload": "uploads abort",
    "allow_browser_uploads": "cors allow",
    "create": "keys create",
    "delete_file": "rm",
    "delete_file_version": "rm",
    "expire_recordings": "lifecycle expire",
    "file_exists": "exists",
    "get_cors_rules": "cors show",
    "get_legal_hold": "lock status",
    "get_lifecycle_rules": "lifecycle show",
    "get_object_lock": "lock show",
    "get_retention": "lock status",
    "keep_incomplete_upload": "uploads keep",
    "list": "keys list",
    "list_file_versions": "versions",
    "list_incomplete_uploads": "uploads list",
    "list_jobs": "jobs list",
    "purge_files": 'rm --prefix "" --all-versions --dry-run',
    "restore_file": "restore",
    "resume_job": "jobs resume",
    "set_bucket_encryption": "buckets encryption SSE-B2",
    "set_object_lock": "lock enable",
}
_CALL = re.compile(r"(?:await )?(?:storage\.)?(?:admin\.)?\b([a-z_]+)\(((?:[^()]|\([^()]*\))*)\)")
# Behind the command that does the same.
_OR_CALL = re.compile(
    r"(?<=`)( \([^()]*\))?, or (?:await )?storage\.(?:admin\.)?[a-z_]+\((?:[^()]|\([^()]*\))*\)"
)
_WORDING: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), text)
    for pattern, text in (
        (r", or pass StorageSettings\(\.\.\.\)", ""),
        (r" \(probe_prefix=\)", ""),
        (
            r"Pass encryption=CustomerKey\(\.\.\.\) with the key",
            "Pass --customer-key-file with the key",
        ),
        (
            r"Use CustomerKey\(32 bytes\) or CustomerKey\.from_base64\(text\)",
            "Use a file with 32 bytes, or their base64",
        ),
        (r"the S3 client of `await storage\.client\(\)`", "another S3 client"),
        (r"timedelta\(days=1\)", "1d"),
        (r"\b(?:dry_run|resume|deep|bypass_governance)=True\b", r"--\g<0>"),
        (r"\bmode=[\"']?(\w+)[\"']?", r"--mode \1"),
        (r"\bchecksum=[\"'](\w+)[\"']", r"--checksum \1"),
        (r"\boverwrite=False\b|\bif_exists=[\"']error[\"']", "--no-overwrite"),
        (r"\btarget_prefix\b", "--to-prefix"),
        (
            r"\bset_legal_hold with its version_id",
            "`careflow-storage lock hold KEY off`, with --version-id",
        ),
        (r"\bversion_id\b", "--version-id"),
        (r"\bkeys_file\b", "--keys"),
        (r"(`[^`]+`) and \1", r"\1"),
    )
)
_FLAG = re.compile(r"--([a-z]+(?:_[a-z]+)*)=True\b")


def command_advice(text: str) -> str:
    """Replace the methods and arguments of the library in a text by commands and options."""
    text = _CALL.sub(_command, _OR_CALL.sub(r"\1", text))
    for pattern, replacement in _WORDING:
        text = pattern.sub(replacement, text)
    return _FLAG.sub(lambda found: f"--{found[1].replace('_', '-')}", text)


def _command(call: re.Match[str]) -> str:
    name, arguments = call.groups()
    command = _COMMANDS.get(name)
    if command is None or (name in ("create", "list") and arguments):
        return call[0]
    return f"`careflow-storage {' '.join([command, *_words(name, arguments)])}`"


def _words(name: str, arguments: str) -> list[str]:
    """Return the arguments of a call as they are typed, where a command has them."""
    try:
        parsed = ast.parse(f"f({arguments})", mode="eval").body
        assert isinstance(parsed, ast.Call)  # noqa: S101 - it is written so above
        given = [ast.literal_eval(each) for each in parsed.args]
        named = {str(each.arg): ast.literal_eval(each.value) for each in parsed.keywords}
    except (SyntaxError, ValueError):
        # Written for the reader to fill in.
        return []
    if name == "delete_file" and given:
        version = named.get("version_id")
        return [quote(str(given[0])), *(["--version-id", quote(str(version))] if version else [])]
    if name == "allow_browser_uploads" and given:
        methods = [f"--method {each}" for each in named.get("methods", ())]
        add = ["--add"] if named.get("add") else []
        return [*(quote(str(each)) for each in given[0]), *methods, *add]
    return []
