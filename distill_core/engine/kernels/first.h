/* The first block, convolution included, for one number type (see blocks.h for the maths).
 *
 * Images have few channels and large planes: z would be the largest tensor of a step, and costs
 * little to compute. So every function computes it again, one image and BLOCK channels at a time,
 * in scratch memory that stays in the cache. Scratch planes are rows of whole vectors; a vector is
 * LANES pixels of one channel:
 *
 *   image planes   zero border of one convolution's reach on all sides
 *   value planes   ho rows of `wide` numbers; zero beyond column wo
 *   bordered       value planes with MARGIN rows above and below, LANES zeros before each row
 */

typedef REAL NAME(vec) __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(REAL)), may_alias));
#define vec NAME(vec)
#define LANES ((long)(VECTOR_BYTES / sizeof(REAL)))
#define GROUP 8  /* channels convolved together */
#define BLOCK 16 /* channels in scratch at a time */
#define MARGIN 4
#define AT(p) (*(vec *)(p))
#define WHERE(condition, value) ((vec)((condition) & (__typeof__((condition)))(value)))

typedef struct {
    int threads, N, h, w, pad, inputs, C;
    long ho, wo, ph, pw, wide, image_wide, image_plane, plane, bordered, bordered_plane;
    REAL eps, share;
    const REAL *x, *gain, *bias, *tgain, *tbias;
    REAL *packed, *tpacked, *mask;
} NAME(first);
#define first NAME(first)

static long NAME(whole)(long size) { return (size + LANES - 1) / LANES * LANES; }

static REAL *NAME(numbers)(long count)
{
    long bytes = (count * (long)sizeof(REAL) + VECTOR_BYTES) / VECTOR_BYTES * VECTOR_BYTES;
    REAL *made = aligned_alloc(VECTOR_BYTES, bytes);
    if (made) memset(made, 0, bytes);
    return made;
}

/* Weights (C, inputs, 3, 3) with GROUP channels side by side, padded with zeros to BLOCK. */
static REAL *NAME(pack)(const REAL *weight, int C, int inputs)
{
    long taps = 9L * inputs, all = (C + BLOCK - 1) / BLOCK * BLOCK;
    REAL *packed = NAME(numbers)(all * taps);
    if (packed)
        for (long c = 0; c < C; c++)
            for (long tap = 0; tap < taps; tap++)
                packed[(c / GROUP * taps + tap) * GROUP + c % GROUP] = weight[c * taps + tap];
    return packed;
}

static int NAME(plan)(first *f, const REAL *weight, const REAL *tweight)
{
    f->ho = f->h + 2 * f->pad - 2, f->wo = f->w + 2 * f->pad - 2;
    f->ph = f->ho / 2, f->pw = f->wo / 2;
    f->wide = NAME(whole)(f->wo);
    f->image_wide = f->wide + LANES;
    f->image_plane = f->image_wide * (f->ho + 4);
    f->plane = f->wide * (f->ho + 1);
    f->bordered = f->wide + LANES;
    f->bordered_plane = f->bordered * (f->ho + 2 * MARGIN) + LANES;
    f->share = (REAL)1 / (REAL)(f->ho * f->wo);
    f->packed = NAME(pack)(weight, f->C, f->inputs);
    f->tpacked = tweight ? NAME(pack)(tweight, f->C, f->inputs) : NULL;
    f->mask = NAME(numbers)(f->wide);
    if (!f->packed || !f->mask || (tweight && !f->tpacked)) return 0;
    for (long x = 0; x < f->wo; x++) f->mask[x] = 1;
    return 1;
}

static int NAME(finish)(first *f, int code)
{
    free(f->packed), free(f->tpacked), free(f->mask);
    return code;
}

static void NAME(lay_image)(const first *f, int n, REAL *planes)
{
    const REAL *image = f->x + (long)n * f->inputs * f->h * f->w;
    for (int i = 0; i < f->inputs; i++)
        for (int y = 0; y < f->h; y++)
            memcpy(planes + i * f->image_plane + (y + f->pad) * f->image_wide + f->pad,
                   image + ((long)i * f->h + y) * f->w, f->w * sizeof(REAL));
}

