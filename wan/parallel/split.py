"""Which tokens of a video each rank has."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from torch import Tensor

from ..errors import GeometryError

if TYPE_CHECKING:
    from .group import Group


def split_sizes(total: int, ranks: int) -> tuple[int, ...]:
    """How many tokens each rank has: as many as the others, or one more.

    Nothing is padded, so there is nothing that must be kept from having an influence.

    Args:
        total: tokens of the video.
        ranks: 1 or more.
    Raises:
        GeometryError: there are fewer tokens than ranks.
    """
    if total < ranks:
        raise GeometryError(
            what=f"The video has {total} tokens, and {ranks} processes were asked for.",
            why="Each of them needs a token of its own.",
            fix=f"Use at most {total} ranks.",
        )
    each, more = divmod(total, ranks)
    return tuple(each + (rank < more) for rank in range(ranks))


@dataclass(frozen=True)
class Split:
    """Neighbouring tokens for each rank of a group, in the order of the ranks."""

    group: Group
    """The processes."""
    total: int
    """Tokens of the whole video."""

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Tokens of each rank. Raises: as `split_sizes`."""
        return split_sizes(self.total, self.group.size)

    @property
    def start(self) -> int:
        """The first token of this rank."""
        return sum(self.sizes[: self.group.rank])

    @property
    def stop(self) -> int:
        """The token behind its last one."""
        return self.start + self.sizes[self.group.rank]

    def own(self, tokens: Tensor) -> Tensor:
        """This rank's part of [1, total, ...], as a view."""
        return tokens[:, self.start : self.stop]

    def gather(self, tokens: Tensor) -> Tensor:
        """[1, total, ...] from the parts that all ranks have, on all of them."""
        return self.group.gather(tokens[0], self.sizes)[None]

    def frames(self, count: int) -> tuple[slice, tuple[int, int]]:
        """The latent frames that this rank has tokens of.

        Args:
            count: latent frames of the video, one after the other in its tokens.
        Returns:
            (which frames, (tokens missing at the beginning of the first, at the end of the last)).
        """
        each = self.total // count
        first, last = self.start // each, -(-self.stop // each)
        return slice(first, last), (self.start - first * each, last * each - self.stop)
