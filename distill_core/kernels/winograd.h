/* 3x3 convolutions of stride 1 and padding 1, channels last, by Winograd's F(4x4, 3x3), for one
 * number type: a quarter of the multiplications of a direct convolution (Lavin and Gray 2016).
 *
 * A tile of 4x4 outputs z depends on 6x6 inputs d. With the matrices below,
 *
 *   z = A' [ (G g G') . (B' d B) ] A        . by element, summed over input channels
 *
 * which is, for each of the 36 POINTS, a product of matrices: tiles x inputs by inputs x outputs. The
 * gradient in the inputs is a convolution with the turned, transposed weight; that in the weight is
 * G' [ sum over tiles of (B' d B) (A dz A') ] G.
 *
 * A thread takes as many tiles at a time as keep their transforms in its cache. Sums in the space of
 * transforms are free: two convolutions that are added are transformed back once.
 */

#define vec NAME(vec)
#define LANES ((long)(VECTOR_BYTES / sizeof(REAL)))
#define AT(p) (*(vec *)(p))
#define POINTS 36
#define ROWS 12              /* rows of a micro-tile */
#define COLUMNS (2 * LANES)  /* its columns; 24 accumulators in all */
#define CACHE_BYTES 900000

static long NAME(up)(long size, long unit) { return (size + unit - 1) / unit * unit; }

static inline void NAME(input_line)(const vec *d, long step, vec *o)
{
    vec a = d[4 * step] - 4 * d[2 * step], b = d[3 * step] - 4 * d[step];
    vec c = d[4 * step] - d[2 * step], e = 2 * (d[3 * step] - d[step]);
    o[0] = 4 * d[0] - 5 * d[2 * step] + d[4 * step];
    o[1] = a + b, o[2] = a - b, o[3] = c + e, o[4] = c - e;
    o[5] = 4 * d[step] - 5 * d[3 * step] + d[5 * step];
}

static inline void NAME(output_line)(const vec *m, long step, vec *o)
{
    vec s = m[step] + m[2 * step], d = m[step] - m[2 * step];
    vec e = m[3 * step] + m[4 * step], f = m[3 * step] - m[4 * step];
    o[0] = m[0] + s + e, o[1] = d + 2 * f, o[2] = s + 4 * e, o[3] = d + 8 * f + m[5 * step];
}

/* The transpose of output_line. */
static inline void NAME(spread_line)(const vec *g, long step, vec *o)
{
    vec even = g[0] + g[2 * step], odd = g[step] + g[3 * step];
    vec even4 = g[0] + 4 * g[2 * step], odd2 = 2 * g[step] + 8 * g[3 * step];
    o[0] = g[0], o[1] = even + odd, o[2] = even - odd, o[3] = even4 + odd2, o[4] = even4 - odd2;
    o[5] = g[3 * step];
}

static inline void NAME(weight_line)(const vec *g, long step, vec *o)
{
    vec even = g[0] + g[2 * step], odd = g[step];
    vec even4 = (g[0] + 4 * g[2 * step]) * ((REAL)1 / 24), odd2 = odd * ((REAL)1 / 12);
    o[0] = g[0] * (REAL)0.25, o[1] = (even + odd) * ((REAL)-1 / 6);
    o[2] = (even - odd) * ((REAL)-1 / 6), o[3] = even4 + odd2, o[4] = even4 - odd2;
    o[5] = g[2 * step];
}

/* The transpose of weight_line. */
static inline void NAME(gather_line)(const vec *m, long step, vec *o)
{
    vec s = (m[step] + m[2 * step]) * ((REAL)-1 / 6), d = (m[step] - m[2 * step]) * ((REAL)-1 / 6);
    vec e = m[3 * step] + m[4 * step], f = m[3 * step] - m[4 * step];
    o[0] = m[0] * (REAL)0.25 + s + e * ((REAL)1 / 24), o[1] = d + f * ((REAL)1 / 12);
    o[2] = s + e * ((REAL)1 / 6) + m[5 * step];
}

/* Up to a vector of numbers; zeros beyond `count`. */
static inline vec NAME(take)(const REAL *p, long count)
{
    if (count >= LANES) return AT(p);
    vec v = {0};
    for (long i = 0; i < count; i++) v[i] = p[i];
    return v;
}

static inline void NAME(give)(REAL *p, vec v, long count)
{
    if (count >= LANES)
        AT(p) = v;
    else
        for (long i = 0; i < count; i++) p[i] = v[i];
}

typedef struct {
    int h, w;
    long down, across, tiles; /* of one image */
} NAME(grid);

