/* Parameters, tapes and rows of one task, for one type of numbers and one set of
 * instructions: a template, see _perceptron.c.
 */

/* A number for every parameter. What runs forwards takes h W^T, and wants W^T row by
 * row; what runs backwards takes delta W, and wants W. The first layer has nothing
 * before it: there W^T is what is computed with, elsewhere W, and the other one is a
 * copy that `mirror` makes. */
typedef struct {
    REAL *forwards[MOST_LAYERS];  /* W^T, (n_in, wide n_out) */
    REAL *backwards[MOST_LAYERS]; /* W, (n_out, wide n_in), or NULL if nobody asks */
    REAL *bias[MOST_LAYERS];      /* (wide n_out,) */
} NAME(values);

/* What every layer keeps of a pass, (n_rows, wide n_out). */
typedef struct {
    REAL *h_next[MOST_LAYERS], *slope[MOST_LAYERS], *bend[MOST_LAYERS];
    REAL *delta[MOST_LAYERS], *mean;
} NAME(trace);

/* The real rows of a task, without padding. */
typedef struct {
    ptrdiff_t n, *index;
    REAL *X, *Y, *weight, *offset;
    const uint8_t *present;
    int has_offset;
} NAME(rows);

/* All that one call needs. */
typedef struct {
    const Problem *problem;
    ptrdiff_t n_layers, n_steps, n_tapes;
    ptrdiff_t size[MOST_LAYERS + 1],
        wide[MOST_LAYERS + 1]; /* before each layer, at last */
    int has_rates, learns_rates, has_own_start, runs_backwards;
    ROWS support, query;
    VALUES *points, *gradients; /* those of step k, and where the last one ended */
    TRACE *tapes, query_trace;
    VALUES v, rate, rated, total, rate_total;
    REAL *h_change[MOST_LAYERS], *bent[MOST_LAYERS], *delta_change[MOST_LAYERS];
    REAL *row_change;
} NAME(run);

/* --- memory ------------------------------------------------------------------- */

static REAL *NAME(numbers)(Arena *arena, ptrdiff_t n)
{
    return take(arena, (size_t)n * sizeof(REAL));
}

static void NAME(take_values)(Arena *arena, const RUN *run, VALUES *values)
{
    for (ptrdiff_t l = 0; l < run->n_layers; l++) {
        values->forwards[l] = NAME(numbers)(arena, run->size[l] * run->wide[l + 1]);
        if (l ? run->runs_backwards : run->problem->support.out != NULL)
            values->backwards[l] =
                NAME(numbers)(arena, run->size[l + 1] * run->wide[l]);
        values->bias[l] = NAME(numbers)(arena, run->wide[l + 1]);
    }
}

static void NAME(take_rows)(Arena *arena, const RUN *run, ROWS *rows, ptrdiff_t n)
{
    ptrdiff_t n_out = run->size[run->n_layers];
    rows->index = take(arena, (size_t)n * sizeof(ptrdiff_t));
    rows->X = NAME(numbers)(arena, n * run->size[0]);
    rows->Y = NAME(numbers)(arena, n * n_out);
    rows->weight = NAME(numbers)(arena, n);
    rows->offset = NAME(numbers)(arena, n * n_out);
}

static int NAME(is_curved)(int64_t activation)
{
    return activation != IDENTITY && activation != RELU;
}

static void NAME(take_trace)(Arena *arena, const RUN *run, TRACE *trace, ptrdiff_t n,
                             int n_derivatives)
{
    for (ptrdiff_t l = 0; l < run->n_layers; l++) {
        int64_t activation = run->problem->layers[l].activation;
        ptrdiff_t n_numbers = n * run->wide[l + 1];
        trace->h_next[l] = NAME(numbers)(arena, n_numbers);
        if (n_derivatives) trace->delta[l] = NAME(numbers)(arena, n_numbers);
        if (n_derivatives && activation != IDENTITY)
            trace->slope[l] = NAME(numbers)(arena, n_numbers);
        if (n_derivatives > 1 && NAME(is_curved)(activation))
            trace->bend[l] = NAME(numbers)(arena, n_numbers);
    }
    trace->mean = NAME(numbers)(arena, n * run->wide[run->n_layers]);
}

