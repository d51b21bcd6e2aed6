"""How many kernels a step starts, and what they take: part `kernels` of `scripts/accelerator/run`.

    python scripts/accelerator/kernels.py --out FOLDER [--seconds N] [--small] [--card FILE]

Counted in the program that the compiler made for this device, for each machine and precision; then timed
in a profile, where the profiler can see the device. With `--card` the program is compiled for a card that
is not here, and only counted: FILE describes it (h100.txtpb), and the machine needs jax's plugin for such
cards (pip install --no-deps jax-cuda13-plugin jax-cuda13-pjrt, of jax's own version) but no card.
"""

import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any
from unittest import mock

import jax
from hlo import Program
from machines import BENCHMARK, MACHINES, Deadline, words_of_a_part
from record import Record

sys.path.append(BENCHMARK)
from benchmark import Step, read_config, step_of

STEPS = 20  # in a chunk that is counted or profiled


def compile_for(step: Step, description: Path) -> Any:
    """The program of a step for the card that a file describes."""
    from jax.experimental import topologies

    card = topologies.get_topology_desc(
        platform="cuda", target_config=description.read_text(), topology="1x1x1"
    ).devices[0]
    there = jax.sharding.SingleDeviceSharding(card)
    shapes = jax.tree.map(
        lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=there), step.arguments
    )
    # What is written for processors alone asks for the default device, which here is one.
    with mock.patch("jax.default_backend", return_value="gpu"):
        return step.chunk.jitted().lower(*shapes).compile()


def count(compiled: Any) -> dict[str, Any]:
    """Kernels of one step by kind, of the whole chunk beside its steps, and the memory it asks for."""
    program = Program.of(compiled.as_text())
    loop = program.training_loop()
    a_step = program.kernels(loop)
    program.computations[loop] = []  # so that what is around it is left
    memory = compiled.memory_analysis()
    return {
        "kernels_per_step": a_step.total(),
        "kinds": dict(a_step.most_common()),
        "kernels_around_the_steps": program.kernels(program.entry).total(),
        "temporary_mib": round(memory.temp_size_in_bytes / 2**20, 1) if memory else None,
    }


def profile(compiled: Any, arguments: tuple[Any, ...]) -> dict[str, Any]:
    """Microseconds a step in kernels and between them, and the kernels that take the most."""
    state, *others = arguments
    state, _ = compiled(state, *others)  # the first call loads the program
    jax.block_until_ready(state)
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            state, _ = compiled(state, *others)
            jax.block_until_ready(state)
        events = device_events(Path(folder))
    if not events:
        return {"profile": "the profiler saw no kernels of the device"}
    busy, end = 0.0, 0.0
    for start, duration, _ in sorted(events):
        busy += max(0.0, start + duration - max(start, end))
        end = max(end, start + duration)
    span = end - min(start for start, *_ in events)
    times: Counter[str] = Counter()
    for _, duration, name in events:
        times[name] += duration
    return {
        "profiled_kernels_per_step": len(events) / STEPS,
        "us_in_kernels": busy / 1e3 / STEPS,
        "us_between_kernels": (span - busy) / 1e3 / STEPS,
        "us_of_the_largest": {name: ns / 1e3 / STEPS for name, ns in times.most_common(12)},
    }


def device_events(folder: Path) -> list[tuple[float, float, str]]:
    """Start, duration (ns) and name of what ran on the device."""
    events = []
    for path in folder.rglob("*.xplane.pb"):
        for plane in jax.profiler.ProfileData.from_file(str(path)).planes:
            if not plane.name.startswith(("/device:GPU", "/device:TPU")):
                continue
            for line in plane.lines:
                if line.name.startswith("Stream") or "Ops" in line.name:
                    events += [(e.start_ns, e.duration_ns, e.name) for e in line.events]
    return events


def measure(words: list[str], card: Path | None) -> dict[str, Any]:
    """Count, and time where the device is here."""
    step = step_of(read_config(words), STEPS)
    started = time.perf_counter()
    if card is None:
        compiled = step.chunk.jitted().lower(*step.arguments).compile()
    else:
        compiled = compile_for(step, card)
    found = {"compile_s": round(time.perf_counter() - started, 2), **count(compiled)}
    return found if card is not None else found | profile(compiled, step.arguments)


def main() -> None:
    """Write one block for each machine and precision."""
    parser = words_of_a_part(__doc__)
    parser.add_argument("--card", type=Path, help="the description of a card that is not here")
    arguments = parser.parse_args()
    deadline = Deadline(arguments.seconds)
    arguments.out.mkdir(parents=True, exist_ok=True)
    record = Record(arguments.out, "kernels")
    wanted = [("mnist", "f32"), ("mushrooms", "f32"), ("mnist", "bf16"), ("mnist", "tf32")]
    for name, precision in [("small", "f32")] if arguments.small else wanted:
        if not deadline.allows_another():
            print("no time left", flush=True)
            return
        with deadline.measuring():
            found = measure([*MACHINES[name], f"precision={precision}"], arguments.card)
        record.set(f"{name} {precision}", found)
        print(f"{name} {precision}: {found}", flush=True)


if __name__ == "__main__":
    main()
