"""Laws that every learner must pass, whatever its family."""

import copy
import pickle

import pytest
import torch
from torch import nn

from sklearn_meta.functional import (
    STD_FLOOR,
    Gaussian,
    build_mlp,
    categorical_nll,
    gaussian_nll,
    masked_task_mean,
)
from sklearn_meta.learners import (
    DiscriminantLearner,
    GradientLearner,
    ImplicitLearner,
    KernelLearner,
    LatentProcessLearner,
    LocalClassKernelLearner,
    LogisticPrototypeLearner,
    MultiStepLearner,
    ProcessLearner,
    PrototypeLearner,
    ReptileLearner,
    RidgeLearner,
    SharedClassKernelLearner,
)
from sklearn_meta.learners.architectures import READERS

N_TASKS, N_SUPPORT, N_QUERY, N_FEATURES, N_CLASSES = 3, 7, 5, 4, 3


class _Wrapped(nn.Module):
    """Hides a network's layers, so that it takes the vmap path."""

    def __init__(self, network):
        super().__init__()
        self.inside = network

    def forward(self, X):
        return self.inside(X).clone()  # more than layers, for all that is known


def _mlp(n_outputs, n_features=N_FEATURES):
    return build_mlp(n_features, (6,), n_outputs, "tanh")


def _maml(n_outputs=1, wrap=False, family=GradientLearner, **options):
    network = _Wrapped(_mlp(n_outputs)) if wrap else _mlp(n_outputs)
    return family(network, inner_steps=2, **options)


def _class_maml(n_outputs=N_CLASSES, **options):
    return _maml(n_outputs, likelihood="categorical", **options)


def _process(likelihood, n_outputs=N_CLASSES, **options):
    family = LatentProcessLearner if "latent_size" in options else ProcessLearner
    return family(
        N_FEATURES, n_outputs, likelihood=likelihood, hidden_size=8, **options
    )


def _correction(**options):
    return _process("categorical", architecture="transformer", **options)


def _kernel(**options):
    return KernelLearner(N_FEATURES, **({"hidden_layer_sizes": (6, 5)} | options))


