"""What ``careflow-storage migrate`` does and prints."""

from __future__ import annotations

import asyncio
import os
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path

from rich.table import Table
from rich.text import Text

from careflow_storage import StorageSettings
from careflow_storage._env_file import read_env
from careflow_storage.cli.run import FAILED
from careflow_storage.cli.ui.cleaning import clean
from careflow_storage.cli.ui.output import Output
from careflow_storage.cli.ui.spinner import waiting
from careflow_storage.migrate import (
    OldCodeFinding,
    OldCodeReport,
    Translation,
    check_old_code,
    translate_environment,
    write_translation,
)

_STYLES = {
    "works": ("✓", "green"),
    "differs": ("~", "yellow"),
    "fails": ("✗", "red"),
    "skipped": ("-", "dim"),
}


async def translate(output: Output, source: Path | None, target: Path | None) -> None:
    """Print what AWS's variables become; write it to ``target`` if there is one."""
    variables = await asyncio.to_thread(_variables, source)
    translation = translate_environment(variables)
    if target is not None:
        await write_translation(translation, target)
    # Secrets are masked in `shown`, and in SecretStr.
    output.data(
        {
            "carried": [each.model_dump(exclude={"value"}) for each in translation.carried],
            "kept": translation.kept,
            "unresolved": translation.unresolved,
            "missing": translation.missing,
            "written_to": target,
        }
    )
    for line in _lines(translation, output.stdout.width if output.stdout.is_terminal else None):
        output.line(line)
    _remarks(output, translation, target)


def _variables(source: Path | None) -> Mapping[str, str]:
    if source is not None:
        return read_env(source)
    beside = Path(".env")
    return {**(read_env(beside) if beside.is_file() else {}), **os.environ}


def _lines(translation: Translation, width: int | None) -> Iterator[Text]:
    """A .env file of it all; its comments are wrapped at this width."""
    for each in translation.carried:
        yield Text.assemble((clean(each.variable), "bold"), f"={clean(each.shown)}")
        yield from _comment(f"from {each.taken_from}", width, "dim")
    for number, trouble in enumerate(translation.unresolved):
        if number or translation.carried:
            yield Text()
        if trouble.variable is not None:
            yield Text(f"# {clean(trouble.variable)}=", "yellow")
        yield from _comment(f"{trouble.old_variable or ''} {trouble.problem}.", width, "dim")
        yield from _comment(f"{'Put ' if trouble.variable else ''}{trouble.put}", width, "")


def _comment(text: str, width: int | None, style: str) -> Iterator[Text]:
    text = clean(text.strip())
    lines = [text]
    if width is not None:
        # URLs and names stay whole.
        lines = textwrap.wrap(
            text, max(width - 5, 20), break_long_words=False, break_on_hyphens=False
        )
    for line in lines:
        yield Text(f"#   {line}", style)


def _remarks(output: Output, translation: Translation, target: Path | None) -> None:
    if translation.kept:
        output.note(f"There already: {', '.join(translation.kept)}.")
    if not (translation.carried or translation.unresolved or translation.kept):
        output.note("There are no variables of AWS to translate.")
    if target is not None and translation.carried:
        output.done(f"Written to {target}, readable to you only.")
    elif target is not None:
        output.note(f"Nothing carries over: {target} was not changed.")
    elif any(each.shown != each.value.get_secret_value() for each in translation.carried):
        output.note("Secrets are masked; --write FILE writes them.")
    if translation.missing:
        output.warn(f"Still to be set: {', '.join(translation.missing)}.")


async def check_code(output: Output, settings: StorageSettings, prefix: str) -> int | None:
    """Try it, print each finding; the exit code tells whether all of it works."""
    async with waiting(output, "Trying what S3 code does"):
        report = await check_old_code(settings, prefix=prefix)
    output.data({**report.model_dump(mode="json"), "unchanged": report.unchanged})
    _print_report(output, report)
    if report.left:
        output.warn(f"Could not be erased again: {', '.join(report.left)}.")
    to_change = sum(each.verdict in ("differs", "fails") for each in report.findings)
    return FAILED if to_change else None


def _print_report(output: Output, report: OldCodeReport) -> None:
    if output.as_json:
        return
    output.line(Text.assemble("S3 code at ", (clean(report.endpoint), "bold")))
    fancy = output.stdout.encoding.lower().startswith("utf")
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for each in report.findings:
        marker, style = _STYLES[each.verdict]
        shown = marker if fancy else each.verdict
        table.add_row(Text(shown, style), each.what, _explained(each))
    output.print(table)
    counts = {name: sum(each.verdict == name for each in report.findings) for name in _STYLES}
    told = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    output.line(Text(told, "bold"))


def _explained(finding: OldCodeFinding) -> Text:
    text = Text(clean(finding.code), "dim")
    if finding.response is not None:
        text.append(f"\n{clean(finding.response)}", "not dim")
    if finding.change is not None:
        text.append(f"\n{clean(finding.change)}", "not dim bold")
    return text
