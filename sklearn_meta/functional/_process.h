/* Loss of query rows under a Gaussian process that has seen the support rows of a task,
 * or of the support rows themselves, and its gradient, for one type of numbers and one
 * set of instructions: a template, see _perceptron.c. compiled_process.py derives the
 * formulas; the names here are those.
 */

/* What follows from one level of a task's noise, L times that of its rows. */
typedef struct {
    REAL by;                                           /* L */
    REAL *factor, *factor_t, *values, *solved;         /* M, M^T, v, a */
    REAL *white, *weights;                             /* W, O */
    REAL *mean, *total, *of_mean, *of_total, *of_free; /* of queries: g, h, see below */
    REAL share, of_share; /* log of its weight, given the support; derivative by it */
} NAME(level);

#define LEVEL NAME(level)

/* What is known of one task, whose support rows come first. Matrices lie row by row,
 * `wide` numbers from a row to the next one. */
typedef struct {
    ptrdiff_t first; /* its first row among those of all tasks */
    ptrdiff_t n, m;  /* rows, and those of the support */
    ptrdiff_t p, q;  /* linear features, coordinates */
    ptrdiff_t wide_m, wide_p, wide_q;
    REAL variance; /* of the smooth part of the kernel */
    REAL *linear, *place, *linear_t, *place_t, *squares; /* rows, and A^T, U^T */
    REAL *kernel, *smooth, *cov, *scaled;                /* K, S, C, h O */
    REAL *of_variance, *of_residual;                     /* h of all levels, O^T g */
    REAL *to_level, *to_kernel, *to_linear, *to_place; /* by K, of one level and all */
    ptrdiff_t n_levels;
    LEVEL levels[MOST_LEVELS];
} NAME(process);

#define PROCESS NAME(process)

static void NAME(take_level)(Arena *arena, ptrdiff_t n, ptrdiff_t m, LEVEL *level)
{
    ptrdiff_t wide = NAME(wide)(m);
    REAL **by_query[] = {&level->mean, &level->total, &level->of_mean, &level->of_total,
                         &level->of_free};
    for (size_t i = 0; i < sizeof by_query / sizeof *by_query; i++)
        *by_query[i] = NAME(numbers)(arena, n);
    level->values = NAME(numbers)(arena, wide);
    level->solved = NAME(numbers)(arena, wide);
    level->factor = NAME(numbers)(arena, m * wide);
    level->factor_t = NAME(numbers)(arena, m * wide);
    level->white = NAME(numbers)(arena, n * wide);
    level->weights = NAME(numbers)(arena, n * wide);
}

static void NAME(take_process)(Arena *arena, const Process *problem, PROCESS *task)
{
    ptrdiff_t n = problem->n_rows, m = problem->n_support;
    ptrdiff_t p = 1 + problem->n_columns + problem->n_linear;
    ptrdiff_t q = problem->n_columns + problem->n_smooth;
    ptrdiff_t wide = NAME(wide)(m), wide_p = NAME(wide)(p), wide_q = NAME(wide)(q + 1);
    task->p = p, task->q = q, task->wide_p = wide_p, task->wide_q = wide_q;
    task->wide_m = wide;
    task->n_levels = problem->level ? problem->n_levels : 1;
    for (ptrdiff_t j = 0; j < task->n_levels; j++) {
        NAME(take_level)(arena, n, m, task->levels + j);
        task->levels[j].by = problem->level ? ((const REAL *)problem->level)[j] : 1;
    }
    task->squares = NAME(numbers)(arena, n);
    task->of_variance = NAME(numbers)(arena, n);
    task->of_residual = NAME(numbers)(arena, wide);
    task->cov = NAME(numbers)(arena, m * wide);
    REAL **tall[] = {&task->kernel, &task->smooth, &task->scaled, &task->to_level,
                     &task->to_kernel};
    for (size_t i = 0; i < sizeof tall / sizeof *tall; i++)
        *tall[i] = NAME(numbers)(arena, n * wide);
    task->linear = NAME(numbers)(arena, n * wide_p);
    task->to_linear = NAME(numbers)(arena, n * wide_p);
    task->place = NAME(numbers)(arena, n * wide_q);
    task->to_place = NAME(numbers)(arena, n * wide_q);
    task->linear_t = NAME(numbers)(arena, p * wide);
    task->place_t = NAME(numbers)(arena, q * wide);
}