REGRESSORS = {
    "kernel": lambda: _kernel(),
    "kernel_shallow": lambda: _kernel(hidden_layer_sizes=()),
    "kernel_zero_mean": lambda: _kernel(mean="zero", noise="constant"),
    "kernel_levels": lambda: _kernel(noise_levels=3),
    "kernel_network": lambda: _kernel(network=_mlp(6)),
    "maml": lambda: _maml(),
    "maml_vmap": lambda: _maml(wrap=True),
    "anil": lambda: _maml(adapted="head"),
    "anil_vmap": lambda: _maml(adapted="head", wrap=True),
    "metasgd": lambda: _maml(learn_inner_lr=True),
    "fomaml": lambda: _maml(second_order=False),
    "ridge": lambda: RidgeLearner(_mlp(3), likelihood="gaussian"),
    "ridge_wide": lambda: RidgeLearner(_mlp(9), likelihood="gaussian"),
    "momentum": lambda: _maml(inner_optimizer="momentum"),
    "adam": lambda: _maml(inner_optimizer="adam"),
    "mamlpp": lambda: _maml(family=MultiStepLearner),
    "reptile": lambda: _maml(family=ReptileLearner),
    "reptile_vmap": lambda: _maml(family=ReptileLearner, wrap=True),
    "imaml": lambda: _maml(family=ImplicitLearner),
    "latent": lambda: _process("gaussian", 1, latent_size=3, architecture="attentive"),
    "imaml_vmap": lambda: _maml(family=ImplicitLearner, wrap=True),
    **{
        kind: lambda kind=kind: _process("gaussian", 1, architecture=kind)
        for kind in READERS
    },
}
LOCAL_CLASSIFIERS = {
    "protomaml": lambda: _class_maml(6, head="prototypes"),
    "protomaml_vmap": lambda: _class_maml(6, head="prototypes", wrap=True),
    "protoanil": lambda: _class_maml(6, head="prototypes", adapted="head"),
    "logistic": lambda: LogisticPrototypeLearner(),
    "ridge_local": lambda: RidgeLearner(_mlp(6), likelihood="categorical"),
    "discriminant": lambda: DiscriminantLearner(n_views=2),
    "class_blocks": lambda: LocalClassKernelLearner(2, 2),
    "class_blocks_deep": lambda: LocalClassKernelLearner(
        2, 2, network=_mlp(5, 2), correction=_correction(class_equivariant=True)
    ),
    "latent_equivariant": lambda: _process(
        "categorical", latent_size=3, class_equivariant=True
    ),
    "protopp": lambda: _class_maml(6, head="prototypes", family=MultiStepLearner),
    "protoreptile": lambda: _class_maml(6, head="prototypes", family=ReptileLearner),
    "protoimaml": lambda: _class_maml(6, head="prototypes", family=ImplicitLearner),
    "protosgd": lambda: _class_maml(6, head="prototypes", learn_inner_lr=True),
    **{
        f"prototypes_{kind}": lambda kind=kind: PrototypeLearner(_mlp(6), distance=kind)
        for kind in ("euclidean", "cosine", "mahalanobis")
    },
    **{
        f"{kind}_equivariant": lambda kind=kind: _process(
            "categorical", architecture=kind, class_equivariant=True
        )
        for kind in READERS
    },
}
SHARED_CLASSIFIERS = {
    "maml_classes": lambda: _class_maml(),
    "prototypes_shared": lambda: PrototypeLearner(_mlp(6), n_shared_classes=N_CLASSES),
    "mahalanobis_shared": lambda: PrototypeLearner(
        _mlp(6), n_shared_classes=N_CLASSES, distance="mahalanobis"
    ),
    "class_kernel": lambda: SharedClassKernelLearner(N_FEATURES, N_CLASSES),
    "class_kernel_offset": lambda: SharedClassKernelLearner(
        N_FEATURES, N_CLASSES, n_offsets=N_CLASSES
    ),
    "class_kernel_deep": lambda: SharedClassKernelLearner(
        N_FEATURES, N_CLASSES, network=_mlp(5), correction=_correction()
    ),
    "transformer_classes": lambda: _process(
        "categorical", architecture="transformer", encoder=_mlp(5)
    ),
    # the last columns of a row are logits to start from
    "maml_offsets": lambda: _class_maml(n_offsets=N_CLASSES),
    "maml_offsets_vmap": lambda: _class_maml(n_offsets=N_CLASSES, wrap=True),
    "anil_offsets": lambda: _class_maml(n_offsets=N_CLASSES, adapted="head"),
    "prototypes_offsets": lambda: PrototypeLearner(
        _mlp(6), n_shared_classes=N_CLASSES, n_offsets=N_CLASSES
    ),
    "ridge_offsets": lambda: RidgeLearner(
        _mlp(6),
        likelihood="categorical",
        n_shared_classes=N_CLASSES,
        n_offsets=N_CLASSES,
    ),
    "cnp_offsets": lambda: _process("categorical", n_offsets=N_CLASSES),
}
WITHOUT_NETWORK = {
    "logistic",
    "discriminant",
    "class_kernel",
    "class_kernel_offset",
    "class_blocks",
}
LEARNERS = REGRESSORS | LOCAL_CLASSIFIERS | SHARED_CLASSIFIERS

parametrize = pytest.mark.parametrize("name", LEARNERS)
parametrize_local = pytest.mark.parametrize("name", LOCAL_CLASSIFIERS)


def _build(name):
    """A learner in float64 whose zero-initialised layers are made to do something."""
    torch.manual_seed(0)
    learner = LEARNERS[name]().double()
    with torch.no_grad():
        for key, p in learner.named_parameters():
            # numbers that reach twenty times as far
            p += (0.005 if ".moves." in key else 0.1) * torch.randn_like(p)
        for rate in getattr(learner, "rates", ()):
            rate.abs_()  # a negative inner rate would climb
    return learner


def _episode(name, seed=0):
    """X_support, Y_support, mask of ragged tasks, and X_query, in float64."""
    generator = torch.Generator().manual_seed(seed)
    shape = (N_TASKS, N_SUPPORT, N_FEATURES)
    X = torch.randn(*shape, generator=generator, dtype=torch.float64)
    labels = torch.arange(N_SUPPORT) % N_CLASSES
    Y = torch.eye(N_CLASSES, dtype=torch.float64)[labels].expand(N_TASKS, -1, -1)
    if name in REGRESSORS:
        Y = X.sum(-1, keepdim=True).sin()
    mask = torch.arange(N_SUPPORT) < torch.tensor([7, 5, 3])[:, None]
    X_query = torch.randn(
        N_TASKS, N_QUERY, N_FEATURES, generator=generator, dtype=torch.float64
    )
    return X * mask[..., None], Y * mask[..., None], mask, X_query


def _flat(prediction):
    """One tensor (n_tasks, n_query, n) of any prediction."""
    is_gaussian = isinstance(prediction, Gaussian)
    return torch.stack(prediction, -1) if is_gaussian else prediction