#define ALL_GROUP(F) F(0) F(1) F(2) F(3) F(4) F(5) F(6) F(7)

/* Convolve one image with GROUP channels into their value planes, two rows at a time. */
static void NAME(convolve)(const first *f, const REAL *image, const REAL *weights, REAL *out)
{
    for (long y = 0; y < f->ho; y += 2)
        for (long v = 0; v < f->wide; v += LANES) {
#define ZERO(k) vec a##k = {0}, b##k = {0};
            ALL_GROUP(ZERO)
            const REAL *tap = weights;
            for (int i = 0; i < f->inputs; i++)
                for (int dy = 0; dy < 3; dy++) {
                    const REAL *row = image + i * f->image_plane + (y + dy) * f->image_wide + v;
                    for (int dx = 0; dx < 3; dx++, tap += GROUP) {
                        vec upper = AT(row + dx), lower = AT(row + f->image_wide + dx);
#define ADD(k) a##k += tap[k] * upper, b##k += tap[k] * lower;
                        ALL_GROUP(ADD)
                    }
                }
            vec mask = AT(f->mask + v);
            REAL *at = out + y * f->wide + v;
#define PUT(k) AT(at + k * f->plane) = a##k * mask, AT(at + k * f->plane + f->wide) = b##k * mask;
            ALL_GROUP(PUT)
        }
}

static void NAME(convolve_block)(const first *f, const REAL *image, const REAL *packed, int c0,
                                 REAL *out)
{
    for (int g = 0; g < BLOCK; g += GROUP)
        NAME(convolve)(f, image, packed + (long)(c0 + g) * 9 * f->inputs, out + g * f->plane);
}

static REAL NAME(total)(vec v)
{
    REAL sum = 0;
    for (int i = 0; i < LANES; i++) sum += v[i];
    return sum;
}

static void NAME(moments)(const first *f, const REAL *z, REAL *mean, REAL *rate)
{
    vec sum = {0}, square = {0};
    for (long i = 0; i < f->ho * f->wide; i += LANES) sum += AT(z + i);
    REAL m = NAME(total)(sum) * f->share;
    for (long y = 0; y < f->ho; y++)
        for (long v = 0; v < f->wide; v += LANES) {
            vec away = (AT(z + y * f->wide + v) - m) * AT(f->mask + v);
            square += away * away;
        }
    *mean = m;
    *rate = 1 / ROOT(NAME(total)(square) * f->share + f->eps);
}

static void NAME(tangent_moments)(const first *f, const REAL *z, const REAL *tz, REAL mean,
                                  REAL rate, REAL *tmean, REAL *slope)
{
    vec sum = {0}, product = {0};
    for (long i = 0; i < f->ho * f->wide; i += LANES) {
        sum += AT(tz + i);
        product += AT(tz + i) * (AT(z + i) - mean);
    }
    *tmean = NAME(total)(sum) * f->share;
    *slope = NAME(total)(product) * f->share * rate;
}

/* Mean over pairs of a row that holds the sum of two rows, into column k of (pw, BLOCK). */
static void NAME(pool_row)(const REAL *row, long pw, REAL *out, int k)
{
    for (long x = 0; x < pw; x++) out[x * BLOCK + k] = (REAL)0.25 * (row[2 * x] + row[2 * x + 1]);
}

/* Write one pooled row of a block of channels. */
static void NAME(put_row)(const first *f, const REAL *row, int n, long y, int c0, STORE *out)
{
    int count = f->C - c0 < BLOCK ? f->C - c0 : BLOCK;
    for (long x = 0; x < f->pw; x++) {
        STORE *at = out + (((long)n * f->ph + y) * f->pw + x) * f->C + c0;
        for (int k = 0; k < count; k++) SAVE(at + k, row[x * BLOCK + k]);
    }
}

/* Read one pooled row of a block of channels, spread over pairs and divided by 4:
 * BLOCK rows of `wide`, zero beyond 2 pw. */