/* out = left right, or base + left right; `column` is 1, or `row` is for a left factor
 * the other way round */
static void NAME(times)(ptrdiff_t n_rows, ptrdiff_t n_inner, const REAL *left,
                        ptrdiff_t row, ptrdiff_t column, const REAL *right,
                        ptrdiff_t wide, const REAL *base, REAL *out)
{
    PRODUCT product = {.first = {left, row, column, right, wide, n_inner},
                       .base = base,
                       .base_row = wide,
                       .alpha = 1,
                       .out = out,
                       .out_row = wide};
    NAME(multiply)(n_rows, wide, &product);
}

/* --- rows ------------------------------------------------------------------------ */

/* Linear features and coordinates of a row, from its columns and learned features. */
static void NAME(describe_row)(const Process *problem, ptrdiff_t row, REAL *linear,
                               REAL *place)
{
    ptrdiff_t d = problem->n_columns;
    const REAL *x = (const REAL *)problem->X + row * d;
    const REAL *column = problem->column, *length = problem->length;
    const REAL *z = (const REAL *)problem->linear + row * problem->n_linear;
    const REAL *u = (const REAL *)problem->smooth + row * problem->n_smooth;
    REAL by = (REAL)problem->linear_scale, across = (REAL)problem->smooth_scale;
    linear[0] = *(const REAL *)problem->constant;
    for (ptrdiff_t j = 0; j < d; j++) linear[1 + j] = x[j] * column[j];
    for (ptrdiff_t j = 0; j < d; j++) place[j] = x[j] * length[j];
    for (ptrdiff_t j = 0; j < problem->n_linear; j++) linear[1 + d + j] = by * z[j];
    for (ptrdiff_t j = 0; j < problem->n_smooth; j++) place[d + j] = across * u[j];
}

/* Go on to the rows of the next task, or to those of the first one. */
static void NAME(find_rows)(const Process *problem, ptrdiff_t t, PROCESS *task)
{
    const uint8_t *mask = problem->mask + t * problem->n_rows;
    task->variance = ((const REAL *)problem->variance)[t * problem->variance_step];
    task->first = t ? task->first + task->n : 0;
    task->n = task->m = 0;
    for (ptrdiff_t i = 0; i < problem->n_rows; i++) {
        task->n += mask[i] != 0;
        if (i < problem->n_support) task->m = task->n;
    }
}

/* What the kernel reads of the rows of a task. */
static void NAME(start_process)(const Process *problem, PROCESS *task)
{
    for (ptrdiff_t i = 0; i < task->n; i++)
        NAME(describe_row)(problem, task->first + i, task->linear + i * task->wide_p,
                           task->place + i * task->wide_q);
    /* distances are the same from amid the rows, and large numbers do not cancel */
    for (ptrdiff_t j = 0; j < task->q; j++) {
        REAL sum = 0;
        for (ptrdiff_t i = 0; i < task->n; i++)
            sum += task->place[i * task->wide_q + j];
        for (ptrdiff_t i = 0; i < task->n; i++)
            task->place[i * task->wide_q + j] -= sum / (REAL)task->n;
    }
    for (ptrdiff_t i = 0; i < task->n; i++) {
        const REAL *u = task->place + i * task->wide_q;
        REAL sum = 0;
        for (ptrdiff_t j = 0; j < task->q; j++) sum += u[j] * u[j];
        task->squares[i] = sum;
        task->place[i * task->wide_q + task->q] = 1; /* adds slopes up, see below */
    }
    NAME(transpose)(task->m, task->p, task->linear, task->wide_p, task->linear_t,
                    task->wide_m);
    NAME(transpose)(task->m, task->q, task->place, task->wide_q, task->place_t,
                    task->wide_m);
}

