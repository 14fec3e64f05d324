/* What is done for all tasks, one after another, for one type of numbers and one set of
 * instructions: a template, see _perceptron.c.
 */

static ptrdiff_t NAME(wide)(ptrdiff_t n) { return (n + LANES - 1) / LANES * LANES; }

/* Which parts of the memory a kind of call needs. */
typedef struct {
    int n_derivatives; /* of the support pass: 2 for second order */
    int has_query, query_derivatives;
} NAME(needs);

static void NAME(take_all)(Arena *arena, RUN *run, const NAME(needs) * needs)
{
    const Problem *problem = run->problem;
    ptrdiff_t n_points = needs->n_derivatives > 1 ? run->n_steps + 1 : 2;
    ptrdiff_t n_query =
        problem->query.n_rows < BLOCK_ROWS ? problem->query.n_rows : BLOCK_ROWS;
    ptrdiff_t n_gradients = run->learns_rates ? run->n_steps : run->has_rates;
    for (ptrdiff_t k = 0; k <= run->n_steps; k++)
        if (k < n_points)
            NAME(take_values)(arena, run, run->points + k);
        else
            run->points[k] = run->points[n_points - 1];
    for (ptrdiff_t k = 0; k < n_gradients; k++)
        NAME(take_values)(arena, run, run->gradients + k);
    for (ptrdiff_t k = 0; k < run->n_tapes; k++)
        NAME(take_trace)(arena, run, run->tapes + k, problem->support.n_rows,
                         needs->n_derivatives);
    if (needs->n_derivatives)
        NAME(take_rows)(arena, run, &run->support, problem->support.n_rows);
    if (needs->has_query) {
        NAME(take_rows)(arena, run, &run->query, n_query);
        NAME(take_trace)(arena, run, &run->query_trace, n_query,
                         needs->query_derivatives);
    }
    if (run->has_rates) NAME(take_values)(arena, run, &run->rate);
    if (run->learns_rates) NAME(take_values)(arena, run, &run->rate_total);
    if (needs->query_derivatives) {
        NAME(take_values)(arena, run, &run->v);
        NAME(take_values)(arena, run, &run->rated);
        NAME(take_values)(arena, run, &run->total);
    }
    if (needs->n_derivatives < 2) return;
    for (ptrdiff_t l = 0; l < run->n_layers; l++) {
        ptrdiff_t n_numbers = problem->support.n_rows * run->wide[l + 1];
        run->h_change[l] = NAME(numbers)(arena, n_numbers);
        run->delta_change[l] = NAME(numbers)(arena, n_numbers);
        run->bent[l] = NAME(numbers)(arena, n_numbers);
    }
    run->row_change = NAME(numbers)(arena, problem->support.n_rows * run->wide[0]);
}

static void NAME(release)(RUN *run, Arena *arena)
{
    free(arena->base);
    free(run->points);
    free(run->gradients);
    free(run->tapes);
}

/* Sizes, and zeroed memory for one task; `arena` is to be released. */
static int NAME(prepare)(const Problem *problem, const NAME(needs) * needs, RUN *run,
                         Arena *arena)
{
    *run = (RUN){
        .problem = problem, .n_layers = problem->n_layers, .n_steps = problem->n_steps};
    *arena = (Arena){NULL, 0};
    if (problem->n_layers > MOST_LAYERS) return TOO_MANY_LAYERS;
    for (ptrdiff_t l = 0; l < run->n_layers; l++) {
        const Layer *layer = problem->layers + l;
        run->size[l] = layer->n_in;
        run->size[l + 1] = layer->n_out;
        run->has_rates = layer->weight_rate != NULL;
        run->learns_rates |= layer->weight_rate_out || layer->bias_rate_out;
        run->has_own_start |= layer->weight_step || layer->bias_step;
    }
    for (ptrdiff_t l = 0; l <= run->n_layers; l++)
        run->wide[l] = NAME(wide)(run->size[l]);
    run->runs_backwards = needs->n_derivatives || needs->query_derivatives;
    run->n_tapes = !needs->n_derivatives      ? 0
                   : needs->n_derivatives > 1 ? run->n_steps
                                              : 1;
    size_t n_steps = (size_t)run->n_steps;
    run->points = calloc(n_steps + 1, sizeof *run->points);
    run->gradients = calloc(n_steps + 1, sizeof *run->gradients);
    run->tapes = calloc(n_steps + 1, sizeof *run->tapes);
    if (!run->points || !run->gradients || !run->tapes) return OUT_OF_MEMORY;
    NAME(take_all)(arena, run, needs); /* counts only */
    arena->base = calloc(1, arena->used + 64);
    if (!arena->base) return OUT_OF_MEMORY;
    arena->used = (size_t)(-(intptr_t)arena->base & 63);
    NAME(take_all)(arena, run, needs);
    for (ptrdiff_t l = 0; l < run->n_layers && run->has_rates; l++)
        NAME(load)(run, l, problem->layers[l].weight_rate, problem->layers[l].bias_rate,
                   &run->rate);
    return 0;
}

