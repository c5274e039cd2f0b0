"""The frontier drawn. Matplotlib is imported when there is something to draw."""

from __future__ import annotations

from pathlib import Path

from twin_service.tuning.search import Candidate, Found
from twin_service.tuning.wishes import Figures, Wished
from twinsplit.errors import ConfigurationError, StorageError

_Axis = tuple[str, str, float]
"""Field of the figures, label, factor."""
_ACCURACY: _Axis = ("accuracy", "accuracy, %", 100.0)
_MEAN: _Axis = ("latency_mean_s", "mean latency, ms", 1000.0)
_P95: _Axis = ("latency_p95_s", "95th percentile of latency, ms", 1000.0)
_ENERGY: _Axis = ("energy_joules", "energy of a task, J", 1.0)
_AXES: dict[Wished, tuple[_Axis, _Axis, _Axis]] = {
    Wished.LATENCY_P95: (_P95, _ACCURACY, _ENERGY),
    Wished.ENERGY: (_ENERGY, _ACCURACY, _MEAN),
    Wished.ACCURACY: (_ACCURACY, _MEAN, _ENERGY),
}
"""Across (the wish), up, colour."""


def need_matplotlib() -> None:
    """See that there is a matplotlib.

    Raises:
        ConfigurationError: there is none.
    """
    try:
        import matplotlib  # noqa: F401 - is it there?
    except ImportError:
        raise ConfigurationError("--plot needs matplotlib; pip install 'twinsplit[model]'") from None


def draw(found: Found, path: Path) -> None:
    """All weights that were looked at, the frontier, the wish, the present and the chosen weights, as PNG.

    Raises:
        ConfigurationError: matplotlib is not installed.
        StorageError: the file cannot be written.
    """
    need_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    across, up, colour = _AXES[found.wish.wished]
    figure = Figure(figsize=(9, 5.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()

    def values(candidates: list[Candidate], axis: _Axis) -> list[float]:
        return [_value(candidate.figures, axis) for candidate in candidates]

    every = list(found.candidates)
    dots = axes.scatter(values(every, across), values(every, up), c=values(every, colour), s=22, cmap="viridis")
    figure.colorbar(dots, label=colour[1])
    frontier = found.frontier
    axes.plot(values(frontier, across), values(frontier, up), color="tab:gray", linewidth=1, label="frontier")
    axes.axvline(found.wish.limit * across[2], color="tab:red", linestyle="--", linewidth=1, label="wish")
    name = "chosen" if found.is_met else "nearest"
    for candidate, label, marker in ((found.present, "present", "X"), (found.chosen, name, "*")):
        weighting = candidate.weighting
        label = f"{label}: alpha {weighting.alpha_s:g} s, beta {weighting.beta_s_per_joule:g} s/J"
        x, y = values([candidate], across), values([candidate], up)
        axes.plot(x, y, marker, color="tab:red", markersize=12, markeredgecolor="white", linestyle="", label=label)
    shown = [*values(frontier, across), *values([found.present, found.chosen], across), found.wish.limit * across[2]]
    margin = 0.1 * (max(shown) - min(shown)) or 0.1 * max(shown)
    axes.set_xlim(min(shown) - margin, max(shown) + margin)  # what is far off the frontier tells nothing
    axes.set_xlabel(across[1])
    axes.set_ylabel(up[1])
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize="small")
    axes.set_title(f"weights looked at for: {found.wish.in_words()}")
    try:
        figure.savefig(path, format="png")
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}; name a file that can be written") from None


def _value(figures: Figures, axis: _Axis) -> float:
    return float(getattr(figures, axis[0])) * axis[2]
