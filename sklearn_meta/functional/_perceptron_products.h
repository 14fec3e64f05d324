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
typedef REAL NAME(four)
    __attribute__((vector_size(4 * sizeof(REAL)), aligned(sizeof(REAL)), may_alias));
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
    const REAL *base;      /* NULL for zero */
    ptrdiff_t base_row;
    REAL alpha;
    REAL *out;
    ptrdiff_t out_row;
} NAME(product);

ALWAYS_INLINE void NAME(add_block)(VECTOR (*sum)[MOST_VECTORS], const int n_rows,
                                   const int n_vectors, const FACTORS *f, ptrdiff_t i,
                                   ptrdiff_t j)
{
    const REAL *left = f->left + i * f->row;
    const REAL *right = f->right + j;
    for (ptrdiff_t k = 0; k < f->n_inner; k++) {
        VECTOR b[MOST_VECTORS];
        UNROLL
        for (int v = 0; v < n_vectors; v++) b[v] = *(const VECTOR *)(right + v * LANES);
        UNROLL
        for (int r = 0; r < n_rows; r++) {
            REAL a = left[r * f->row];
            UNROLL
            for (int v = 0; v < n_vectors; v++) sum[r][v] += a * b[v];
        }
        left += f->column;
        right += f->right_row;
    }
}

/* One block of the result, small enough that its sums stay in registers. */
ALWAYS_INLINE void NAME(block)(const int n_rows, const int n_vectors, const PRODUCT *p,
                               ptrdiff_t i, ptrdiff_t j)
{
    VECTOR sum[MOST_ROWS][MOST_VECTORS];
    UNROLL
    for (int r = 0; r < n_rows; r++) {
        UNROLL
        for (int v = 0; v < n_vectors; v++) sum[r][v] = (VECTOR){0};
    }
    NAME(add_block)(sum, n_rows, n_vectors, &p->first, i, j);
    NAME(add_block)(sum, n_rows, n_vectors, &p->second, i, j);
    UNROLL
    for (int r = 0; r < n_rows; r++) {
        UNROLL
        for (int v = 0; v < n_vectors; v++) {
            ptrdiff_t column = j + v * LANES;
            VECTOR total = p->alpha * sum[r][v];
            if (p->base)
                total += *(const VECTOR *)(p->base + (i + r) * p->base_row + column);
            *(VECTOR *)(p->out + (i + r) * p->out_row + column) = total;
        }
    }
}

typedef void (*NAME(block_function))(const PRODUCT *, ptrdiff_t, ptrdiff_t);

#define BLOCK(r, v)                                                               \
    static void NAME(block_##r##_##v)(const PRODUCT *p, ptrdiff_t i, ptrdiff_t j) \
    {                                                                             \
        NAME(block)(r, v, p, i, j);                                               \
    }
#define BLOCKS(v) \
    BLOCK(1, v) BLOCK(2, v) BLOCK(3, v) BLOCK(4, v) BLOCK(5, v) BLOCK(6, v)
#define BLOCK_NAMES(v)                                        \
    {NAME(block_1_##v), NAME(block_2_##v), NAME(block_3_##v), \
     NAME(block_4_##v), NAME(block_5_##v), NAME(block_6_##v)}

BLOCKS(1)
BLOCKS(2)
#if MOST_VECTORS == 4
BLOCKS(3)
BLOCKS(4)
#endif

static const NAME(block_function) NAME(blocks)[MOST_VECTORS][MOST_ROWS] = {
    BLOCK_NAMES(1),
    BLOCK_NAMES(2),
#if MOST_VECTORS == 4
    BLOCK_NAMES(3),
    BLOCK_NAMES(4),
#endif
};

static void NAME(multiply)(ptrdiff_t n_rows, ptrdiff_t n_columns, const PRODUCT *p)
{
    ptrdiff_t n_vectors = (n_columns + LANES - 1) / LANES;
    /* blocks as equal as can be: small ones do not hide how long a product takes */
    ptrdiff_t n_across = (n_vectors + MOST_VECTORS - 1) / MOST_VECTORS;
    ptrdiff_t n_down = (n_rows + MOST_ROWS - 1) / MOST_ROWS;
    if (!n_across || !n_down) return;
    ptrdiff_t across = n_vectors / n_across, wider = n_vectors % n_across;
    ptrdiff_t down = n_rows / n_down, higher = n_rows % n_down;
    for (ptrdiff_t b = 0, j = 0; b < n_across; b++) {
        ptrdiff_t width = across + (b < wider);
        for (ptrdiff_t a = 0, i = 0; a < n_down; a++) {
            ptrdiff_t height = down + (a < higher);
            NAME(blocks)[width - 1][height - 1](p, i, j);
            i += height;
        }
        j += width * LANES;
    }
}

ALWAYS_INLINE void NAME(transpose_tile)(const REAL *from, ptrdiff_t from_row, REAL *to,
                                        ptrdiff_t to_row)
{
#ifdef HAS_SHUFFLES
    if (sizeof(FOUR) <= VECTOR_BYTES) { /* wider ones go number by number, and slowly */
        FOUR row[TILE], half[TILE];
        UNROLL
        for (int r = 0; r < TILE; r++) row[r] = *(const FOUR *)(from + r * from_row);
        half[0] = __builtin_shufflevector(row[0], row[1], 0, 4, 2, 6);
        half[1] = __builtin_shufflevector(row[0], row[1], 1, 5, 3, 7);
        half[2] = __builtin_shufflevector(row[2], row[3], 0, 4, 2, 6);
        half[3] = __builtin_shufflevector(row[2], row[3], 1, 5, 3, 7);
        row[0] = __builtin_shufflevector(half[0], half[2], 0, 1, 4, 5);
        row[1] = __builtin_shufflevector(half[1], half[3], 0, 1, 4, 5);
        row[2] = __builtin_shufflevector(half[0], half[2], 2, 3, 6, 7);
        row[3] = __builtin_shufflevector(half[1], half[3], 2, 3, 6, 7);
        UNROLL
        for (int r = 0; r < TILE; r++) *(FOUR *)(to + r * to_row) = row[r];
        return;
    }
#endif
    for (int c = 0; c < TILE; c++)
        for (int r = 0; r < TILE; r++) to[c * to_row + r] = from[r * from_row + c];
}

/* Write a matrix the other way round, in the order of what is written. */
static void NAME(transpose)(ptrdiff_t n_rows, ptrdiff_t n_columns, const REAL *from,
                            ptrdiff_t from_row, REAL *to, ptrdiff_t to_row)
{
    ptrdiff_t even_rows = n_rows / TILE * TILE, even_columns = n_columns / TILE * TILE;
    for (ptrdiff_t j = 0; j < even_columns; j += TILE)
        for (ptrdiff_t i = 0; i < even_rows; i += TILE)
            NAME(transpose_tile)(from + i * from_row + j, from_row, to + j * to_row + i,
                                 to_row);
    for (ptrdiff_t i = 0; i < n_rows; i++)
        for (ptrdiff_t j = i < even_rows ? even_columns : 0; j < n_columns; j++)
            to[j * to_row + i] = from[i * from_row + j];
}
