"""``careflow-storage migrate``: translate settings, and check code, from AWS S3."""

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
from careflow_storage.cli.exit_codes import FAILED
from careflow_storage.cli.ui.cleaning import clean
from careflow_storage.cli.ui.output import Output, has_unicode
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
    """Translate AWS's variables; print them, and write them to ``target`` if it is given."""
    variables = await asyncio.to_thread(_variables, source)
    translation = translate_environment(variables)
    if target is not None:
        await write_translation(translation, target)
    # Secrets are masked in `shown`, and in SecretStr.
    output.item(
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
    _print_notes(output, translation, target)


def _variables(source: Path | None) -> Mapping[str, str]:
    if source is not None:
        return read_env(source)
    beside = Path(".env")
    return {**(read_env(beside) if beside.is_file() else {}), **os.environ}


def _lines(translation: Translation, width: int | None) -> Iterator[Text]:
    """The lines of a .env file with all results. Comments are wrapped at this width."""
    for each in translation.carried:
        yield Text.assemble((clean(each.variable), "bold"), f"={clean(each.shown)}")
        yield from _comment(f"from {each.taken_from}", width, "dim")
    for number, problem in enumerate(translation.unresolved):
        if number or translation.carried:
            yield Text()
        if problem.variable is not None:
            yield Text(f"# {clean(problem.variable)}=", "yellow")
        yield from _comment(f"{problem.old_variable or ''} {problem.problem}.", width, "dim")
        yield from _comment(f"{'Put ' if problem.variable else ''}{problem.put}", width, "")


def _comment(text: str, width: int | None, style: str) -> Iterator[Text]:
    text = clean(text.strip())
    lines = [text]
    if width is not None:
        # URLs and names are not split.
        lines = textwrap.wrap(
            text, max(width - 5, 20), break_long_words=False, break_on_hyphens=False
        )
    for line in lines:
        yield Text(f"#   {line}", style)


def _print_notes(output: Output, translation: Translation, target: Path | None) -> None:
    if translation.kept:
        output.note(f"Already set: {', '.join(translation.kept)}.")
    if not (translation.carried or translation.unresolved or translation.kept):
        output.note("There are no AWS_* variables to translate.")
    if target is not None and translation.carried:
        output.done(f"Wrote {target}, readable only by you.")
    elif target is not None:
        output.note(f"Nothing to write: {target} is unchanged.")
    elif any(each.shown != each.value.get_secret_value() for each in translation.carried):
        output.note("Secrets are masked. Use --write FILE to write them.")
    if translation.missing:
        output.warn(f"You still have to set: {', '.join(translation.missing)}.")


async def check_code(output: Output, settings: StorageSettings, prefix: str) -> int | None:
    """Run the checks and print the findings; return exit code 1 if code must change."""
    async with waiting(output, "Running what S3 code does"):
        report = await check_old_code(settings, prefix=prefix)
    output.item({**report.model_dump(mode="json"), "unchanged": report.unchanged})
    _print_report(output, report)
    if report.left:
        output.warn(f"Could not erase: {', '.join(report.left)}.")
    to_change = sum(each.verdict in ("differs", "fails") for each in report.findings)
    return FAILED if to_change else None


def _print_report(output: Output, report: OldCodeReport) -> None:
    if output.as_json:
        return
    output.line(Text.assemble("S3 code at ", (clean(report.endpoint), "bold")))
    unicode = has_unicode(output.stdout)
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for each in report.findings:
        marker, style = _STYLES[each.verdict]
        shown = marker if unicode else each.verdict
        table.add_row(Text(shown, style), each.what, _explained(each))
    output.print(table)
    counts = {name: sum(each.verdict == name for each in report.findings) for name in _STYLES}
    text = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    output.line(Text(text, "bold"))


def _explained(finding: OldCodeFinding) -> Text:
    text = Text(clean(finding.code), "dim")
    if finding.response is not None:
        text.append(f"\n{clean(finding.response)}", "not dim")
    if finding.change is not None:
        text.append(f"\n{clean(finding.change)}", "not dim bold")
    return text
