"""pandas, pyarrow, Dask, universal_pathlib and ffmpeg on the bucket's files, as the page shows."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from careflow_storage.integrations.fsspec import CareflowFileSystem

PAGE = Path(__file__).parents[3] / "docs/fsspec.md"
BLOCKS = re.findall(
    r"^```py\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
)
ENV_FILE = "/etc/careflow/b2.env"

pytestmark = [pytest.mark.slow, pytest.mark.integration, pytest.mark.timeout(300)]


def blocks_with(*words: str) -> list[str]:
    return [block for block in BLOCKS if any(word in block for word in words)]


@pytest.fixture
def folder(seaweed_fs: CareflowFileSystem, recordings: dict[str, Path], tmp_path: Path) -> Path:
    """A working directory with a recording, and a bucket with a table."""
    (tmp_path / "recording.webm").write_bytes(recordings["greeting.webm"].read_bytes())
    seaweed_fs.pipe("exports/calls.csv", b"call,seconds\nCA1,12\nCA2,30\n")
    return tmp_path


def run(blocks: list[str], folder: Path, environment: dict[str, str] | None = None) -> str:
    """Run blocks as one program, in which every warning is an error."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n".join(blocks)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout


def test_every_block_of_the_page_is_run_here() -> None:
    run_below = blocks_with("pandas", "pyarrow", "dask", "upath", "ffmpeg")
    assert run_below == BLOCKS


def test_pandas_pyarrow_and_dask_read_and_write_tables(folder: Path) -> None:
    pytest.importorskip("pandas", reason="the group `data` is not installed")
    blocks = [each for each in blocks_with("pandas", "pyarrow", "dask") if ENV_FILE not in each]
    assert run(blocks, folder).splitlines()[-3:] == ["2", "1", "1"]


def test_pandas_reads_the_settings_from_a_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pandas: Any = pytest.importorskip("pandas", reason="the group `data` is not installed")
    import os

    variables = {name: text for name, text in os.environ.items() if name.startswith("BACKBLAZE_")}
    (folder / "b2.env").write_text("".join(f"{name}={text}\n" for name, text in variables.items()))
    for name in variables:
        monkeypatch.delenv(name)
    (block,) = blocks_with(ENV_FILE)
    names: dict[str, Any] = {"pandas": pandas}
    exec(block.replace(ENV_FILE, str(folder / "b2.env")), names)  # noqa: S102 - the page's own
    assert [*names["frame"]["seconds"]] == [12, 30]


def test_paths_read_write_list_and_remove(folder: Path) -> None:
    assert run(blocks_with("upath"), folder).splitlines() == ["checked 7", "['notes.txt']"]


def test_ffmpeg_reads_and_writes_through_pipes(
    folder: Path, seaweed_fs: CareflowFileSystem
) -> None:
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not installed")
    run(blocks_with("ffmpeg"), folder)
    wav = seaweed_fs.cat_file("recordings/CA1/recording.wav")
    assert wav[:4] == b"RIFF"
    assert len(wav) > 50_000
    assert seaweed_fs.info("recordings/CA1/recording.wav")["ContentType"] == "audio/wav"


def test_ffmpeg_that_fails_stores_nothing(folder: Path, seaweed_fs: CareflowFileSystem) -> None:
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not installed")
    (folder / "recording.webm").write_bytes(b"no recording")
    (block,) = blocks_with("ffmpeg")
    done = subprocess.run(
        [sys.executable, "-c", block], cwd=folder, capture_output=True, text=True, check=False
    )
    assert "ffmpeg failed" in done.stderr
    assert not seaweed_fs.exists("recordings/CA1/recording.wav")


CLUSTER = """
import os, pickle
import dask.bytes, dask.dataframe, pandas
from dask.distributed import Client, LocalCluster

def main():
    secret = os.environ["BACKBLAZE_APPLICATION_KEY"]
    pandas.DataFrame({"n": range(1000)}).to_csv("careflow://tables/a.csv", index=False)
    with LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address=None) as cluster:
        with Client(cluster) as client:
            frame = dask.dataframe.read_csv("careflow://tables/*.csv", blocksize=1000)
            assert frame.npartitions > 2
            assert secret not in str(dict(frame.__dask_graph__()))
            assert frame.n.sum().compute() == 499500
            frame.to_parquet("careflow://tables/parquet")
            again = dask.dataframe.read_parquet("careflow://tables/parquet")
            assert again.n.sum().compute() == 499500
            sample, blocks = dask.bytes.read_bytes("careflow://tables/a.csv", blocksize=1000)
            parts = [part for file in blocks for part in file]
            assert secret.encode() not in pickle.dumps(parts)
            assert sum(map(len, dask.compute(*parts))) == 3892

if __name__ == "__main__":
    main()
"""


def test_workers_of_a_cluster_read_and_write_with_settings_of_their_own(folder: Path) -> None:
    pytest.importorskip("pandas", reason="the group `data` is not installed")
    program = folder / "cluster.py"
    program.write_text(CLUSTER, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(program)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
