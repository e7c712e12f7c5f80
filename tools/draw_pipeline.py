"""Draw docs/pictures/pipeline.svg: the way from a source to a bundle. Stages, targets and folders come from the code.

    python tools/draw_pipeline.py

The picture brings its own background and follows the reader's light or dark mode, so it is readable on any page.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "pictures" / "pipeline.svg"
WIDTH, HEIGHT = 960, 400
TOP, TALL, WIDE, GAP = 62, 232, 138, 20  # of the boxes in the row
LEFT = (WIDTH - 6 * WIDE - 5 * GAP) // 2

STYLE = """
  .page { fill: #ffffff; stroke: #d0d7de }
  .box { fill: #f6f8fa; stroke: #8c959f }
  .main { fill: #ddf4ff; stroke: #0969da }
  .gate { fill: #dafbe1; stroke: #1a7f37 }
  .line { stroke: #57606a; fill: none; stroke-width: 1.6 }
  .dash { stroke-dasharray: 5 4 }
  .head { fill: #57606a }
  text { fill: #1f2328; font: 12px -apple-system, "Segoe UI", Helvetica, Arial, sans-serif }
  .title { font-weight: 600; font-size: 15px }
  .small { fill: #57606a; font-size: 11px }
  .path { fill: #0550ae; font: 11px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace }
  @media (prefers-color-scheme: dark) {
    .page { fill: #0d1117; stroke: #30363d }
    .box { fill: #161b22; stroke: #6e7681 }
    .main { fill: #0c2d6b; stroke: #58a6ff }
    .gate { fill: #04260f; stroke: #3fb950 }
    .line { stroke: #8b949e }
    .head { fill: #8b949e }
    text { fill: #e6edf3 }
    .small { fill: #9198a1 }
    .path { fill: #79c0ff }
  }
"""


@dataclass(frozen=True)
class Box:
    """A step of the way: its name, what happens there, and the folders that do it."""

    title: str
    lines: tuple[str, ...]
    folders: tuple[str, ...]
    look: str = "box"


def stage_names() -> list[str]:
    """The stages of the standard pipeline in order, from segc/pipeline/stages.py."""
    tree = ast.parse((ROOT / "segc" / "pipeline" / "stages.py").read_text(encoding="utf-8"))
    standard = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "standard")
    table = next(node for node in ast.walk(standard) if isinstance(node, ast.Dict))
    return [str(ast.literal_eval(key)) for key in table.keys if key is not None]


def boxes() -> list[Box]:
    """The six steps."""
    from segc.targets import names

    numbered = tuple(f"{number}  {stage}" for number, stage in enumerate(stage_names(), 1))
    source = ("mmseg config", "name in mmseg's zoo", "Python file", "ONNX file", "", "+ checkpoint")
    trace = ("load the weights", "rewrite what torch", "cannot export", "trace with", "torch.export")
    runs = (*names(), "", "refuse or accept", "emit the files", "load the engine")
    gate = ("run noise and", "a photograph", "compare logits", "and pixels with", "the reference", "", "too far apart:")
    kept = ("segc.json", "report.json", "engine files", "", "segc run", "segc.load", "or C++ without", "segc")
    return [
        Box("Source", source, ()),
        Box("Front end", trace, ("segc/frontend", "segc/graph")),
        Box("Pipeline", numbered, ("segc/pipeline", "passes"), "main"),
        Box("Target", runs, ("segc/legality", "targets")),
        Box("Parity gate", (*gate, "no bundle"), ("segc/compilation", "segc/parity"), "gate"),
        Box("Bundle", kept, ("segc/bundle", "segc/runtime")),
    ]


def text(x: float, y: float, words: str, look: str = "", anchor: str = "start") -> str:
    """One line of text."""
    return f'<text x="{x:g}" y="{y:g}" class="{look}" text-anchor="{anchor}">{escape(words)}</text>'


def arrow(path: str, look: str = "") -> str:
    """A line with a head at its end."""
    return f'<path class="line {look}" d="{path}" marker-end="url(#head)"/>'


def drawn(box: Box, x: int) -> list[str]:
    """A box of the row, its left side at x."""
    parts = [f'<rect class="{box.look}" x="{x}" y="{TOP}" width="{WIDE}" height="{TALL}" rx="8"/>']
    parts.append(text(x + WIDE / 2, TOP + 24, box.title, "title", "middle"))
    parts += [text(x + 12, TOP + 48 + 15 * row, line) for row, line in enumerate(box.lines) if line]
    under = TOP + TALL - 10 - 14 * (len(box.folders) - 1)
    parts += [text(x + WIDE / 2, under + 14 * row, folder, "path", "middle") for row, folder in enumerate(box.folders)]
    return parts


def picture() -> str:
    """The whole SVG."""
    row = boxes()
    for folder in (folder for box in row for folder in box.folders):
        assert (ROOT / folder).is_dir(), folder
    lefts = [LEFT + number * (WIDE + GAP) for number in range(len(row))]
    middle, bottom = TOP + TALL / 2, TOP + TALL
    source, target, gate = (lefts[at] + WIDE / 2 for at in (0, 3, 4))
    parts = [text(WIDTH / 2, 36, "segc compile: from a source to a verified bundle", "title", "middle")]
    for box, x in zip(row, lefts, strict=True):
        parts += drawn(box, x)
    parts += [arrow(f"M{x + WIDE} {middle:g}h{GAP - 3}") for x in lefts[:-1]]
    # the reference goes around everything that segc does to the model
    parts.append(arrow(f"M{source:g} {bottom}V{bottom + 84}H{gate + 24:g}V{bottom + 4}", "dash"))
    parts.append(text(source + 12, bottom + 76, "reference outputs: the unmodified model in eager PyTorch"))
    # what a target refuses
    x, y = lefts[2], bottom + 20
    parts.append(f'<rect class="box" x="{x}" y="{y}" width="{WIDE * 2 + GAP}" height="36" rx="8"/>')
    parts.append(text(x + 10, y + 15, "nodes that the target refuses run in"))
    parts.append(text(x + 10, y + 29, "ONNX Runtime: a hybrid bundle"))
    parts.append(text(x + WIDE * 2 + GAP - 10, y + 22, "segc/hybrid", "path", "end"))
    parts.append(arrow(f"M{target:g} {bottom}v17"))
    body = "\n".join(parts)
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img"
  aria-label="Source, front end, pipeline, target, parity gate, bundle">
<!-- Drawn by tools/draw_pipeline.py: do not edit. -->
<style>{STYLE}</style>
<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">
<path class="head" d="M0 0L8 4L0 8z"/></marker></defs>
<rect class="page" x="0.5" y="0.5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="10"/>
{body}
</svg>
"""


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
