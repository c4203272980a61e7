# Contract: threads of Python may share every object of the package. What changes with a call is used by one thread at a time, so nothing is
# lost, doubled or torn; what does not change gives every thread what it gives one. A free-threaded interpreter keeps its lock off.
# Oracle: the same calls from one thread. Lines and integers are made so that order, which is the threads' own, does not matter.
import contextlib
import subprocess
import sys
import sysconfig
import threading

import numpy as np
import pytest

import slipstick
from slipstick import logs, losses, lowbit, sketch
from slipstick._core import logs as core

THREADS = 8
WAIT_S = 300


def together(work):
    """[work(0), work(1), ...], each in a thread of its own, all let go at once."""
    results, errors = [None] * THREADS, []
    gate = threading.Barrier(THREADS)

    def run(index):
        try:
            gate.wait(WAIT_S)
            results[index] = work(index)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(index,), daemon=True) for index in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
        assert not thread.is_alive(), "a thread waits for ever"
    if errors:
        raise errors[0]
    return results


def chunk(thread, number, lines=300):
    return b"".join(b"2024-05-01 12:%02d:%02d worker %d: job %d of %d\n" % (i // 60 % 60, i % 60, thread, i, number) for i in range(lines))


def drained(next_piece):
    pieces = []
    while (piece := next_piece()) is not None:
        pieces.append(piece)
    return pieces


@pytest.fixture(scope="module")
def raw():
    return b"".join(chunk(thread, number) for number in range(20) for thread in range(THREADS))


@pytest.fixture(scope="module")
def archive_path(raw, tmp_path_factory):
    """An archive of many small blocks."""
    packed = [logs.compress(raw[at : at + 60_000], level="fast") for at in range(0, len(raw), 60_000)]
    parts = [core.Archive(each) for each in packed]
    blocks = [(part, index) for part in parts for index in range(part.block_count)]
    bodies = [
        data[part.block(index)["offset"] :][: part.block(index)["archive_bytes"]]
        for part, data in zip(parts, packed)
        for index in range(part.block_count)
    ]
    path = tmp_path_factory.mktemp("shared") / "app.slip"
    path.write_bytes(core.archive_header("fast") + b"".join(bodies) + core.archive_footer(blocks))
    return path


def test_what_threads_write_to_one_compressor_is_kept_whole():
    chunks = [[chunk(thread, number, 14_000) for number in range(8)] for thread in range(THREADS)]
    everything = b"".join(map(b"".join, chunks))
    assert len(everything) > core.BLOCK_BYTES  # so that a block is packed while others write
    compressor = core.Compressor("fast", 2)

    def work(thread):
        seen, pieces = [], []
        for each in chunks[thread]:
            pieces.append(compressor.write(each))
            seen.append(compressor.raw_bytes)
        assert seen == sorted(seen)
        return b"".join(pieces)

    # Whose call got which blocks is theirs: recover reads them in any order.
    packed = b"".join([*together(work), compressor.finish()])
    assert compressor.archive_bytes == len(packed)
    archive = core.Archive(packed, recover=True)
    text = b"".join(archive.decompress_block(index) for index in range(archive.block_count))
    assert compressor.raw_bytes == len(text) == len(everything)
    assert compressor.lines == archive.lines
    assert sorted(text.splitlines()) == sorted(everything.splitlines())


def test_one_file_written_by_threads_has_every_chunk(tmp_path):
    path = tmp_path / "app.slip"
    with logs.open(path, "wb", level="fast") as file:
        together(lambda thread: [file.write(chunk(thread, number)) for number in range(40)])
    with logs.open(path) as file:
        text = file.read()
    size_of = {(thread, number): chunk(thread, number) for thread in range(THREADS) for number in range(40)}
    at, following = 0, [0] * THREADS
    while at < len(text):
        thread = next(thread for thread in range(THREADS) if text.startswith(b"2024-05-01 12:00:00 worker %d:" % thread, at))
        expected = size_of[thread, following[thread]]
        assert text[at : at + len(expected)] == expected
        at += len(expected)
        following[thread] += 1
    assert following == [40] * THREADS


def test_threads_that_share_a_decompressor_get_each_block_once(archive_path):
    decompressor = core.Decompressor(1)
    decompressor.feed(archive_path.read_bytes())
    alone = core.Decompressor(1)
    alone.feed(archive_path.read_bytes())
    pieces = [piece for found in together(lambda _: drained(decompressor.next)) for piece in found]
    assert sorted(pieces) == sorted(drained(alone.next))
    decompressor.finish()


def test_threads_that_share_a_search_get_each_line_once(archive_path):
    archive = core.Archive(archive_path.read_bytes())
    search = core.Grep(archive, b"job 7 of [0-9]*[02468]$", threads=1)
    found = [line for batches in together(lambda _: drained(search.next)) for batch in batches for line in batch.lines()]
    alone = [line for batch in drained(core.Grep(archive, b"job 7 of [0-9]*[02468]$", threads=1).next) for line in batch.lines()]
    assert len(alone) == 10 * THREADS
    assert sorted(found) == sorted(alone)


def test_threads_that_share_an_archive_read_what_one_reads(archive_path):
    with logs.Archive(archive_path) as archive:

        def look(_):
            return (
                list(archive.lines(1000, 1600)),
                list(archive.grep("job 299 of 19$")),
                archive.templates(),
                archive.info(),
            )

        alone = look(0)
        assert together(look) == [alone] * THREADS


def test_frames_of_zstd_are_the_same_from_every_thread(raw):
    # Threads pass the idle compressors of a level around: one that gave up a frame halfway must not spoil the next.
    codec = slipstick.logs._codec
    noise = np.random.default_rng(5).bytes(1 << 20)
    prefix, behind = raw[:40_000], raw[20_000:60_000]

    def work(thread):
        frames = [
            codec.compress(raw[:50_000], 3),
            codec.compress_below(noise, b"", 3, 300_000, 0),
            codec.compress_below(raw, b"", 3, len(raw), 0),
            codec.compress_below(behind, prefix, 3, len(behind), 0),
        ]
        assert frames[1] == b"", "noise is larger than the limit"
        assert codec.decompress(frames[0], 50_000) == raw[:50_000]
        assert codec.decompress(frames[2], len(raw)) == raw
        assert codec.decompress_behind(frames[3], prefix, len(behind)) == behind
        with pytest.raises(slipstick.CorruptArchiveError):
            codec.decompress(frames[0][:-9], 50_000)
        return frames

    alone = work(0)
    assert together(lambda thread: [work(thread) for _ in range(5)]) == [[alone] * 5] * THREADS


def test_packing_in_threads_gives_what_one_gives(raw):
    text = raw + np.random.default_rng(6).bytes(200_000) + raw[::-1]

    def work(thread):
        packed = logs.compress(text, level="fast", threads=1 + thread % 3)
        assert logs.decompress(packed, threads=1 + thread % 3) == text
        return packed

    alone = work(0)
    assert together(work) == [alone] * THREADS


def test_rows_that_threads_add_to_one_sketched_state_are_all_in_it():
    # Sums of small integers are exact in any order, and so are those of a CountSketch.
    rows, columns, chunks = 64, 6, 25
    random = np.random.default_rng(7)
    a = random.integers(-50, 50, (THREADS * chunks * rows, columns)).astype(np.float64)
    b = random.integers(-50, 50, len(a)).astype(np.float64)
    alone = sketch.SketchedLeastSquares(columns, kind="countsketch", seed=3).partial_fit(a, b)
    shared = sketch.SketchedLeastSquares(columns, kind="countsketch", seed=3)

    def work(thread):
        for number in range(chunks):
            first = (number * THREADS + thread) * rows
            shared.partial_fit(a[first : first + rows], b[first : first + rows], first_row=first)
            if number > 2:
                shared.solve()

    together(work)
    assert shared.ranges == alone.ranges
    assert shared.to_bytes() == alone.to_bytes()


def test_threads_that_leave_row_numbers_to_the_state_get_different_ones():
    shared = sketch.SketchedLeastSquares(2)
    together(lambda thread: [shared.partial_fit(np.full((10, 2), thread + 1.0), np.ones(10)) for _ in range(30)])
    assert shared.ranges == [(0, THREADS * 300)]


def test_states_that_merge_into_each_other_do_not_wait_for_ever():
    def merged(_):
        one, other = sketch.SketchedLeastSquares(2), sketch.SketchedLeastSquares(2)
        one.partial_fit(np.eye(2), np.ones(2), first_row=0)
        other.partial_fit(np.eye(2), np.ones(2), first_row=2)
        return one, other

    pairs = [merged(0) for _ in range(100)]

    def merge(thread):
        for one, other in pairs:
            into, source = (one, other) if thread % 2 else (other, one)
            with contextlib.suppress(ValueError):  # where another thread was first, its rows "were seen before"
                into.merge(source)

    together(merge)
    assert all(4 in (one.rows_seen, other.rows_seen) for one, other in pairs)


@pytest.mark.kernel
def test_functions_give_each_thread_what_they_give_one():
    random = np.random.default_rng(11)
    a, b = random.standard_normal((5000, 12)), random.standard_normal(5000)
    hidden = random.standard_normal((64, 48)).astype(np.float32)
    weight = random.standard_normal((500, 48)).astype(np.float32)

    def work(_):
        return (
            sketch.lstsq(a, b).x.tobytes(),
            lowbit.quantize(hidden, "e4m3fn", rounding="stochastic", seed=5).tobytes(),
            losses.row_statistics(hidden, weight, want=("lse",)).lse.tobytes(),
        )

    alone = work(0)
    assert together(lambda thread: [work(thread) for _ in range(5)]) == [[alone] * 5] * THREADS


def test_levels_and_counts_set_meanwhile_change_no_result():
    levels = slipstick.config()["isa_levels"]
    before = slipstick.isa()
    values = np.random.default_rng(13).standard_normal(4000).astype(np.float32)
    alone = lowbit.quantize(values, "e4m3fn").tobytes()

    def work(thread):
        for number in range(50):
            slipstick.set_isa(levels[(thread + number) % len(levels)])
            slipstick.set_num_threads(1 + (thread + number) % 4)
            assert lowbit.quantize(values, "e4m3fn").tobytes() == alone

    try:
        together(work)
    finally:
        slipstick.set_isa(before)
        slipstick.set_num_threads(None)


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="needs a free-threaded Python")
def test_the_package_leaves_the_interpreter_lock_off():
    code = "import sys, slipstick._core, slipstick.logs; print(sys._is_gil_enabled())"
    run = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=120)
    assert (run.stdout, run.stderr) == ("False\n", "")


def test_what_a_thread_is_in_it_does_not_wait_for():
    compressor = core.Compressor("fast", 1)
    met = []

    def interrupt(frame, event, argument):  # runs inside the call of zstd, as a signal handler could
        if event == "call" and frame.f_code.co_name == "compress" and not met:
            met.append(None)
            with pytest.raises(ValueError, match="in use by this thread"):
                compressor.raw_bytes
            met.append(None)

    sys.setprofile(interrupt)
    try:
        packed = compressor.write(chunk(0, 0, 20_000)) + compressor.finish()
    finally:
        sys.setprofile(None)
    assert len(met) == 2
    assert logs.decompress(packed) == chunk(0, 0, 20_000)