static NAME(grid) NAME(grid_of)(int h, int w)
{
    long down = (h + 3) / 4, across = (w + 3) / 4;
    return (NAME(grid)){h, w, down, across, down * across};
}

/* Tiles [first, first + rows) of x (N, h, w, C) to out [POINTS][rows][wide]: as inputs (6x6 around
 * a tile, zeros outside), or as gradients of outputs (its 4x4). */
static void NAME(transform)(const NAME(grid) * g, const REAL *x, int C, long first, long rows,
                            long wide, int inputs, REAL *out)
{
    int size = inputs ? 6 : 4, before = inputs ? 1 : 0;
    for (long row = 0; row < rows; row++) {
        long tile = first + row, n = tile / g->tiles, at = tile % g->tiles;
        long y0 = at / g->across * 4 - before, x0 = at % g->across * 4 - before;
        for (long c = 0; c < C; c += LANES) {
            vec d[36], half[36], line[6];
            for (long i = 0; i < size; i++)
                for (long j = 0; j < size; j++) {
                    long y = y0 + i, z = x0 + j;
                    int inside = y >= 0 && y < g->h && z >= 0 && z < g->w;
                    d[i * 6 + j] = inside
                        ? NAME(take)(x + ((n * g->h + y) * g->w + z) * C + c, C - c) : (vec){0};
                }
            for (long j = 0; j < size; j++) {
                if (inputs) NAME(input_line)(d + j, 6, line);
                else NAME(spread_line)(d + j, 6, line);
                for (long i = 0; i < 6; i++) half[i * 6 + j] = line[i];
            }
            for (long i = 0; i < 6; i++) {
                if (inputs) NAME(input_line)(half + i * 6, 1, line);
                else NAME(spread_line)(half + i * 6, 1, line);
                for (long j = 0; j < 6; j++)
                    AT(out + ((i * 6 + j) * rows + row) * wide + c) = line[j];
            }
        }
    }
}

/* Columns [c0, c0 + COLUMNS) of the products m [POINTS][rows][COLUMNS] back to z (N, h, w, C). */
static void NAME(transform_back)(const NAME(grid) * g, const REAL *m, long first, long rows, int C,
                                 long c0, REAL *z)
{
    for (long row = 0; row < rows; row++) {
        long tile = first + row, n = tile / g->tiles, at = tile % g->tiles;
        long y0 = at / g->across * 4, x0 = at % g->across * 4;
        for (long c = 0; c < COLUMNS && c0 + c < C; c += LANES) {
            vec d[36], half[24], line[4];
            for (long i = 0; i < POINTS; i++) d[i] = AT(m + (i * rows + row) * COLUMNS + c);
            for (long j = 0; j < 6; j++) {
                NAME(output_line)(d + j, 6, line);
                for (long i = 0; i < 4; i++) half[i * 6 + j] = line[i];
            }
            for (long i = 0; i < 4 && y0 + i < g->h; i++) {
                NAME(output_line)(half + i * 6, 1, line);
                for (long j = 0; j < 4 && x0 + j < g->w; j++)
                    NAME(give)(z + ((n * g->h + y0 + i) * g->w + x0 + j) * C + c0 + c, line[j],
                               C - c0 - c);
            }
        }
    }
}

#define ALL_ROWS(F) F(0) F(1) F(2) F(3) F(4) F(5) F(6) F(7) F(8) F(9) F(10) F(11)

/* c (ROWS x COLUMNS, of which `rows` rows count) += a (rows x depth) b (depth x COLUMNS); `fresh`:
 * c is not read. Element (r, k) of a is a[r * by_row + k * by_depth]. */
static inline void NAME(micro)(long rows, long depth, const REAL *a, long by_row, long by_depth,
                               const REAL *b, long b_step, REAL *c, long c_step, int fresh)
{
#define POINTER(r) const REAL *a##r = a + (r < rows ? r : rows - 1) * by_row;
    ALL_ROWS(POINTER)
#define CLEAR(r) vec u##r = {0}, v##r = {0};
    ALL_ROWS(CLEAR)
    for (long k = 0; k < depth; k++) {
        vec b0 = AT(b), b1 = AT(b + LANES);
#define MULTIPLY(r) u##r += *a##r * b0, v##r += *a##r * b1, a##r += by_depth;
        ALL_ROWS(MULTIPLY)
        b += b_step;
    }
#define STORE_ROW(r)                                             \
    if (r < rows) {                                              \
        REAL *to = c + r * c_step;                               \
        if (!fresh) u##r += AT(to), v##r += AT(to + LANES);      \
        AT(to) = u##r, AT(to + LANES) = v##r;                    \
    }
    ALL_ROWS(STORE_ROW)
}

