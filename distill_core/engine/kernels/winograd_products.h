/* Products of small matrices that stay in registers and caches, for one number type; included by
 * winograd.h. */

/* Products. Six rows by up to four vectors of columns are in registers; they must be named
 * variables, or the compiler keeps them in memory. */
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

#undef ALL_ROWS
#undef NEW
#undef OLD
#undef ADD
#undef PUT
#undef COLUMNS
#undef A_OF
