/* Products of small matrices, for one type of numbers and one set of instructions: a
 * template, see _perceptron.c.
 *
 * All matrices lie row by row. The rows of what is written, and of the right factors,
 * are padded to whole vectors: what is in the padding never reaches a number that
 * counts, since left factors are read number by number.
 */

#ifdef HAS_VECTORS
typedef REAL NAME(vector)
    __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(REAL)), may_alias));
#else
typedef REAL NAME(vector);
#endif

/* A factor on the left, whose element (i, k) is at i * row + k * column, so that it may
 * be transposed, and one on the right. */
typedef struct {
    const REAL *left;
    ptrdiff_t row, column;
    const REAL *right;
    ptrdiff_t right_row;
    ptrdiff_t n_inner;
} NAME(factors);

/* out = base + alpha * (first product + second product) */
typedef struct {
    FACTORS first, second; /* n_inner = 0 where there is none */
    const REAL *base;            /* NULL for zero */
    ptrdiff_t base_row;
    REAL alpha;
    REAL *out;
    ptrdiff_t out_row;
} NAME(product);

ALWAYS_INLINE void NAME(add_block)(
    VECTOR (*sum)[MOST_VECTORS], const int n_rows, const int n_vectors,
    const FACTORS *f, ptrdiff_t i, ptrdiff_t j)
{
    const REAL *left = f->left + i * f->row;
    const REAL *right = f->right + j;
    for (ptrdiff_t k = 0; k < f->n_inner; k++) {
        VECTOR b[MOST_VECTORS];
        UNROLL for (int v = 0; v < n_vectors; v++)
            b[v] = *(const VECTOR *)(right + v * LANES);
        UNROLL for (int r = 0; r < n_rows; r++) {
            REAL a = left[r * f->row];
            UNROLL for (int v = 0; v < n_vectors; v++) sum[r][v] += a * b[v];
        }
        left += f->column;
        right += f->right_row;
    }
}

/* One block of the result, small enough that its sums stay in registers. */
ALWAYS_INLINE void NAME(block)(
    const int n_rows, const int n_vectors, const PRODUCT *p, ptrdiff_t i,
    ptrdiff_t j)
{
    VECTOR sum[MOST_ROWS][MOST_VECTORS];
    UNROLL for (int r = 0; r < n_rows; r++)
        UNROLL for (int v = 0; v < n_vectors; v++) sum[r][v] = (VECTOR){0};
    NAME(add_block)(sum, n_rows, n_vectors, &p->first, i, j);
    NAME(add_block)(sum, n_rows, n_vectors, &p->second, i, j);
    UNROLL for (int r = 0; r < n_rows; r++)
        UNROLL for (int v = 0; v < n_vectors; v++) {
            ptrdiff_t column = j + v * LANES;
            VECTOR total = p->alpha * sum[r][v];
            if (p->base)
                total += *(const VECTOR *)(p->base + (i + r) * p->base_row + column);
            *(VECTOR *)(p->out + (i + r) * p->out_row + column) = total;
        }
}

typedef void (*NAME(block_function))(const PRODUCT *, ptrdiff_t, ptrdiff_t);

#define BLOCK(r, v)                                                                   \
    static void NAME(block_##r##_##v)(                                                \
        const PRODUCT *p, ptrdiff_t i, ptrdiff_t j)                             \
    {                                                                                 \
        NAME(block)(r, v, p, i, j);                                                   \
    }
#define BLOCKS(v) BLOCK(1, v) BLOCK(2, v) BLOCK(3, v) BLOCK(4, v) BLOCK(5, v) BLOCK(6, v)
#define BLOCK_NAMES(v)                                                                \
    {NAME(block_1_##v), NAME(block_2_##v), NAME(block_3_##v),                         \
     NAME(block_4_##v), NAME(block_5_##v), NAME(block_6_##v)}

BLOCKS(1)
BLOCKS(2)
#if MOST_VECTORS == 4
BLOCKS(3)
BLOCKS(4)
#endif

static const NAME(block_function) NAME(blocks)[MOST_VECTORS][MOST_ROWS] = {
    BLOCK_NAMES(1), BLOCK_NAMES(2),
#if MOST_VECTORS == 4
    BLOCK_NAMES(3), BLOCK_NAMES(4),
#endif
};

/* Size of the next block: at most `most`, and all as equal as can be. */
ALWAYS_INLINE ptrdiff_t NAME(share)(ptrdiff_t left, ptrdiff_t most)
{
    ptrdiff_t n_blocks = (left + most - 1) / most;
    return (left + n_blocks - 1) / n_blocks;
}

static void NAME(multiply)(ptrdiff_t n_rows, ptrdiff_t n_columns, const PRODUCT *p)
{
    ptrdiff_t n_vectors, n;
    for (ptrdiff_t j = 0; j < n_columns; j += n_vectors * LANES) {
        n_vectors = NAME(share)((n_columns - j + LANES - 1) / LANES, MOST_VECTORS);
        for (ptrdiff_t i = 0; i < n_rows; i += n) {
            n = NAME(share)(n_rows - i, MOST_ROWS);
            NAME(blocks)[n_vectors - 1][n - 1](p, i, j);
        }
    }
}

/* Write a matrix the other way round. */
static void NAME(transpose)(
    ptrdiff_t n_rows, ptrdiff_t n_columns, const REAL *from, ptrdiff_t from_row,
    REAL *to, ptrdiff_t to_row)
{
    enum { TILE = 8 };
    for (ptrdiff_t i = 0; i < n_rows; i += TILE)
        for (ptrdiff_t j = 0; j < n_columns; j += TILE) {
            const REAL *source = from + i * from_row + j;
            REAL *target = to + j * to_row + i;
            ptrdiff_t height = n_rows - i, width = n_columns - j;
            if (height >= TILE && width >= TILE) {
                for (int c = 0; c < TILE; c++)
                    for (int r = 0; r < TILE; r++)
                        target[c * to_row + r] = source[r * from_row + c];
                continue;
            }
            for (ptrdiff_t r = 0; r < height && r < TILE; r++)
                for (ptrdiff_t c = 0; c < width && c < TILE; c++)
                    target[c * to_row + r] = source[r * from_row + c];
        }
}
