"""Three minutes of requests without growth of memory (`--all`); a killed server starts again on the same port."""

import asyncio
import os
import signal

import numpy as np
import pytest

from bench.serving import GROWTH, Soaked, closed_loop, soak_of, started
from tests.prep_tables import reviews
from tests.small_bundles import linear_bundle

SECONDS, CLIENTS, PAUSE = 180, 4, 0.05  # the pause leaves the cores to the tests beside it
PIECE = 4096  # bytes


def test_growth_is_that_of_the_second_half_without_its_noise():
    seconds, draw = np.arange(240) / 1.3, np.random.default_rng(0)
    noise = draw.integers(-50, 50, 240) * PIECE
    warm = np.where(seconds < 60, seconds / 60, 1.0) * 20e6
    flat = Soaked(0, seconds.tolist(), (200e6 + warm + noise).tolist())
    assert abs(flat.growth) < GROWTH / 10
    # 1,000 bytes a request, at 100 requests a second
    leaking = Soaked(0, seconds.tolist(), (200e6 + warm + noise + 1e5 * seconds).tolist())
    assert leaking.growth > 1.5 * GROWTH


TEXTS = [f"{text}{at}" for at, (_, text) in enumerate(reviews(200))]


@pytest.mark.all
def test_memory_does_not_grow(tmp_path):
    server, port = started(linear_bundle(tmp_path / "bundle"))
    try:
        soaked = soak_of(server.pid, port, TEXTS, SECONDS, CLIENTS, PAUSE)
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait() == 0
    assert soaked.rows > len(TEXTS) and len(soaked.seconds) > 100
    assert soaked.growth <= GROWTH


@pytest.mark.slow
def test_a_server_that_was_killed_starts_again_on_its_port(tmp_path):
    server, port = started(linear_bundle(tmp_path / "bundle"))
    try:
        assert asyncio.run(closed_loop(port, TEXTS, CLIENTS, 20))[1] >= 20
    finally:
        os.kill(server.pid, signal.SIGKILL)
        assert server.wait() == -signal.SIGKILL
    again, same = started(tmp_path / "bundle", port=port)
    try:
        assert same == port
        assert asyncio.run(closed_loop(port, TEXTS, CLIENTS, 20))[1] >= 20
    finally:
        again.send_signal(signal.SIGTERM)
        assert again.wait() == 0
