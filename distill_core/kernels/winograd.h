/* Convolutions 3x3 with stride 1 and padding 1 for one number type, by Winograd's F(4x4, 3x3).
 *
 * Activations are (N, h, w, C), channels last; weights (Cout, Cin, 3, 3). A tile is 4x4 pixels of
 * the outcome z = conv(a, W) and the 6x6 pixels d of the input under it; beyond the plane pixels
 * are zero. The product of polynomials that a convolution is, evaluated at the points
 * 0, +-r, +-s and infinity in both directions, gives for a tile and its kernel g, ' transposing,
 *
 *   z = A' [U V] A,   U = G g G',   V = B' d B      (U V: 36 products, summed over Cin)
 *
 * with, for m = 1, 2 (the signs +-) and 3, 4 for s in place of r, and R = 2 r^2 (r^2 - s^2),
 *
 *   B' rows   r^2 s^2 d0 - (r^2 + s^2) d2 + d4,   d4 - s^2 d2 +- r (d3 - s^2 d1),   ...,
 *             r^2 s^2 d1 - (r^2 + s^2) d3 + d5
 *   G rows    g0 / (r^2 s^2),   (g0 +- r g1 + r^2 g2) / R,   ...,   g2
 *   A' row k  sum over points of point^k, infinity only for k = 3
 *
 * which takes a quarter of the multiplications. r = sqrt(1/2), s = sqrt(2) give a fifth of the
 * usual 1, 2's largest error. All is linear, so
 *
 *   input gradient    is the convolution of the gradient p with the turned, transposed weight
 *   weight gradient   is G' [sum over tiles of V Y'] G, Y = A p A' for a tile's 4x4 pixels of p
 *   tangents          are sums in the transformed domain: one product with doubled inner dimension
 *
 * A thread takes a few dozen tiles at a time (a chunk), so that V and the products of a panel of
 * output channels stay in its L2 cache while the transformed weights stream by.
 */

/* Vectors are the processor's own: the compiler keeps wider ones in memory. A panel of columns has
 * WIDE of them: with HEIGHT rows, what the registers hold. */
#if defined(__AVX512F__)
#define WIDTH 64
#define WIDE 4
#elif defined(__AVX__)
#define WIDTH 32
#define WIDE 2
#elif defined(__aarch64__)
#define WIDTH 16
#define WIDE 4
#else
#define WIDTH 16
#define WIDE 2
#endif
typedef REAL NAME(wvec) __attribute__((vector_size(WIDTH), aligned(sizeof(REAL)), may_alias));
#define vec NAME(wvec)
#define LANES ((long)(WIDTH / sizeof(REAL)))
#define AT(p) (*(vec *)(p))
#define ALWAYS inline __attribute__((always_inline))
#define NEVER __attribute__((noinline))
#define POINTS 36
#define CHUNK 24 /* tiles at a time, a multiple of HEIGHT; 12 to 48 are as fast */
#define PANEL (WIDE * LANES) /* columns of a panel; the last panel may have fewer vectors */

#define R1 ((REAL)0.70710678118654752440)
#define R2 ((REAL)0.5)
#define R3 ((REAL)0.35355339059327376220)
#define S1 ((REAL)1.41421356237309504880)
#define S2 ((REAL)2)
#define S3 ((REAL)2.82842712474619009760)
#define RS2 ((REAL)1)    /* r^2 s^2 */
#define RPS2 ((REAL)2.5) /* r^2 + s^2 */
#define OVER_R ((REAL)(-2.0 / 3))
#define OVER_S ((REAL)(1.0 / 6))

typedef struct {
    int N, h, w;
    long down, across, tiles; /* tiles per column and row of an image, and in all */
} NAME(tiling);
#define tiling NAME(tiling)

static tiling NAME(tile)(int N, int h, int w)
{
    tiling t = {.N = N, .h = h, .w = w, .down = (h + 3) / 4, .across = (w + 3) / 4};
    t.tiles = N * t.down * t.across;
    return t;
}

static long NAME(vectors)(long count) { return (count + LANES - 1) / LANES; }

static long NAME(wide)(long columns, long panel) /* vectors of the panel that starts at `panel` */
{
    return columns - panel < WIDE ? columns - panel : WIDE;
}

static REAL *NAME(room)(long count) /* not set; a vector more than asked for */
{
    long bytes = (count * (long)sizeof(REAL) + 2 * VECTOR_BYTES - 1) / VECTOR_BYTES * VECTOR_BYTES;
    return aligned_alloc(VECTOR_BYTES, bytes);
}

