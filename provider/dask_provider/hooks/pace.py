"""How often a place is asked that tells nothing by itself."""

from __future__ import annotations


def pause(waited: float, least: float, share: float, most: float) -> float:
    """Seconds until the next look of one who has waited so long: a share of that, within bounds."""
    return min(most, max(least, share * waited))