/* K of all rows with the support, and its smooth part S. */
static void NAME(fill_kernel)(PROCESS *task)
{
    NAME(times)(task->n, task->q, task->place, task->wide_q, 1, task->place_t,
                task->wide_m, NULL, task->smooth);
    for (ptrdiff_t i = 0; i < task->n; i++) {
        REAL *row = task->smooth + i * task->wide_m, own = task->squares[i];
        for (ptrdiff_t s = 0; s < task->m; s++) {
            REAL distance = own + task->squares[s] - 2 * row[s];
            row[s] = (REAL)-0.5 * (distance < 0 ? 0 : distance);
        }
        for (ptrdiff_t s = 0; s < task->m; s++)
            row[s] = task->variance * NAME(exponential)(row[s], 0);
    }
    NAME(times)(task->n, task->p, task->linear, task->wide_p, 1, task->linear_t,
                task->wide_m, task->smooth, task->kernel);
}

/* --- the solution ------------------------------------------------------------------
 */

/* to += factor * from */
ALWAYS_INLINE void NAME(add_times)(ptrdiff_t n, REAL factor, const REAL *restrict from,
                                   REAL *restrict to)
{
    for (ptrdiff_t i = 0; i < n; i++) to[i] += factor * from[i];
}

/* M, the inverse of the Cholesky factor of C; NaN where there is none. */
static void NAME(invert_factor)(PROCESS *task, REAL *factor)
{
    ptrdiff_t m = task->m, wide = task->wide_m;
    for (ptrdiff_t j = 0; j < m; j++) { /* C becomes the factor, the other way round */
        REAL *row = task->cov + j * wide, pivot = row[j];
        REAL scale = pivot > 0 ? 1 / (REAL)sqrt((double)pivot) : (REAL)NAN;
        for (ptrdiff_t k = j; k < m; k++) row[k] *= scale;
        for (ptrdiff_t i = j + 1; i < m; i++)
            NAME(add_times)(m - i, -row[i], row + i, task->cov + i * wide + i);
    }
    memset(factor, 0, (size_t)(m * wide) * sizeof(REAL));
    for (ptrdiff_t i = 0; i < m; i++) {
        REAL *row = factor + i * wide;
        for (ptrdiff_t j = 0; j < i; j++)
            NAME(add_times)(j + 1, -task->cov[j * wide + i], factor + j * wide, row);
        row[i] = 1;
        for (ptrdiff_t k = 0; k <= i; k++) row[k] /= task->cov[i * wide + i];
    }
}

/* M, v, a, W and O of the support, for one level of the noise. */
static void NAME(solve)(const Process *problem, PROCESS *task, LEVEL *level)
{
    ptrdiff_t m = task->m, wide = task->wide_m, k = task->n - m;
    const REAL *noise = problem->noise, *Y = problem->Y, *mean = problem->mean;
    REAL trace = 0;
    memcpy(task->cov, task->kernel, (size_t)(m * wide) * sizeof(REAL));
    for (ptrdiff_t s = 0; s < m; s++) {
        task->cov[s * wide + s] += level->by * noise[task->first + s];
        trace += task->cov[s * wide + s];
    }
    for (ptrdiff_t s = 0; s < m; s++)
        task->cov[s * wide + s] += 10 * EPSILON * trace; /* as `stable_cholesky` */
    NAME(invert_factor)(task, level->factor);
    NAME(transpose)(m, m, level->factor, wide, level->factor_t, wide);
    memset(level->values, 0, (size_t)wide * sizeof(REAL));
    memset(level->solved, 0, (size_t)wide * sizeof(REAL));
    for (ptrdiff_t s = 0; s < m; s++) {
        REAL residual = Y[task->first + s] - mean[task->first + s];
        NAME(add_times)(m, residual, level->factor_t + s * wide, level->values);
    }
    for (ptrdiff_t i = 0; i < m; i++)
        NAME(add_times)(m, level->values[i], level->factor + i * wide, level->solved);
    NAME(times)(k, m, task->kernel + m * wide, wide, 1, level->factor_t, wide, NULL,
                level->white);
    NAME(times)(k, m, level->white, wide, 1, level->factor, wide, NULL, level->weights);
}