static void NAME(spread_row)(const first *f, const STORE *P, int n, long y,
                             int c0, REAL *out)
{
    int count = f->C - c0 < BLOCK ? f->C - c0 : BLOCK;
    for (long x = 0; x < f->pw; x++) {
        long from = (((long)n * f->ph + y) * f->pw + x) * f->C + c0;
        for (int k = 0; k < count; k++) {
            REAL value = LOAD(P + from + k);
            out[k * f->wide + 2 * x] = out[k * f->wide + 2 * x + 1] = (REAL)0.25 * value;
        }
    }
}

/* acc[k][tap] += sum over pixels of p[k] * image[tap]; lanes are summed later. */
static void NAME(correlate)(const first *f, const REAL *image, const REAL *p, vec *acc)
{
    for (int i = 0; i < f->inputs; i++)
        for (int dy = 0; dy < 3; dy++) {
            vec *to = acc + (i * 3 + dy) * 3;
            long step = 9L * f->inputs;
#define TAKE(k) vec a##k = to[k * step], b##k = to[k * step + 1], c##k = to[k * step + 2];
            ALL_GROUP(TAKE)
            for (long y = 0; y < f->ho; y++)
                for (long v = 0; v < f->wide; v += LANES) {
                    const REAL *at = image + i * f->image_plane + (y + dy) * f->image_wide + v;
                    const REAL *from = p + y * f->bordered + v;
                    vec x0 = AT(at), x1 = AT(at + 1), x2 = AT(at + 2), value;
#define GATHER(k)                             \
    value = AT(from + k * f->bordered_plane); \
    a##k += value * x0, b##k += value * x1, c##k += value * x2;
                    ALL_GROUP(GATHER)
                }
#define GIVE(k) to[k * step] = a##k, to[k * step + 1] = b##k, to[k * step + 2] = c##k;
            ALL_GROUP(GIVE)
        }
}

/* Add to image cotangents (inputs planes, as image planes but without border) the gradients of
 * GROUP bordered planes through their weights: four rows of one input channel at a time. */
static void NAME(send_back)(const first *f, const REAL *p, const REAL *weights, REAL *dx)
{
    for (int i = 0; i < f->inputs; i++)
        for (long y = 0; y < f->h; y += 4)
            for (long v = 0; v < f->w; v += LANES) {
                REAL *at = dx + i * f->image_plane + y * f->image_wide + v;
                vec s0 = AT(at), s1 = AT(at + f->image_wide), s2 = AT(at + 2 * f->image_wide),
                    s3 = AT(at + 3 * f->image_wide);
                for (int k = 0; k < GROUP; k++)
                    for (int dx_ = 0; dx_ < 3; dx_++) {
                        /* image row y receives tap dy from row y + pad - dy */
                        const REAL *row = p + k * f->bordered_plane +
                                          (y + f->pad - 2) * f->bordered + v + f->pad - dx_;
                        const REAL *tap = weights + (i * 9 + dx_) * GROUP + k;
                        REAL w0 = tap[0], w1 = tap[3 * GROUP], w2 = tap[6 * GROUP];
                        vec r0 = AT(row), r1 = AT(row + f->bordered),
                            r2 = AT(row + 2 * f->bordered), r3 = AT(row + 3 * f->bordered),
                            r4 = AT(row + 4 * f->bordered), r5 = AT(row + 5 * f->bordered);
                        s0 += w2 * r0 + w1 * r1 + w0 * r2;
                        s1 += w2 * r1 + w1 * r2 + w0 * r3;
                        s2 += w2 * r2 + w1 * r3 + w0 * r4;
                        s3 += w2 * r3 + w1 * r4 + w0 * r5;
                    }
                AT(at) = s0, AT(at + f->image_wide) = s1, AT(at + 2 * f->image_wide) = s2;
                AT(at + 3 * f->image_wide) = s3;
            }
}

/* dweight (C, inputs, 3, 3): the sum of all threads' accumulators over threads and lanes. */
static void NAME(gather_weights)(const first *f, vec *const *parts, REAL *dweight)
{
    for (long i = 0; i < 9L * f->inputs * f->C; i++) {
        dweight[i] = 0;
        for (int t = 0; t < f->threads; t++)
            if (parts[t]) dweight[i] += NAME(total)(parts[t][i]);
    }
}

