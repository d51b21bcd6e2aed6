"""What TensorBoard's own plug-ins read, as values of events: texts, histograms, the layout of charts."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import metadata as charts_metadata
from tensorboard.plugins.histogram import summary_v2 as histograms
from tensorboard.plugins.text import metadata as text_metadata
from tensorboard.util import tensor_util


def text(tag: str, markdown: str) -> dict[str, Any]:
    """A text that TensorBoard renders as Markdown."""
    metadata = text_metadata.create_summary_metadata(None, None)
    return _value(tag, metadata, np.array([markdown], dtype=object))


def histogram(tag: str, values: np.ndarray) -> Any:
    """The spread of some numbers; those that are not finite are left out."""
    return histograms.histogram_pb(tag, values[np.isfinite(values)]).value[0]


def layout(names: Iterable[str]) -> dict[str, Any]:
    """Charts for scalars of these names, in which train and valid of one quantity stand together.

    All with the same beginning, as weight_norm/.., make one chart. TensorBoard joins the layouts of runs.
    """
    known = list(dict.fromkeys(names))
    both = [one[6:] for one in known if one.startswith("train/") and f"valid/{one[6:]}" in known]
    whole = layout_pb2.Layout()
    pairs = whole.category.add(title="train and valid")
    for name in both:
        _chart(pairs, name, [f"^(train|valid)/{name}$"])
    alone = [one for one in known if one.split("/")[0] in ("train", "valid")]
    others = whole.category.add(title="train or valid alone", closed=True)
    for name in dict.fromkeys("/".join(one.split("/")[:2]) for one in alone):
        if name.split("/")[1] not in both:
            _chart(others, name, [f"^{name}(/.*)?$"])
    layers = whole.category.add(title="by layer", closed=True)
    for beginning in dict.fromkeys(one.split("/")[0] for one in known if one not in alone):
        _chart(layers, beginning, [f"^{beginning}/.*$"])
    return _of_layout(whole)


def bands(title: str, edges: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    """Charts under one title: each curve in a band between two others, all named by their tags."""
    charts = [
        {"title": tag, "margin": {"series": [{"value": tag, "lower": low, "upper": high}]}}
        for tag, (low, high) in edges.items()
    ]
    return _of_layout(layout_pb2.Layout(category=[{"title": title, "chart": charts}]))


def _of_layout(whole: Any) -> dict[str, Any]:
    metadata = charts_metadata.create_summary_metadata()
    content = np.array([whole.SerializeToString()], dtype=object)
    return _value(charts_metadata.CONFIG_SUMMARY_TAG, metadata, content)


def _chart(category: Any, title: str, tags: list[str]) -> None:
    category.chart.add(title=title, multiline=layout_pb2.MultilineChartContent(tag=tags))


def _value(tag: str, metadata: Any, content: np.ndarray) -> dict[str, Any]:
    return {"tag": tag, "metadata": metadata, "tensor": tensor_util.make_tensor_proto(content)}