/* Minus the log density of the support, up to a constant. */
static double NAME(surprise)(const PROCESS *task, const LEVEL *level)
{
    double found = 0;
    for (ptrdiff_t s = 0; s < task->m; s++) {
        found += 0.5 * level->values[s] * level->values[s];
        found -= log((double)level->factor[s * task->wide_m + s]);
    }
    return found;
}

/* Mean and variance of the targets of query rows, for one level of the noise. */
static void NAME(predict_queries)(const Process *problem, PROCESS *task, LEVEL *level)
{
    const REAL *noise = problem->noise, *prior_mean = problem->mean;
    for (ptrdiff_t i = task->m; i < task->n; i++) {
        const REAL *white = level->white + (i - task->m) * task->wide_m;
        const REAL *linear = task->linear + i * task->wide_p;
        ptrdiff_t row = task->first + i;
        REAL mean = prior_mean[row], variance = task->variance;
        for (ptrdiff_t j = 0; j < task->p; j++) variance += linear[j] * linear[j];
        for (ptrdiff_t s = 0; s < task->m; s++) {
            mean += white[s] * level->values[s];
            variance -= white[s] * white[s];
        }
        REAL least = (REAL)problem->least_variance;
        int is_cut = variance < least;
        level->mean[i] = mean;
        level->total[i] = (is_cut ? least : variance) + level->by * noise[row];
        level->of_free[i] = !is_cut;
    }
}

/* The logarithms of the weights of the levels, given the support. */
static void NAME(weigh_levels)(const Process *problem, PROCESS *task)
{
    double most = -INFINITY, sum = 0, shares[MOST_LEVELS];
    for (ptrdiff_t j = 0; j < task->n_levels; j++) {
        double prior = problem->level ? ((const REAL *)problem->prior)[j] : 0;
        shares[j] = prior - NAME(surprise)(task, task->levels + j);
        most = shares[j] > most ? shares[j] : most;
    }
    for (ptrdiff_t j = 0; j < task->n_levels; j++) sum += exp(shares[j] - most);
    for (ptrdiff_t j = 0; j < task->n_levels; j++) {
        task->levels[j].share = (REAL)(shares[j] - most - log(sum));
        task->levels[j].of_share = 0;
    }
}

/* The loss of a query row, of a weight, and its derivatives by mean and variance of
 * each level, and by the level's share. */
static double NAME(row_loss)(PROCESS *task, ptrdiff_t i, REAL target, REAL weight)
{
    double most = -INFINITY, sum = 0, logs[MOST_LEVELS];
    for (ptrdiff_t j = 0; j < task->n_levels; j++) {
        const LEVEL *level = task->levels + j;
        REAL miss = target - level->mean[i];
        logs[j] = level->share -
                  0.5 * (log((double)level->total[i]) + miss * miss / level->total[i]);
        most = logs[j] > most ? logs[j] : most;
    }
    for (ptrdiff_t j = 0; j < task->n_levels; j++) sum += exp(logs[j] - most);
    for (ptrdiff_t j = 0; j < task->n_levels; j++) {
        LEVEL *level = task->levels + j;
        REAL own = weight * (REAL)(exp(logs[j] - most) / sum);
        REAL z = (target - level->mean[i]) / level->total[i];
        level->of_mean[i] = -own * z;
        level->of_total[i] = (REAL)0.5 * own * (1 / level->total[i] - z * z);
        level->of_free[i] *= level->of_total[i];
        level->of_share += weight * (REAL)exp((double)level->share) - own;
    }
    return weight * (HALF_LOG_2PI - most - log(sum));
}

/* The loss of the query rows of a task, each of a weight, and the gradients by mean and
 * noise of these rows, and by the variance of the function there. */
