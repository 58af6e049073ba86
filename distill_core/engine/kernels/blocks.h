/* Blocks of the ConvNet for one number type; included once per type by blocks.c, which defines
 *
 *   REAL     the type of arithmetic, statistics and parameters (float or double)
 *   STORE    the type in which activations and cotangents lie in memory
 *   LOAD(p)  a STORE at address p as a REAL;  SAVE(p, v)  the other way round
 *   NAME(x)  the name of a function for this type
 *
 * A block is: convolution 3x3 (without its bias, which the norm removes), instance norm with
 * scale `gain` and shift `bias`, ReLU, mean over 2x2 pixels. Activations are (N, h, w, C), channels
 * last. For each image n and channel c, with M pixels, z the convolution, e the norm's epsilon:
 *
 *   mean = sum(z)/M    rate = 1/sqrt(var(z) + e)    x = rate (z - mean)    u = gain x + bias
 *   a    = pool(max(u, 0))
 *
 * and along a direction in the parameters, written with a t for tangent,
 *
 *   tmean = sum(tz)/M  slope = sum(x tz)/M          tx = rate (tz - tmean - slope x)
 *   tu    = tgain x + gain tx + tbias               ta = pool(tu where u > 0)
 *
 * The backward sweep takes the derivatives P = dL'/d ta and Q = dL'/da of the loss's directional
 * derivative L', and gives p = dL'/d tz, q = dL'/dz, and dL'/dgain, dL'/dbias. P is the ordinary
 * gradient dL/da, and p is dL/dz. With d = P/4 and e = Q/4 spread over 2x2 pixels where u > 0:
 *
 *   p = rate (gain d - mean(gain d) - k x),         k = mean(gain d x)
 *   E = gain e + (tgain - rate slope gain) d - rate k tz
 *   q = rate (E - mean(E) - x (mean(E x) + mean(gain d tx)))
 *   dL'/dgain = sum(e x + d tx),                    dL'/dbias = sum(e)
 *
 * Every sum is over one image's plane, which stays in the cache between the passes over it.
 */

/* The backward sweep as sums of terms: with away = z - mean, row by row of `co`,
 *     p = co0 d + co1 away + co2        q = co3 e + co4 d + co5 tz + co6 away + co7
 * sums: of d, d x, e, e x, d tz over one plane; stats: mean, rate, tmean, slope. */
static inline void NAME(combine)(REAL gain, REAL tgain, REAL rate, REAL tmean, REAL slope,
                                 REAL share, REAL d, REAL dx, REAL e, REAL ex, REAL dtz,
                                 REAL *co, long step, REAL *dgain)
{
    REAL k = gain * dx * share;
    REAL dtx = rate * (dtz - tmean * d - slope * dx);
    REAL on_d = tgain - rate * slope * gain;
    REAL mean_E = share * (gain * e + on_d * d) - rate * k * tmean;
    REAL mean_Ex = share * (gain * ex + on_d * dx) - rate * k * slope;
    co[0] = rate * gain;
    co[step] = -rate * rate * k;
    co[2 * step] = -rate * gain * d * share;
    co[3 * step] = rate * gain;
    co[4 * step] = rate * on_d;
    co[5 * step] = -rate * rate * k;
    co[6 * step] = -rate * rate * (mean_Ex + share * gain * dtx);
    co[7 * step] = -rate * mean_E;
    *dgain = ex + dtx;
}

/* All blocks after the first, from the convolution's output z on. */

