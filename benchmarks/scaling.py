"""Time of an outer step and of adapting, as the number of tasks grows.

The package's step on a stack of tasks is timed beside a plain loop: one task after the
other, by ``torch.autograd.grad`` for gradient learners, and by the same learner on one
task at a time for the others. Rounds are interleaved, on one thread, and times are of
the processor, so that other work on the machine matters little.
"""

import time
from functools import partial

import numpy as np
import report
import torch
from torch import nn

from sklearn_meta import (
    DeepKernelRegressor,
    MAMLRegressor,
    ModelBasedMetaRegressor,
    ProtoNetClassifier,
    RidgeHeadRegressor,
)
from sklearn_meta.functional import (
    build_mlp,
    categorical_nll,
    gaussian_nll,
    squared_error_with_noise,
)

N_FEATURES, N_WAYS = 8, 5
REGRESSION_ROWS, CLASS_ROWS = (10, 16), (5, 8)  # support and query, per class
FAMILIES = {
    "MAML, 5 steps": (MAMLRegressor(), squared_error_with_noise),
    "FOMAML, 5 steps": (MAMLRegressor(variant="fomaml"), squared_error_with_noise),
    "ANIL, 5 steps": (MAMLRegressor(variant="anil"), squared_error_with_noise),
    "Meta-SGD, 5 steps": (MAMLRegressor(variant="metasgd"), squared_error_with_noise),
    "MAML++, 5 steps": (MAMLRegressor(variant="maml++"), squared_error_with_noise),
    "Reptile, 5 steps": (MAMLRegressor(variant="reptile"), squared_error_with_noise),
    "iMAML, 5 steps": (MAMLRegressor(variant="imaml"), squared_error_with_noise),
    "ProtoNet": (ProtoNetClassifier(embedding="network"), categorical_nll),
    "whitened ProtoNet": (ProtoNetClassifier(embedding="whitened"), categorical_nll),
    "ridge head": (RidgeHeadRegressor(), gaussian_nll),
    "deep kernel": (DeepKernelRegressor(), gaussian_nll),
    "CNP": (ModelBasedMetaRegressor("cnp"), gaussian_nll),
    "attentive": (ModelBasedMetaRegressor("attentive"), gaussian_nll),
    "transformer": (ModelBasedMetaRegressor("transformer"), gaussian_nll),
    "hypernetwork": (ModelBasedMetaRegressor("hypernetwork"), gaussian_nll),
    "recurrent": (ModelBasedMetaRegressor("recurrent"), gaussian_nll),
}
# what a plain loop by autograd can stand for; for others it is the learner's own loop
PLAIN_LOOPS = ("maml", "fomaml", "anil")


