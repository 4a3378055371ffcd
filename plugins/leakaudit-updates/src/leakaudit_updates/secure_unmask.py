"""What the aggregator does with the sites' shares: it takes off the masks that did not cancel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from leakaudit_updates.secure_deal import Deal, sign, stream
from leakaudit_updates.secure_shares import packed, recover, unpacked

__all__ = ["Shares", "unmask"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """What one site hands out after a round.

    Attributes:
        own: Its share of the self mask of each site whose update arrived, in their order, shape (arrived, 16), bytes.
        pairs: Its share of the seed of each pair of a site whose update is missing and one whose update arrived, shape
            (missing, arrived, 16), bytes.
    """

    own: Tensor
    pairs: Tensor

    @staticmethod
    def of(deal: Deal, holder: int, arrived: Sequence[int]) -> Shares:
        """Return what a holder hands out if the updates of the sites `arrived` are to be summed.

        For each site it is either a share of its self mask or shares of its pairwise seeds, never both: with both, the
        aggregator could unmask that site's update alone.
        """
        missing = [site for site in range(deal.sites) if site not in arrived]
        own = packed([deal.share_of_own(site, holder) for site in arrived])
        pairs = packed([deal.share_of_pair(gone, site, holder) for gone in missing for site in arrived])
        return Shares(own=own, pairs=pairs.reshape(len(missing), len(arrived), own.shape[1]))


def unmask(total: Tensor, sites: int, arrived: Sequence[int], shares: Mapping[int, Shares]) -> Tensor:
    """Return a sum of masked numbers without masks.

    Args:
        total: Sum over the sites `arrived` modulo 2**64, shape (n,), int64.
        sites: Number of sites, arrived or not.
        arrived: Their numbers, ascending.
        shares: By number of the holder, exactly as many as the threshold.
    """
    missing = [site for site in range(sites) if site not in arrived]
    own = {holder: unpacked(s.own) for holder, s in shares.items()}
    pairs = {holder: unpacked(s.pairs.flatten(0, 1)) for holder, s in shares.items()}
    count = total.numel()

    def mask(of: Mapping[int, Sequence[int]], place: int) -> Tensor:
        return stream(recover({holder: numbers[place] for holder, numbers in of.items()}), count).to(total.device)

    for place, site in enumerate(arrived):
        total = total - mask(own, place)
        for row, gone in enumerate(missing):
            total = total - sign(site, gone) * mask(pairs, row * len(arrived) + place)
    return total