static double NAME(query_loss)(const Process *problem, PROCESS *task, REAL weight)
{
    const REAL *Y = problem->Y, *noise = problem->noise;
    REAL *mean_out = problem->mean_out, *noise_out = problem->noise_out;
    double loss = 0;
    NAME(weigh_levels)(problem, task);
    for (ptrdiff_t j = 0; j < task->n_levels; j++)
        NAME(predict_queries)(problem, task, task->levels + j);
    for (ptrdiff_t i = task->m; i < task->n; i++) {
        ptrdiff_t row = task->first + i;
        loss += NAME(row_loss)(task, i, Y[row], weight);
        task->of_variance[i] = 0;
        for (ptrdiff_t j = 0; j < task->n_levels; j++) {
            const LEVEL *level = task->levels + j;
            REAL of_noise = level->by * level->of_total[i];
            task->of_variance[i] += level->of_free[i];
            mean_out[row] += level->of_mean[i];
            noise_out[row] += of_noise;
            if (problem->level)
                ((REAL *)problem->level_out)[j] += of_noise * noise[row];
        }
    }
    return loss;
}

/* --- the gradient ------------------------------------------------------------------
 */

/* Add to the gradient by K of the support that by the log density of the support. */
static void NAME(add_density_gradient)(const PROCESS *task, const LEVEL *level,
                                       REAL weight, REAL *to)
{
    ptrdiff_t m = task->m, wide = task->wide_m;
    REAL half = (REAL)0.5 * weight;
    PRODUCT inverse = {.first = {level->factor, 1, wide, level->factor, wide, m},
                       .base = to,
                       .base_row = wide,
                       .alpha = -half,
                       .out = to,
                       .out_row = wide};
    NAME(multiply)(m, wide, &inverse);
    for (ptrdiff_t s = 0; s < m; s++)
        NAME(add_times)(m, half * level->solved[s], level->solved, to + s * wide);
}

/* By mean and noise of the support, given that by K and by the residuals. */
static void NAME(hand_support_out)(const Process *problem, const PROCESS *task,
                                   ptrdiff_t j, const REAL *to_kernel,
                                   const REAL *of_residual)
{
    const REAL *noise = problem->noise;
    REAL by = task->levels[j].by;
    for (ptrdiff_t s = 0; s < task->m; s++) {
        REAL of_noise = by * to_kernel[s * task->wide_m + s];
        ((REAL *)problem->mean_out)[task->first + s] -= of_residual[s];
        ((REAL *)problem->noise_out)[task->first + s] += of_noise;
        if (problem->level)
            ((REAL *)problem->level_out)[j] += of_noise * noise[task->first + s];
    }
}

/* Add the gradient by K, and by mean and noise of the support, given those by what one
 * level says of queries. */
static void NAME(add_level_gradient)(const Process *problem, PROCESS *task, ptrdiff_t j)
{
    ptrdiff_t m = task->m, wide = task->wide_m, k = task->n - m;
    const LEVEL *level = task->levels + j;
    const REAL *g = level->of_mean + m, *h = level->of_free + m;
    REAL *to = task->to_level;
    memset(task->of_residual, 0, (size_t)wide * sizeof(REAL));
    for (ptrdiff_t i = 0; i < k; i++) {
        const REAL *weights = level->weights + i * wide;
        REAL *scaled = task->scaled + i * wide;
        REAL *to_query = to + (m + i) * wide;
        for (ptrdiff_t s = 0; s < m; s++) {
            task->of_residual[s] += g[i] * weights[s];
            scaled[s] = h[i] * weights[s];
            to_query[s] = g[i] * level->solved[s] - 2 * scaled[s];
        }
    }
    NAME(times)(m, k, task->scaled, 1, wide, level->weights, wide, NULL, to);
    for (ptrdiff_t s = 0; s < m; s++)
        NAME(add_times)(m, -task->of_residual[s], level->solved, to + s * wide);
    if (task->n_levels > 1) {
        NAME(add_density_gradient)(task, level, level->of_share, to);
        NAME(add_times)(m, -level->of_share, level->solved, task->of_residual);
        ((REAL *)problem->prior_out)[j] += level->of_share;
    }
    NAME(hand_support_out)(problem, task, j, to, task->of_residual);
    NAME(add_times)(task->n * wide, 1, to, task->to_kernel);
}

