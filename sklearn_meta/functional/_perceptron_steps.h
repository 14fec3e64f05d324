/* Passes, steps of the inner loop and their derivative, for one type of numbers and one
 * set of instructions: a template, see _perceptron.c.
 */

/* --- a pass ------------------------------------------------------------------------
 */

/* The rows that come into a layer, and their length. */
static const REAL *NAME(input)(const RUN *run, const ROWS *rows, const TRACE *trace,
                               ptrdiff_t l, ptrdiff_t *row)
{
    *row = l ? run->wide[l] : run->size[0];
    return l ? trace->h_next[l - 1] : rows->X;
}

static void NAME(forward_pass)(const RUN *run, const VALUES *at, const ROWS *rows,
                               TRACE *trace)
{
    for (ptrdiff_t l = 0; l < run->n_layers; l++) {
        ptrdiff_t h_row, wide = run->wide[l + 1];
        const REAL *h = NAME(input)(run, rows, trace, l, &h_row);
        PRODUCT affine = {.first = {h, h_row, 1, at->forwards[l], wide, run->size[l]},
                          .base = at->bias[l],
                          .alpha = 1,
                          .out = trace->h_next[l],
                          .out_row = wide};
        NAME(multiply)(rows->n, wide, &affine);
        NAME(activate)(run->problem->layers[l].activation, rows->n * wide,
                       trace->h_next[l], trace->slope[l], trace->bend[l]);
    }
}

/* Logits without the largest of each row, into the mean. */
static void NAME(shift_logits)(const RUN *run, const ROWS *rows, TRACE *trace)
{
    ptrdiff_t last = run->n_layers - 1, n_out = run->size[last + 1];
    for (ptrdiff_t i = 0; i < rows->n; i++) {
        const REAL *output = trace->h_next[last] + i * run->wide[last + 1];
        const REAL *offset = rows->has_offset ? rows->offset + i * n_out : NULL;
        REAL *logit = trace->mean + i * run->wide[last + 1], most = -(REAL)INFINITY;
        for (ptrdiff_t c = 0; c < n_out; c++) {
            logit[c] = offset ? output[c] + offset[c] : output[c];
            if (rows->present && !rows->present[c]) logit[c] = -LARGEST;
            most = logit[c] > most ? logit[c] : most;
        }
        for (ptrdiff_t c = 0; c < n_out; c++) logit[c] -= most;
    }
}

/* The cross-entropy of logits l from their largest on, with the sum t of their
 * exponentials, is the sum of Y (log t - l): this is the part with l. */
static REAL NAME(linear_part)(const RUN *run, const ROWS *rows, const TRACE *trace)
{
    ptrdiff_t n_out = run->size[run->n_layers], wide = run->wide[run->n_layers];
    REAL loss = 0;
    for (ptrdiff_t i = 0; i < rows->n; i++)
        for (ptrdiff_t c = 0; c < n_out; c++) {
            REAL l =
                trace->mean[i * wide + c]; /* infinite for a class that is not there */
            loss -= rows->weight[i] * rows->Y[i * n_out + c] *
                    (l < -LARGEST ? -LARGEST : l);
        }
    return loss;
}

/* Logits in the mean become probabilities; returns the loss, if it is wanted. */
static REAL NAME(normalise)(const RUN *run, const ROWS *rows, TRACE *trace,
                            int wants_loss)
{
    ptrdiff_t n_out = run->size[run->n_layers], wide = run->wide[run->n_layers];
    REAL loss = wants_loss ? NAME(linear_part)(run, rows, trace) : 0;
    for (ptrdiff_t i = 0; i < rows->n * wide; i++)
        trace->mean[i] = NAME(exponential)(trace->mean[i], 0);
    for (ptrdiff_t i = 0; i < rows->n; i++) {
        REAL *mean = trace->mean + i * wide, total = 0, of_targets = 0;
        for (ptrdiff_t c = 0; c < n_out; c++) total += mean[c];
        for (ptrdiff_t c = 0; c < n_out; c++) mean[c] /= total;
        if (!wants_loss) continue;
        for (ptrdiff_t c = 0; c < n_out; c++) of_targets += rows->Y[i * n_out + c];
        loss += rows->weight[i] * of_targets * (REAL)log((double)total);
    }
    return loss;
}

