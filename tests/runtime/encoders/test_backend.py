import os
import signal
import threading
from dataclasses import replace

import numpy as np
import pytest

from app.common.errors import Cancelled, DeviceError
from app.runtime.encoders.backend import Backend, Device, choose_device, default_thread_count, devices
from app.runtime.encoders.compiled import CompiledGraph, GraphCache
from app.runtime.encoders.layout import cpu_features

CPU = Device("CPU", "a processor", "cpu", 8, 16)
SMALL = Device("Vulkan0", "a card", "gpu", 4, 8)
BIG = Device("Vulkan1", "another card", "gpu", 6, 8)
SHARED = Device("Vulkan2", "built in", "igpu", 16, 16)


def test_the_cpu_is_always_there():
    cpu = next(device for device in devices() if device.kind == "cpu")
    assert cpu.total_bytes >= cpu.free_bytes > 0


@pytest.mark.parametrize(
    ("wanted", "available", "chosen"),
    [
        ("auto", [CPU], CPU),
        ("auto", [SMALL, BIG, SHARED, CPU], BIG),
        ("auto", [SHARED, CPU], SHARED),
        ("cpu", [BIG, CPU], CPU),
        ("vulkan0", [BIG, SMALL, CPU], SMALL),
    ],
)
def test_choice_of_the_device(wanted, available, chosen):
    assert choose_device(wanted, available) is chosen


def test_an_unknown_device_is_refused_with_the_choice():
    with pytest.raises(DeviceError, match=r"'cuda7'.*auto or one of: Vulkan0, CPU"):
        choose_device("cuda7", [SMALL, CPU])


def test_accelerators_alone_are_not_a_device():
    with pytest.raises(DeviceError):
        choose_device("auto", [replace(CPU, name="BLAS", kind="accel")])


def test_thread_count_is_within_what_the_process_may_use():
    assert 1 <= default_thread_count() <= (os.cpu_count() or 1)


def test_cpu_features_are_names():
    assert all(name.isupper() or name.isdigit() or "_" in name for name in cpu_features("CPU"))


def double(cpu, shape=(2, 3)):
    return CompiledGraph(cpu, lambda b: b.scale(b.input("x", shape), 2.0), n_nodes=8, exact=True)


def test_a_graph_runs_many_times(cpu):
    graph = double(cpu)
    for seed in range(3):
        x = np.random.default_rng(seed).standard_normal((2, 3)).astype(np.float32)
        assert np.array_equal(graph.run({"x": x}), 2 * x)
    assert graph.working_bytes > 0
    assert not graph.cpu_operations
    graph.close()


def test_an_input_of_another_shape_is_refused(cpu):
    graph = double(cpu)
    with pytest.raises(ValueError, match="shape"):
        graph.run({"x": np.zeros((3, 2), np.float32)})
    graph.close()


def test_what_the_cancel_function_raises_comes_out_and_the_backend_works_on(cpu):
    graph = double(cpu)
    with pytest.raises(ZeroDivisionError):
        graph.run({"x": np.zeros((2, 3), np.float32)}, cancel=lambda: 1 / 0)
    assert np.array_equal(graph.run({"x": np.ones((2, 3), np.float32)}), np.full((2, 3), 2, np.float32))
    graph.close()


def chain(cpu, n_steps=40):
    def build(b):
        x = b.input("x", (4, 4))
        for _ in range(n_steps):
            x = b.scale(x, 1.0)
        return x

    return CompiledGraph(cpu, build, n_nodes=64, exact=True)


def test_ctrl_c_during_a_computation_stops_it_and_is_not_lost(cpu, capfd):
    graph, asked = chain(cpu), []

    def press_once():
        asked.append(1)
        if len(asked) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return False

    with pytest.raises(KeyboardInterrupt):
        graph.run({"x": np.zeros((4, 4), np.float32)}, cancel=press_once)
    assert len(asked) < 10
    assert capfd.readouterr().err == ""
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    graph.close()


def test_a_handler_of_the_program_sees_ctrl_c_and_the_computation_is_cancelled(cpu):
    graph, seen = chain(cpu), []
    before = signal.signal(signal.SIGINT, lambda number, _frame: seen.append(number))
    try:
        with pytest.raises(Cancelled):
            graph.run({"x": np.zeros((4, 4), np.float32)}, cancel=lambda: os.kill(os.getpid(), signal.SIGINT))
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == [signal.SIGINT]
    graph.close()


def test_other_threads_leave_signals_alone(cpu):
    graph, results = double(cpu), []
    x = np.ones((2, 3), np.float32)
    worker = threading.Thread(target=lambda: results.append(graph.run({"x": x}, cancel=lambda: False)))
    worker.start()
    worker.join(10)
    assert np.array_equal(results[0], 2 * x)
    graph.close()


def test_the_cache_keeps_the_most_recent_graphs(cpu):
    cache, built = GraphCache(2), []

    def get(key):
        return cache.get(key, lambda: built.append(key) or double(cpu, (key, 1)))

    first = get(1)
    get(2)
    assert get(1) is first
    get(3)
    get(1)
    get(2)
    assert built == [1, 2, 3, 2]
    assert len(cache) == 2
    cache.clear()
    assert len(cache) == 0


def test_backends_can_be_opened_and_closed_again_and_again():
    for _ in range(20):
        with Backend("cpu", n_threads=1) as backend:
            assert backend.is_cpu
            assert backend.cpu_name == "CPU"


@pytest.mark.parametrize(("rows", "n_threads"), [(1, 1), (2000, 2)])
def test_small_graphs_run_on_one_thread(cpu, rows, n_threads):
    graph = CompiledGraph(
        cpu, lambda b: b.mat_mul(b.input("w", (512, 1024)), b.input("x", (rows, 1024))), n_nodes=8, exact=True
    )
    assert graph.n_threads == n_threads
    graph.close()