static ALWAYS vec NAME(take)(const REAL *p, long count)
{
    if (count >= LANES) return AT(p);
    vec v = {0};
    memcpy(&v, p, count * sizeof(REAL));
    return v;
}

static ALWAYS void NAME(give)(REAL *p, vec v, long count)
{
    if (count >= LANES)
        AT(p) = v;
    else
        memcpy(p, &v, count * sizeof(REAL));
}

/* Addresses of side x side pixels of a tile, from `margin` pixels before it on; `beyond` for those
 * outside of the plane. */
static NEVER void NAME(pixels)(const tiling *t, const REAL *x, int C, long tile, int side,
                               int margin, const REAL *beyond, const REAL **to)
{
    long plane = t->down * t->across, n = tile / plane, at = tile % plane;
    long top = at / t->across * 4 - margin, left = at % t->across * 4 - margin;
    for (long y = top; y < top + side; y++)
        for (long x_ = left; x_ < left + side; x_++) {
            int inside = y >= 0 && y < t->h && x_ >= 0 && x_ < t->w;
            *to++ = inside ? x + ((n * t->h + y) * t->w + x_) * C : beyond;
        }
}

/* What the next chunk reads, and where this one writes, is fetched into the cache while products
 * keep the arithmetic busy: a few lines before each block of products. */
typedef struct {
    const char *at, *end;
    long each;
} NAME(ahead);

/* The pixels of tiles from..to of x, whole rows of them, over `blocks` blocks. */
static NAME(ahead) NAME(plan_ahead)(const tiling *t, const REAL *x, int C, long from, long to,
                                    long blocks)
{
    NAME(ahead) f = {0};
    if (from >= to) return f;
    long top = from / t->across, bottom = (to - 1) / t->across; /* rows of tiles, then of pixels */
    top = top / t->down * t->h + top % t->down * 4;
    bottom = bottom / t->down * t->h + bottom % t->down * 4 + 4;
    if (bottom > (long)t->N * t->h) bottom = (long)t->N * t->h;
    f.at = (const char *)(x + top * t->w * C);
    f.end = (const char *)(x + bottom * t->w * C);
    f.each = ((f.end - f.at) / 64 + blocks - 1) / blocks;
    return f;
}

static ALWAYS void NAME(fetch)(NAME(ahead) *f, int written)
{
    for (long i = 0; i < f->each && f->at < f->end; i++, f->at += 64)
        if (written)
            __builtin_prefetch(f->at, 1, 2);
        else
            __builtin_prefetch(f->at, 0, 2);
}

/* One dimension of the transforms: points 0 and infinity, and the two of a sign, of 6 numbers for
 * B', of 4 for A, of 3 for G. */
#define B_ENDS(d, o, i)                          \
    vec o = RS2 * d(0) - RPS2 * d(2) + d(4), i = RS2 * d(1) - RPS2 * d(3) + d(5);
#define B_SIGNS(d, p, m, x1, other2)                                             \
    vec p##e = d(4) - other2 * d(2), p##o = d(3) - other2 * d(1), p = p##e + x1 * p##o, \
        m = p##e - x1 * p##o;
#define A_ENDS(d, o, i) vec o = d(0), i = d(3);
#define A_SIGNS(d, p, m, x1, x2, x3)                                                         \
    vec p##e = d(0) + x2 * d(2), p##o = x1 * d(1) + x3 * d(3), p = p##e + p##o, m = p##e - p##o;
#define G_ENDS(d, o, i) vec o = d(0) * (1 / RS2), i = d(2);
#define G_SIGNS(d, p, m, x1, x2, over)                                                       \
    vec p##e = over * (d(0) + x2 * d(2)), p##o = over * x1 * d(1), p = p##e + p##o, m = p##e - p##o;

#define B_LINE(v, to)                                             \
    do {                                                          \
        B_ENDS(v, b0, b5)                                         \
        B_SIGNS(v, b1, b2, R1, S2)                                \
        B_SIGNS(v, b3, b4, S1, R2)                                \
        to(0, b0) to(1, b1) to(2, b2) to(3, b3) to(4, b4) to(5, b5) \
    } while (0)
#define A_LINE(v, to)                                             \
    do {                                                          \
        A_ENDS(v, b0, b5)                                         \
        A_SIGNS(v, b1, b2, R1, R2, R3)                            \
        A_SIGNS(v, b3, b4, S1, S2, S3)                            \
        to(0, b0) to(1, b1) to(2, b2) to(3, b3) to(4, b4) to(5, b5) \
    } while (0)