/* The loss of the outputs, if it is wanted; its derivative by them is written to the
 * last delta. */
static REAL NAME(add_loss)(const RUN *run, const ROWS *rows, TRACE *trace,
                           int wants_loss)
{
    ptrdiff_t last = run->n_layers - 1, n_out = run->size[last + 1];
    REAL loss = 0;
    const REAL *means = trace->h_next[last];
    if (run->problem->has_classes) {
        NAME(shift_logits)(run, rows, trace);
        loss = NAME(normalise)(run, rows, trace, wants_loss);
        means = trace->mean;
    }
    for (ptrdiff_t i = 0; i < rows->n; i++) {
        ptrdiff_t first = i * run->wide[last + 1];
        for (ptrdiff_t c = 0; c < n_out; c++) {
            REAL residual = means[first + c] - rows->Y[i * n_out + c];
            trace->delta[last][first + c] = rows->weight[i] * residual;
            if (!run->problem->has_classes)
                loss += (REAL)0.5 * rows->weight[i] * residual * residual;
        }
    }
    return loss;
}

static void NAME(multiply_by)(ptrdiff_t n, REAL *restrict value,
                              const REAL *restrict factor)
{
    for (ptrdiff_t i = 0; i < n; i++) value[i] *= factor[i];
}

/* From u in the last delta to all deltas; bends come with f'' and leave with u f''. */
static void NAME(backward_pass)(const RUN *run, const VALUES *at, const ROWS *rows,
                                TRACE *trace)
{
    for (ptrdiff_t l = run->n_layers - 1; l >= 0; l--) {
        ptrdiff_t wide = run->wide[l + 1];
        if (trace->bend[l])
            NAME(multiply_by)(rows->n * wide, trace->bend[l], trace->delta[l]);
        if (trace->slope[l])
            NAME(multiply_by)(rows->n * wide, trace->delta[l], trace->slope[l]);
        if (!l) return;
        PRODUCT u = {.first = {trace->delta[l], wide, 1, at->backwards[l], run->wide[l],
                               run->size[l + 1]},
                     .alpha = 1,
                     .out = trace->delta[l - 1],
                     .out_row = run->wide[l]};
        NAME(multiply)(rows->n, run->wide[l], &u);
    }
}

/* to = base + alpha * (the sum over rows of delta^T h, and of delta for the bias), and
 * of a second pair of delta and h if there is one; `base` may be `to`, or NULL. */
static void NAME(add_gradient)(const RUN *run, ptrdiff_t l, const ROWS *rows,
                               const REAL *delta, const REAL *h, ptrdiff_t h_row,
                               const REAL *delta_2, const REAL *h_2, REAL alpha,
                               const VALUES *base, VALUES *to)
{
    static const REAL one = 1;
    ptrdiff_t n = rows->n, wide = run->wide[l + 1];
    ptrdiff_t n_2 = delta_2 ? n : 0; /* never for the first layer, whose rows stay */
    PRODUCT of_bias = {.first = {&one, 0, 0, delta, wide, n},
                       .base = base ? base->bias[l] : NULL,
                       .alpha = alpha,
                       .out = to->bias[l]};
    PRODUCT of_weight = {.base = base ? NAME(weight_of)(base, l) : NULL,
                         .alpha = alpha,
                         .out = NAME(weight_of)(to, l)};
    NAME(multiply)(1, wide, &of_bias);
    if (l) {
        of_weight.first = (FACTORS){delta, 1, wide, h, h_row, n};
        of_weight.second = (FACTORS){delta_2, 1, wide, h_2, h_row, n_2};
        of_weight.base_row = of_weight.out_row = run->wide[l];
        NAME(multiply)(run->size[l + 1], run->wide[l], &of_weight);
    } else {
        of_weight.first = (FACTORS){h, 1, h_row, delta, wide, n};
        of_weight.base_row = of_weight.out_row = wide;
        NAME(multiply)(run->size[l], wide, &of_weight);
    }
}

