"""Follow the README and the tutorial literally, as a newcomer on a fresh machine.

    python -m tools.newcomer             # both
    python -m tools.newcomer tutorial

Each document gets a copy of the tracked files, a fresh virtual environment and an empty home. What
a block of the document says is what runs; a line that fails, or hangs, ends the program with an
error. Where the kernel allows it, what needs neither the package index nor the embedded server runs
without a network but loopback.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# The most seconds that one document may take, on a busy machine without a cache of packages.
_LIMIT = 900
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Of the environment, only what finds programs and the package index.
_KEPT = re.compile(r"PATH|LANG|LC_.*|TMPDIR|(PIP|UV|SSL|REQUESTS|HTTPS?|NO|http|https|no)_.*")
_LOOPBACK_UP = (
    "import fcntl, os, socket, struct, sys\n"
    "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
    "fcntl.ioctl(s, 0x8914, struct.pack('16sh14s', b'lo', 1, b''))\n"
    "s.close()\n"
    "os.execvp(sys.argv[1], sys.argv[1:])\n"
)


class Newcomer:
    """A person with a clone, a virtual environment, and nothing else."""

    def __init__(self, folder: Path, wheels: Path) -> None:
        self.home = folder / "home"
        self.home.mkdir()
        self.clone = folder / "careflow-storage"
        self.venv = folder / "venv"
        kept = {name: value for name, value in os.environ.items() if _KEPT.fullmatch(name)}
        self.environment = kept | {
            "HOME": str(self.home),
            "PATH": f"{self.venv / 'bin'}{os.pathsep}{kept['PATH']}",
            # The package of this checkout takes the place of the one on the index.
            "PIP_FIND_LINKS": str(wheels),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_ROOT_USER_ACTION": "ignore",
        }
        self.environment.pop("PYTHONPATH", None)

    def shell(self, line: str, folder: Path) -> None:
        """Run a line of a document in a shell; each command behind ``&&`` on its own."""
        for command in line.split(" && "):
            print(f"$ {command}", flush=True)
            started = time.monotonic()
            arguments = ["bash", "-euo", "pipefail", "-c", command]
            if not command.startswith(("pip ", "python -m venv")):
                arguments = [*offline(), *arguments]
            subprocess.run(arguments, cwd=folder, env=self.environment, check=True)
            print(f"  {time.monotonic() - started:.1f} s", flush=True)

    @contextmanager
    def server(self, command: str, folder: Path) -> Iterator[None]:
        """Run ``serve-local`` in a second terminal, and paste the variables that it prints."""
        print(f"$ {command} &", flush=True)
        process = subprocess.Popen(
            shlex.split(command),
            cwd=folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        names = set()
        try:
            for line in process.stdout:
                assert line.startswith("export "), line
                name, _, value = line.removeprefix("export ").strip().partition("=")
                self.environment[name] = shlex.split(value)[0]
                names.add(name)
                if len(names) == 5:
                    break
            assert len(names) == 5, f"{command} printed {names}"
            yield
        finally:
            process.terminate()
            process.communicate(timeout=60)
            for name in names:
                del self.environment[name]


def offline() -> list[str]:
    """Return a command that runs another one without a network but loopback, if there is one."""
    if shutil.which("unshare") is None:
        return []
    command = ["unshare", "--net", sys.executable, "-c", _LOOPBACK_UP]
    works = subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0
    return command if works else []


def blocks(document: str, language: str) -> list[str]:
    """Return the blocks of a document in this language."""
    text = (ROOT / document).read_text(encoding="utf-8")
    return [found[2] for found in _FENCE.finditer(text) if found[1] == language]


def follow_readme(person: Newcomer) -> None:
    """The two commands, then the quick start and the commands against the embedded server."""
    demo, tests, _variables, manage = blocks("README.md", "bash")
    person.shell(demo.strip(), person.clone)
    # CI runs the tests in another session, which takes minutes.
    person.shell(tests.strip().replace("nox -s tests", "nox -s tests --list"), person.clone)
    work = person.home / "quick-start"
    work.mkdir()
    person.shell("careflow-storage sample", work)
    (program,) = (each for each in blocks("README.md", "python") if "asyncio.run(" in each)
    (work / "quickstart.py").write_text(program, encoding="utf-8")
    with person.server("careflow-storage serve-local", work):
        run_beside_server(person, ["python", "quickstart.py"], work)
        install, *commands = [line for line in manage.splitlines() if line]
        assert install.startswith("pip install "), install
        for command in commands:
            # Only Backblaze has application keys.
            if not command.startswith("careflow-storage keys "):
                run_beside_server(person, shlex.split(command, comments=True), work)


def run_beside_server(person: Newcomer, arguments: list[str], folder: Path) -> None:
    """Run a program in the network of the server."""
    print(f"$ {' '.join(arguments)}", flush=True)
    # To the question of a command the newcomer says yes.
    subprocess.run(arguments, cwd=folder, env=person.environment, input=b"y\n", check=True)


def follow_tutorial(person: Newcomer) -> None:
    """Every line of the tutorial; its recording is heard, that is, fetched by its URL."""
    work = person.home / "tutorial"
    work.mkdir()
    install, serve, sample = blocks("docs/tutorial.md", "bash")
    # The environment of this newcomer is the one that the first line makes.
    person.shell(install.strip().splitlines()[1], work)
    person.shell(sample.strip(), work)
    with person.server(serve.strip(), work):
        python = blocks("docs/tutorial.md", "python")
        heard = next(n for n, block in enumerate(python) if "get_signed_url" in block)
        end_of_part = "# the newcomer listens"
        prompt = subprocess.Popen(
            ["python", "-u", "-m", "asyncio"],
            cwd=work,
            env=person.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert prompt.stdin is not None
        assert prompt.stdout is not None
        paste(prompt, [*python[: heard + 1], f"print({end_of_part!r})"])
        printed = ""
        for line in prompt.stdout:
            printed += line
            if end_of_part in line:
                break
        assert "Error" not in printed, printed
        urls = re.findall(r"http://\S+X-Amz-Signature=\w+", printed)
        assert len(urls) == 1, printed
        with urllib.request.urlopen(urls[0], timeout=60) as response:
            assert response.read() == (work / "recording.webm").read_bytes()
            assert response.headers["content-type"] == "audio/webm"
        paste(prompt, python[heard + 1 :])
        printed, _ = prompt.communicate(timeout=120)
        assert prompt.returncode == 0, printed
        assert "Error" not in printed, printed
        assert "delete_marker=True" in printed, printed


def paste(prompt: subprocess.Popen[str], pasted: list[str]) -> None:
    """Paste blocks into the prompt, which ends a block of several lines at an empty one."""
    assert prompt.stdin is not None
    prompt.stdin.write("\n".join(f"{block}\n" for block in pasted))
    prompt.stdin.flush()


FOLLOW: dict[str, Callable[[Newcomer], None]] = {
    "README": follow_readme,
    "tutorial": follow_tutorial,
}


def _too_long(number: int, frame: object) -> None:
    raise TimeoutError(f"A line hangs: the document took more than {_LIMIT} s.")


def main() -> None:
    """Follow both documents, or those that the arguments name."""
    signal.signal(signal.SIGALRM, _too_long)
    with tempfile.TemporaryDirectory() as temporary:
        base = Path(temporary)
        wheels = base / "wheels"
        for name, follow in FOLLOW.items():
            if sys.argv[1:] and name not in sys.argv[1:]:
                continue
            signal.alarm(_LIMIT)
            print(f"=== {name}{'' if offline() else ' (with the network of this machine)'}")
            folder = base / name
            folder.mkdir()
            person = Newcomer(folder, wheels)
            copy_tracked_files(person.clone)
            subprocess.run([sys.executable, "-m", "venv", str(person.venv)], check=True)
            if not wheels.exists():
                pip = [str(person.venv / "bin/pip"), "wheel", "--quiet", "--no-deps"]
                subprocess.run([*pip, "--wheel-dir", str(wheels), str(ROOT)], check=True)
            follow(person)


def copy_tracked_files(target: Path) -> None:
    """Copy what a clone would hold."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    for name in filter(None, listed.split("\0")):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target / name)


if __name__ == "__main__":
    main()