#define G_LINE(v, to)                                             \
    do {                                                          \
        G_ENDS(v, b0, b5)                                         \
        G_SIGNS(v, b1, b2, R1, R2, OVER_R)                        \
        G_SIGNS(v, b3, b4, S1, S2, OVER_S)                        \
        to(0, b0) to(1, b1) to(2, b2) to(3, b3) to(4, b4) to(5, b5) \
    } while (0)

/* Two rows of points of one tile and vector of channels. Pairs are rows (0, 5), (1, 2) and (3, 4),
 * which share their terms; a whole transform fits the registers this way, without scratch. The
 * outcome is 12 points in the order of the pair's rows, `step` numbers apart. */
#define PUT_UPPER(j, v) AT(to + (j) * step) = v;
#define PUT_LOWER(j, v) AT(to + (6 + (j)) * step) = v;
#define UPPER(x) upper[x]
#define LOWER(x) lower[x]

static ALWAYS void NAME(input_pair)(int pair, const REAL *const *from, long c, long count, REAL *to,
                                    long step)
{
    vec upper[6], lower[6];
#pragma GCC unroll 6
    for (int x = 0; x < 6; x++) {
#define D(y) NAME(take)(from[6 * (y) + x] + c, count)
        if (pair == 0) {
            B_ENDS(D, p, m)
            upper[x] = p, lower[x] = m;
        } else if (pair == 1) {
            B_SIGNS(D, p, m, R1, S2)
            upper[x] = p, lower[x] = m;
        } else {
            B_SIGNS(D, p, m, S1, R2)
            upper[x] = p, lower[x] = m;
        }
#undef D
    }
    B_LINE(UPPER, PUT_UPPER);
    B_LINE(LOWER, PUT_LOWER);
}

static ALWAYS void NAME(gradient_pair)(int pair, const REAL *const *from, long c, long count,
                                       REAL *to, long step)
{
    vec upper[4], lower[4];
#pragma GCC unroll 4
    for (int x = 0; x < 4; x++) {
#define D(y) NAME(take)(from[4 * (y) + x] + c, count)
        if (pair == 0) {
            A_ENDS(D, p, m)
            upper[x] = p, lower[x] = m;
        } else if (pair == 1) {
            A_SIGNS(D, p, m, R1, R2, R3)
            upper[x] = p, lower[x] = m;
        } else {
            A_SIGNS(D, p, m, S1, S2, S3)
            upper[x] = p, lower[x] = m;
        }
#undef D
    }
    A_LINE(UPPER, PUT_UPPER);
    A_LINE(LOWER, PUT_LOWER);
}

static ALWAYS void NAME(kernel_pair)(int pair, const vec *g, REAL *to, long step)
{
    vec upper[3], lower[3];
#pragma GCC unroll 3
    for (int x = 0; x < 3; x++) {
#define D(y) g[3 * (y) + x]
        if (pair == 0) {
            G_ENDS(D, p, m)
            upper[x] = p, lower[x] = m;
        } else if (pair == 1) {
            G_SIGNS(D, p, m, R1, R2, OVER_R)
            upper[x] = p, lower[x] = m;
        } else {
            G_SIGNS(D, p, m, S1, S2, OVER_S)
            upper[x] = p, lower[x] = m;
        }
#undef D
    }
    G_LINE(UPPER, PUT_UPPER);
    G_LINE(LOWER, PUT_LOWER);
}

/* Row of points of which `pair` and `lower` say the place in the order above. */
static inline int NAME(row)(int pair, int lower)
{
    return pair ? 2 * pair - 1 + lower : 5 * lower;
}

/* All channels of one tile of the input, into 36 points `step` apart in the pairs' order. */
static NEVER void NAME(input_tile)(const REAL *const *from, int C, REAL *to, long step)
{
    long c = 0;
    for (; c + LANES <= C; c += LANES) {
        NAME(input_pair)(0, from, c, LANES, to + c, step);
        NAME(input_pair)(1, from, c, LANES, to + c + 12 * step, step);
        NAME(input_pair)(2, from, c, LANES, to + c + 24 * step, step);
    }
    if (c < C)
        for (int pair = 0; pair < 3; pair++) {
            REAL *at = to + c + 12 * pair * step;
            NAME(input_pair)(pair, from, c, C - c, at, step);
        }
}

/* One pair of rows of points, of all channels of one tile of the input. */
static NEVER void NAME(input_rows)(int pair, const REAL *const *from, int C, REAL *to, long step)
{
    long c = 0;
    for (; c + LANES <= C; c += LANES)
        if (pair == 0)
            NAME(input_pair)(0, from, c, LANES, to + c, step);
        else if (pair == 1)
            NAME(input_pair)(1, from, c, LANES, to + c, step);
        else
            NAME(input_pair)(2, from, c, LANES, to + c, step);
    if (c < C) NAME(input_pair)(pair, from, c, C - c, to + c, step);
}