/* The gradient of a pass, added up. */
static void NAME(add_gradients)(const RUN *run, const ROWS *rows, const TRACE *trace,
                                REAL alpha, const VALUES *base, VALUES *to)
{
    for (ptrdiff_t l = 0; l < run->n_layers; l++) {
        ptrdiff_t h_row;
        const REAL *h = NAME(input)(run, rows, trace, l, &h_row);
        NAME(add_gradient)(run, l, rows, trace->delta[l], h, h_row, NULL, NULL, alpha,
                           base, to);
    }
}

/* --- the inner loop ------------------------------------------------------------- */

/* Step k from its point to the next, and the support loss before it, if it is wanted.
 */
static REAL NAME(step_down)(RUN *run, ptrdiff_t k, int wants_loss)
{
    TRACE *trace = run->tapes + k % run->n_tapes;
    VALUES *at = run->points + k, *next = run->points + k + 1;
    NAME(forward_pass)(run, at, &run->support, trace);
    REAL loss = NAME(add_loss)(run, &run->support, trace, wants_loss);
    NAME(backward_pass)(run, at, &run->support, trace);
    if (run->has_rates) {
        VALUES *gradient = run->gradients + (run->learns_rates ? k : 0);
        NAME(add_gradients)(run, &run->support, trace, 1, NULL, gradient);
        NAME(combine)(run, at, -1, &run->rate, gradient, next);
    } else {
        NAME(add_gradients)(run, &run->support, trace, -(REAL)run->problem->lr, at,
                            next);
    }
    NAME(mirror)(run, next);
    return loss;
}

/* --- its derivative --------------------------------------------------------------- */

/* R{h_next} of every layer along p, and u f''(z) R{z}. */
static void NAME(forward_changes)(RUN *run, const VALUES *at, const TRACE *trace,
                                  const VALUES *p)
{
    for (ptrdiff_t l = 0; l < run->n_layers; l++) {
        ptrdiff_t h_row, n_in = run->size[l], wide = run->wide[l + 1];
        ptrdiff_t n_numbers = run->support.n * wide;
        const REAL *h = NAME(input)(run, &run->support, trace, l, &h_row);
        PRODUCT change = {.first = {h, h_row, 1, p->forwards[l], wide, n_in},
                          .base = p->bias[l],
                          .alpha = 1,
                          .out = run->h_change[l],
                          .out_row = wide};
        if (l)
            change.second =
                (FACTORS){run->h_change[l - 1], h_row, 1, at->forwards[l], wide, n_in};
        NAME(multiply)(run->support.n, wide, &change);
        if (trace->bend[l]) {
            memcpy(run->bent[l], trace->bend[l], (size_t)n_numbers * sizeof(REAL));
            NAME(multiply_by)(n_numbers, run->bent[l], run->h_change[l]);
        }
        if (trace->slope[l])
            NAME(multiply_by)(n_numbers, run->h_change[l], trace->slope[l]);
    }
}

/* R{u} at the outputs: the row weights times R{mean}. */
static void NAME(change_outputs)(RUN *run, const TRACE *trace)
{
    ptrdiff_t last = run->n_layers - 1, n_out = run->size[last + 1];
    for (ptrdiff_t i = 0; i < run->support.n; i++) {
        ptrdiff_t first = i * run->wide[last + 1];
        const REAL *change = run->h_change[last] + first, *mean = trace->mean + first;
        REAL *out = run->delta_change[last] + first, weight = run->support.weight[i],
             sum = 0;
        if (!run->problem->has_classes) {
            for (ptrdiff_t c = 0; c < n_out; c++) out[c] = weight * change[c];
            continue;
        }
        for (ptrdiff_t c = 0; c < n_out; c++) sum += mean[c] * change[c];
        for (ptrdiff_t c = 0; c < n_out; c++)
            out[c] = weight * mean[c] * (change[c] - sum);
    }
}