def _assert_same(first, second):
    torch.testing.assert_close(_flat(first), _flat(second), rtol=1e-9, atol=1e-10)


@parametrize
@pytest.mark.parametrize("training", [True, False])
def test_forward_of_many_tasks_equals_each_task_alone(name, training):
    # Law 1: tasks do not see each other, in any mode.
    learner, (X, Y, mask, Q) = _build(name).train(training), _episode(name)
    together = _flat(learner(X, Y, mask, Q))
    alone = [
        _flat(learner(*(t[i : i + 1] for t in (X, Y, mask, Q)))) for i in range(N_TASKS)
    ]
    _assert_same(together, torch.cat(alone))


@parametrize
def test_forward_with_permuted_tasks_and_rows_permutes_tasks_only(name):
    # Law 1: neither the order of tasks nor of support rows has a meaning.
    learner, (X, Y, mask, Q) = _build(name), _episode(name)
    expected = _flat(learner(X, Y, mask, Q))
    tasks, rows = torch.tensor([2, 0, 1]), torch.randperm(N_SUPPORT)
    X, Y, mask = (t[tasks][:, rows] for t in (X, Y, mask))
    _assert_same(learner(X, Y, mask, Q[tasks]), expected[tasks])


@parametrize
@pytest.mark.parametrize("junk", [1e6, float("nan"), float("inf")])
def test_forward_with_junk_in_padding_is_unchanged(name, junk):
    # Law 1: padding does not matter, whatever it holds; nor for the gradient.
    learner, (X, Y, mask, Q) = _build(name), _episode(name)
    expected = learner(X, Y, mask, Q)
    X = torch.where(mask[..., None], X, junk)
    Y = torch.where(mask[..., None], Y, junk)
    prediction = learner(X, Y, mask, Q)
    _assert_same(prediction, expected)
    _flat(prediction).clamp(-100, 100).sum().backward()
    gradients = [p.grad for p in learner.parameters() if p.grad is not None]
    assert gradients and all(g.isfinite().all() for g in gradients)


@parametrize
def test_forward_without_padding_columns_is_unchanged(name):
    # Law 1: the same task in a wider batch gets the same answer.
    learner, (X, Y, mask, Q) = _build(name), _episode(name)
    expected = _flat(learner(X, Y, mask, Q))[2:]
    _assert_same(learner(X[2:, :3], Y[2:, :3], mask[2:, :3], Q[2:]), expected)


@parametrize
@pytest.mark.parametrize("training", [True, False])
def test_query_of_one_row_equals_query_of_many(name, training):
    # Law 4: no query row may see another.
    learner, (X, Y, mask, Q) = _build(name).train(training), _episode(name)
    state = learner.adapt(X, Y, mask)
    together = _flat(learner.query(state, Q))
    alone = [_flat(learner.query(state, Q[:, i : i + 1])) for i in range(N_QUERY)]
    _assert_same(together, torch.cat(alone, 1))


@parametrize
def test_state_is_a_dict_of_tensors_indexed_by_task(name):
    # Serving keeps, slices and joins states without knowing the learner.
    learner, (X, Y, mask, Q) = _build(name).eval(), _episode(name)
    state = learner.adapt(X, Y, mask)
    assert all(value.shape[0] == N_TASKS for value in state.values())
    picked = {key: value[[2, 0]] for key, value in state.items()}
    _assert_same(
        learner.query(picked, Q[[2, 0]]), _flat(learner.query(state, Q))[[2, 0]]
    )


@parametrize
@pytest.mark.parametrize("training", [True, False])
def test_adapt_changes_no_parameter_and_no_input(name, training):
    # Law 8.
    learner, episode = _build(name).train(training), _episode(name)
    before, inputs = copy.deepcopy(learner.state_dict()), copy.deepcopy(episode)
    learner(*episode)
    for key, value in learner.state_dict().items():
        assert torch.equal(value, before[key])
    assert all(map(torch.equal, episode, inputs))
    assert all(p.grad is None for p in learner.parameters())


@parametrize
def test_training_loss_reaches_every_parameter(name):
    # A parameter that gets no gradient is either dead or cut off by a detach.
    learner, (X, Y, mask, Q) = _build(name), _episode(name)
    prediction = learner(X, Y, mask, torch.cat([Q, X], 1)[:, :N_SUPPORT])
    loss = gaussian_nll if name in REGRESSORS else categorical_nll
    masked_task_mean(loss(prediction, Y), mask).backward()
    unused = [n for n, p in learner.named_parameters() if p.grad is None]
    assert unused == []


