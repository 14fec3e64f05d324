/* Gradient descent of many small perceptrons, and its derivative, task by task.
 *
 * recursion.py and perceptron.py derive the formulas; the names here are those. There
 * every line runs for all tasks at once. Here a task runs through all lines while its
 * weights and activations lie in the nearest cache, and the memory is that of a single
 * tape. compiled.py calls it, through ctypes: pointers and numbers come in structures,
 * nothing is Python's, and so the global interpreter lock is not held.
 *
 * The templates are compiled for float and double, and for every set of vector
 * instructions that the compiler knows; the widest that the machine has is taken at run
 * time. A compiler without GNU vectors gets plain loops.
 */

#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__GNUC__)
#define HAS_VECTORS
#define ALWAYS_INLINE static inline __attribute__((always_inline))
#define EXPORT __attribute__((visibility("default")))
#else
#define ALWAYS_INLINE static __forceinline
#define EXPORT __declspec(dllexport)
#endif
#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define HAS_SHUFFLES
#endif
#endif
#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#elif defined(__GNUC__)
#define UNROLL _Pragma("GCC unroll 32")
#else
#define UNROLL
#endif

enum { MOST_LAYERS = 16, MOST_ROWS = 6, TILE = 4, BLOCK_ROWS = 48, MOST_LEVELS = 8 };
enum { IDENTITY, RELU, TANH, SIGMOID, SILU, GELU, ELU };
enum { OUT_OF_MEMORY = 1, TOO_MANY_LAYERS = 2 };

/* What compiled.py passes. A step is how many numbers lie from a task to the next one;
 * 0 where all tasks have the same. */
typedef struct {
    int64_t n_in, n_out, activation;
    const void *weight, *bias; /* (n_out, n_in) and (n_out,), where tasks start */
    int64_t weight_step, bias_step;
    const void *weight_rate, *bias_rate; /* like the parameters; NULL for `lr` */
    const void *weight_v,
        *bias_v;                 /* gradient by where they end, if there is no query */
    void *weight_out, *bias_out; /* adapted ones, or the gradient by the start */
    void *weight_rate_out, *bias_rate_out; /* gradient by the rates, or NULL */
} Layer;

typedef struct {
    int64_t n_rows;
    const void *X, *Y; /* (n_tasks, n_rows, n_in) and (..., n_out) */
    /* A row's weight in the loss, (n_tasks, n_rows), 0 for padding; or a mask, 0 for
     * padding, and the weight of all real rows together: those of a task in the
     * support, those of all tasks in the query. */
    const void *weight;
    int64_t weight_step;
    const uint8_t *mask;
    double total_weight;
    const uint8_t *present; /* (n_tasks, n_out), or NULL for all */
    const void *offset;     /* (n_tasks, n_rows, ...), or NULL for zero */
    int64_t offset_row;     /* numbers from a row of it to the next one */
    void *out;              /* gradient by X, or NULL; of a prediction, the outputs */
} Rows;

/* The spread of predictions, floor + log(1 + exp(intercept + slope log(1 + n))) for a
 * support of n rows. */
typedef struct {
    const void *intercept, *slope; /* NULL where there is none */
    double floor;
    void *intercept_out, *slope_out; /* gradients */
} Noise;

typedef struct {
    int64_t is_double, n_tasks, n_layers, n_steps, second_order, has_classes;
    double lr;
    const Layer *layers;
    Rows support, query; /* query.X is NULL where there is none */
    Noise noise;
    void *losses;         /* (n_tasks,), of the query */
    uint8_t *diverged;    /* (n_tasks,), as of `is_diverged`, or NULL */
    uint8_t *seen;        /* (n_tasks, n_out), what the support has rows of, or NULL */
    int64_t instructions; /* number of a set of vector instructions */
} Problem;

