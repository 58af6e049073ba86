/* Convolutions 3x3 with stride 1 and padding 1 for one number type, by Winograd's F(4x4, 3x3).
 *
 * Activations are (N, h, w, C), channels last; weights (Cout, Cin, 3, 3). A tile is 4x4 pixels of
 * the result z = conv(a, W) and the 6x6 pixels d of the input under it; pixels beyond the plane
 * are zero. A convolution is a product of polynomials. Evaluated at the points 0, +-r, +-s and
 * infinity in both directions, it gives for a tile and its kernel g, with ' for the transpose,
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
 * which takes a quarter of the multiplications. The largest error with r = sqrt(1/2), s = sqrt(2)
 * is a fifth of that with the usual 1, 2. All is linear, so
 *
 *   input gradient    is the convolution of the gradient p with the turned, transposed weight
 *   weight gradient   is G' [sum over tiles of V Y'] G, Y = A p A' for a tile's 4x4 pixels of p
 *   tangents          are sums in the transformed domain: one product with doubled inner dimension
 *
 * A thread takes a few dozen tiles at a time (a chunk), so that V and the products of a panel of
 * output channels stay in its L2 cache while the transformed weights stream by.
 */

/* A panel of columns has WIDE vectors; with HEIGHT rows it fills the registers. */
#define WIDE (REGISTERS / 8)
typedef REAL NAME(wvec) __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(REAL)), may_alias));
#define vec NAME(wvec)
#define LANES ((long)(VECTOR_BYTES / sizeof(REAL)))
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

/* While products keep the arithmetic busy, what the next chunk reads and where this one writes is
 * fetched into the cache, a few lines before each block of products. */
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

#include "winograd_transforms.h"
#include "winograd_products.h"

/* Transformed weights of one vector of outputs and one input k, into `to` and 35 more places `step`
 * apart. The kernel from k to j is at weight[(j Cin + k) 9]. Turned, for the input gradient, whose
 * inputs are the weight's outputs, it is at weight[(k Cout + j) 9], read backwards. */
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

/* Chunks of a thread's share of `tiles`: multiples of HEIGHT tiles, except for the last. */
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
 * [x, tx], columns of U those of [tW; W]. tout is their whole product; out is the product of the
 * first half of V with the second half of U, unless it is NULL, known from before. `turned` as for
 * kernel_vector. */
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
        /* not multiples of a power of two, which would compete for the same cache sets */
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
                    for (int part = out ? 0 : 1; part < parts; part++) {
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

/* dweight (Cout, Cin, 3, 3) from the threads' sums `parts`, laid out as in winograd_weight. */
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
 * [point][panel][Cin, whole blocks][columns of the panel]. It passes over its tiles once per pair
 * of rows of points, whose sums stay in its cache. */
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

/* All functions return 0, or 1 if there is no memory for scratch. Along a tangent, z and dp can be
 * NULL: they are those of a plain pass. */

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
#undef HEIGHT
#undef SUM
#undef G_BACK
#undef ROW