/* --- parameters of the caller, (n_out, n_in), and those of a run ----------------- */

static const REAL *NAME(of_task)(const void *first, int64_t step, ptrdiff_t task)
{
    return first ? (const REAL *)first + step * task : NULL;
}

static void NAME(copy)(ptrdiff_t n_rows, ptrdiff_t n_columns, const REAL *from,
                       ptrdiff_t from_row, REAL *to, ptrdiff_t to_row)
{
    for (ptrdiff_t i = 0; i < n_rows; i++)
        memcpy(to + i * to_row, from + i * from_row, (size_t)n_columns * sizeof(REAL));
}

/* Make the copies that products run on. */
static void NAME(mirror)(const RUN *run, VALUES *values)
{
    const ptrdiff_t *size = run->size, *wide = run->wide;
    for (ptrdiff_t l = 1; l < run->n_layers; l++)
        if (values->backwards[l])
            NAME(transpose)(size[l + 1], size[l], values->backwards[l], wide[l],
                            values->forwards[l], wide[l + 1]);
    if (values->backwards[0])
        NAME(transpose)(size[0], size[1], values->forwards[0], wide[1],
                        values->backwards[0], wide[0]);
}

static void NAME(load)(const RUN *run, ptrdiff_t l, const REAL *weight,
                       const REAL *bias, VALUES *values)
{
    ptrdiff_t n_in = run->size[l], n_out = run->size[l + 1];
    if (l && values->backwards[l])
        NAME(copy)(n_out, n_in, weight, n_in, values->backwards[l], run->wide[l]);
    else
        NAME(transpose)(n_out, n_in, weight, n_in, values->forwards[l],
                        run->wide[l + 1]);
    memcpy(values->bias[l], bias, (size_t)n_out * sizeof(REAL));
}

static void NAME(unload_weight)(const RUN *run, ptrdiff_t l, const VALUES *values,
                                REAL *to)
{
    ptrdiff_t n_in = run->size[l], n_out = run->size[l + 1];
    if (l)
        NAME(copy)(n_out, n_in, values->backwards[l], run->wide[l], to, n_in);
    else
        NAME(transpose)(n_in, n_out, values->forwards[l], run->wide[l + 1], to, n_in);
}

static void NAME(unload_bias)(const RUN *run, ptrdiff_t l, const VALUES *values,
                              REAL *to)
{
    memcpy(to, values->bias[l], (size_t)run->size[l + 1] * sizeof(REAL));
}

static void NAME(load_start)(const RUN *run, ptrdiff_t task)
{
    for (ptrdiff_t l = 0; l < run->n_layers; l++) {
        const Layer *layer = run->problem->layers + l;
        NAME(load)(run, l, NAME(of_task)(layer->weight, layer->weight_step, task),
                   NAME(of_task)(layer->bias, layer->bias_step, task), run->points);
    }
    NAME(mirror)(run, run->points);
}

/* The numbers of a layer that are computed with, and how many. */
static REAL *NAME(weight_of)(const VALUES *values, ptrdiff_t l)
{
    return l ? values->backwards[l] : values->forwards[l];
}

static ptrdiff_t NAME(n_weights)(const RUN *run, ptrdiff_t l)
{
    return l ? run->size[l + 1] * run->wide[l] : run->size[l] * run->wide[l + 1];
}

static void NAME(clear)(const RUN *run, VALUES *values)
{
    for (ptrdiff_t l = 0; l < run->n_layers; l++) {
        memset(NAME(weight_of)(values, l), 0,
               (size_t)NAME(n_weights)(run, l) * sizeof(REAL));
        memset(values->bias[l], 0, (size_t)run->wide[l + 1] * sizeof(REAL));
    }
}

/* out = base + alpha * a * b for whole vectors, where a NULL for `a` or `base` is a one
 * or a zero, and `out` may be any of the others */
static void NAME(combine_numbers)(ptrdiff_t n, const REAL *base, REAL alpha,
                                  const REAL *a, const REAL *b, REAL *out)
{
    for (ptrdiff_t i = 0; i < n; i += LANES) {
        VECTOR product = alpha * *(const VECTOR *)(b + i);
        if (a) product *= *(const VECTOR *)(a + i);
        if (base) product += *(const VECTOR *)(base + i);
        *(VECTOR *)(out + i) = product;
    }
}

