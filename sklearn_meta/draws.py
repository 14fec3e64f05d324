"""Random draws for many episodes at once.

Random keys are sorted by numpy, which is many times faster at it than torch.
"""

import torch
from torch import Tensor

# urns with this many numbers per draw are drawn from, not shuffled
LARGE_URN = 4
# the numbers in an urn are below 2 ** NUMBER_BITS
NUMBER_BITS = 32


def draw_without_replacement(
    sizes: Tensor, n_draws: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw distinct numbers below each size, in random order.

    Many urns at once: the numbers of a small urn are shuffled; from a large one numbers
    are drawn with replacement, of which the first distinct ones count. So the cost
    depends on the number of draws, not on the size of the urns.

    Parameters
    ----------
    sizes : Tensor of shape (n_urns,)
        Numbers are drawn from ``0, ..., size - 1``; at most 2**32.
    n_draws : int
        Draws from each urn; an urn with fewer numbers gives all of them.
    generator : torch.Generator
        Source of randomness, on the CPU.

    Returns
    -------
    draws : Tensor of shape (n_urns, n_draws)
        The numbers; 0 where there is none.
    valid : Tensor of shape (n_urns, n_draws)
        True where there is a number. These come first.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.draws import draw_without_replacement
    >>> draws, valid = draw_without_replacement(
    ...     torch.tensor([3, 1]), 3, torch.Generator().manual_seed(0)
    ... )
    >>> sorted(draws[0].tolist()), valid[1].tolist()
    ([0, 1, 2], [True, False, False])
    """
    valid = columns_below(sizes, n_draws)
    large = sizes > LARGE_URN * n_draws
    if not bool(large.any()):
        return _shuffle(sizes, n_draws, generator), valid
    draws = torch.empty(len(sizes), n_draws, dtype=torch.int64)
    draws[~large] = _shuffle(sizes[~large], n_draws, generator)
    draws[large] = _first_distinct(sizes[large], n_draws, generator)
    return draws, valid


def columns_below(limits: Tensor, n_columns: int) -> Tensor:
    """Return (n_rows, n_columns), True where a column's number is below its row's."""
    if bool((limits >= n_columns).all()):  # as a rule, and told in less time
        return torch.ones(len(limits), n_columns, dtype=torch.bool)
    return torch.arange(n_columns) < limits.unsqueeze(1)


def _shuffle(sizes: Tensor, n_draws: int, generator: torch.Generator) -> Tensor:
    """Return the first numbers of shuffled urns, 0 where an urn has no more."""
    width = max(int(sizes.max()) if len(sizes) else 0, n_draws)
    n_bits = int(width).bit_length()
    numbers = torch.arange(width)
    # a random key with the number in its last bits: numpy sorts these many times
    # faster than anything finds the order of keys
    keys = torch.empty(len(sizes), width, dtype=torch.int64).random_(
        generator=generator
    )
    keys.bitwise_and_(-(2**n_bits)).bitwise_or_(numbers)
    is_full = bool((sizes == width).all())
    if not is_full:
        keys.masked_fill_(numbers >= sizes.unsqueeze(1), torch.iinfo(torch.int64).max)
    keys.numpy().sort(axis=1)
    draws = keys[:, :n_draws] & (2**n_bits - 1)
    return draws if is_full else draws.masked_fill_(draws >= sizes.unsqueeze(1), 0)


def _first_distinct(sizes: Tensor, n_draws: int, generator: torch.Generator) -> Tensor:
    """Return the first distinct numbers of draws with replacement from large urns.

    Whether a sequence has enough of them does not depend on which numbers they are. So
    drawing the others anew leaves all ordered sets of numbers equally likely.
    """
    draws = torch.empty(len(sizes), n_draws, dtype=torch.int64)
    left, n_candidates = torch.arange(len(sizes)), n_draws + n_draws // 2 + 2
    while len(left):
        uniform = torch.rand(
            len(left), n_candidates, generator=generator, dtype=torch.float64
        )
        numbers = (uniform * sizes[left].unsqueeze(1)).long()
        found, enough = _in_order_of_appearance(numbers, n_draws)
        draws[left[enough]] = found[enough]
        left = left[~enough]
    return draws


def _in_order_of_appearance(numbers: Tensor, n_draws: int) -> tuple[Tensor, Tensor]:
    """Return the first distinct numbers of each row, and whether there are so many."""
    width = numbers.shape[1]
    n_bits = int(width).bit_length()
    # sorted by number and then by place, a repeat follows its first appearance
    by_number = numbers << n_bits | torch.arange(width)
    by_number.numpy().sort(axis=1)
    place, number = by_number & (2**n_bits - 1), by_number >> n_bits
    repeats = torch.zeros_like(number)
    repeats[:, 1:] = number[:, 1:] == number[:, :-1]
    # and back: by place, the repeats last
    by_place = (repeats << n_bits | place) << NUMBER_BITS | number
    by_place.numpy().sort(axis=1)
    first = by_place[:, :n_draws]
    enough = first[:, -1] >> (n_bits + NUMBER_BITS) == 0
    return first & (2**NUMBER_BITS - 1), enough


def draw_shots(
    n_shots: tuple[int, int], n_episodes: int, generator: torch.Generator
) -> Tensor:
    """Draw a number of shots for each episode, both ends included."""
    low, high = n_shots
    return torch.randint(low, high + 1, (n_episodes,), generator=generator)


def draw_shots_log_uniform(
    n_shots: tuple[int, int], n_episodes: int, generator: torch.Generator
) -> Tensor:
    """Draw numbers of shots whose logarithms are uniform, both ends included."""
    low, high = n_shots
    uniform = torch.rand(n_episodes, generator=generator, dtype=torch.float64)
    # rounded down: n stands for all from n up to n + 1
    shots = low * ((high + 1) / low) ** uniform
    return shots.long().clamp(low, high)


def shuffled_cycle(n: int, length: int, generator: torch.Generator) -> Tensor:
    """Return ``length`` numbers below n, in shuffled passes over all of them."""
    n_passes = -(-length // n)
    keys = torch.rand(n_passes, n, generator=generator)
    return keys.argsort(1).flatten()[:length]
