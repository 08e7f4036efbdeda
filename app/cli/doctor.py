"""``hearsee doctor``: what works on this computer, and what to do about the rest."""

from __future__ import annotations

import contextlib
import json
import platform
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from app import __version__
from app.cli.placement import model_directories
from app.common.errors import HearseeError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable

GIB = 1 << 30
# What ggml's CPU kernels can use, fastest first, by their names in /proc/cpuinfo (x86 and Arm).
_CPU_FEATURES = ("amx_int8", "amx_bf16", "avx512_bf16", "avx512_vnni", "avx512f", "avx_vnni", "avx2", "fma", "f16c")
_CPU_FEATURES_ARM = ("sve", "i8mm", "bf16", "asimddp", "asimdhp", "asimd")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    Attributes:
        subject: what was looked at.
        works: False where something the person may want does not work.
        detail: what was found, and what to do where it does not work.
    """

    subject: str
    works: bool
    detail: str


def run(arguments: argparse.Namespace) -> int:
    """Report on stdout; exit 1 when Hearsee cannot answer here (no native library or no sound model)."""
    findings = [finding for examine in EXAMINATIONS for finding in _guarded(examine)]
    if arguments.json:
        print(json.dumps({"findings": [asdict(finding) for finding in findings]}))
    else:
        for finding in findings:
            print(f"{'ok ' if finding.works else 'NO '} {finding.subject:<12} {finding.detail}")
    essential = [finding for finding in findings if finding.subject in ("libraries", "model")]
    return 0 if all(finding.works for finding in essential) else 1


def _guarded(examine: Callable[[], Iterable[Finding]]) -> list[Finding]:
    try:
        return list(examine())
    except HearseeError as error:
        return [Finding(examine.__name__.removeprefix("examine_"), False, str(error))]


def examine_program() -> Iterable[Finding]:
    """Version, interpreter, operating system."""
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    yield Finding("program", True, f"Hearsee {__version__}, Python {platform.python_version()}, {system}")


def examine_libraries() -> Iterable[Finding]:
    """Native libraries: found, loaded, of the expected layout."""
    from app.runtime.ffi.loader import GGML_VERSION, PACKAGE, PACKAGE_VERSION, native

    directory = native().directory
    yield Finding("libraries", True, f"{PACKAGE} {PACKAGE_VERSION} with ggml {GGML_VERSION} in {directory}")


def examine_devices() -> Iterable[Finding]:
    """Every device ggml can compute on, with its memory."""
    from app.runtime.encoders.backend import choose_device, default_thread_count, devices

    found = devices()
    chosen = choose_device("auto", found).name
    for device in found:
        memory = f"{device.free_bytes / GIB:.1f} of {device.total_bytes / GIB:.1f} GiB free"
        cpu = f", {default_thread_count()} threads" if device.kind == "cpu" else ""
        mark = ", chosen by auto" if device.name == chosen else ""
        yield Finding("device", True, f"{device.name}: {device.description.strip()}, {memory}{cpu}{mark}")


def examine_processor() -> Iterable[Finding]:
    """Instruction sets that speed up the CPU kernels."""
    flags = _cpu_flags()
    if flags:
        useful = [name for name in _CPU_FEATURES + _CPU_FEATURES_ARM if name in flags]
        yield Finding(
            "processor", bool(useful), ", ".join(useful) or "none of the fast instruction sets: answers are slow"
        )


def _cpu_flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return set()
    named = (line.partition(":")[2] for line in lines if line.lower().startswith(("flags", "features")))
    return set(next(named, "").split())


def examine_models() -> Iterable[Finding]:
    """Every model's files against their checksums."""
    from app.cli.models import verify_model

    directories = list(model_directories())
    if not directories:
        yield Finding("model", False, "none on this computer; see hearsee models install")
    for directory in directories:
        try:
            manifest = verify_model(directory)
        except HearseeError as error:
            yield Finding("model", False, str(error))
        else:
            yield Finding("model", True, f"{manifest.name}: every file as its checksum says, in {directory}")


def examine_microphone() -> Iterable[Finding]:
    """Devices that can record, the default first."""
    from app.capture.microphone import input_names

    names = input_names()
    for name in names:
        yield Finding("microphone", True, f"{name}{', the default' if name == names[0] else ''}")
    if not names:
        yield Finding("microphone", False, "none found; plug one in for /speak; sound files work without")


def examine_terminal() -> Iterable[Finding]:
    """Whether a conversation can be typed here, and in which encoding."""
    interactive = sys.stdin is not None and sys.stdin.isatty()
    encoding = getattr(sys.stdout, "encoding", "none")
    yield Finding(
        "terminal", True, f"{'yes' if interactive else 'no, hearsee answers the bundled samples'}; {encoding}"
    )


def examine_network() -> Iterable[Finding]:
    """Network sockets that everything examined so far has opened: there must be none."""
    sockets = _network_sockets()
    if sockets is None:
        yield Finding("network", True, "not used by design; this system does not show a process its sockets")
    elif sockets:
        yield Finding("network", False, f"{sockets} open network sockets in this process; please report this")
    else:
        yield Finding("network", True, "not used: no network socket open with libraries loaded and models read")


def _network_sockets() -> int | None:
    """Number of this process's internet sockets, None where /proc does not tell."""
    tables = [Path("/proc/self/net") / name for name in ("tcp", "tcp6", "udp", "udp6")]
    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir() or not tables[0].is_file():
        return None
    inodes = {line.split()[9] for table in tables if table.is_file() for line in table.read_text().splitlines()[1:]}
    links = []
    for descriptor in list(descriptors.iterdir()):
        with contextlib.suppress(OSError):  # the one that listed the folder is closed by now
            links.append(str(descriptor.readlink()))
    return sum(link.removeprefix("socket:[").rstrip("]") in inodes for link in links if link.startswith("socket:["))


EXAMINATIONS: tuple[Callable[[], Iterable[Finding]], ...] = (
    examine_program,
    examine_libraries,
    examine_devices,
    examine_processor,
    examine_models,
    examine_microphone,
    examine_terminal,
    examine_network,
)
