/* The exponential and activations with two derivatives, for one type of numbers and one
 * set of instructions: a template, see _perceptron.c.
 *
 * The loops have no branches, so that compilers make vectors of them. NaN stays NaN.
 */

/* exp(x) - 1, or exp(x): with x = n log 2 + r it is 2^n exp(r), and exp(r) - 1 is a
 * Taylor series, so that nothing is lost near zero. */
ALWAYS_INLINE REAL NAME(exponential)(REAL x, const int minus_one)
{
    REAL near = x > EXP_MOST ? EXP_MOST : x;
    near = near < EXP_LEAST ? EXP_LEAST : near;
    REAL shifted = near * (REAL)1.44269504088896340736 + ROUND_SHIFT;
    REAL n = shifted - ROUND_SHIFT;
    REAL r = (near - n * LOG2_HIGH) - n * LOG2_LOW;
    REAL series = 0;
    UNROLL
    for (int k = SERIES_LENGTH; k > 0; k--)
        series = (series + (REAL)INVERSE_FACTORIAL[k]) * r;
    /* n is in the last bits of `shifted`; as an exponent it is 2^n */
    UNSIGNED bits;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits << MANTISSA_BITS) + ONE_BITS;
    REAL power;
    memcpy(&power, &bits, sizeof power);
    REAL value = power * series + (minus_one ? power - 1 : power);
    value = x < EXP_LEAST ? (minus_one ? -1 : 0) : value;
    return x > EXP_MOST ? (REAL)INFINITY : value;
}

ALWAYS_INLINE REAL NAME(logistic)(REAL x) { return 1 / (1 + NAME(exponential)(-x, 0)); }

/* f, f' and f'' at x */
typedef struct {
    REAL value, slope, curvature;
} NAME(jet);

ALWAYS_INLINE NAME(jet) NAME(relu)(REAL x)
{
    return (NAME(jet)){x < 0 ? 0 : x, x > 0 ? (REAL)1 : (REAL)0, 0};
}

ALWAYS_INLINE NAME(jet) NAME(tanh)(REAL x)
{
    REAL near = x > 20 ? 20 : x; /* where it is 1 */
    REAL e = NAME(exponential)(2 * near, 1);
    REAL f = e / (e + 2), slope = 1 - f * f;
    return (NAME(jet)){f, slope, -2 * f * slope};
}

ALWAYS_INLINE NAME(jet) NAME(sigmoid)(REAL x)
{
    REAL f = NAME(logistic)(x), slope = f * (1 - f);
    return (NAME(jet)){f, slope, slope * (1 - 2 * f)};
}

ALWAYS_INLINE NAME(jet) NAME(silu)(REAL x)
{
    REAL s = NAME(logistic)(x), f = x * s;
    return (NAME(jet)){f, s + f * (1 - s), s * (1 - s) * (2 + x * (1 - 2 * s))};
}

/* The share of a normal distribution below x, given its density there. In single
 * precision by M. Abramowitz, I. A. Stegun, "Handbook of Mathematical Functions", 1964,
 * 26.2.17, whose error is below 7.5e-8; in double precision by MILLS. The erfc of the
 * library, which no compiler makes a vector of, takes ten times as long and more. */
ALWAYS_INLINE REAL NAME(normal_share)(REAL x, REAL density)
{
    REAL size = x < 0 ? -x : x, above;
    if (sizeof(REAL) > 4) {
        REAL near = 1 / (1 + (REAL)0.25 * size), t = 2 * near - 1, series = 0;
        UNROLL
        for (int k = sizeof MILLS / sizeof *MILLS - 1; k >= 0; k--)
            series = series * t + (REAL)MILLS[k];
        above = density * near * series;
    } else {
        REAL t = 1 / (1 + (REAL)0.2316419 * size);
        REAL series = (REAL)-1.821255978 + t * (REAL)1.330274429;
        series = (REAL)-0.356563782 + t * ((REAL)1.781477937 + t * series);
        above = density * t * ((REAL)0.319381530 + t * series);
    }
    return x < 0 ? above : 1 - above;
}

ALWAYS_INLINE NAME(jet) NAME(gelu)(REAL x)
{
    REAL density =
        NAME(exponential)((REAL)-0.5 * x * x, 0) * (REAL)0.39894228040143267794;
    REAL share = NAME(normal_share)(x, density);
    return (NAME(jet)){x * share, share + x * density, density * (2 - x * x)};
}

ALWAYS_INLINE NAME(jet) NAME(elu)(REAL x)
{
    REAL below = NAME(exponential)(x < 0 ? x : 0, 1);
    int negative = x <= 0;
    return (NAME(jet)){x > 0    ? x
                       : x != x ? x
                                : below,
                       below + 1, negative ? below + 1 : (REAL)0};
}

/* z becomes f(z); slope gets f'(z), and curvature f''(z), unless they are NULL. */
#define ACTIVATE(function)                          \
    for (ptrdiff_t i = 0; i < n; i++) {             \
        NAME(jet) at = NAME(function)(z[i]);        \
        z[i] = at.value;                            \
        if (slope) slope[i] = at.slope;             \
        if (curvature) curvature[i] = at.curvature; \
    }                                               \
    break;

static void NAME(activate)(int64_t activation, ptrdiff_t n, REAL *restrict z,
                           REAL *restrict slope, REAL *restrict curvature)
{
    switch (activation) {
    case RELU: ACTIVATE(relu)
    case TANH: ACTIVATE(tanh)
    case SIGMOID: ACTIVATE(sigmoid)
    case SILU: ACTIVATE(silu)
    case GELU: ACTIVATE(gelu)
    case ELU: ACTIVATE(elu)
    }
}
#undef ACTIVATE

/* The same without the second derivative, for callers of their own. */
static int NAME(activate_numbers)(int64_t activation, int64_t n, void *z, void *slope)
{
    NAME(activate)(activation, n, z, slope, NULL);
    return 0;
}