/* All functions return 0, or 1 if there is no memory for scratch. */

int NAME(first_forward)(int threads, int N, int h, int w, int pad, int inputs, int C, REAL eps,
                        const REAL *x, const REAL *weight, const REAL *gain, const REAL *bias,
                        STORE *a)
{
    first f = {.threads = threads, .N = N, .h = h, .w = w, .pad = pad, .inputs = inputs, .C = C,
               .eps = eps, .x = x, .gain = gain, .bias = bias};
    int failed = 0;
    if (!NAME(plan)(&f, weight, NULL)) return NAME(finish)(&f, 1);
#pragma omp parallel num_threads(threads)
    {
        REAL *image = NAME(numbers)(f.inputs * f.image_plane);
        REAL *z = NAME(numbers)(BLOCK * f.plane);
        REAL *rows = NAME(numbers)(f.wide), *out = NAME(numbers)(f.ph * f.pw * BLOCK);
        int ready = image && z && rows && out;
        if (!ready)
#pragma omp atomic write
            failed = 1;
#pragma omp for schedule(static)
        for (int n = 0; n < N; n++) {
            if (!ready) continue;
            NAME(lay_image)(&f, n, image);
            for (int c0 = 0; c0 < C; c0 += BLOCK) {
                NAME(convolve_block)(&f, image, f.packed, c0, z);
                for (int k = 0; k < BLOCK && c0 + k < C; k++) {
                    REAL mean, rate, *zk = z + k * f.plane;
                    NAME(moments)(&f, zk, &mean, &rate);
                    REAL scale = gain[c0 + k] * rate, shift = bias[c0 + k] - scale * mean;
                    for (long y = 0; y < f.ph; y++) {
                        for (long v = 0; v < f.wide; v += LANES) {
                            REAL *at = zk + 2 * y * f.wide + v;
                            vec upper = scale * AT(at) + shift;
                            vec lower = scale * AT(at + f.wide) + shift;
                            AT(rows + v) = WHERE(~(upper < 0), upper) + WHERE(~(lower < 0), lower);
                        }
                        NAME(pool_row)(rows, f.pw, out + y * f.pw * BLOCK, k);
                    }
                }
                for (long y = 0; y < f.ph; y++)
                    NAME(put_row)(&f, out + y * f.pw * BLOCK, n, y, c0, a);
            }
        }
        free(image), free(z), free(rows), free(out);
    }
    return NAME(finish)(&f, failed);
}