/* The same for all parameters. */
static void NAME(combine)(const RUN *run, const VALUES *base, REAL alpha,
                          const VALUES *a, const VALUES *b, VALUES *out)
{
    for (ptrdiff_t l = 0; l < run->n_layers; l++) {
        NAME(combine_numbers)(NAME(n_weights)(run, l),
                              base ? NAME(weight_of)(base, l) : NULL, alpha,
                              a ? NAME(weight_of)(a, l) : NULL, NAME(weight_of)(b, l),
                              NAME(weight_of)(out, l));
        NAME(combine_numbers)(run->wide[l + 1], base ? base->bias[l] : NULL, alpha,
                              a ? a->bias[l] : NULL, b->bias[l], out->bias[l]);
    }
}

/* Something that is finite only if all parameters are, and their sums. */
static REAL NAME(add_up)(const RUN *run, const VALUES *values)
{
    VECTOR sums = {0};
    REAL total = 0;
    for (ptrdiff_t l = 0; l < run->n_layers; l++) {
        const REAL *weight = NAME(weight_of)(values, l);
        for (ptrdiff_t i = 0; i < NAME(n_weights)(run, l); i += LANES)
            sums += *(const VECTOR *)(weight + i);
        for (ptrdiff_t i = 0; i < run->wide[l + 1]; i += LANES)
            sums += *(const VECTOR *)(values->bias[l] + i);
    }
    for (ptrdiff_t i = 0; i < LANES; i++) total += ((const REAL *)&sums)[i];
    return total;
}

/* --- rows ------------------------------------------------------------------------ */

/* How many rows of a task the mask tells. */
static ptrdiff_t NAME(count)(const Rows *rows, ptrdiff_t task)
{
    const uint8_t *mask = rows->mask + task * rows->n_rows;
    ptrdiff_t n = 0;
    for (ptrdiff_t i = 0; i < rows->n_rows; i++) n += mask[i] != 0;
    return n;
}

/* The rows that were chosen, from a table with rows of a length. */
static void NAME(copy_rows)(const ROWS *rows, ptrdiff_t n, const REAL *from,
                            ptrdiff_t from_row, REAL *to)
{
    ptrdiff_t first = rows->n ? rows->index[0] : 0;
    if (from_row == n && rows->n && rows->index[rows->n - 1] - first == rows->n - 1) {
        memcpy(to, from + first * n, (size_t)(rows->n * n) * sizeof(REAL));
        return;
    }
    for (ptrdiff_t i = 0; i < rows->n; i++)
        memcpy(to + i * n, from + rows->index[i] * from_row, (size_t)n * sizeof(REAL));
}

/* Take up to `most` rows of a task that count, from row `first` on, and say where the
 * next ones begin. */
static ptrdiff_t NAME(gather)(const RUN *run, const Rows *from, ptrdiff_t task,
                              ptrdiff_t first, ptrdiff_t most, ROWS *to)
{
    ptrdiff_t n_in = run->size[0], n_out = run->size[run->n_layers], i = first;
    const uint8_t *mask = from->mask ? from->mask + task * from->n_rows : NULL;
    const REAL *weight = NAME(of_task)(from->weight, from->weight_step, task);
    const REAL *X = NAME(of_task)(from->X, from->n_rows * n_in, task);
    const REAL *Y = NAME(of_task)(from->Y, from->n_rows * n_out, task);
    const REAL *offset =
        NAME(of_task)(from->offset, from->n_rows * from->offset_row, task);
    REAL share =
        mask ? (REAL)(from->total_weight / (double)NAME(count)(from, task)) : 1;
    to->present = from->present ? from->present + task * n_out : NULL;
    to->has_offset = offset != NULL;
    for (to->n = 0; i < from->n_rows && to->n < most; i++) {
        REAL own = weight ? weight[i] : share;
        if (mask ? !mask[i] : own == 0) continue;
        to->weight[to->n] = own;
        to->index[to->n++] = i;
    }
    NAME(copy_rows)(to, n_in, X, n_in, to->X);
    if (Y) NAME(copy_rows)(to, n_out, Y, n_out, to->Y);
    if (offset) NAME(copy_rows)(to, n_out, offset, from->offset_row, to->offset);
    return i;
}