/* The same of a tile r of the gradient, into panels of `rows` rows. */
static NEVER void NAME(gradient_rows)(int pair, const REAL *const *from, int C, long rows, long r,
                                REAL *to, long step)
{
    long columns = NAME(vectors)(C);
    for (long j = 0, c = 0; j < columns; j++, c += LANES) {
        long panel = j / WIDE * WIDE, wide = NAME(wide)(columns, panel);
        REAL *at = to + (panel * rows + r * wide + j - panel) * LANES;
        if (c + LANES > C)
            NAME(gradient_pair)(pair, from, c, C - c, at, step);
        else if (pair == 0)
            NAME(gradient_pair)(0, from, c, LANES, at, step);
        else if (pair == 1)
            NAME(gradient_pair)(1, from, c, LANES, at, step);
        else
            NAME(gradient_pair)(2, from, c, LANES, at, step);
    }
}

/* z = A' m A for one vector of channels: m in the pairs' order, `step` apart. */
static ALWAYS void NAME(output_vector)(const REAL *m, long step, REAL *const *to, long c,
                                       long count)
{
    vec rows[4][6];
#define M(y) AT(m + (6 * PLACE_##y + j) * step)
#define PLACE_0 0
#define PLACE_5 1
#define PLACE_1 2
#define PLACE_2 3
#define PLACE_3 4
#define PLACE_4 5
#define A_BACK(v, r0, r1, r2, r3)                                                 \
    do {                                                                          \
        vec e1 = v(1) + v(2), o1 = v(1) - v(2), e2 = v(3) + v(4), o2 = v(3) - v(4); \
        r0 = v(0) + e1 + e2, r1 = R1 * o1 + S1 * o2, r2 = R2 * e1 + S2 * e2;      \
        r3 = R3 * o1 + S3 * o2 + v(5);                                            \
    } while (0)
#pragma GCC unroll 6
    for (int j = 0; j < 6; j++) A_BACK(M, rows[0][j], rows[1][j], rows[2][j], rows[3][j]);
#pragma GCC unroll 4
    for (int y = 0; y < 4; y++) {
        vec z0, z1, z2, z3;
#define ROW(x) rows[y][x]
        A_BACK(ROW, z0, z1, z2, z3);
        NAME(give)(to[4 * y] + c, z0, count), NAME(give)(to[4 * y + 1] + c, z1, count);
        NAME(give)(to[4 * y + 2] + c, z2, count), NAME(give)(to[4 * y + 3] + c, z3, count);
    }
}

/* `count` channels from `from` on, of one tile of the outcome. */
static NEVER void NAME(output_tile)(const REAL *m, long step, REAL *const *to, long from,
                                    long count)
{
    long c = 0;
    for (; c + LANES <= count; c += LANES)
        NAME(output_vector)(m + c, step, to, from + c, LANES);
    if (c < count) NAME(output_vector)(m + c, step, to, from + c, count - c);
}

/* Products. Six rows by up to four vectors of columns are in registers; they must be variables with
 * names, or the compiler keeps them in memory. */
#define ALL_ROWS(F) F(0) F(1) F(2) F(3) F(4) F(5)
#define HEIGHT 6
#define NEW(r) vec a##r = {0}, b##r = {0}, c##r = {0}, d##r = {0};
#define OLD(r)                                                                           \
    a##r = AT(C + r * ldc);                                                              \
    if (wide > 1) b##r = AT(C + r * ldc + LANES);                                        \
    if (wide > 2) c##r = AT(C + r * ldc + 2 * LANES);                                    \
    if (wide > 3) d##r = AT(C + r * ldc + 3 * LANES);
#define ADD(r)                                                                           \
    do {                                                                                 \
        REAL x = A_OF(r);                                                                \
        a##r += x * y0;                                                                  \
        if (wide > 1) b##r += x * y1;                                                    \
        if (wide > 2) c##r += x * y2;                                                    \
        if (wide > 3) d##r += x * y3;                                                    \
    } while (0);
#define PUT(r)                                                                           \
    AT(C + r * ldc) = a##r;                                                              \
    if (wide > 1) AT(C + r * ldc + LANES) = b##r;                                        \
    if (wide > 2) AT(C + r * ldc + 2 * LANES) = c##r;                                    \
    if (wide > 3) AT(C + r * ldc + 3 * LANES) = d##r;