/* What compiled_process.py passes; all scales are numbers, not logarithms. */
typedef struct {
    int64_t is_double, n_tasks, n_rows, n_support; /* the support rows come first */
    int64_t n_columns, n_linear, n_smooth;
    int64_t is_marginal; /* the loss is that of the rows, all of which are support */
    /* of the real rows, task by task: (n, ...), the latter two learned features */
    const void *X, *linear, *smooth;
    const void *mean, *noise, *Y; /* (n,) */
    const uint8_t *mask;          /* (n_tasks, n_rows), 0 where there is no real row */
    const void *constant, *column, *length, *variance;
    double linear_scale, smooth_scale; /* of the learned features */
    double least_variance;
    void *loss;
    void *linear_out, *smooth_out, *mean_out, *noise_out; /* gradients */
    void *constant_out, *column_out, *length_out;
    void *variance_out; /* by its logarithm */
    int64_t instructions;
    int64_t variance_step; /* 1 where each task has a variance of its own, or 0 */
    void *factor_out, *values_out; /* the solution, (n_tasks, n_rows, ...) */
    /* By what the noise of a task may be multiplied, and the logarithm of how likely
     * that is, up to a constant, (n_levels,); NULL for one. */
    int64_t n_levels;
    const void *level, *prior;
    void *level_out, *prior_out; /* gradients by the logarithms */
} Process;

/* What compiled_adamw.py passes. */
typedef struct {
    int64_t n_numbers;
    const void *gradient;
    void *weight, *moment, *square; /* means of the gradient and of its square */
} Weight;

typedef struct {
    int64_t is_double, n_weights;
    Weight *weights;
    float *counts; /* steps of each weight */
    double lr, weight_decay, beta1, beta2, eps;
    double divisor; /* of the gradients */
    int64_t instructions;
} Update;

/* Memory that is handed out piece by piece; without `base` it is only counted. */
typedef struct {
    char *base;
    size_t used;
} Arena;

static void *take(Arena *arena, size_t n_bytes)
{
    void *piece = arena->base ? arena->base + arena->used : NULL;
    arena->used += (n_bytes + 63) / 64 * 64;
    return piece;
}

static const double HALF_LOG_2PI = 0.91893853320467274178;
static const double INVERSE_FACTORIAL[] = {1.,
                                           1.,
                                           1. / 2,
                                           1. / 6,
                                           1. / 24,
                                           1. / 120,
                                           1. / 720,
                                           1. / 5040,
                                           1. / 40320,
                                           1. / 362880,
                                           1. / 3628800,
                                           1. / 39916800,
                                           1. / 479001600,
                                           1. / 6227020800};

/* Mills' ratio of a normal distribution, the share above x over the density there, is
 * near * series(t) for x >= 0, with near = 1 / (1 + x / 4) and t = 2 near - 1: the
 * Chebyshev series in t, whose error is below 1e-16, as powers. */
static const double MILLS[] = {0.473304765827121315,
                               0.380942727704996272,
                               0.24260238871690442,
                               0.116885240749546836,
                               0.0378479405777618493,
                               0.00472511271637112541,
                               -0.00218057381205000901,
                               -0.00102196393161974888,
                               8.35610912347841286e-5,
                               1.44817401626841599e-4,
                               -1.19545866935908213e-6,
                               -2.20242401505297433e-5,
                               4.47810490534923446e-7,
                               3.71162325260565305e-6,
                               -3.91632535869387794e-7,
                               -6.43566826954138533e-7,
                               1.65897262087387964e-7,
                               1.01663599006172235e-7,
                               -4.93703019818186278e-8,
                               -1.2263433773102638e-8,
                               1.00687416116698098e-8,
                               8.0038843088438992e-10,
                               -1.05820928216700568e-9};

#define PASTE3(a, b, c) a##_##b##_##c
#define EXPAND3(a, b, c) PASTE3(a, b, c)
#define NAME(name) EXPAND3(name, REAL, INSTRUCTIONS)

#define FACTORS NAME(factors)
#define PRODUCT NAME(product)
#define VALUES NAME(values)
#define TRACE NAME(trace)
#define ROWS NAME(rows)
#define RUN NAME(run)
#define VECTOR NAME(vector)
#define FOUR NAME(four)
#define LANES ((ptrdiff_t)(sizeof(VECTOR) / sizeof(REAL)))

#if defined(HAS_VECTORS) && defined(__x86_64__)
#define HAS_AVX
#if defined(__clang__)
#define WITH(instructions)                                                   \
    _Pragma(TEXT(clang attribute push(__attribute__((target(instructions))), \
                                      apply_to = function)))
#define WITHOUT _Pragma("clang attribute pop")
#else
#define WITH(instructions) \
    _Pragma("GCC push_options") _Pragma(TEXT(GCC target(instructions)))