@parametrize
def test_forward_in_float32_without_grad_works(name):
    # Serving runs in float32 under no_grad, and MAML must still take its steps.
    learner, episode = _build(name).float().eval(), _episode(name)
    X, Y, mask, Q = (t if t.dtype == torch.bool else t.float() for t in episode)
    expected = _build(name).eval()(*episode)
    with torch.no_grad():
        prediction = _flat(learner(X, Y, mask, Q))
    assert prediction.dtype == torch.float32 and not prediction.requires_grad
    torch.testing.assert_close(
        prediction.double().clamp_min(-1e6),
        _flat(expected).detach().clamp_min(-1e6),
        rtol=1e-3,
        atol=1e-4,
    )


@parametrize
@pytest.mark.parametrize("n_support", [0, 4])
@pytest.mark.parametrize("training", [True, False])
def test_forward_on_empty_support_is_finite(name, n_support, training):
    # A task may come with no usable row; softmax and means over nothing are NaN.
    learner, (X, Y, mask, Q) = _build(name).train(training), _episode(name)
    X, Y, mask = X[:, :n_support], Y[:, :n_support] * 0, mask[:, :n_support] & False
    prediction = _flat(learner(X, Y, mask, Q))
    assert prediction.isfinite().all()
    if name not in REGRESSORS:
        assert prediction.softmax(-1).isfinite().all()


@parametrize
def test_learner_copied_and_pickled_predicts_the_same(name):
    # Estimators are cloned by deepcopy and stored by pickle; copies are independent.
    learner, episode = _build(name).eval(), _episode(name)
    expected = learner(*episode)
    copied, loaded = copy.deepcopy(learner), pickle.loads(pickle.dumps(learner))
    with torch.no_grad():
        for p in learner.parameters():
            p.zero_()
    _assert_same(copied(*episode), expected)
    _assert_same(loaded(*episode), expected)


@pytest.mark.parametrize("name", REGRESSORS)
def test_std_of_any_regressor_stays_above_the_one_floor(name):
    # Law 7: one floor for all, reached when the network asks for no noise at all.
    learner = _build(name)
    assert learner.std_floor == STD_FLOOR
    with torch.no_grad():
        for p in learner.parameters():
            p *= 100
    prediction = learner.eval()(*_episode(name))
    assert (prediction.std >= STD_FLOOR).all()


@parametrize_local
def test_local_classes_in_any_order_are_permuted(name):
    # Law 5: class numbers of a task have no meaning.
    learner, (X, Y, mask, Q) = _build(name), _episode(name)
    expected = learner(X, Y, mask, Q)
    order = torch.tensor([2, 0, 1])
    _assert_same(learner(X, Y[..., order], mask, Q), expected[..., order])


@parametrize_local
def test_local_class_without_support_is_ruled_out(name):
    # An absent class must not win by having its prototype at zero.
    learner, (X, Y, mask, Q) = _build(name), _episode(name)
    wider = torch.cat([Y, torch.zeros_like(Y[..., :1])], -1)
    logits = learner(X, wider, mask, Q)
    assert (logits[..., -1] == torch.finfo(logits.dtype).min).all()
    _assert_same(logits[..., :-1], learner(X, Y, mask, Q))


@pytest.mark.parametrize("name", SHARED_CLASSIFIERS)
def test_shared_class_without_support_keeps_a_probability(name):
    # Law 5: five healthy patients do not rule out the disease.
    learner, (X, Y, mask, Q) = _build(name), _episode(name)
    Y = Y * torch.tensor([1.0, 1.0, 0.0])
    mask = mask & (Y.sum(-1) > 0)
    assert (learner(X, Y, mask, Q).softmax(-1)[..., 2] > 1e-6).all()


@pytest.mark.parametrize("name", [n for n in LEARNERS if n not in WITHOUT_NETWORK])
def test_learner_with_batch_norm_network_is_rejected(name):
    # Law 4 at the border: batch statistics mix query rows.
    network = nn.Sequential(nn.Linear(N_FEATURES, 4), nn.BatchNorm1d(4))
    family = type(LEARNERS[name]())
    with pytest.raises(ValueError, match="LayerNorm"):
        if issubclass(family, ProcessLearner):
            _process("categorical", encoder=network)
        elif family in (LocalClassKernelLearner, SharedClassKernelLearner):
            family(N_FEATURES, N_CLASSES, network=network)
        elif family is KernelLearner:
            _kernel(network=network)
        else:
            family(network)
