from __future__ import annotations

import threading

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from app.capture.ring import Ring

# True: write so many samples next, False: read everything
STEPS = st.lists(st.one_of(st.integers(0, 40), st.none()), max_size=60)


@given(steps=STEPS, capacity=st.integers(1, 64))
def test_what_is_read_is_what_fitted_in_order(steps, capacity):
    ring = Ring(capacity)
    heard = np.arange(4000, dtype=np.int16)
    position, dropped = 0, 0
    expected: list[int] = []
    got: list[int] = []
    for n in steps:
        if n is None:
            got.extend(ring.read().tolist())
            continue
        chunk = heard[position : position + n]
        position += n
        if n <= capacity - (len(expected) - len(got)):
            expected.extend(chunk.tolist())
        else:
            dropped += n
        ring.write(chunk.tobytes())
    got.extend(ring.read().tolist())
    assert got == expected
    assert ring.dropped_samples == dropped
    assert ring.written_samples == len(expected)
    assert ring.available_samples == 0


def test_a_writing_and_a_reading_thread_need_no_lock():
    ring = Ring(5000)
    heard = (np.arange(200_000) % 30011).astype(np.int16)
    blocks: list[np.ndarray] = []
    done = threading.Event()

    def write() -> None:
        for chunk in np.split(heard, 2000):
            while ring.available_samples > 4000:
                pass
            ring.write(chunk.tobytes())
        done.set()

    writer = threading.Thread(target=write, name="writer")
    writer.start()
    while not (done.is_set() and not ring.available_samples):
        blocks.append(ring.read())
    writer.join()
    assert ring.dropped_samples == 0
    np.testing.assert_array_equal(np.concatenate(blocks), heard)