/* Statistics of one image: mean and rate of each of C channels. */
static void NAME(plane_stats)(const STORE *z, long pixels, int C, REAL eps, REAL *restrict mean,
                              REAL *restrict rate)
{
    REAL share = (REAL)1 / (REAL)pixels;
    EACH (int c = 0; c < C; c++) mean[c] = rate[c] = 0;
    for (long i = 0; i < pixels; i++)
        EACH (int c = 0; c < C; c++) mean[c] += LOAD(z + i * C + c);
    EACH (int c = 0; c < C; c++) mean[c] *= share;
    for (long i = 0; i < pixels; i++)
        EACH (int c = 0; c < C; c++) {
            REAL away = LOAD(z + i * C + c) - mean[c];
            rate[c] += away * away;
        }
    EACH (int c = 0; c < C; c++) rate[c] = 1 / ROOT(rate[c] * share + eps);
}

int NAME(forward)(int threads, int N, int h, int w, int C, REAL eps, const STORE *z,
                   const REAL *gain, const REAL *bias, STORE *a, REAL *mean, REAL *rate)
{
    int ph = h / 2, pw = w / 2;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int n = 0; n < N; n++) {
        const STORE *zn = z + (long)n * h * w * C;
        STORE *an = a + (long)n * ph * pw * C;
        REAL *restrict m = mean + (long)n * C, *restrict r = rate + (long)n * C;
        REAL scale[C], shift[C];
        NAME(plane_stats)(zn, (long)h * w, C, eps, m, r);
        EACH (int c = 0; c < C; c++) {
            scale[c] = gain[c] * r[c];
            shift[c] = bias[c] - scale[c] * m[c];
        }
        for (int y = 0; y < ph; y++)
            for (int x = 0; x < pw; x++) {
                const STORE *s = zn + ((long)2 * y * w + 2 * x) * C;
                STORE *o = an + ((long)y * pw + x) * C;
                long down = (long)w * C;
                EACH (int c = 0; c < C; c++) {
                    REAL u0 = scale[c] * LOAD(s + c) + shift[c];
                    REAL u1 = scale[c] * LOAD(s + C + c) + shift[c];
                    REAL u2 = scale[c] * LOAD(s + down + c) + shift[c];
                    REAL u3 = scale[c] * LOAD(s + down + C + c) + shift[c];
                    u0 = u0 < 0 ? 0 : u0;  /* keeps NaN */
                    u1 = u1 < 0 ? 0 : u1;
                    u2 = u2 < 0 ? 0 : u2;
                    u3 = u3 < 0 ? 0 : u3;
                    SAVE(o + c, (REAL)0.25 * ((u0 + u1) + (u2 + u3)));
                }
            }
    }
    return 0;
}

/* dgain and dbias hold N rows of C, one per image. */
int NAME(backward)(int threads, int N, int h, int w, int C, const STORE *z, const REAL *gain,
                    const REAL *bias, const REAL *mean, const REAL *rate, const STORE *P, STORE *p,
                    REAL *dgain, REAL *dbias)
{
    int ph = h / 2, pw = w / 2;
    REAL share = (REAL)1 / (REAL)((long)h * w);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int n = 0; n < N; n++) {
        const STORE *zn = z + (long)n * h * w * C;
        const STORE *Pn = P + (long)n * ph * pw * C;
        STORE *pn = p + (long)n * h * w * C;
        const REAL *m = mean + (long)n * C, *r = rate + (long)n * C;
        REAL *restrict sum_dx = dgain + (long)n * C, *restrict sum_d = dbias + (long)n * C;
        REAL scale[C], shift[C], mean_d[C], k[C];
        EACH (int c = 0; c < C; c++) {
            scale[c] = gain[c] * r[c];
            shift[c] = bias[c] - scale[c] * m[c];
            sum_d[c] = sum_dx[c] = 0;
        }
        for (int y = 0; y < 2 * ph; y++)
            for (int x = 0; x < 2 * pw; x++) {
                const STORE *s = zn + ((long)y * w + x) * C;
                const STORE *above = Pn + ((long)(y / 2) * pw + x / 2) * C;
                EACH (int c = 0; c < C; c++) {
                    REAL value = LOAD(s + c);
                    REAL live = scale[c] * value + shift[c] > 0 ? (REAL)0.25 : 0;
                    REAL d = live * LOAD(above + c);
                    sum_d[c] += d;
                    sum_dx[c] += d * ((value - m[c]) * r[c]);
                }
            }
        EACH (int c = 0; c < C; c++) {
            mean_d[c] = scale[c] * sum_d[c] * share;
            k[c] = scale[c] * sum_dx[c] * share;
        }
        for (int y = 0; y < h; y++)
            for (int x = 0; x < w; x++) {
                const STORE *s = zn + ((long)y * w + x) * C;
                const STORE *above = Pn + ((long)(y / 2) * pw + x / 2) * C;
                STORE *o = pn + ((long)y * w + x) * C;
                int pooled = y < 2 * ph && x < 2 * pw;
                if (pooled)
                    EACH (int c = 0; c < C; c++) {
                        REAL value = LOAD(s + c);
                        REAL live = scale[c] * value + shift[c] > 0 ? (REAL)0.25 : 0;
                    REAL d = live * LOAD(above + c);
                        SAVE(o + c, scale[c] * d - mean_d[c] - k[c] * ((value - m[c]) * r[c]));
                    }
                else
                    EACH (int c = 0; c < C; c++)
                        SAVE(o + c, -mean_d[c] - k[c] * ((LOAD(s + c) - m[c]) * r[c]));
            }
    }
    return 0;
}