/* Weights (Cout, Cin, 3, 3) as [panel of COLUMNS outputs][POINTS][Cin][COLUMNS]. `turned`: of the
 * convolution that sends gradients back, whose inputs are this one's outputs. */
static REAL *NAME(transform_weight)(int threads, const REAL *weight, int Cout, int Cin, int turned)
{
    long outputs = turned ? Cin : Cout, inputs = turned ? Cout : Cin;
    long panels = NAME(up)(outputs, COLUMNS) / COLUMNS;
    REAL *packed = NAME(numbers)(panels * POINTS * inputs * COLUMNS);
    if (!packed) return NULL;
#pragma omp parallel for num_threads(threads) schedule(static) collapse(2)
    for (long panel = 0; panel < panels; panel++)
        for (long i = 0; i < inputs; i++)
            for (long c = 0; c < COLUMNS; c += LANES) {
                vec g[9] = {{0}}, half[18], line[6];
                for (long lane = 0; lane < LANES; lane++) {
                    long o = panel * COLUMNS + c + lane;
                    if (o >= outputs) break;
                    const REAL *from = weight + (turned ? i * Cin + o : o * Cin + i) * 9;
                    for (long tap = 0; tap < 9; tap++) g[tap][lane] = from[turned ? 8 - tap : tap];
                }
                for (long j = 0; j < 3; j++) {
                    NAME(weight_line)(g + j, 3, line);
                    for (long k = 0; k < 6; k++) half[k * 3 + j] = line[k];
                }
                for (long k = 0; k < 6; k++) {
                    NAME(weight_line)(half + k * 3, 1, line);
                    for (long j = 0; j < 6; j++)
                        AT(packed + ((panel * POINTS + k * 6 + j) * inputs + i) * COLUMNS + c) =
                            line[j];
                }
            }
    return packed;
}

/* m [POINTS][rows][COLUMNS] (+)= v [POINTS][rows][wide] times one panel of weights. */
static void NAME(multiply)(const REAL *v, const REAL *panel, long rows, long wide, long inputs,
                           REAL *m, int fresh)
{
    for (long point = 0; point < POINTS; point++)
        for (long r = 0; r < rows; r += ROWS)
            NAME(micro)(rows - r, inputs, v + (point * rows + r) * wide, wide, 1,
                        panel + point * inputs * COLUMNS, COLUMNS,
                        m + (point * rows + r) * COLUMNS, COLUMNS, fresh);
}

/* How many of `tiles` a thread takes at a time, when a tile needs so many numbers. */
static long NAME(portion)(long tiles, int threads, long numbers)
{
    long rows = CACHE_BYTES / (long)sizeof(REAL) / numbers / ROWS * ROWS;
    long share = NAME(up)((tiles + threads - 1) / threads, ROWS);
    if (rows > share) rows = share;
    return rows < ROWS ? ROWS : rows;
}

/* y1 = W x1, and with x2 also y2 = W x2 + V x1, for x (N, h, w, Cin) and y (N, h, w, Cout); `turned`:
 * with the transposed convolutions, x (N, h, w, Cout) and y (N, h, w, Cin). y1 may be NULL. */
int NAME(winograd)(int threads, int N, int h, int w, int Cin, int Cout, int turned, const REAL *W,
                   const REAL *V, const REAL *x1, const REAL *x2, REAL *y1, REAL *y2)
{
    NAME(grid) g = NAME(grid_of)(h, w);
    int inputs = turned ? Cout : Cin, outputs = turned ? Cin : Cout, failed = 0;
    long wide = NAME(up)(inputs, LANES), tiles = N * g.tiles;
    long rows = NAME(portion)(tiles, threads, POINTS * ((x2 ? 2 : 1) * wide + COLUMNS));
    REAL *packed = NAME(transform_weight)(threads, W, Cout, Cin, turned);
    REAL *vpacked = x2 ? NAME(transform_weight)(threads, V, Cout, Cin, turned) : NULL;
    if (!packed || (x2 && !vpacked)) failed = 1;
#pragma omp parallel num_threads(threads) if (!failed)
    {
        REAL *v1 = NAME(numbers)(POINTS * rows * wide);
        REAL *v2 = x2 ? NAME(numbers)(POINTS * rows * wide) : NULL;
        REAL *m = NAME(numbers)(POINTS * rows * COLUMNS);
        int ready = !failed && v1 && m && (v2 || !x2);
        if (!ready)
#pragma omp atomic write
            failed = 1;
#pragma omp for schedule(static)
        for (long first = 0; first < tiles; first += rows) {
            if (!ready) continue;
            long count = tiles - first < rows ? tiles - first : rows;
            NAME(transform)(&g, x1, inputs, first, count, wide, 1, v1);
            if (x2) NAME(transform)(&g, x2, inputs, first, count, wide, 1, v2);
            for (long c0 = 0; c0 < outputs; c0 += COLUMNS) {
                long panel = c0 * POINTS * inputs;
                if (y1) {
                    NAME(multiply)(v1, packed + panel, count, wide, inputs, m, 1);
                    NAME(transform_back)(&g, m, first, count, outputs, c0, y1);
                }
                if (x2) {
                    NAME(multiply)(v2, packed + panel, count, wide, inputs, m, 1);
                    NAME(multiply)(v1, vpacked + panel, count, wide, inputs, m, 0);
                    NAME(transform_back)(&g, m, first, count, outputs, c0, y2);
                }
            }
        }
        free(v1), free(v2), free(m);
    }
    free(packed), free(vpacked);
    return failed;
}