int NAME(first_backward)(int threads, int N, int h, int w, int pad, int inputs, int C, REAL eps,
                         const REAL *x, const REAL *weight, const REAL *gain, const REAL *bias,
                         const STORE *P, REAL *dweight, REAL *dgain, REAL *dbias)
{
    first f = {.threads = threads, .N = N, .h = h, .w = w, .pad = pad, .inputs = inputs, .C = C,
               .eps = eps, .x = x, .gain = gain, .bias = bias};
    int failed = 0, all = (C + BLOCK - 1) / BLOCK * BLOCK;
    vec *parts[MAX_THREADS] = {0};
    if (!NAME(plan)(&f, weight, NULL)) return NAME(finish)(&f, 1);
#pragma omp parallel num_threads(threads)
    {
        REAL *image = NAME(numbers)(f.inputs * f.image_plane);
        REAL *z = NAME(numbers)(BLOCK * f.plane);
        REAL *p = NAME(numbers)(BLOCK * f.bordered_plane);
        REAL *spread = NAME(numbers)(f.ph * BLOCK * f.wide);
        vec *acc = (vec *)NAME(numbers)(all * 9 * f.inputs * LANES);
        int ready = image && z && p && spread && acc;
        if (!ready)
#pragma omp atomic write
            failed = 1;
#pragma omp for schedule(static)
        for (int n = 0; n < N; n++) {
            if (!ready) continue;
            NAME(lay_image)(&f, n, image);
            for (int c0 = 0; c0 < C; c0 += BLOCK) {
                NAME(convolve_block)(&f, image, f.packed, c0, z);
                for (long y = 0; y < f.ph; y++)
                    NAME(spread_row)(&f, P, n, y, c0, spread + y * BLOCK * f.wide);
                for (int k = 0; k < BLOCK && c0 + k < C; k++) {
                    REAL mean, rate, *zk = z + k * f.plane;
                    REAL *pk = p + k * f.bordered_plane + MARGIN * f.bordered + LANES;
                    NAME(moments)(&f, zk, &mean, &rate);
                    REAL scale = gain[c0 + k] * rate, shift = bias[c0 + k] - scale * mean;
                    vec d = {0}, dx = {0};
                    for (long y = 0; y < 2 * f.ph; y++)
                        for (long v = 0; v < f.wide; v += LANES) {
                            vec value = AT(zk + y * f.wide + v);
                            vec above = AT(spread + (y / 2 * BLOCK + k) * f.wide + v);
                            vec live = WHERE(scale * value + shift > 0, above);
                            d += live;
                            dx += live * (value - mean);
                            AT(pk + y * f.bordered + v) = live;
                        }
                    REAL sum_d = NAME(total)(d), sum_dx = NAME(total)(dx) * rate;
                    REAL mean_d = scale * sum_d * f.share, onx = scale * sum_dx * f.share * rate;
                    for (long y = 0; y < f.ho; y++)
                        for (long v = 0; v < f.wide; v += LANES) {
                            REAL *at = pk + y * f.bordered + v;
                            vec away = AT(zk + y * f.wide + v) - mean, live = AT(at);
                            if (y >= 2 * f.ph) live = live - live;
                            AT(at) = (scale * live - mean_d - onx * away) * AT(f.mask + v);
                        }
                    dgain[(long)n * C + c0 + k] = sum_dx;
                    dbias[(long)n * C + c0 + k] = sum_d;
                }
                for (int g = 0; g < BLOCK; g += GROUP)
                    NAME(correlate)(&f, image,
                                    p + g * f.bordered_plane + MARGIN * f.bordered + LANES,
                                    acc + (long)(c0 + g) * 9 * f.inputs);
            }
        }
        parts[THREAD_NUMBER] = acc;
        free(image), free(z), free(p), free(spread);
    }
    if (!failed) NAME(gather_weights)(&f, parts, dweight);
    for (int t = 0; t < threads; t++) free(parts[t]);
    return NAME(finish)(&f, failed);
}

int NAME(first_tangent_forward)(int threads, int N, int h, int w, int pad, int inputs, int C,
                                REAL eps, const REAL *x, const REAL *weight, const REAL *tweight,
                                const REAL *gain, const REAL *bias, const REAL *tgain,
                                const REAL *tbias, STORE *a, STORE *ta)
{
    first f = {.threads = threads, .N = N, .h = h, .w = w, .pad = pad, .inputs = inputs, .C = C,
               .eps = eps, .x = x, .gain = gain, .bias = bias, .tgain = tgain, .tbias = tbias};
    int failed = 0;
    if (!NAME(plan)(&f, weight, tweight)) return NAME(finish)(&f, 1);
#pragma omp parallel num_threads(threads)
    {
        REAL *image = NAME(numbers)(f.inputs * f.image_plane);
        REAL *z = NAME(numbers)(BLOCK * f.plane), *tz = NAME(numbers)(BLOCK * f.plane);
        REAL *rows = NAME(numbers)(2 * f.wide);
        REAL *out = NAME(numbers)(2 * f.ph * f.pw * BLOCK);
        int ready = image && z && tz && rows && out;
        if (!ready)
#pragma omp atomic write
            failed = 1;
        REAL *trows = rows + f.wide, *tout = out + f.ph * f.pw * BLOCK;
#pragma omp for schedule(static)
        for (int n = 0; n < N; n++) {
            if (!ready) continue;
            NAME(lay_image)(&f, n, image);
            for (int c0 = 0; c0 < C; c0 += BLOCK) {
                NAME(convolve_block)(&f, image, f.packed, c0, z);
                NAME(convolve_block)(&f, image, f.tpacked, c0, tz);
                for (int k = 0; k < BLOCK && c0 + k < C; k++) {
                    int c = c0 + k;
                    REAL mean, rate, tmean, slope, *zk = z + k * f.plane, *tzk = tz + k * f.plane;
                    NAME(moments)(&f, zk, &mean, &rate);
                    NAME(tangent_moments)(&f, zk, tzk, mean, rate, &tmean, &slope);
                    REAL scale = gain[c] * rate, shift = bias[c] - scale * mean;
                    REAL onz = (tgain[c] - scale * slope) * rate;
                    REAL tshift = tbias[c] - scale * tmean - onz * mean;
                    for (long y = 0; y < f.ph; y++) {
                        for (long v = 0; v < f.wide; v += LANES) {
                            long i = 2 * y * f.wide + v, j = i + f.wide;
                            vec upper = AT(zk + i), lower = AT(zk + j);
                            vec tupper = scale * AT(tzk + i) + onz * upper + tshift;
                            vec tlower = scale * AT(tzk + j) + onz * lower + tshift;
                            upper = scale * upper + shift, lower = scale * lower + shift;
                            AT(rows + v) = WHERE(~(upper < 0), upper) + WHERE(~(lower < 0), lower);
                            AT(trows + v) = WHERE(upper > 0, tupper) + WHERE(lower > 0, tlower);
                        }
                        NAME(pool_row)(rows, f.pw, out + y * f.pw * BLOCK, k);
                        NAME(pool_row)(trows, f.pw, tout + y * f.pw * BLOCK, k);
                    }
                }
                for (long y = 0; y < f.ph; y++) {
                    NAME(put_row)(&f, out + y * f.pw * BLOCK, n, y, c0, a);
                    NAME(put_row)(&f, tout + y * f.pw * BLOCK, n, y, c0, ta);
                }
            }
        }
        free(image), free(z), free(tz), free(rows), free(out);
    }
    return NAME(finish)(&f, failed);
}