/* stats holds four rows of C per image: mean, rate, tmean, slope. */
int NAME(tangent_forward)(int threads, int N, int h, int w, int C, REAL eps, const STORE *z,
                           const STORE *tz, const REAL *gain, const REAL *bias,
                           const REAL *tgain, const REAL *tbias, STORE *a, STORE *ta, REAL *stats)
{
    int ph = h / 2, pw = w / 2;
    REAL share = (REAL)1 / (REAL)((long)h * w);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int n = 0; n < N; n++) {
        long first = (long)n * h * w * C;
        const STORE *zn = z + first, *tzn = tz + first;
        STORE *an = a + (long)n * ph * pw * C, *tan = ta + (long)n * ph * pw * C;
        REAL *restrict m = stats + (long)n * 4 * C, *restrict r = m + C, *restrict tm = r + C,
                       *restrict slope = tm + C;
        REAL scale[C], shift[C], onx[C], tshift[C];
        NAME(plane_stats)(zn, (long)h * w, C, eps, m, r);
        EACH (int c = 0; c < C; c++) tm[c] = slope[c] = 0;
        for (long i = 0; i < (long)h * w; i++)
            EACH (int c = 0; c < C; c++) {
                REAL tangent = LOAD(tzn + i * C + c);
                tm[c] += tangent;
                slope[c] += tangent * (LOAD(zn + i * C + c) - m[c]);
            }
        EACH (int c = 0; c < C; c++) {
            tm[c] *= share;
            slope[c] *= share * r[c];
            scale[c] = gain[c] * r[c];
            shift[c] = bias[c] - scale[c] * m[c];
            /* tu = scale tz + onx x + tshift, x written out in z */
            onx[c] = (tgain[c] - scale[c] * slope[c]) * r[c];
            tshift[c] = tbias[c] - scale[c] * tm[c] - onx[c] * m[c];
        }
        for (int y = 0; y < ph; y++)
            for (int x = 0; x < pw; x++) {
                long i = ((long)2 * y * w + 2 * x) * C, j = i + (long)w * C;
                long out = ((long)y * pw + x) * C;
                EACH (int c = 0; c < C; c++) {
                    REAL sum = 0, tsum = 0;
#define CORNER(at)                                                     \
    {                                                                  \
        REAL value = LOAD(zn + at), tangent = LOAD(tzn + at);          \
        REAL u = scale[c] * value + shift[c];                          \
        REAL tu = scale[c] * tangent + onx[c] * value + tshift[c];          \
        sum += u < 0 ? 0 : u;                                          \
        tsum += u > 0 ? tu : 0;                                        \
    }
                    CORNER(i + c)
                    CORNER(i + C + c)
                    CORNER(j + c)
                    CORNER(j + C + c)
#undef CORNER
                    SAVE(an + out + c, (REAL)0.25 * sum);
                    SAVE(tan + out + c, (REAL)0.25 * tsum);
                }
            }
    }
    return 0;
}