#define COLUMNS                                                                          \
    vec y0 = AT(B), y1 = y0, y2 = y0, y3 = y0;                                           \
    if (wide > 1) y1 = AT(B + LANES);                                                    \
    if (wide > 2) y2 = AT(B + 2 * LANES);                                                \
    if (wide > 3) y3 = AT(B + 3 * LANES);

/* C = A B: A of HEIGHT rows `lda` apart, B of `depth` rows of `wide` vectors. */
static ALWAYS void NAME(multiply6)(int wide, long depth, const REAL *A, long lda, const REAL *B,
                                   REAL *C)
{
    long ldc = wide * LANES;
    ALL_ROWS(NEW)
#define A_OF(r) A[r * lda]
    for (long k = 0; k < depth; k++, A++, B += wide * LANES) {
        COLUMNS
        ALL_ROWS(ADD)
    }
#undef A_OF
    ALL_ROWS(PUT)
}

/* C = A' B, or C += A' B: A of `depth` rows of at least HEIGHT columns, `lda` apart. */
static ALWAYS void NAME(correlate6)(int wide, int more, long depth, const REAL *A, long lda,
                                    const REAL *B, REAL *C)
{
    long ldc = wide * LANES;
    ALL_ROWS(NEW)
    if (more) { ALL_ROWS(OLD) }
#define A_OF(r) A[r]
    for (long k = 0; k < depth; k++, A += lda, B += wide * LANES) {
        COLUMNS
        ALL_ROWS(ADD)
    }
#undef A_OF
    ALL_ROWS(PUT)
}

static NEVER void NAME(multiply_all)(int wide, long depth, long rows, const REAL *A, long lda,
                                     const REAL *B, REAL *C, NAME(ahead) *next, NAME(ahead) *out)
{
    for (long r = 0; r < rows; r += HEIGHT, A += HEIGHT * lda, C += HEIGHT * wide * LANES) {
        NAME(fetch)(next, 0);
        NAME(fetch)(out, 1);
        switch (wide) {
        case 1: NAME(multiply6)(1, depth, A, lda, B, C); break;
        case 2: NAME(multiply6)(2, depth, A, lda, B, C); break;
        case 3: NAME(multiply6)(3, depth, A, lda, B, C); break;
        default: NAME(multiply6)(4, depth, A, lda, B, C);
        }
    }
}

static NEVER void NAME(correlate_all)(int wide, int more, long depth, long columns, const REAL *A,
                                      long lda, const REAL *B, REAL *C, NAME(ahead) *next,
                                      NAME(ahead) *pnext)
{
    for (long i = 0; i < columns; i += HEIGHT, A += HEIGHT, C += HEIGHT * wide * LANES) {
        NAME(fetch)(next, 0);
        NAME(fetch)(pnext, 0);
        switch (wide) {
        case 1: NAME(correlate6)(1, more, depth, A, lda, B, C); break;
        case 2: NAME(correlate6)(2, more, depth, A, lda, B, C); break;
        case 3: NAME(correlate6)(3, more, depth, A, lda, B, C); break;
        default: NAME(correlate6)(4, more, depth, A, lda, B, C);
        }
    }
}

/* Transformed weights of one vector of outputs and one input k, into `to` and 35 more places `step`
 * apart. The kernel from k to j is at weight[(j Cin + k) 9], or turned, for the input gradient,
 * where inputs are the weight's outputs, at weight[(k Cout + j) 9] backwards. */
static NEVER void NAME(kernel_vector)(const REAL *weight, int turned, long Cin, long Cout, long k,
                                      long j, REAL *to, long step)
{
    vec g[9];
    memset(g, 0, sizeof g);
    for (long lane = 0; lane < LANES && j + lane < Cout; lane++) {
        const REAL *from = weight + 9 * (turned ? k * Cout + j + lane : (j + lane) * Cin + k);
        for (int tap = 0; tap < 9; tap++) g[turned ? 8 - tap : tap][lane] = from[tap];
    }
    NAME(kernel_pair)(0, g, to, step);
    NAME(kernel_pair)(1, g, to + 12 * step, step);
    NAME(kernel_pair)(2, g, to + 24 * step, step);
}

/* Row `at` of `row` of all points and panels of U: kernels from input k, or zeros beyond Cin. */
static void NAME(kernel_row)(const REAL *weight, int turned, long Cin, long Cout, long k, long at,
                             long row, REAL *U)
{
    long columns = NAME(vectors)(Cout);
    for (long j = 0; j < columns; j++) {
        long panel = j / WIDE * WIDE, wide = NAME(wide)(columns, panel), step = row * wide * LANES;
        REAL *to = U + POINTS * row * panel * LANES + (at * wide + j - panel) * LANES;
        if (k < Cin)
            NAME(kernel_vector)(weight, turned, Cin, Cout, k, j * LANES, to, step);
        else
            for (int point = 0; point < POINTS; point++) AT(to + point * step) = (vec){0};
    }
}