def flat_tasks(n_tasks, classify, rng):
    """Return rows, targets and ids of tasks as the benchmark uses them."""
    if classify:
        y = np.tile(np.repeat(np.arange(N_WAYS), sum(CLASS_ROWS)), n_tasks)
    else:
        y = rng.standard_normal(n_tasks * sum(REGRESSION_ROWS))
    ids = np.repeat(np.arange(n_tasks), len(y) // n_tasks)
    return rng.standard_normal((len(y), N_FEATURES)), y, ids


def draw_stack(n_tasks, classify):
    """Return support rows, targets, mask, query rows and query targets of tasks."""
    n_support, n_query = CLASS_ROWS if classify else REGRESSION_ROWS

    def targets(n_rows):
        if not classify:
            return torch.randn(n_tasks, n_rows, 1)
        classes = torch.arange(N_WAYS).repeat_interleave(n_rows)
        return torch.eye(N_WAYS)[classes].expand(n_tasks, -1, -1)

    ways = N_WAYS if classify else 1
    X_support = torch.randn(n_tasks, ways * n_support, N_FEATURES)
    X_query = torch.randn(n_tasks, ways * n_query, N_FEATURES)
    mask = torch.ones(X_support.shape[:2], dtype=torch.bool)
    return X_support, targets(n_support), mask, X_query, targets(n_query)


def stacked_loss(learner, criterion, stack):
    """Return the loss of the package: all tasks in one call."""
    *support, X_query, Y_query = stack
    if hasattr(learner, "training_loss"):
        mask = torch.ones(X_query.shape[:2], dtype=torch.bool)
        rows = (*support, X_query, Y_query, mask)
        return learner.training_loss(*rows, criterion=criterion, progress=1.0)
    return criterion(learner(*support, X_query), Y_query).mean()


def looped_loss(learner, criterion, stack):
    """Return the same loss, one task after the other."""
    losses = [
        stacked_loss(learner, criterion, [part[i : i + 1] for part in stack])
        for i in range(len(stack[0]))
    ]
    return torch.stack(losses).mean()


def gradient_loop_loss(network, variant, stack):
    """Return MAML's loss by a plain loop over tasks and ``autograd.grad``."""
    X_support, Y_support, _, X_query, Y_query = stack
    names = [name for name, _ in network.named_parameters()]
    adapted = names[-2:] if variant == "anil" else names
    losses = []
    for i in range(len(X_support)):
        weights = dict(network.named_parameters())
        for _ in range(5):
            output = torch.func.functional_call(network, weights, (X_support[i],))
            loss = nn.functional.mse_loss(output, Y_support[i])
            moved = [weights[name] for name in adapted]
            second = variant != "fomaml"
            slopes = torch.autograd.grad(loss, moved, create_graph=second)
            steps = zip(adapted, moved, slopes, strict=True)
            weights = weights | {name: w - 0.05 * g for name, w, g in steps}
        output = torch.func.functional_call(network, weights, (X_query[i],))
        losses.append(nn.functional.mse_loss(output, Y_query[i]))
    return torch.stack(losses).mean()


def step_time(optimizer, loss_of):
    """Return the processor's milliseconds of one outer step."""
    start = time.process_time()
    optimizer.zero_grad()
    loss_of().backward()
    optimizer.step()
    return 1e3 * (time.process_time() - start)


def fitted(estimator, classify):
    """Return an estimator after one outer step: its speed does not depend on more."""
    X, y, ids = flat_tasks(12, classify, np.random.RandomState(0))
    settings = {"max_iter": 1, "early_stopping": False, "device": "cpu"}
    if classify:
        settings["label_mode"] = "task"
    return estimator.set_params(**settings, random_state=0).fit(X, y, tasks=ids)


def compare_step(estimator, criterion, n_tasks, n_rounds):
    """Return median times of the stacked step and of the loop, interleaved."""
    classify = criterion is categorical_nll
    learner, stack = estimator.learner_.float().train(), draw_stack(n_tasks, classify)
    parameters = [p for p in learner.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, fused=True)
    loop_optimizer, loop_loss = optimizer, partial(looped_loss, learner, criterion)
    if getattr(estimator, "variant", "") in PLAIN_LOOPS:
        network = build_mlp(N_FEATURES, estimator.hidden_layer_sizes, 1, "relu")
        loop_optimizer = torch.optim.AdamW(network.parameters(), fused=True)
        loop_loss = partial(gradient_loop_loss, network, estimator.variant)
    times = [
        (
            step_time(optimizer, lambda: stacked_loss(learner, criterion, stack)),
            step_time(loop_optimizer, lambda: loop_loss(stack)),
        )
        for _ in range(n_rounds + 1)
    ]
    return np.array(times[1:])  # the first is a warm-up


def adapt_time(estimator, n_tasks, classify):
    """Return milliseconds of adapt_tasks and of predict, of five support rows."""
    X, y, ids = flat_tasks(n_tasks, classify, np.random.RandomState(0))
    place = np.arange(len(y)) % (len(y) // n_tasks)
    support = place % sum(CLASS_ROWS) < 5 if classify else place < 5
    start = time.process_time()
    estimator.adapt_tasks(X[support], y[support], ids[support])
    middle = time.process_time()
    estimator.predict(X[~support], tasks=ids[~support])
    return 1e3 * (middle - start), 1e3 * (time.process_time() - middle)


def main():
    """Time all families and write both tables."""
    parser = report.command_line(__doc__)
    parser.add_argument("--tasks", type=int, nargs="+", default=[8, 64, 512])
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    if args.quick:
        args.tasks, args.rounds = [8, 64], 2
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)
    steps, serving = [], []
    for name, (estimator, criterion) in FAMILIES.items():
        classify = criterion is categorical_nll
        fitted(estimator, classify)
        for n_tasks in (1, 64, 1000):
            adapt_time(estimator, n_tasks, classify)
            times = [adapt_time(estimator, n_tasks, classify) for _ in range(3)]
            adapt, predict = np.median(times, axis=0)
            cells = [f"{adapt:.1f}", f"{predict:.1f}", f"{adapt / n_tasks:.3f}"]
            serving.append([name, n_tasks, *cells])
        for n_tasks in args.tasks:
            times = compare_step(estimator, criterion, n_tasks, args.rounds)
            ours, loop = np.median(times, axis=0)
            ratio = np.median(times[:, 1] / times[:, 0])
            cells = [f"{ours:.1f}", f"{loop:.1f}", f"{ratio:.1f}"]
            steps.append([name, n_tasks, *cells, f"{ours / n_tasks:.3f}"])
            report.progress(f"{name}, {n_tasks} tasks: {ours:.1f} ms, loop {loop:.1f}")
    header = ["family", "tasks", "ms a step", "ms a step, loop", "loop / ours"]
    sections = [
        "Milliseconds of the processor, one thread, median of "
        f"{args.rounds} interleaved rounds; {N_FEATURES} features, default networks. "
        f"Regression: {REGRESSION_ROWS[0]} support and {REGRESSION_ROWS[1]} query rows "
        f"a task; ProtoNet: {N_WAYS}-way, {CLASS_ROWS[0]} support and {CLASS_ROWS[1]} "
        "query rows a class. Episodes are drawn before.",
        "## Outer step",
        report.markdown_table([*header, "ms a task"], steps),
        "## Adapting and predicting",
        "`adapt_tasks` on 5 support rows (a class), `predict` on the others; the time "
        "of input checks is in it.",
        report.markdown_table(
            ["family", "tasks", "ms adapt_tasks", "ms predict", "ms adapt a task"],
            serving,
        ),
    ]
    report.write(
        "scaling", "Scaling in the number of tasks", sections, quick=args.quick
    )


if __name__ == "__main__":
    main()
