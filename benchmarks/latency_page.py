"""docs/benchmarks.md and its plot, from the state that benchmarks/latency.py keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from latency_routes import ROUTES

SEGC = "segc"
OWN = (SEGC, "segc, uint8")
PLOT = "benchmarks.png"


def best_plain(ms: dict[str, float]) -> float | None:
    """The fastest route that is not segc's."""
    return min((value for name, value in ms.items() if name not in OWN), default=None)


def ratios(state: dict[str, Any], runtime: str) -> dict[str, float]:
    """Family -> how many times faster segc is than the best plain route of this runtime."""
    found = {}
    for family, row in state["families"].items():
        ms = row["runtimes"].get(runtime, {}).get("ms", {})
        plain = best_plain(ms)
        if SEGC in ms and plain is not None:
            found[family] = plain / ms[SEGC]
    return found


def over_eager(state: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """Family -> (ms of eager PyTorch, how many times faster segc's fastest bundle is), lightest first."""
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
    lines = []
    for runtime in ("onnxruntime", "openvino", "ncnn"):
        if found := ratios(state, runtime):
            worst = min(found, key=lambda family: found[family])
            lines.append(
                f"- {runtime}: segc is {geometric_mean(list(found.values())):.2f}x as fast as the best plain route, "
                f"geometric mean of {len(found)} families; least for {worst}, {found[worst]:.2f}x."
            )
    if eager := over_eager(state):
        light = dict(list(eager.items())[:10])
        lines.append(
            f"- Over eager PyTorch the fastest bundle is {geometric_mean([r for _, r in light.values()]):.2f}x as fast "
            f"for the {len(light)} lightest families, least {min(r for _, r in light.values()):.2f}x."
        )
    return lines


def table(state: dict[str, Any], runtime: str) -> list[str]:
    rows = {f: r["runtimes"][runtime] for f, r in state["families"].items() if runtime in r["runtimes"]}
    tried = {name for row in rows.values() for name in [*row["ms"], *row["failed"]]}
    names = [name for name in ROUTES[runtime] if name in tried]
    if not rows:
        return []
    lines = [f"## {runtime}", "", f"| family | size | {' | '.join(names)} |", f"|---|---|{'---|' * len(names)}"]
    for family, row in rows.items():
        cells = [f"{row['ms'][name]:.1f}" if name in row["ms"] else "fails" for name in names]
        size = "x".join(map(str, state["families"][family].get("shape", [])))
        lines.append(f"| {family} | {size} | {' | '.join(cells)} |")
    failed = [f"- {family}, {name}: {why}" for family, row in rows.items() for name, why in row["failed"].items()]
    unequal = [
        f"- {family}, {name}: {share:.3%} of pixels are eager PyTorch's"
        for family, row in rows.items()
        for name, share in row["equal"].items()
        if share < 0.999
    ]
    return [*lines, "", *(["What fails:", "", *failed, ""] if failed else []),
            *(["Masks that differ:", "", *unequal, ""] if unequal else [])]  # fmt: skip


def plot(state: dict[str, Any], path: Path) -> bool:
    """Bars of segc's ratio over the best plain route. False where matplotlib or the numbers are missing."""
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
    """The page, and the plot where matplotlib is installed."""
    shown = plot(state, docs / PLOT)
    facts = [f"| {name} | {value} |" for name, value in state.get("machine", {}).items()]
    lines = [
        "# Benchmarks", "",
        "From an image in memory to a mask in memory: medians in milliseconds of runs in turns, each route in a",
        "process of its own. Written by `python benchmarks/latency.py --page`; measured with", "",
        "```console", f"$ {state.get('command', '')}", "```", "",
        *summary(state), "",
        *([f"![segc beside the best plain route]({PLOT})", ""] if shown else []),
        "| | |", "|---|---|", *facts, "",
    ]  # fmt: skip
    for runtime in ("onnxruntime", "openvino", "ncnn", "torch"):
        lines += table(state, runtime)
    (docs / "benchmarks.md").write_text("\n".join(lines).rstrip("\n") + "\n")