int NAME(first_tangent_backward)(int threads, int N, int h, int w, int pad, int inputs, int C,
                                 REAL eps, const REAL *x, const REAL *weight, const REAL *tweight,
                                 const REAL *gain, const REAL *bias, const REAL *tgain,
                                 const STORE *P, const STORE *Q, REAL *dweight,
                                 REAL *dgain, REAL *dbias, REAL *dimages)
{
    first f = {.threads = threads, .N = N, .h = h, .w = w, .pad = pad, .inputs = inputs, .C = C,
               .eps = eps, .x = x, .gain = gain, .bias = bias, .tgain = tgain};
    int failed = 0, all = (C + BLOCK - 1) / BLOCK * BLOCK;
    vec *parts[MAX_THREADS] = {0};
    if (!NAME(plan)(&f, weight, tweight)) return NAME(finish)(&f, 1);
    long margin = MARGIN * f.bordered + LANES;
#pragma omp parallel num_threads(threads)
    {
        REAL *image = NAME(numbers)(2 * f.inputs * f.image_plane);
        REAL *back = image + f.inputs * f.image_plane;
        REAL *z = NAME(numbers)(2 * BLOCK * f.plane), *tz = z + BLOCK * f.plane;
        REAL *p = NAME(numbers)(2 * BLOCK * f.bordered_plane), *q = p + BLOCK * f.bordered_plane;
        REAL *spread = NAME(numbers)(2 * f.ph * BLOCK * f.wide);
        vec *acc = (vec *)NAME(numbers)(all * 9 * f.inputs * LANES);
        int ready = image && z && p && spread && acc;
        if (!ready)
#pragma omp atomic write
            failed = 1;
        REAL *spread_q = spread + f.ph * BLOCK * f.wide;
#pragma omp for schedule(static)
        for (int n = 0; n < N; n++) {
            if (!ready) continue;
            NAME(lay_image)(&f, n, image);
            memset(back, 0, f.inputs * f.image_plane * sizeof(REAL));
            for (int c0 = 0; c0 < C; c0 += BLOCK) {
                NAME(convolve_block)(&f, image, f.packed, c0, z);
                NAME(convolve_block)(&f, image, f.tpacked, c0, tz);
                for (long y = 0; y < f.ph; y++) {
                    NAME(spread_row)(&f, P, n, y, c0, spread + y * BLOCK * f.wide);
                    NAME(spread_row)(&f, Q, n, y, c0, spread_q + y * BLOCK * f.wide);
                }
                for (int k = 0; k < BLOCK && c0 + k < C; k++) {
                    int c = c0 + k;
                    REAL mean, rate, tmean, slope, co[8], *zk = z + k * f.plane,
                                                          *tzk = tz + k * f.plane;
                    REAL *pk = p + k * f.bordered_plane + margin;
                    REAL *qk = q + k * f.bordered_plane + margin;
                    NAME(moments)(&f, zk, &mean, &rate);
                    NAME(tangent_moments)(&f, zk, tzk, mean, rate, &tmean, &slope);
                    REAL scale = gain[c] * rate, shift = bias[c] - scale * mean;
                    vec d = {0}, dx = {0}, e = {0}, ex = {0}, dtz = {0};
                    for (long y = 0; y < 2 * f.ph; y++)
                        for (long v = 0; v < f.wide; v += LANES) {
                            vec value = AT(zk + y * f.wide + v), away = value - mean;
                            vec tangent = AT(tzk + y * f.wide + v);
                            long above = (y / 2 * BLOCK + k) * f.wide + v;
                            vec live_p = WHERE(scale * value + shift > 0, AT(spread + above));
                            vec live_q = WHERE(scale * value + shift > 0, AT(spread_q + above));
                            d += live_p, dx += live_p * away, dtz += live_p * tangent;
                            e += live_q, ex += live_q * away;
                            AT(pk + y * f.bordered + v) = live_p;
                            AT(qk + y * f.bordered + v) = live_q;
                        }
                    REAL sum_e = NAME(total)(e);
                    NAME(combine)(gain[c], tgain[c], rate, tmean, slope, f.share, NAME(total)(d),
                                  NAME(total)(dx) * rate, sum_e, NAME(total)(ex) * rate,
                                  NAME(total)(dtz), co, 1, dgain + (long)n * C + c);
                    dbias[(long)n * C + c] = sum_e;
                    for (long y = 0; y < f.ho; y++)
                        for (long v = 0; v < f.wide; v += LANES) {
                            vec away = AT(zk + y * f.wide + v) - mean, mask = AT(f.mask + v);
                            vec tangent = AT(tzk + y * f.wide + v);
                            vec live_p = AT(pk + y * f.bordered + v);
                            vec live_q = AT(qk + y * f.bordered + v);
                            if (y >= 2 * f.ph) live_p = live_q = away - away;
                            AT(pk + y * f.bordered + v) =
                                (co[0] * live_p + co[1] * away + co[2]) * mask;
                            AT(qk + y * f.bordered + v) =
                                (co[3] * live_q + co[4] * live_p + co[5] * tangent + co[6] * away +
                                 co[7]) * mask;
                        }
                }
                for (int g = 0; g < BLOCK; g += GROUP) {
                    const REAL *pg = p + g * f.bordered_plane + margin;
                    const REAL *qg = q + g * f.bordered_plane + margin;
                    long weights = (long)(c0 + g) * 9 * f.inputs;
                    NAME(correlate)(&f, image, qg, acc + weights);
                    NAME(send_back)(&f, qg, f.packed + weights, back);
                    NAME(send_back)(&f, pg, f.tpacked + weights, back);
                }
            }
            for (int i = 0; i < inputs; i++)
                for (int y = 0; y < h; y++)
                    memcpy(dimages + (((long)n * inputs + i) * h + y) * w,
                           back + i * f.image_plane + y * f.image_wide, w * sizeof(REAL));
        }
        parts[THREAD_NUMBER] = acc;
        free(image), free(z), free(p), free(spread);
    }
    if (!failed) NAME(gather_weights)(&f, parts, dweight);
    for (int t = 0; t < threads; t++) free(parts[t]);
    return NAME(finish)(&f, failed);
}

#undef vec
#undef first
#undef LANES
#undef GROUP
#undef BLOCK
#undef MARGIN
#undef AT
#undef WHERE
#undef ALL_GROUP
#undef ZERO
#undef ADD
#undef PUT
#undef TAKE
#undef GATHER
#undef GIVE
