/* Winograd's transforms of single tiles, for one number type; included by winograd.h, which has the
 * maths and the names used here. */

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
 * which share their terms; this way a whole transform fits the registers, without scratch. The
 * result is 12 points in the order of the pair's rows, `step` numbers apart. */
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

/* Row of points at the place given by `pair` and `lower` in the order above. */
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

/* The same for a tile r of the gradient, into panels of `rows` rows. */
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

/* `count` channels from `from` on, of one tile of the result. */
static NEVER void NAME(output_tile)(const REAL *m, long step, REAL *const *to, long from,
                                    long count)
{
    long c = 0;
    for (; c + LANES <= count; c += LANES)
        NAME(output_vector)(m + c, step, to, from + c, LANES);
    if (c < count) NAME(output_vector)(m + c, step, to, from + c, count - c);
}

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
#undef PLACE_0
#undef PLACE_5
#undef PLACE_1
#undef PLACE_2
#undef PLACE_3
#undef PLACE_4
#undef A_BACK
#undef M
