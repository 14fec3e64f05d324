/* An update of weights by AdamW (algorithm 2 of I. Loshchilov, F. Hutter, "Decoupled
 * Weight Decay Regularization", ICLR 2019), for one type of numbers and one set of
 * instructions: a template, see _perceptron.c.
 */

/* Sum of the squares of all gradients. */
static double NAME(squares)(const Update *update)
{
    double sum = 0;
    for (int64_t k = 0; k < update->n_weights; k++) {
        const REAL *g = update->weights[k].gradient;
        const int64_t n = update->weights[k].n_numbers;
        REAL lanes[16] = {0}; /* sums side by side: compilers keep the order of one */
        int64_t i = 0;
        for (; i + 16 <= n; i += 16)
            for (int lane = 0; lane < 16; lane++)
                lanes[lane] += g[i + lane] * g[i + lane];
        for (; i < n; i++) lanes[i % 16] += g[i] * g[i];
        for (int lane = 0; lane < 16; lane++) sum += lanes[lane];
    }
    return sum;
}

static double NAME(adamw)(const Update *update)
{
    const REAL scale = (REAL)(1 / update->divisor);
    const REAL keep = (REAL)(1 - update->lr * update->weight_decay);
    const REAL beta1 = (REAL)update->beta1, beta2 = (REAL)update->beta2;
    const REAL new1 = (REAL)(1 - update->beta1), new2 = (REAL)(1 - update->beta2);
    const REAL eps = (REAL)update->eps;
    for (int64_t k = 0; k < update->n_weights; k++) {
        const Weight *of = update->weights + k;
        const double count = ++update->counts[k];
        const REAL rate = (REAL)(update->lr / (1 - pow(update->beta1, count)));
        const REAL root = (REAL)sqrt(1 - pow(update->beta2, count));
        const REAL *restrict gradient = of->gradient;
        REAL *restrict weight = of->weight, *restrict moment = of->moment;
        REAL *restrict square = of->square;
        for (int64_t i = 0; i < of->n_numbers; i++) {
            REAL g = scale * gradient[i];
            moment[i] = beta1 * moment[i] + new1 * g;
            square[i] = beta2 * square[i] + new2 * g * g;
            REAL size = SQRT(square[i]) / root + eps;
            weight[i] = keep * weight[i] - rate * moment[i] / size;
        }
    }
    return 0;
}
