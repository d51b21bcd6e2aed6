"""Plots as SVG with the colours and the type of the page around it. Only here is matplotlib used.

A figure is drawn in colours that nothing else has, which then become the page's own, light or dark: the
text of the SVG stays text, and equal numbers make equal bytes.
"""

import io
import logging
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

logging.getLogger("matplotlib").setLevel(
    logging.ERROR
)  # of fonts and folders that nothing hangs on

import matplotlib  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.ticker import FuncFormatter, MaxNLocator  # noqa: E402

INK, SOFT, LINE, REST = "#01fe02", "#01fe03", "#01fe04", "#01fe05"
SERIES = ("#01fe10", "#01fe11", "#01fe12", "#01fe13", "#01fe14", "#01fe15")
COLOURS = {INK: "ink", SOFT: "soft", LINE: "line", REST: "rest"} | {
    colour: f"c{i}" for i, colour in enumerate(SERIES)
}
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "bihm",
    "text.parse_math": False,  # a run's name may hold a $
    "axes.unicode_minus": True,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.edgecolor": LINE,
    "axes.linewidth": 0.8,
    "axes.labelcolor": SOFT,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
    "ytick.major.size": 0,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "path.simplify": True,
}
WIDTH, HEIGHT = 4.9, 3.1  # inches of 72 points: about as wide as a phone
SVG = r'<svg xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="\1">'
UNNAMED = {"Date": None, "Creator": None, "Format": None, "Type": None}


Numbers = Sequence[float] | np.ndarray


class Series(NamedTuple):
    """A line with its band, in one of the page's colours."""

    label: str
    x: Numbers
    y: Numbers
    low: Numbers | None = None
    high: Numbers | None = None
    colour: int | None = 0  # None: a grey one among others
    dashed: bool = False
    dots: bool = False


def lines(
    series: Sequence[Series],
    x_label: str,
    y_label: str,
    *,
    log_x: bool = False,
    level: float | None = None,
    floor: float | None = None,
    percent_x: bool = False,
    percent_y: bool = False,
) -> str:
    """Lines with bands. `level` draws one across, and `floor` is where the picture ends below."""
    with matplotlib.rc_context():
        figure, axes = _figure(HEIGHT)
        for one in series:
            colour = REST if one.colour is None else SERIES[one.colour % len(SERIES)]
            style: dict[str, Any] = {
                "linestyle": (0, (3, 2)) if one.dashed else "-",
                "linewidth": 0.8 if one.colour is None else 1.6,
                "marker": "o" if one.dots else "",
                "markersize": 4,
            }
            axes.plot(one.x, one.y, color=colour, **style)
            if one.low is not None and one.high is not None:
                axes.fill_between(one.x, one.low, one.high, color=colour, alpha=0.16, linewidth=0)
        if level is not None:
            axes.axhline(level, color=INK, linewidth=0.9, linestyle=(0, (1, 2)))
        if log_x:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
            axes.xaxis.set_minor_formatter(FuncFormatter(lambda value, _: ""))
        if floor is not None:
            axes.set_ylim(bottom=floor)
        axes.yaxis.set_major_locator(MaxNLocator(5))
        if percent_x:
            axes.xaxis.set_major_formatter(FuncFormatter(_percent))
        if percent_y:
            axes.yaxis.set_major_formatter(FuncFormatter(_percent))
        axes.set(xlabel=x_label, ylabel=y_label)
        return _svg(figure)


def bars(
    labels: Sequence[str],
    values: Sequence[float],
    x_label: str,
    y_label: str,
    *,
    errors: Sequence[float] | None = None,
    dots: Sequence[float] | None = None,
    percent: bool = False,
) -> str:
    """Bars with their errors, or with dots that have another meaning; shares reach from 0 to 100 %."""
    with matplotlib.rc_context():
        figure, axes = _figure(HEIGHT * 0.85)
        places = np.arange(len(values))
        alpha = 1.0 if dots is None else 0.35
        axes.bar(places, values, width=0.7, color=SERIES[0], alpha=alpha, linewidth=0)
        if errors is not None:
            axes.errorbar(places, values, yerr=errors, fmt="none", ecolor=INK, elinewidth=0.9)
        if dots is not None:
            axes.plot(places, dots, "o", color=SERIES[1], markersize=5)
        step = -(-len(labels) // 16)  # so that they do not run into each other
        axes.set_xticks(places[::step], list(labels)[::step])
        axes.tick_params(axis="x", length=0)
        axes.yaxis.set_major_locator(MaxNLocator(5))
        if percent:
            axes.set_ylim(0, 1.02)
            axes.yaxis.set_major_formatter(FuncFormatter(_percent))
        axes.set(xlabel=x_label, ylabel=y_label)
        return _svg(figure)


def effects(
    groups: Sequence[tuple[str, Sequence[tuple[str, float, float | None]]]],
    middle: float,
    x_label: str,
) -> str:
    """For each key its values with a mean and its error, on one scale; a line where all runs' mean is."""
    with matplotlib.rc_context():
        rows = sum(len(levels) + 1.2 for _, levels in groups)
        figure, axes = _figure(0.8 + 0.27 * rows)
        place, ticks, names = 0.0, [], []
        for i, (key, levels) in enumerate(groups):
            axes.text(0.0, place, key, transform=axes.get_yaxis_transform(), ha="right", va="center",
                      weight="bold", clip_on=False)  # fmt: skip
            for value, mean, sem in levels:
                place += 1
                ticks.append(place)
                names.append(value if len(value) <= 24 else value[:23] + "…")
                axes.errorbar(mean, place, xerr=sem, fmt="o", color=SERIES[i % len(SERIES)],
                              markersize=5, elinewidth=1.6)  # fmt: skip
            place += 1.2
        axes.axvline(middle, color=INK, linewidth=0.9, linestyle=(0, (1, 2)))
        axes.set_ylim(place - 0.4, -0.7)
        axes.set_yticks(ticks, names)
        axes.grid(False)
        axes.grid(True, axis="x")
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel(x_label)
        return _svg(figure)


def _percent(value: float, _: int) -> str:
    return f"{100 * value:.0f} %"


def _figure(height: float) -> tuple[Figure, Axes]:
    matplotlib.rcdefaults()  # whatever the user's own matplotlibrc says
    matplotlib.rcParams.update(STYLE)
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.add_subplot()


def _svg(figure: Figure) -> str:
    """The drawing without what makes it a file of its own, in the page's colours."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata=UNNAMED)
    text = buffer.getvalue().decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<defs>\s*<style[^>]*>[^<]*</style>\s*</defs>", "", text)
    # Sizes are the page's; the groups' names would be there once for each plot.
    text = re.sub(r'<svg[^>]*?viewBox="([^"]*)"[^>]*>', SVG, text, count=1)
    text = re.sub(r'<g id="[\w.]+"', "<g", text)
    text = re.sub(r"font-family: [^;]*; ", "", text)
    text = re.sub(r"\s*\n\s*", " ", text)
    for drawn, name in COLOURS.items():
        text = text.replace(drawn, f"var(--{name})")
    return text.strip()
