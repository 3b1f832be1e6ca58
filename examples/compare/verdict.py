# SPDX-License-Identifier: MIT
"""Which engine won, by what ratio, and whether that is more than the noise."""

import dataclasses
import statistics

from cluster import KEPT_NOWHERE

SIGNIFICANT = 0.05
# The least that a rank test of as many rounds on each side can find: of four,
# 2 in 70 orders are as extreme as the most extreme; of three, 2 in 20.
ROUNDS_MIN = 4

RULE = (
    "Figures are medians of the rounds, a ratio is one of medians. The winner "
    "is compared with the next: their difference counts as more than the "
    "noise if an exact two-sided rank test (Mann-Whitney) of their rounds "
    f"gives p < {SIGNIFICANT}, which takes at least {ROUNDS_MIN} rounds of "
    "each. memory and null keep nothing over a restart, so they stand beside "
    "the others and do not compete with them; memory does where fewer than "
    "two others ran.")


@dataclasses.dataclass(frozen=True)
class Measure:
    """What a workload is won by."""

    figure: str  # of the results
    more_is_better: bool
    what: str  # goes before the number
    unit: str
    decimals: int = 0

    def said(self, value):
        return f"{value:,.{self.decimals}f} {self.unit}"


RATE = Measure("per_second", True, "", "requests/s")
TAIL = Measure("p99_ms", False, "a p99 of ", "ms", 2)
DRAIN = Measure("drain_s", False, "hints drained in ", "s", 1)


def ranks(values):
    """Of each value; of equal ones the mean, and all doubled, so that they
    stay whole."""
    order = sorted(values)
    first = {value: order.index(value) for value in order}
    return [2 * first[value] + order.count(value) + 1 for value in values]


def rank_test(a, b):
    """p of two-sided Mann-Whitney, exact also with ties: the share of all ways
    to deal the ranks out whose sum is as far from the middle."""
    dealt = ranks([*a, *b])
    size, everything = len(a), sum(dealt)
    ways = [{} for _ in range(size + 1)]  # by how many are dealt: sum, ways
    ways[0][0] = 1
    for rank in dealt:
        for taken in range(size, 0, -1):
            for total, count in ways[taken - 1].items():
                ways[taken][total + rank] = (
                    ways[taken].get(total + rank, 0) + count)

    def from_middle(total):
        """In whole numbers, as equal ones are to be equal."""
        return abs(total * len(dealt) - everything * size)

    seen = from_middle(sum(dealt[:size]))
    far = sum(count for total, count in ways[size].items()
              if from_middle(total) >= seen)
    return far / sum(ways[size].values())


def noise(a, b):
    if min(len(a), len(b)) < ROUNDS_MIN:
        return (f"fewer than {ROUNDS_MIN} rounds of each cannot tell that "
                "from the noise")
    p = rank_test(a, b)
    shown = f"p = {p:.3f}" if p >= 0.001 else "p < 0.001"
    if p < SIGNIFICANT:
        return f"that is more than the noise ({shown})"
    return f"that is no more than the noise ({shown})"


def times(first, second):
    """What the first is of the second, before the second is named."""
    return f"{first / second:.2f} times" if second > 0 else "against"


def order(measure, found):
    """Engines with their medians, the best first; equal ones by name."""
    medians = {engine: statistics.median(values)
               for engine, values in found.items() if values}
    return sorted(medians.items(), key=lambda each: (
        -each[1] if measure.more_is_better else each[1], each[0]))


def competitors(found):
    lasting = [engine for engine in found if engine not in KEPT_NOWHERE]
    if len(lasting) >= 2:
        return lasting
    return [engine for engine in found if engine != "null"]


def missing(found, rounds):
    """What there is to say of rounds that failed."""
    parts = []
    for engine, values in found.items():
        if not values:
            parts.append(f"{engine} has no result")
        elif len(values) < rounds:
            parts.append(f"{engine} has {len(values)} of {rounds} rounds")
    return f" ({'; '.join(parts)}.)" if parts else ""


def beside(measure, found, racing, best):
    """Those that did not compete, held against the winner."""
    parts = [f"{engine} {measure.said(value)}, "
             f"{times(value, best)} that"
             for engine, value in order(measure, found)
             if engine not in racing]
    return f" Keeping nothing: {'; '.join(parts)}." if parts else ""


def sentence(measure, found, rounds):
    """found: by engine, a list of figures, one of each round that has one."""
    racing = competitors(found)
    placed = order(measure, {engine: found[engine] for engine in racing})
    if not placed:
        return ("nobody won: none that competes has a result." +
                missing(found, rounds))
    (winner, best), *others = placed
    said = f"{winner} won with {measure.what}{measure.said(best)}"
    if others:
        second, value = others[0]
        if value == best:
            said = (f"nobody won: {winner} and {second} both have "
                    f"{measure.what}{measure.said(best)}")
        else:
            said += (f", {times(best, value)} the "
                     f"{measure.said(value)} of {second}; "
                     f"{noise(found[winner], found[second])}")
    else:
        said += ", and there is no other to compare it with"
    return (said + "." + beside(measure, found, racing, best) +
            missing(found, rounds))