/* dweight (Cout, Cin, 3, 3) of the gradients g1 (N, h, w, Cout) of the outputs for the inputs x1
 * (N, h, w, Cin), plus that of g2 for x2 where these are not NULL. */
int NAME(winograd_weight)(int threads, int N, int h, int w, int Cin, int Cout, const REAL *x1,
                          const REAL *g1, const REAL *x2, const REAL *g2, REAL *dweight)
{
    NAME(grid) g = NAME(grid_of)(h, w);
    int failed = 0;
    long wide = NAME(up)(Cin, LANES), out = NAME(up)(Cout, COLUMNS), tiles = N * g.tiles;
    long rows = NAME(portion)(tiles, threads, POINTS * (wide + out));
    REAL *sums[MAX_THREADS] = {0};
#pragma omp parallel num_threads(threads)
    {
        REAL *v = NAME(numbers)(POINTS * rows * wide), *m = NAME(numbers)(POINTS * rows * out);
        REAL *sum = NAME(numbers)(POINTS * Cin * out);
        int ready = v && m && sum;
        if (!ready)
#pragma omp atomic write
            failed = 1;
#pragma omp for schedule(static)
        for (long first = 0; first < tiles; first += rows) {
            if (!ready) continue;
            long count = tiles - first < rows ? tiles - first : rows;
            for (int pair = 0; pair < (x2 ? 2 : 1); pair++) {
                NAME(transform)(&g, pair ? x2 : x1, Cin, first, count, wide, 1, v);
                NAME(transform)(&g, pair ? g2 : g1, Cout, first, count, out, 0, m);
                for (long point = 0; point < POINTS; point++)
                    for (long c = 0; c < out; c += COLUMNS)
                        for (long r = 0; r < Cin; r += ROWS)
                            NAME(micro)(Cin - r, count, v + point * count * wide + r, 1, wide,
                                        m + point * count * out + c, out,
                                        sum + (point * Cin + r) * out + c, out, 0);
            }
        }
        sums[THREAD_NUMBER] = sum;
        free(v), free(m);
    }
    if (!failed) {
#pragma omp parallel for num_threads(threads) schedule(static)
        for (long i = 0; i < Cin; i++)
            for (long c = 0; c < Cout; c += LANES) {
                vec d[36] = {{0}}, half[18], line[3];
                for (int t = 0; t < threads; t++)
                    for (long point = 0; sums[t] && point < POINTS; point++)
                        d[point] += AT(sums[t] + (point * Cin + i) * out + c);
                for (long j = 0; j < 6; j++) {
                    NAME(gather_line)(d + j, 6, line);
                    for (long k = 0; k < 3; k++) half[k * 6 + j] = line[k];
                }
                for (long k = 0; k < 3; k++) {
                    NAME(gather_line)(half + k * 6, 1, line);
                    for (long j = 0; j < 3; j++)
                        for (long lane = 0; lane < LANES && c + lane < Cout; lane++)
                            dweight[(((c + lane) * Cin + i) * 3 + k) * 3 + j] = line[j][lane];
                }
            }
    }
    for (int t = 0; t < threads; t++) free(sums[t]);
    return failed;
}

#undef vec
#undef LANES
#undef AT
#undef POINTS
#undef ROWS
#undef COLUMNS
#undef CACHE_BYTES
#undef ALL_ROWS
#undef POINTER
#undef CLEAR
#undef MULTIPLY
#undef STORE_ROW