/* Chunks of a thread's share of `tiles`: multiples of HEIGHT tiles but for the last. */
typedef struct {
    long from, to, size;
} NAME(share);

static NAME(share) NAME(divide)(long tiles, int thread, int threads)
{
    NAME(share) s = {.from = tiles * thread / threads, .to = tiles * (thread + 1) / threads};
    long count = s.to - s.from, chunks = (count + CHUNK - 1) / CHUNK;
    s.size = chunks ? ((count + chunks - 1) / chunks + HEIGHT - 1) / HEIGHT * HEIGHT : HEIGHT;
    return s;
}

/* U is [panel][point][row][columns of the panel], V [point][tile][row], and M, the products of one
 * panel, [point][tile][columns of the panel].
 *
 * out = conv(x, W); with `tx`, also tout = conv(tx, W) + conv(x, tW). Rows of V are then those of
 * [x, tx], columns of U those of [tW; W], and tout takes their whole products; out takes the first
 * half of the one with the second of the other. `turned` as for kernel_vector. */
static int NAME(winograd)(int threads, int N, int h, int w, int Cin, int Cout, int turned,
                          const REAL *x, const REAL *tx, const REAL *weight, const REAL *tweight,
                          REAL *out, REAL *tout)
{
    tiling t = NAME(tile)(N, h, w);
    int parts = tx ? 2 : 1, failed = 0;
    long columns = NAME(vectors)(Cout), deep = NAME(vectors)(Cin) * LANES, row = parts * deep;
    REAL *U = NAME(room)(POINTS * row * columns * LANES), *beyond = NAME(room)(deep);
    if (!U || !beyond) {
        free(U), free(beyond);
        return 1;
    }
    memset(beyond, 0, deep * sizeof(REAL));
#pragma omp parallel num_threads(threads)
    {
        /* not multiples of a power of two, which would crowd the cache's sets */
        long step = CHUNK * row + LANES;
        long mstep = CHUNK * PANEL + LANES;
        REAL *V = NAME(room)(POINTS * step), *M = NAME(room)(POINTS * mstep);
        REAL *lost = NAME(room)(columns * LANES);
        int ready = V && M && lost;
        if (ready) memset(V, 0, POINTS * step * sizeof(REAL));
        if (!ready)
#pragma omp atomic write
            failed = 1;
#pragma omp for schedule(static)
        for (long at = 0; at < row; at++)
            NAME(kernel_row)(parts == 2 && at < deep ? tweight : weight, turned, Cin, Cout,
                             at % deep, at, row, U);
#pragma omp for schedule(static)
        for (int thread = 0; thread < threads; thread++) {
            NAME(share) s = NAME(divide)(t.tiles, thread, threads);
            for (long first = s.from; first < s.to && ready; first += s.size) {
                long rows = s.to - first < s.size ? s.to - first : s.size;
                for (long r = 0; r < rows; r++)
                    for (int part = 0; part < parts; part++) {
                        const REAL *from[POINTS];
                        NAME(pixels)(&t, part ? tx : x, Cin, first + r, 6, 1, beyond, from);
                        NAME(input_tile)(from, Cin, V + r * row + part * deep, step);
                    }
                long calls = (rows + HEIGHT - 1) / HEIGHT * POINTS, after = first + s.size;
                long all = calls * ((columns + WIDE - 1) / WIDE);
                long end = after + s.size < s.to ? after + s.size : s.to;
                NAME(ahead) tnext = {0}, next = NAME(plan_ahead)(&t, x, Cin, after, end, all);
                if (tx) tnext = NAME(plan_ahead)(&t, tx, Cin, after, end, all);
                for (long panel = 0; panel < columns; panel += WIDE) {
                    long wide = NAME(wide)(columns, panel), c = panel * LANES;
                    long count = Cout - c < wide * LANES ? Cout - c : wide * LANES;
                    for (int part = 0; part < parts; part++) {
                        long skip = parts == 2 && !part ? deep : 0;
                        NAME(ahead) to_out = {0};
                        if (!panel)
                            to_out = NAME(plan_ahead)(&t, part ? tout : out, Cout, first,
                                                      first + rows, calls);
                        for (int point = 0; point < POINTS; point++)
                            NAME(multiply_all)(wide, row - skip, rows, V + point * step, row,
                                           U + POINTS * row * c +
                                               (point * row + skip) * wide * LANES,
                                           M + point * mstep, part ? &tnext : &next, &to_out);
                        for (long r = 0; r < rows; r++) {
                            const REAL *to[16];
                            NAME(pixels)(&t, part ? tout : out, Cout, first + r, 4, 0, lost, to);
                            NAME(output_tile)(M + r * wide * LANES, mstep, (REAL *const *)to, c,
                                              count);
                        }
                    }
                }
            }
        }
        free(V), free(M), free(lost);
    }
    free(U), free(beyond);
    return failed;
}

