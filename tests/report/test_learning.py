"""Learning curves: seeds are a mean and a band, and what is not comparable is not in one chart."""

import numpy as np
import pytest
from read_runs import run

from bihm.report import learning, plots
from bihm.report.settings import settings


@pytest.fixture
def drawn(monkeypatch):
    """What plots are asked to draw."""
    charts = []

    def lines(series, *labels, **options):
        charts.append((list(series), options))
        return "<svg></svg>"

    monkeypatch.setattr(plots, "lines", lines)
    return charts


def with_curve(values, every=1, **changes):
    records = [
        {
            "epoch": float(every * (i + 1)),
            "valid/log_p": v,
            "valid/log_p_tilde_star": None if v is None else v - 1,
        }
        for i, v in enumerate(values)
    ]
    return run(**changes)._replace(records=records)


def test_seeds_are_a_mean_and_a_band_as_far_as_all_go(drawn):
    runs = [with_curve([-9.0, -7.0, None, -4.0], seed=0), with_curve([-7.0, -8.0, -5.0], seed=1)]
    (section,) = learning.learning_section(settings(runs))
    (band,) = drawn[0][0]
    assert band.x == [1.0, 2.0]
    assert band.y == [-9.0, -8.5]  # BiHM's own score is log p~*
    # -10 and -8, then -8 and -9: standard deviations sqrt(2) and sqrt(1/2)
    np.testing.assert_allclose(band.low, [-9 - 2**0.5, -8.5 - 0.5**0.5])
    np.testing.assert_allclose(band.high, [-9 + 2**0.5, -8.5 + 0.5**0.5])
    assert "means over up to 2 seeds" in section.charts[0].caption


def test_models_are_compared_by_what_all_have_and_datasets_apart(drawn):
    runs = [
        with_curve([-3.0], model__name="rws"),
        with_curve([-2.0]),
        with_curve([-1.0], dataset__name="bars"),
    ]
    (section,) = learning.learning_section(settings(runs))
    assert [chart.title for chart in section.charts] == [
        "log p on digits by epoch",
        "log p on bars by epoch",
    ]
    assert [one.y for one in drawn[0][0]] == [[-3.0], [-2.0]]
    assert all(one.dots for one in drawn[0][0])  # a line of one point cannot be seen


def test_of_many_settings_the_best_have_colours(drawn):
    runs = [with_curve([-9.0, -float(i)], K=i + 1) for i in range(9)]
    (section,) = learning.learning_section(settings(runs))
    coloured = [one.y[-1] for one in drawn[0][0] if one.colour is not None]
    assert coloured == [-1.0, -2.0, -3.0, -4.0, -5.0, -6.0]
    assert [one.colour for one in drawn[0][0]][:3] == [None] * 3  # below the others
    assert [key.label for key in section.charts[0].legend][-1] == "3 others"


def test_a_long_curve_is_thinned_to_its_end(drawn):
    learning.learning_section(settings([with_curve(list(np.linspace(-9.0, -1.0, 2000)))]))
    (band,) = drawn[0][0]
    assert len(band.x) == learning.MOST_POINTS
    assert not band.dots
    assert (band.x[-1], band.y[-1]) == (2000.0, -2.0)


def test_without_records_there_is_no_section():
    assert learning.learning_section(settings([run()])) == []
