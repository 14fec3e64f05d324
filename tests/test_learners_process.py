"""What only neural processes must do."""

import pytest
import torch
from torch import nn

from sklearn_meta.functional import build_mlp, gaussian_nll, masked_task_mean
from sklearn_meta.learners import ProcessLearner, parts
from sklearn_meta.learners.architectures import READERS
from sklearn_meta.learners.parts import SplitDecoder

parametrize = pytest.mark.parametrize("architecture", READERS)


def _regression(seed=0, n_tasks=8, n_support=6):
    """Lines of random slope: X, Y, mask, X_query, Y_query."""
    generator = torch.Generator().manual_seed(seed)
    X = torch.randn(n_tasks, 2 * n_support, 1, generator=generator)
    Y = X * torch.randn(n_tasks, 1, 1, generator=generator)
    mask = torch.ones(n_tasks, n_support, dtype=torch.bool)
    return X[:, :n_support], Y[:, :n_support], mask, X[:, n_support:], Y[:, n_support:]


def _regressor(architecture, **options):
    torch.manual_seed(0)
    options = {"hidden_size": 16, "likelihood": "gaussian"} | options
    return ProcessLearner(1, 1, architecture=architecture, **options)


@parametrize
def test_untrained_regressor_predicts_standard_normal(architecture):
    # Zero-initialised last layer: training starts at the prior of scaled targets.
    X, Y, mask, Q, _ = _regression()
    prediction = _regressor(architecture)(X, Y, mask, Q)
    assert prediction.mean.abs().max() == 0
    torch.testing.assert_close(prediction.std, torch.ones_like(prediction.std))


@parametrize
def test_training_on_lines_beats_the_prior(architecture):
    # It must learn to read the slope from the support.
    learner = _regressor(architecture)
    optimizer = torch.optim.Adam(learner.parameters(), lr=5e-3)
    for step in range(150):
        X, Y, mask, Q, target = _regression(step, n_tasks=16)
        loss = masked_task_mean(gaussian_nll(learner(X, Y, mask, Q), target), mask)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    X, Y, mask, Q, target = _regression(999, n_tasks=100)
    error = (learner(X, Y, mask, Q).mean - target.squeeze(-1)).square().mean()
    assert error < 0.5 * target.square().mean()


@parametrize
def test_support_row_with_zero_target_differs_from_no_row(architecture):
    # TNP-D gives query tokens y = 0; a support row at 0 must still say something.
    X, Y, mask, Q, _ = _regression()
    learner = _regressor(architecture)
    with torch.no_grad():
        for p in learner.parameters():
            p += 0.1 * torch.randn_like(p)
    some = learner(X, Y * 0, mask, Q).std
    none = learner(X, Y * 0, mask & False, Q).std
    assert (some - none).abs().min() > 1e-6


@parametrize
def test_predictions_know_the_number_of_support_rows(architecture):
    # A mean over equal rows is the same for one and for many.
    learner = _regressor(architecture)
    with torch.no_grad():
        for p in learner.parameters():
            p += 0.1 * torch.randn_like(p)
    X, Y, mask, Q = (torch.ones(1, 5, 1),) * 2 + (
        torch.ones(1, 5) > 0,
        torch.zeros(1, 1, 1),
    )
    one = learner(X[:, :1], Y[:, :1], mask[:, :1], Q).std
    assert not torch.allclose(one, learner(X, Y, mask, Q).std, rtol=1e-4)


@pytest.mark.parametrize("architecture", ["cnp", "hypernetwork"])
def test_large_supports_are_read_in_parts_and_give_the_same(architecture, monkeypatch):
    # The layers of a million rows would take gigabytes.
    learner = _regressor(architecture)
    X, Y, mask, Q, _ = _regression()
    mask = mask.clone()
    mask[0, :3] = False  # a part without a row
    with torch.no_grad():
        for p in learner.parameters():
            p += 0.1 * torch.randn_like(p)
        expected = learner(X, Y, mask, Q)
        monkeypatch.setattr(parts, "MAX_EMBEDDED_ROWS", 2 * len(X))
        found = learner(X, Y, mask, Q)
    assert torch.allclose(found.mean, expected.mean, atol=1e-6)
    assert torch.allclose(found.std, expected.std, atol=1e-6)


def test_attentive_learner_with_more_heads_uses_them():
    # Heads must change the function, else the option is a lie.
    X, Y, mask, Q, _ = _regression()
    states = [_regressor("attentive", n_heads=n) for n in (1, 4)]
    for learner in states:
        nn.init.ones_(learner.reader.decoder.rest[-1][-1].weight)
    first, second = (learner(X, Y, mask, Q).mean for learner in states)
    assert not torch.allclose(first, second)