/* dgain and dbias hold N rows of C. */
int NAME(tangent_backward)(int threads, int N, int h, int w, int C, const STORE *z,
                            const STORE *tz, const REAL *gain, const REAL *bias,
                            const REAL *tgain, const REAL *stats, const STORE *P, const STORE *Q,
                            STORE *p, STORE *q, REAL *dgain, REAL *dbias)
{
    int ph = h / 2, pw = w / 2;
    REAL share = (REAL)1 / (REAL)((long)h * w);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int n = 0; n < N; n++) {
        long first = (long)n * h * w * C, pfirst = (long)n * ph * pw * C;
        const STORE *zn = z + first, *tzn = tz + first;
        const STORE *Pn = P + pfirst, *Qn = Q + pfirst;
        STORE *pn = p + first, *qn = q + first;
        const REAL *m = stats + (long)n * 4 * C, *r = m + C, *tm = r + C, *slope = tm + C;
        REAL *restrict gsum = dgain + (long)n * C, *restrict esum = dbias + (long)n * C;
        REAL scale[C], shift[C], dsum[C], dxsum[C], exsum[C], dtsum[C];
        REAL co[8][C];
        EACH (int c = 0; c < C; c++) {
            scale[c] = gain[c] * r[c];
            shift[c] = bias[c] - scale[c] * m[c];
            dsum[c] = dxsum[c] = exsum[c] = dtsum[c] = esum[c] = 0;
        }
        for (int y = 0; y < 2 * ph; y++)
            for (int x = 0; x < 2 * pw; x++) {
                long i = ((long)y * w + x) * C, j = ((long)(y / 2) * pw + x / 2) * C;
                EACH (int c = 0; c < C; c++) {
                    REAL value = LOAD(zn + i + c), away = value - m[c];
                    REAL live = scale[c] * value + shift[c] > 0 ? (REAL)0.25 : 0;
                    REAL d = live * LOAD(Pn + j + c);
                    REAL e = live * LOAD(Qn + j + c);
                    dsum[c] += d;
                    dxsum[c] += d * away;
                    esum[c] += e;
                    exsum[c] += e * away;
                    dtsum[c] += d * LOAD(tzn + i + c);
                }
            }
        EACH (int c = 0; c < C; c++)
            NAME(combine)(gain[c], tgain[c], r[c], tm[c], slope[c], share, dsum[c],
                          dxsum[c] * r[c], esum[c], exsum[c] * r[c], dtsum[c], &co[0][c], C,
                          gsum + c);
        for (int y = 0; y < h; y++)
            for (int x = 0; x < w; x++) {
                int pooled = y < 2 * ph && x < 2 * pw;
                long i = ((long)y * w + x) * C, j = pooled ? ((long)(y / 2) * pw + x / 2) * C : 0;
                REAL quarter = pooled ? (REAL)0.25 : 0;
                EACH (int c = 0; c < C; c++) {
                    REAL value = LOAD(zn + i + c), away = value - m[c];
                    REAL live = scale[c] * value + shift[c] > 0 ? quarter : 0;
                    REAL d = live * LOAD(Pn + j + c);
                    REAL e = live * LOAD(Qn + j + c);
                    REAL tangent = LOAD(tzn + i + c);
                    SAVE(pn + i + c, co[0][c] * d + co[1][c] * away + co[2][c]);
                    SAVE(qn + i + c, co[3][c] * e + co[4][c] * d + co[5][c] * tangent + co[6][c] * away +
                                         co[7][c]);
                }
            }
    }
    return 0;
}
