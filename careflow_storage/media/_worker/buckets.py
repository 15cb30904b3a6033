"""Collects peaks and energies of samples whose number is not known in advance."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]

# At least half of the buckets are in use at the end of a long recording.
_BUCKETS_PER_POINT = 16
_FEWEST_BUCKETS = 8192


class Buckets:
    """Peaks and energies of equally long runs of samples, for each row.

    When all buckets are full, neighbours are merged, so that each covers twice the time. The
    memory depends on the number of points and rows, not on the length of the recording.
    """

    def __init__(self, rows: int, points: int) -> None:
        self.samples = 0
        self._points = points
        self._capacity = max(_BUCKETS_PER_POINT * points, _FEWEST_BUCKETS)
        self._width = 1
        self._full = 0
        self._peaks = np.zeros((rows, self._capacity), np.float32)
        self._energies = np.zeros((rows, self._capacity), np.float64)
        # The samples of the bucket that is not full yet.
        self._count = 0
        self._peak = np.zeros(rows, np.float32)
        self._energy = np.zeros(rows, np.float64)

    def add(self, samples: Samples) -> None:
        """Add samples, one row per channel."""
        self.samples += samples.shape[1]
        while samples.shape[1]:
            if self._count or samples.shape[1] < self._width:
                samples = self._fill(samples)
            else:
                samples = self._add_whole(samples)

    def skip(self, count: int) -> None:
        """Add ``count`` silent samples, in a time that does not depend on their number."""
        self.samples += count
        while count:
            if self._count or count < self._width:
                taken = min(count, self._width - self._count)
                self._count += taken
                self._close_if_full()
            else:
                # A merge changes the width.
                room = self._room()
                whole = min(count // self._width, room)
                taken = whole * self._width
                self._full += whole
            count -= taken

    def rows(self) -> list[tuple[list[float], list[float]]]:
        """Return the peaks and the RMS values of each row, one of each per point."""
        peaks = np.append(self._peaks[:, : self._full], self._peak[:, None], axis=1)
        energies = np.append(self._energies[:, : self._full], self._energy[:, None], axis=1)
        counts = np.append(np.full(self._full, self._width), self._count)
        if not self._count:
            peaks, energies, counts = peaks[:, :-1], energies[:, :-1], counts[:-1]
        if not len(counts):
            silent = [0.0] * self._points
            return [(silent, silent) for _ in peaks]
        # Each bucket belongs to one point, unless there are fewer buckets than points.
        edges = np.arange(self._points + 1) * (self.samples / self._points / self._width)
        nearest = np.minimum(np.rint(edges).astype(int), len(counts))
        starts = np.minimum(nearest[:-1], len(counts) - 1)
        ends = np.maximum(nearest[1:], starts + 1)
        highest = np.stack(
            [peaks[:, start:end].max(axis=1) for start, end in zip(starts, ends, strict=True)]
        )
        sums = np.concatenate([np.zeros((len(energies), 1)), np.cumsum(energies, axis=1)], axis=1)
        totals = np.concatenate([[0], np.cumsum(counts)])
        means = (sums[:, ends] - sums[:, starts]) / (totals[ends] - totals[starts])
        rms = np.sqrt(np.maximum(means, 0))
        return [
            (_rounded(peak_row), _rounded(rms_row))
            for peak_row, rms_row in zip(highest.T, rms, strict=True)
        ]

    def _fill(self, samples: Samples) -> Samples:
        """Add samples to the bucket that is not full; return the others."""
        taken = samples[:, : self._width - self._count]
        np.maximum(self._peak, np.abs(taken).max(axis=1), out=self._peak)
        self._energy += np.square(taken, dtype=np.float64).sum(axis=1)
        self._count += taken.shape[1]
        self._close_if_full()
        return samples[:, taken.shape[1] :]

    def _close_if_full(self) -> None:
        if self._count == self._width and self._full == self._capacity:
            # Now it is half full.
            self._room()
        if self._count < self._width:
            return
        self._peaks[:, self._full] = self._peak
        self._energies[:, self._full] = self._energy
        self._full += 1
        self._count = 0
        self._peak[:] = 0
        self._energy[:] = 0

    def _add_whole(self, samples: Samples) -> Samples:
        """Add whole buckets; return the samples that are left."""
        room = self._room()
        count = min(samples.shape[1] // self._width, room)
        if not count:
            return samples
        end = count * self._width
        runs = samples[:, :end].reshape(len(samples), count, self._width)
        into = slice(self._full, self._full + count)
        self._peaks[:, into] = np.abs(runs).max(axis=2)
        self._energies[:, into] = np.square(runs, dtype=np.float64).sum(axis=2)
        self._full += count
        return samples[:, end:]

    def _room(self) -> int:
        """Return the number of free buckets; merges neighbours if there is none."""
        if self._full == self._capacity:
            half = self._capacity // 2
            self._peaks[:, :half] = np.maximum(self._peaks[:, ::2], self._peaks[:, 1::2])
            self._peaks[:, half:] = 0
            self._energies[:, :half] = self._energies[:, ::2] + self._energies[:, 1::2]
            self._energies[:, half:] = 0
            self._full = half
            self._width *= 2
        return self._capacity - self._full


def _rounded(values: npt.NDArray[np.floating]) -> list[float]:
    # Four digits are more than a picture of 10,000 pixels shows.
    return [round(float(value), 4) for value in np.minimum(values, 1.0)]
