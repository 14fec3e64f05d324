"""Several Gaussian process learners of one shape, in one pass over all of them."""

from collections.abc import Sequence
from typing import NamedTuple
from weakref import WeakKeyDictionary, ref

import torch
from torch import Tensor, nn

from sklearn_meta.functional.compiled_process import Levels
from sklearn_meta.learners.kernel import KernelLearner
from sklearn_meta.learners.parts import layers_of
from sklearn_meta.learners.towers import Towers

__all__ = ["KernelTeam", "team_of", "team_shape"]


class KernelTeam(KernelLearner):
    """Kernel learners of one shape, the first of which reads the first task, and so on.

    What it does is what each of them does to its own task. For a single new task, whose
    tensors are tiny, calls cost more than arithmetic: a team makes as many calls as one
    member. It serves only; members are trained by themselves. A mean of zero and a
    constant noise are those of a network that says zero, so that members which learn
    one or both go together.

    Parameters
    ----------
    learners : sequence of KernelLearner
        At least one, all of one `team_shape`, which is not None.

    Examples
    --------
    >>> import torch
    >>> from sklearn_meta.learners import KernelLearner, KernelTeam
    >>> team = KernelTeam([KernelLearner(3), KernelLearner(3)])
    >>> X, Y = torch.zeros(2, 4, 3), torch.ones(2, 4, 1)
    >>> with torch.no_grad():
    ...     team(X, Y, torch.ones(2, 4, dtype=torch.bool), X).mean.shape
    torch.Size([2, 4])
    """

    def __init__(self, learners: Sequence[KernelLearner]):
        nn.Module.__init__(self)
        first = learners[0]
        self.mean, self.noise, self.std_floor = first.mean, first.noise, first.std_floor
        if first.is_deep and first.tells_moments:
            self.mean, self.noise = "learned", "heteroscedastic"
        self.n_features = first.n_features
        self.feature_dropout, self.n_kept_columns = 0.0, 0
        self.eval()
        for name in ("log_constant", "log_linear", "log_smooth", "log_length"):
            numbers = torch.stack([getattr(each, name).detach() for each in learners])
            setattr(self, name, _constant(numbers.view(len(learners), 1, -1)))
        for name in ("log_noise", "constant_mean"):
            if hasattr(first, name):
                single = [getattr(each, name).detach() for each in learners]
                setattr(self, name, _constant(torch.stack(single)[:, None]))
        levels = [each._levels() for each in learners]
        self.own_levels = Levels(*map(_stacked, zip(*levels, strict=True)))
        if first.is_deep:
            self._join_networks(learners)

    def _levels(self) -> Levels:
        """Levels of the noise of each member, (n_members, n_levels)."""
        return self.own_levels

    def _join_networks(self, learners: Sequence[KernelLearner]) -> None:
        """Lay the towers of all members side by side, and stack their heads."""
        self.body = Towers.joined(layers_of(Towers, (each.body for each in learners)))
        heads = zip(*(_heads(each) for each in learners), strict=True)
        # stacked to (n_members, 1 + width of the body, width of the head)
        both = [torch.stack(same) for same in heads]
        self.head_biases = [rows[:, :1] for rows in both]
        self.head_weights = [rows[:, 1:].contiguous() for rows in both]

    def _features(self, X: Tensor) -> list[Tensor]:
        """Outputs of the heads, each (n_tasks, n_rows, width)."""
        n_heads = len(self.head_weights)
        hidden = self.body(X.repeat_interleave(n_heads, 0))
        hidden = hidden.unflatten(0, (len(X), n_heads))
        return [
            torch.baddbmm(bias, hidden[:, i], weight)
            for i, (weight, bias) in enumerate(
                zip(self.head_weights, self.head_biases, strict=True)
            )
        ]


def _heads(learner: KernelLearner) -> list[Tensor]:
    """Return bias above weights of each head; the last tells both mean and noise."""
    layers = layers_of(nn.Linear, learner.heads)
    heads = [torch.cat([e.bias[None], e.weight.mT]).detach() for e in layers]
    if learner.tells_moments:
        first, last = heads[-1][:, :1], heads[-1][:, -1:]
        mean = first if learner.mean == "learned" else torch.zeros_like(first)
        varies = learner.noise == "heteroscedastic"
        heads[-1] = torch.cat([mean, last if varies else torch.zeros_like(last)], 1)
    return heads


def _stacked(parts: tuple[Tensor | None, ...]) -> Tensor | None:
    """Stack what each member has, if it has it: (n_members, ...)."""
    found = [part.detach() for part in parts if part is not None]
    return torch.stack(found) if found else None


def _constant(numbers: Tensor) -> nn.Parameter:
    return nn.Parameter(numbers, requires_grad=False)


def team_shape(learner: KernelLearner) -> tuple | None:
    """Return what learners must have in common to make a team; None if it cannot.

    Networks of the user's own cannot.
    """
    return learner.shape and (*learner.shape, learner.std_floor)


class _Built(NamedTuple):
    """A team, and what it was built of: it is of no use when that has changed."""

    learners: list[ref]
    parameters: list[nn.Parameter]
    versions: list[int]
    team: KernelTeam

    @classmethod
    def of(cls, learners: Sequence[KernelLearner]) -> "_Built":
        parameters = [p for learner in learners for p in learner.parameters()]
        versions = [p._version for p in parameters]
        return cls(
            [ref(e) for e in learners], parameters, versions, KernelTeam(learners)
        )

    def is_of(self, learners: Sequence[KernelLearner]) -> bool:
        same = [known() for known in self.learners] == list(learners)
        return same and [p._version for p in self.parameters] == self.versions


# teams by their first member: stacking their weights takes as long as adapting
_TEAMS: WeakKeyDictionary[KernelLearner, _Built] = WeakKeyDictionary()


def team_of(learners: Sequence[KernelLearner]) -> KernelTeam:
    """Return the team of some learners, built again only if their weights changed.

    Parameters
    ----------
    learners : sequence of KernelLearner
        As of `KernelTeam`.
    """
    built = _TEAMS.get(learners[0])
    if built is None or not built.is_of(learners):
        built = _TEAMS[learners[0]] = _Built.of(learners)
    return built.team