/* Minus the log density of the support, times a weight, and its gradient by K, mean and
 * noise. */
static double NAME(support_loss)(const Process *problem, PROCESS *task, REAL weight)
{
    const LEVEL *level = task->levels;
    for (ptrdiff_t s = 0; s < task->m; s++)
        task->of_residual[s] = weight * level->solved[s];
    NAME(add_density_gradient)(task, level, -weight, task->to_kernel);
    NAME(hand_support_out)(problem, task, 0, task->to_kernel, task->of_residual);
    return weight * ((double)task->m * HALF_LOG_2PI + NAME(surprise)(task, level));
}

/* From the gradient by products of rows with those of the support to that by rows. */
static void NAME(row_gradient)(const PROCESS *task, const REAL *rows, ptrdiff_t wide,
                               REAL *to)
{
    ptrdiff_t m = task->m, wide_m = task->wide_m;
    NAME(times)(task->n, m, task->to_kernel, wide_m, 1, rows, wide, NULL, to);
    NAME(times)(m, task->n, task->to_kernel, 1, wide_m, rows, wide, to, to);
}

/* By linear features, coordinates and the variance; the kernel's becomes S's. */
static double NAME(rows_gradient)(PROCESS *task)
{
    ptrdiff_t q = task->q, wide_q = task->wide_q;
    double of_variance = 0;
    NAME(row_gradient)(task, task->linear, task->wide_p, task->to_linear);
    for (ptrdiff_t i = task->m; i < task->n; i++) {
        of_variance += task->of_variance[i] * task->variance;
        for (ptrdiff_t j = 0; j < task->p; j++)
            task->to_linear[i * task->wide_p + j] +=
                2 * task->of_variance[i] * task->linear[i * task->wide_p + j];
    }
    NAME(multiply_by)(task->n * task->wide_m, task->to_kernel, task->smooth);
    NAME(row_gradient)(task, task->place, wide_q, task->to_place);
    for (ptrdiff_t i = 0; i < task->n; i++) {
        const REAL *place = task->place + i * wide_q;
        REAL *to_place = task->to_place + i * wide_q, sum = to_place[q];
        for (ptrdiff_t j = 0; j < q; j++) to_place[j] -= sum * place[j];
        of_variance += 0.5 * sum; /* of the slopes of its row and of its column */
    }
    return of_variance;
}

/* Hand the gradients of a task out. Those of the scales of columns are added up. */
static void NAME(hand_rows_out)(const Process *problem, const PROCESS *task)
{
    ptrdiff_t d = problem->n_columns;
    REAL *column = problem->column_out, *length = problem->length_out;
    for (ptrdiff_t i = 0; i < task->n; i++) {
        const REAL *linear = task->to_linear + i * task->wide_p;
        const REAL *place = task->to_place + i * task->wide_q;
        ptrdiff_t row = task->first + i;
        const REAL *x = (const REAL *)problem->X + row * d;
        *(REAL *)problem->constant_out += linear[0];
        for (ptrdiff_t j = 0; j < d; j++) column[j] += linear[1 + j] * x[j];
        for (ptrdiff_t j = 0; j < d; j++) length[j] += place[j] * x[j];
        REAL *to_z = (REAL *)problem->linear_out + row * problem->n_linear;
        REAL *to_u = (REAL *)problem->smooth_out + row * problem->n_smooth;
        for (ptrdiff_t j = 0; j < problem->n_linear; j++)
            to_z[j] = (REAL)problem->linear_scale * linear[1 + d + j];
        for (ptrdiff_t j = 0; j < problem->n_smooth; j++)
            to_u[j] = (REAL)problem->smooth_scale * place[d + j];
    }
}