/* alpha * row_change is added to the gradient by the support rows of a task. */
static void NAME(scatter_rows)(const RUN *run, ptrdiff_t task, REAL alpha)
{
    const Rows *support = &run->problem->support;
    REAL *out = (REAL *)support->out + task * support->n_rows * run->size[0];
    for (ptrdiff_t i = 0; i < run->support.n; i++)
        for (ptrdiff_t c = 0; c < run->size[0]; c++)
            out[run->support.index[i] * run->size[0] + c] +=
                alpha * run->row_change[i * run->wide[0] + c];
}

/* v becomes v - H (r v), for the Hessian H at step k. */
static void NAME(subtract_hessian_product)(RUN *run, ptrdiff_t k, ptrdiff_t task)
{
    const VALUES *at = run->points + k, *p = run->has_rates ? &run->rated : &run->v;
    const TRACE *trace = run->tapes + k;
    REAL alpha = run->has_rates ? -1 : -(REAL)run->problem->lr;
    ptrdiff_t n = run->support.n;
    if (run->has_rates) NAME(combine)(run, NULL, 1, &run->rate, &run->v, &run->rated);
    NAME(mirror)(run, (VALUES *)p);
    NAME(forward_changes)(run, at, trace, p);
    NAME(change_outputs)(run, trace);
    for (ptrdiff_t l = run->n_layers - 1; l >= 0; l--) {
        ptrdiff_t h_row, wide = run->wide[l + 1], n_out = run->size[l + 1];
        const REAL *h = NAME(input)(run, &run->support, trace, l, &h_row);
        REAL *delta_change = run->delta_change[l];
        if (trace->slope[l]) NAME(multiply_by)(n * wide, delta_change, trace->slope[l]);
        if (trace->bend[l])
            for (ptrdiff_t i = 0; i < n * wide; i++) delta_change[i] += run->bent[l][i];
        if (l || run->problem->support.out) { /* before v, which p may be, moves */
            PRODUCT u_change = {
                .first = {delta_change, wide, 1, at->backwards[l], run->wide[l], n_out},
                .second = {trace->delta[l], wide, 1, p->backwards[l], run->wide[l],
                           n_out},
                .alpha = 1,
                .out = l ? run->delta_change[l - 1] : run->row_change,
                .out_row = run->wide[l]};
            NAME(multiply)(n, run->wide[l], &u_change);
        }
        NAME(add_gradient)(run, l, &run->support, delta_change, h, h_row,
                           l ? trace->delta[l] : NULL, l ? run->h_change[l - 1] : NULL,
                           alpha, &run->v, &run->v);
    }
    if (run->problem->support.out) NAME(scatter_rows)(run, task, alpha);
}

/* The query loss of a task at its last point, and v, its gradient there. */
static REAL NAME(query_gradient)(RUN *run, ptrdiff_t task)
{
    const Rows *query = &run->problem->query;
    const VALUES *at = run->points + run->n_steps;
    REAL loss = 0;
    NAME(clear)(run, &run->v);
    for (ptrdiff_t i = 0; i < query->n_rows;) {
        i = NAME(gather)(run, query, task, i, BLOCK_ROWS, &run->query);
        NAME(forward_pass)(run, at, &run->query, &run->query_trace);
        loss += NAME(add_loss)(run, &run->query, &run->query_trace, 1);
        NAME(backward_pass)(run, at, &run->query, &run->query_trace);
        NAME(add_gradients)(run, &run->query, &run->query_trace, 1, &run->v, &run->v);
    }
    return loss;
}