#define WITHOUT _Pragma("GCC pop_options")
#endif
#define TEXT(...) #__VA_ARGS__
#endif

#define INSTRUCTIONS plain
#define VECTOR_BYTES 16
#ifdef __aarch64__
#define MOST_VECTORS 4 /* 32 registers */
#else
#define MOST_VECTORS 2
#endif
#include "_perceptron_types.h"
#undef INSTRUCTIONS
#undef VECTOR_BYTES
#undef MOST_VECTORS

#ifdef HAS_AVX
WITH("avx2,fma")
#define INSTRUCTIONS avx2
#define VECTOR_BYTES 32
#define MOST_VECTORS 2
#include "_perceptron_types.h"
#undef INSTRUCTIONS
#undef VECTOR_BYTES
#undef MOST_VECTORS
WITHOUT

WITH("avx2,fma,avx512f,avx512vl,avx512dq")
#define INSTRUCTIONS avx512
#define VECTOR_BYTES 64
#define MOST_VECTORS 4
#include "_perceptron_types.h"
#undef INSTRUCTIONS
#undef VECTOR_BYTES
#undef MOST_VECTORS
WITHOUT
#endif

typedef int (*Function)(const Problem *);
typedef int (*Activation)(int64_t, int64_t, void *, void *);
typedef int (*Solver)(const Process *);
typedef double (*Step)(const Update *);
typedef struct {
    const char *name;
    Function adapt[2], differentiate[2], predict[2]; /* float, double */
    Activation activate[2];
    Solver likelihood[2], solve_support[2];
    Step squares[2], adamw[2];
} Instructions;

#define PAIR(function, name) {function##_float_##name, function##_double_##name}
#define TABLE(name)                                                        \
    {#name,                                                                \
     PAIR(adapt, name),                                                    \
     PAIR(differentiate, name),                                            \
     PAIR(predict, name),                                                  \
     PAIR(activate_numbers, name),                                         \
     PAIR(likelihood, name),                                               \
     PAIR(solve_support, name),                                            \
     PAIR(squares, name),                                                  \
     PAIR(adamw, name)}
static const Instructions TABLES[] = {
    TABLE(plain),
#ifdef HAS_AVX
    TABLE(avx2),
    TABLE(avx512),
#endif
};

/* The widest set of the machine. */
EXPORT int64_t widest_instructions(void)
{
#ifdef HAS_AVX
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return 0;
    return __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") ? 2
                                                                                    : 1;
#else
    return 0;
#endif
}

EXPORT const char *name_of_instructions(int64_t number) { return TABLES[number].name; }

/* By them a caller knows a library of other sources. */
EXPORT int64_t size_of_problem(void) { return sizeof(Problem); }

EXPORT int64_t size_of_process(void) { return sizeof(Process); }

EXPORT int64_t size_of_update(void) { return sizeof(Update); }

EXPORT int adapt(const Problem *problem)
{
    return TABLES[problem->instructions].adapt[problem->is_double](problem);
}

EXPORT int differentiate(const Problem *problem)
{
    return TABLES[problem->instructions].differentiate[problem->is_double](problem);
}

EXPORT int predict(const Problem *problem)
{
    return TABLES[problem->instructions].predict[problem->is_double](problem);
}

/* z becomes f(z), and slope, unless it is NULL, gets f'(z). */
EXPORT int activate(int64_t instructions, int64_t is_double, int64_t activation,
                    int64_t n, void *z, void *slope)
{
    return TABLES[instructions].activate[is_double](activation, n, z, slope);
}

EXPORT int likelihood(const Process *problem)
{
    return TABLES[problem->instructions].likelihood[problem->is_double](problem);
}

EXPORT int solve_support(const Process *problem)
{
    return TABLES[problem->instructions].solve_support[problem->is_double](problem);
}

EXPORT double squares(const Update *update)
{
    return TABLES[update->instructions].squares[update->is_double](update);
}

EXPORT double adamw(const Update *update)
{
    return TABLES[update->instructions].adamw[update->is_double](update);
}

/* Tools that build extensions of Python ask for it; nothing imports this one. */
EXPORT void *PyInit__perceptron(void) { return NULL; }