/* dweight (Cout, Cin, 3, 3) of the threads' sums `parts`, laid out as in winograd_weight. */
static void NAME(put_weight)(int threads, REAL *const *parts, long Cin, long Cout, long blocks,
                             long columns, REAL *dweight)
{
#pragma omp parallel for schedule(static) num_threads(threads)
    for (long i = 0; i < Cin; i++)
        for (long j = 0; j < columns; j++) {
            long panel = j / WIDE * WIDE, wide = NAME(wide)(columns, panel);
            long plane = blocks * HEIGHT * LANES;
            vec rows[3][6], g[9];
            const long at = panel * plane + (i * wide + j - panel) * LANES;
            for (int x = 0; x < 6; x++) {
                vec u[6];
                for (int place = 0; place < 6; place++) {
                    long from = (place * 6 + x) * columns * plane + at;
                    vec sum = AT(parts[0] + from);
                    for (int thread = 1; thread < threads; thread++)
                        if (parts[thread]) sum += AT(parts[thread] + from);
                    u[NAME(row)(place / 2, place % 2)] = sum;
                }
#define SUM(k) u[k]
#define G_BACK(v, r0, r1, r2)                                                           \
    do {                                                                                \
        vec e1 = OVER_R * (v(1) + v(2)), o1 = OVER_R * R1 * (v(1) - v(2));              \
        vec e2 = OVER_S * (v(3) + v(4)), o2 = OVER_S * S1 * (v(3) - v(4));              \
        r0 = v(0) * (1 / RS2) + e1 + e2, r1 = o1 + o2, r2 = R2 * e1 + S2 * e2 + v(5);   \
    } while (0)
                G_BACK(SUM, rows[0][x], rows[1][x], rows[2][x]);
            }
            for (int y = 0; y < 3; y++) G_BACK(ROW, g[3 * y], g[3 * y + 1], g[3 * y + 2]);
            for (long lane = 0; lane < LANES && j * LANES + lane < Cout; lane++)
                for (int tap = 0; tap < 9; tap++)
                    dweight[((j * LANES + lane) * Cin + i) * 9 + tap] = g[tap][lane];
        }
}

/* dweight = the gradient for p and a, plus, with `tp`, that for tp and ta. The sums of a thread are
 * [point][panel][Cin, whole blocks][columns of the panel]; it goes over its tiles once for each
 * pair of rows of points, whose sums stay in its cache. */
static int NAME(winograd_weight)(int threads, int N, int h, int w, int Cin, int Cout,
                                 const REAL *p, const REAL *a, const REAL *tp, const REAL *ta,
                                 REAL *dweight)
{
    tiling t = NAME(tile)(N, h, w);
    int failed = 0;
    long columns = NAME(vectors)(Cout), row = NAME(vectors)(Cin) * LANES;
    long blocks = (Cin + HEIGHT - 1) / HEIGHT, plane = blocks * HEIGHT * LANES;
    long larger = row > columns * LANES ? row : columns * LANES;
    REAL *sums[MAX_THREADS] = {0}, *beyond = NAME(room)(larger);
    if (!beyond) return 1;
    memset(beyond, 0, larger * sizeof(REAL));
#pragma omp parallel num_threads(threads)
    {
        long step = CHUNK * row + LANES, ystep = CHUNK * columns * LANES + LANES;
        REAL *V = NAME(room)(12 * step + HEIGHT), *Y = NAME(room)(12 * ystep);
        if (V) memset(V, 0, (12 * step + HEIGHT) * sizeof(REAL));
#pragma omp for schedule(static)
        for (int thread = 0; thread < threads; thread++) {
            NAME(share) s = NAME(divide)(t.tiles, thread, threads);
            if (s.from == s.to && thread) continue;
            REAL *sum = sums[thread] = NAME(room)(POINTS * columns * plane);
            if (!sum || !V || !Y) {
#pragma omp atomic write
                failed = 1;
                continue;
            }
            if (s.from == s.to) memset(sum, 0, POINTS * columns * plane * sizeof(REAL));
            for (int pair = 0; pair < 3; pair++)
                for (int part = 0; part < (tp ? 2 : 1); part++)
                    for (long first = s.from; first < s.to; first += s.size) {
                        long rows = s.to - first < s.size ? s.to - first : s.size;
                        int more = part || first > s.from;
                        for (long r = 0; r < rows; r++) {
                            const REAL *from[POINTS];
                            NAME(pixels)(&t, part ? ta : a, Cin, first + r, 6, 1, beyond, from);
                            NAME(input_rows)(pair, from, Cin, V + r * row, step);
                            NAME(pixels)(&t, part ? tp : p, Cout, first + r, 4, 0, beyond, from);
                            NAME(gradient_rows)(pair, from, Cout, rows, r, Y, ystep);
                        }
                        long all = blocks * 12 * ((columns + WIDE - 1) / WIDE);
                        long after = first + s.size, end = after + s.size;
                        if (end > s.to) end = s.to;
                        NAME(ahead) next, pnext;
                        next = NAME(plan_ahead)(&t, part ? ta : a, Cin, after, end, all);
                        pnext = NAME(plan_ahead)(&t, part ? tp : p, Cout, after, end, all);
                        for (int point = 0; point < 12; point++)
                            for (long panel = 0; panel < columns; panel += WIDE) {
                                long wide = NAME(wide)(columns, panel);
                                NAME(correlate_all)(
                                    wide, more, rows, Cin, V + point * step, row,
                                    Y + point * ystep + rows * panel * LANES,
                                    sum + ((12 * pair + point) * columns + panel) * plane, &next,
                                    &pnext);
                            }
                    }
        }
        free(V), free(Y);
    }
    if (!failed) NAME(put_weight)(threads, sums, Cin, Cout, blocks, columns, dweight);
    for (int thread = 0; thread < threads; thread++) free(sums[thread]);
    free(beyond);
    return failed;
}