static void NAME(start_task)(RUN *run, ptrdiff_t task)
{
    if (!task || run->has_own_start) NAME(load_start)(run, task);
}

static void NAME(start_support)(RUN *run, ptrdiff_t task)
{
    const Rows *support = &run->problem->support;
    NAME(start_task)(run, task);
    NAME(gather)(run, support, task, 0, support->n_rows, &run->support);
}

/* Whether the steps of a task led up, or out of the finite numbers. */
static uint8_t NAME(is_diverged)(RUN *run, REAL first)
{
    const VALUES *end = run->points + run->n_steps;
    REAL sum = NAME(add_up)(run, end);
    NAME(forward_pass)(run, end, &run->support, run->tapes);
    REAL last = NAME(add_loss)(run, &run->support, run->tapes, 1);
    int is_sound = last <= first + TOLERANCE * FABS(first) && sum - sum == 0;
    return !is_sound; /* a comparison with NaN counts as diverged */
}

/* Parameters of every task after its steps. */
static int NAME(adapt)(const Problem *problem)
{
    const NAME(needs) needs = {.n_derivatives = 1};
    RUN run;
    Arena arena;
    int error = NAME(prepare)(problem, &needs, &run, &arena);
    for (ptrdiff_t task = 0; !error && task < problem->n_tasks; task++) {
        const VALUES *end = run.points + run.n_steps;
        REAL first_loss = 0;
        NAME(start_support)(&run, task);
        for (ptrdiff_t k = 0; k < run.n_steps; k++) {
            REAL loss = NAME(step_down)(&run, k, problem->diverged && !k);
            if (!k) first_loss = loss;
        }
        if (problem->diverged)
            problem->diverged[task] = NAME(is_diverged)(&run, first_loss);
        for (ptrdiff_t l = 0; l < run.n_layers; l++) {
            ptrdiff_t n_in = run.size[l], n_out = run.size[l + 1];
            const Layer *layer = problem->layers + l;
            NAME(unload_weight)(&run, l, end,
                                (REAL *)layer->weight_out + task * n_out * n_in);
            NAME(unload_bias)(&run, l, end, (REAL *)layer->bias_out + task * n_out);
        }
    }
    NAME(release)(&run, &arena);
    return error;
}

/* v of a task is its gradient by the start, or a part of it. */
static void NAME(hand_out)(RUN *run, ptrdiff_t task)
{
    for (ptrdiff_t l = 0; l < run->n_layers; l++) {
        const Layer *layer = run->problem->layers + l;
        if (layer->weight_step)
            NAME(unload_weight)(run, l, &run->v,
                                (REAL *)layer->weight_out + task * layer->weight_step);
        if (layer->bias_step)
            NAME(unload_bias)(run, l, &run->v,
                              (REAL *)layer->bias_out + task * layer->bias_step);
    }
    NAME(combine)(run, &run->total, 1, NULL, &run->v, &run->total);
}

static void NAME(hand_out_totals)(RUN *run)
{
    for (ptrdiff_t l = 0; l < run->n_layers; l++) {
        const Layer *layer = run->problem->layers + l;
        if (!layer->weight_step)
            NAME(unload_weight)(run, l, &run->total, layer->weight_out);
        if (!layer->bias_step) NAME(unload_bias)(run, l, &run->total, layer->bias_out);
        if (layer->weight_rate_out)
            NAME(unload_weight)(run, l, &run->rate_total, layer->weight_rate_out);
        if (layer->bias_rate_out)
            NAME(unload_bias)(run, l, &run->rate_total, layer->bias_rate_out);
    }
}

/* v as the caller knows it. */
static void NAME(load_v)(RUN *run, ptrdiff_t task)
{
    for (ptrdiff_t l = 0; l < run->n_layers; l++) {
        const Layer *layer = run->problem->layers + l;
        NAME(load)(run, l,
                   NAME(of_task)(layer->weight_v, layer->n_out * layer->n_in, task),
                   NAME(of_task)(layer->bias_v, layer->n_out, task), &run->v);
    }
}

