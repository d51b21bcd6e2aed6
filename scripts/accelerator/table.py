"""The short table that `scripts/accelerator/run` ends with."""

from typing import Any


def table(measured: dict[str, Any]) -> str:
    """A line for each thing that was measured."""
    machine = measured.get("machine", {})
    lines = [f"{machine.get('device')}, jax {machine.get('jax')}, Python {machine.get('python')}"]
    for part in ("tests", "kernels", "benchmark", "mnist"):
        block = measured.get(part)
        if block is None:
            continue
        ended = block.get("ended", {})
        lines.append(f"-- {part}: exit code {ended.get('code')}, {ended.get('seconds')} s")
        lines += {"tests": of_tests, "mnist": of_mnist}.get(part, of_numbers)(block)
    return "\n".join(lines)


def of_tests(block: dict[str, Any]) -> list[str]:
    counts = dict(block.get("counts", {}))
    failed = counts.pop("not passed", [])
    return [", ".join(f"{n} {how}" for how, n in counts.items()), *failed]


def of_numbers(block: dict[str, Any]) -> list[str]:
    """Numbers by name; what is itself a list or a table is in the file."""
    lines = []
    for name, numbers in block.items():
        if name == "ended":
            continue
        plain = {k: v for k, v in numbers.items() if isinstance(v, int | float | str)}
        shown = (f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in plain.items())
        lines.append(f"{name:36s} " + "  ".join(shown))
    return lines


def of_mnist(block: dict[str, Any]) -> list[str]:
    results = block.get("results")
    if results is None:
        curve = block.get("curve") or [{}]
        return [f"not finished; last on valid: {curve[-1]}"]
    train = results["train"]
    lines = [f"{train['epochs']} epochs, {train['steps']} steps, {train['seconds']} s of training"]
    for split in ("valid", "test"):
        names = ("log_p", "log_p_tilde_star", "log_p_star", "two_log_z")
        means = (f"{n} {results[split][n]['mean']:.2f}" for n in names if n in results[split])
        lines.append(f"{split}, K={results[split]['K']}: " + "  ".join(means))
    return lines