/* All functions return 0, or 1 where there is no memory for scratch. */

int NAME(winograd_forward)(int threads, int N, int h, int w, int Cin, int Cout, const REAL *a,
                           const REAL *weight, REAL *z)
{
    return NAME(winograd)(threads, N, h, w, Cin, Cout, 0, a, NULL, weight, NULL, z, NULL);
}

int NAME(winograd_backward)(int threads, int N, int h, int w, int Cin, int Cout, const REAL *p,
                            const REAL *a, const REAL *weight, REAL *da, REAL *dweight)
{
    return NAME(winograd)(threads, N, h, w, Cout, Cin, 1, p, NULL, weight, NULL, da, NULL) ||
           NAME(winograd_weight)(threads, N, h, w, Cin, Cout, p, a, NULL, NULL, dweight);
}

int NAME(winograd_tangent_forward)(int threads, int N, int h, int w, int Cin, int Cout,
                                   const REAL *a, const REAL *ta, const REAL *weight,
                                   const REAL *tweight, REAL *z, REAL *tz)
{
    return NAME(winograd)(threads, N, h, w, Cin, Cout, 0, a, ta, weight, tweight, z, tz);
}

int NAME(winograd_tangent_backward)(int threads, int N, int h, int w, int Cin, int Cout,
                                    const REAL *q, const REAL *p, const REAL *a, const REAL *ta,
                                    const REAL *weight, const REAL *tweight, REAL *dq, REAL *dp,
                                    REAL *dweight)
{
    return NAME(winograd)(threads, N, h, w, Cout, Cin, 1, p, q, weight, tweight, dp, dq) ||
           NAME(winograd_weight)(threads, N, h, w, Cin, Cout, q, a, p, ta, dweight);
}

#undef vec
#undef LANES
#undef AT
#undef ALWAYS
#undef NEVER
#undef POINTS
#undef WIDTH
#undef WIDE
#undef CHUNK
#undef PANEL
#undef R1
#undef R2
#undef R3
#undef S1
#undef S2
#undef S3
#undef RS2
#undef RPS2
#undef OVER_R
#undef OVER_S
#undef tiling
#undef B_ENDS
#undef B_SIGNS
#undef A_ENDS
#undef A_SIGNS
#undef G_ENDS
#undef G_SIGNS
#undef B_LINE
#undef A_LINE
#undef G_LINE
#undef PUT_UPPER
#undef PUT_LOWER
#undef UPPER
#undef LOWER
#undef M
#undef PLACE_0
#undef PLACE_5
#undef PLACE_1
#undef PLACE_2
#undef PLACE_3
#undef PLACE_4
#undef A_BACK
#undef ROW
#undef ALL_ROWS
#undef HEIGHT
#undef NEW
#undef OLD
#undef ADD
#undef PUT
#undef COLUMNS
#undef A_OF
#undef SUM
#undef G_BACK