/* Likelihood of the residuals under the noise, as of `squared_error_with_noise`, and
 * its gradient: with a task's mean squared residual m and the spread s(raw) a loss m
 * becomes m + log s + m / (2 s^2), where the weights have made a share of it already.
 */
static void NAME(add_noise)(const Problem *problem)
{
    const Noise *noise = &problem->noise;
    double share = problem->query.total_weight / 2,
           intercept = *(REAL *)noise->intercept;
    double slope = *(REAL *)noise->slope, of_intercept = 0, of_slope = 0;
    for (ptrdiff_t task = 0; task < problem->n_tasks; task++) {
        REAL *loss = (REAL *)problem->losses + task;
        double log_count = log1p((double)NAME(count)(&problem->support, task));
        double raw = intercept + slope * log_count;
        double std = noise->floor + (raw > 30 ? raw : log1p(exp(raw)));
        double own = NAME(count)(&problem->query, task) ? share : 0, m = *loss;
        double of_raw = (own - m / (std * std)) / std / (1 + exp(-raw));
        *loss += (REAL)(own * (log(std) + HALF_LOG_2PI) + m / (2 * std * std));
        of_intercept += of_raw;
        of_slope += of_raw * log_count;
    }
    *(REAL *)noise->intercept_out = (REAL)of_intercept;
    *(REAL *)noise->slope_out = (REAL)of_slope;
}

/* The same problem, where tasks with query rows share the weight of all. */
static Problem NAME(shared_out)(const Problem *given)
{
    Problem problem = *given;
    ptrdiff_t n_scored = 0;
    for (ptrdiff_t task = 0; problem.query.mask && task < problem.n_tasks; task++)
        n_scored += NAME(count)(&problem.query, task) > 0;
    problem.query.total_weight /= n_scored ? (double)n_scored : 1;
    return problem;
}

/* Gradients by the start, by the rates and by the support rows. */
static int NAME(differentiate)(const Problem *given)
{
    const Problem shared = NAME(shared_out)(given), *problem = &shared;
    const NAME(needs) needs = {.n_derivatives = problem->second_order ? 2 : 1,
                               .has_query = problem->query.X != NULL,
                               .query_derivatives = 1};
    RUN run;
    Arena arena;
    int error = NAME(prepare)(problem, &needs, &run, &arena);
    for (ptrdiff_t task = 0; !error && task < problem->n_tasks; task++) {
        NAME(start_support)(&run, task);
        for (ptrdiff_t k = 0; k < run.n_steps; k++) NAME(step_down)(&run, k, 0);
        if (needs.has_query)
            ((REAL *)problem->losses)[task] = NAME(query_gradient)(&run, task);
        else
            NAME(load_v)(&run, task);
        for (ptrdiff_t k = run.n_steps - 1; k >= 0; k--) {
            if (run.learns_rates)
                NAME(combine)(&run, &run.rate_total, -1, run.gradients + k, &run.v,
                              &run.rate_total);
            if (problem->second_order) NAME(subtract_hessian_product)(&run, k, task);
        }
        NAME(hand_out)(&run, task);
    }
    if (!error) NAME(hand_out_totals)(&run);
    if (!error && problem->noise.intercept) NAME(add_noise)(problem);
    NAME(release)(&run, &arena);
    return error;
}

/* Outputs of the query rows. */
static int NAME(predict)(const Problem *problem)
{
    const NAME(needs) needs = {.has_query = 1};
    ptrdiff_t n_rows = problem->query.n_rows;
    RUN run;
    Arena arena;
    int error = NAME(prepare)(problem, &needs, &run, &arena);
    for (ptrdiff_t task = 0; !error && task < problem->n_tasks; task++) {
        ptrdiff_t last = run.n_layers - 1, n_out = run.size[last + 1];
        NAME(start_task)(&run, task);
        for (ptrdiff_t i = 0; i < n_rows;) {
            REAL *out = (REAL *)problem->query.out + (task * n_rows + i) * n_out;
            i = NAME(gather)(&run, &problem->query, task, i, BLOCK_ROWS, &run.query);
            NAME(forward_pass)(&run, run.points, &run.query, &run.query_trace);
            NAME(copy)(run.query.n, n_out, run.query_trace.h_next[last],
                       run.wide[last + 1], out, n_out);
        }
    }
    NAME(release)(&run, &arena);
    return error;
}