@parametrize
@pytest.mark.parametrize("n_classes", [1, 2, 7])
def test_class_equivariant_learner_takes_any_number_of_classes(architecture, n_classes):
    # Ways are folded into the batch; n_outputs has no say.
    learner = ProcessLearner(
        2,
        3,
        likelihood="categorical",
        architecture=architecture,
        class_equivariant=True,
    )
    X, Y = torch.randn(2, n_classes, 2), torch.eye(n_classes).expand(2, -1, -1)
    mask = torch.ones(2, n_classes, dtype=torch.bool)
    assert learner(X, Y, mask, X[:, :1]).shape == (2, 1, n_classes)


def test_hypernetwork_writes_other_weights_for_other_supports():
    # The task's network is generated, not only its last layer or a bias.
    X, Y, mask, _, _ = _regression()
    learner = _disturbed("hypernetwork", n_layers=2)
    state = learner.adapt(X, Y, mask)
    for name in ("weight_0", "weight_1", "weight_2", "bias_0", "bias_1", "bias_2"):
        first, second = state[name][0, 0], state[name][1, 0]
        assert not torch.allclose(first, second, rtol=1e-3), name


def test_hypernetwork_answers_as_the_network_that_it_writes():
    # The stacked product against a plain perceptron with the same weights.
    X, Y, mask, Q, _ = _regression()
    learner = _disturbed("hypernetwork", n_layers=1)
    state = learner.adapt(X, Y, mask)
    weights = {name: value[0, 0] for name, value in state.items() if "_" in name}
    hidden = nn.functional.gelu(Q[0] @ weights["weight_0"] + weights["bias_0"])
    answers = hidden @ weights["weight_1"] + weights["bias_1"]
    torch.testing.assert_close(learner.query(state, Q).mean[0], answers[:, 0])


@pytest.mark.parametrize("seed", range(3))
def test_recurrent_learner_does_not_see_the_given_order(seed):
    # Its orders follow from the rows; the given one is not among them.
    X, Y, mask, Q, _ = _regression()
    learner = _disturbed("recurrent").double()
    shuffled = torch.randperm(6, generator=torch.Generator().manual_seed(seed))
    X, Y, Q = X.double(), Y.double(), Q.double()
    one = learner(X, Y, mask, Q).mean
    two = learner(X[:, shuffled], Y[:, shuffled], mask, Q).mean
    torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-12)


def test_recurrent_learner_reads_one_row_after_the_other():
    # A set whose rows are read alone would give each step the same, with or without
    # the rows before it.
    X, Y, mask, _, _ = _regression(n_tasks=1)
    reader = _disturbed("recurrent").reader
    both = reader.read(X[:, :2], Y[:, :2], mask[:, :2])["values"]
    alone = reader.read(X[:, :1], Y[:, :1], mask[:, :1])["values"]
    distances = torch.cdist(both[0], alone[0]).min(1).values
    assert (distances > 1e-4).any()
    assert (distances < 1e-6).any()  # where the row comes first


def _disturbed(architecture, **options):
    """A learner whose zero-initialised layers are made to do something."""
    learner = _regressor(architecture, **options)
    with torch.no_grad():
        for p in learner.parameters():
            p += 0.1 * torch.randn_like(p)
    return learner


def test_encoder_is_used_and_its_width_is_read():
    # A user's encoder comes before everything else, for support and queries.
    learner = ProcessLearner(4, 1, likelihood="gaussian", encoder=build_mlp(4, (8,), 3))
    assert learner.reader.decoder.of_row.in_features == 3


def test_split_decoder_equals_decoder_of_joined_inputs():
    # The split is a matter of speed only.
    decoder = SplitDecoder(3, 4, 5, 2, 2).double()
    nn.init.normal_(decoder.rest[-1][-1].weight)
    rows, context = torch.randn(2, 6, 3).double(), torch.randn(2, 4).double()
    joined = torch.cat([rows, context[:, None].expand(-1, 6, -1)], -1)
    weight = torch.cat([decoder.of_row.weight, decoder.of_set.weight], 1)
    first = joined @ weight.mT + decoder.of_row.bias
    torch.testing.assert_close(decoder(rows, context), decoder.rest(first))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"likelihood": "poisson"}, "likelihood must be one of .* got 'poisson'"),
        ({"architecture": "lstm"}, "architecture must be one of .* got 'lstm'"),
        ({"class_equivariant": True}, "needs likelihood='categorical'"),
        ({"architecture": "attentive", "n_heads": 5}, "hidden_size=64 and n_heads=5"),
        ({"encoder": nn.Identity()}, "ends in an nn.Linear layer.*got Identity"),
    ],
)
def test_learner_with_wrong_option_says_what_is_expected(options, match):
    # Programming errors are reported where they are made.
    with pytest.raises(ValueError, match=match):
        ProcessLearner(2, 1, **({"likelihood": "gaussian"} | options))