/* --- what is called ----------------------------------------------------------------
 */

/* Take room for the largest task. */
static int NAME(open_process)(Arena *arena, const Process *problem, PROCESS *task)
{
    arena->base = NULL, arena->used = 0;
    NAME(take_process)(arena, problem, task); /* counts only */
    arena->base = calloc(1, arena->used + 64);
    if (!arena->base) return OUT_OF_MEMORY;
    arena->used = (size_t)(-(intptr_t)arena->base & 63);
    NAME(take_process)(arena, problem, task);
    return 0;
}

/* The mean over a task's own query rows, then over the tasks that have any; of marginal
 * likelihoods the mean over all rows. What the gradients are written to is zero at
 * first. */
static int NAME(likelihood)(const Process *problem)
{
    PROCESS task;
    Arena arena;
    ptrdiff_t n_tasks = 0, n_rows = 0;
    double loss = 0, of_variance = 0;
    if (NAME(open_process)(&arena, problem, &task)) return OUT_OF_MEMORY;
    for (ptrdiff_t t = 0; t < problem->n_tasks; t++) {
        NAME(find_rows)(problem, t, &task);
        n_rows += task.n, n_tasks += task.n > task.m;
    }
    for (ptrdiff_t t = 0; t < problem->n_tasks; t++) {
        NAME(find_rows)(problem, t, &task);
        ptrdiff_t n_query = task.n - task.m;
        if (!(problem->is_marginal ? task.n : n_query)) continue;
        NAME(start_process)(problem, &task);
        NAME(fill_kernel)(&task);
        for (ptrdiff_t j = 0; j < task.n_levels; j++)
            NAME(solve)(problem, &task, task.levels + j);
        memset(task.to_kernel, 0, (size_t)(task.n * task.wide_m) * sizeof(REAL));
        if (problem->is_marginal) {
            loss += NAME(support_loss)(problem, &task, 1 / (REAL)n_rows);
        } else {
            REAL weight = 1 / ((REAL)n_query * (REAL)n_tasks);
            loss += NAME(query_loss)(problem, &task, weight);
            for (ptrdiff_t j = 0; j < task.n_levels; j++)
                NAME(add_level_gradient)(problem, &task, j);
        }
        of_variance += NAME(rows_gradient)(&task);
        NAME(hand_rows_out)(problem, &task);
    }
    *(REAL *)problem->loss = (REAL)loss;
    *(REAL *)problem->variance_out = (REAL)of_variance;
    free(arena.base);
    return 0;
}

/* M and v of a task among the places of its rows, those of an identity and of zero
 * where there is no row. */
static void NAME(hand_solution_out)(const Process *problem, ptrdiff_t t,
                                    const PROCESS *task)
{
    ptrdiff_t n = problem->n_rows, row = 0;
    const uint8_t *mask = problem->mask + t * n;
    REAL *factor = (REAL *)problem->factor_out + t * n * n;
    REAL *values = (REAL *)problem->values_out + t * n;
    for (ptrdiff_t i = 0; i < n; i++) {
        const REAL *own = task->levels->factor + row * task->wide_m;
        for (ptrdiff_t j = 0; j < n; j++)
            factor[i * n + j] = mask[i] && mask[j] ? *own++ : i == j;
        values[i] = mask[i] ? task->levels->values[row] : 0;
        row += mask[i] != 0;
    }
}

/* The solution of tasks that are all support. */
static int NAME(solve_support)(const Process *problem)
{
    PROCESS task;
    Arena arena;
    if (NAME(open_process)(&arena, problem, &task)) return OUT_OF_MEMORY;
    for (ptrdiff_t t = 0; t < problem->n_tasks; t++) {
        NAME(find_rows)(problem, t, &task);
        NAME(start_process)(problem, &task);
        NAME(fill_kernel)(&task);
        NAME(solve)(problem, &task, task.levels);
        NAME(hand_solution_out)(problem, t, &task);
    }
    free(arena.base);
    return 0;
}
#undef PROCESS
#undef LEVEL
