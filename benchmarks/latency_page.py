"""Write docs/tables/benchmarks.md and its plot, from the state that benchmarks/latency.py saves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from latency_routes import ROUTES

from segc.support_matrix.families import FAMILIES

SEGC = "segc"
OWN = (SEGC, "segc, uint8")
PLOT = "benchmarks.png"
SLOWER = 0.97


def best_plain(ms: dict[str, float]) -> float | None:
    """The fastest route that is not segc's."""
    return min((value for name, value in ms.items() if name not in OWN), default=None)


def ratios(state: dict[str, Any], runtime: str, own: str = SEGC) -> dict[str, float]:
    """By family, the time of the best plain route of this runtime divided by that of segc's route `own`."""
    found = {}
    for family, row in state["families"].items():
        ms = row["runtimes"].get(runtime, {}).get("ms", {})
        plain = best_plain(ms)
        if own in ms and plain is not None:
            found[family] = plain / ms[own]
    return found


def over_eager(state: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """By family, (ms of eager PyTorch, its ratio to segc's fastest bundle), lightest family first."""
    found = {}
    for family, row in state["families"].items():
        eager = row["runtimes"].get("torch", {}).get("ms", {}).get("eager")
        own = [r["ms"][name] for r in row["runtimes"].values() for name in OWN if name in r["ms"]]
        if eager is not None and own:
            found[family] = eager, eager / min(own)
    return dict(sorted(found.items(), key=lambda item: item[1][0]))


def geometric_mean(values: list[float]) -> float:
    return float(np.exp(np.mean(np.log(values))))


def summary(state: dict[str, Any]) -> list[str]:
    """One line for each goal."""
    lines = []
    for runtime in ("onnxruntime", "openvino", "ncnn"):
        if found := ratios(state, runtime):
            slow = [f"{family} {found[family]:.2f}x" for family in sorted(found, key=found.__getitem__)]
            slow = slow[: sum(value < SLOWER for value in found.values())]
            lines.append(
                f"- {runtime}: segc is {geometric_mean(list(found.values())):.2f}x as fast as the best plain route, "
                f"geometric mean of {len(found)} families; below {SLOWER}x: {', '.join(slow) or 'none'}."
            )
        if found := ratios(state, runtime, OWN[1]):
            mean = geometric_mean(list(found.values()))
            lines.append(f"- {runtime}, images in as uint8: {mean:.2f}x, of {len(found)} families.")
    if eager := over_eager(state):
        light = dict(list(eager.items())[:10])
        mean = geometric_mean([r for _, r in light.values()])
        shown = ", ".join(f"{family} {r:.2f}x" for family, (_, r) in light.items())
        lines.append(f"- Over eager PyTorch, the {len(light)} lightest families: {mean:.2f}x ({shown}).")
    stopped = [f for f in FAMILIES if f not in state["families"]]
    stopped += [f"{f} ({row['stopped']})" for f, row in state["families"].items() if "stopped" in row]
    return [*lines, *([f"- Not measured to the end: {', '.join(stopped)}."] if stopped else [])]


def table(state: dict[str, Any], runtime: str) -> list[str]:
    rows = {f: r["runtimes"][runtime] for f, r in state["families"].items() if runtime in r["runtimes"]}
    tried = {name for row in rows.values() for name in [*row["ms"], *row["failed"], *row["equal"]]}
    names = [name for name in ROUTES[runtime] if name in tried]
    if not rows:
        return []
    lines = [f"## {runtime}", "", f"| family | size | {' | '.join(names)} |", f"|---|---|{'---|' * len(names)}"]
    for family, row in rows.items():
        cells = [f"{row['ms'][name]:.1f}" if name in row["ms"] else _absent(row, name) for name in names]
        size = "x".join(map(str, state["families"][family].get("shape", [])))
        lines.append(f"| {family} | {size} | {' | '.join(cells)} |")
    failed = [f"- {family}, {name}: {why}" for family, row in rows.items() for name, why in row["failed"].items()]
    return [*lines, "", *(["What fails:", "", *failed, ""] if failed else [])]


def _absent(row: dict[str, Any], name: str) -> str:
    """The cell of a route that was not timed."""
    return f"{row['equal'][name]:.1%} equal" if name in row["equal"] and name not in row["failed"] else "fails"


def plot(state: dict[str, Any], path: Path) -> bool:
    """Plot segc's ratios to the best plain route. Returns False if matplotlib or the figures are missing."""
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    found = {r: ratios(state, r) for r in ("onnxruntime", "openvino", "ncnn") if ratios(state, r)}
    if not found:
        return False
    families = list(state["families"])
    figure, axes = plt.subplots(figsize=(11, 4.5))
    for at, (runtime, values) in enumerate(found.items()):
        places = np.arange(len(families)) + (at - (len(found) - 1) / 2) * 0.8 / len(found)
        axes.bar(places, [values.get(f, 0) for f in families], 0.8 / len(found), label=runtime)
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set_xticks(range(len(families)), families, rotation=70, fontsize=8)
    axes.set_ylabel("times as fast as the best plain route")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)
    return True


def write(state: dict[str, Any], docs: Path) -> None:
    """Write the page and, if matplotlib is installed, the plot."""
    shown = plot(state, docs / PLOT)
    facts = [f"| {name} | {value} |" for name, value in state.get("machine", {}).items()]
    lines = [
        "# Benchmarks", "",
        "The latency from an image in memory to a mask in memory, in milliseconds: medians of runs in turns, each",
        "route in a process of its own. A route whose mask differs from eager PyTorch's in more than 2 of 1,000 pixels",
        "is not timed: its cell has the share of equal pixels. NumPy makes the mask from pnnx's logits, by a running",
        "maximum. The routes of one row and runtime were measured in one run, other rows possibly on other days.",
        "Written by `python benchmarks/latency.py --page`; measured with", "",
        "```console", f"$ {state.get('command', '')}", "```", "",
        *summary(state), "",
        *([f"![segc beside the best plain route]({PLOT})", ""] if shown else []),
        "| | |", "|---|---|", *facts, "",
    ]  # fmt: skip
    for runtime in ("onnxruntime", "openvino", "ncnn", "torch"):
        lines += table(state, runtime)
    (docs / "benchmarks.md").write_text("\n".join(lines).rstrip("\n") + "\n")
