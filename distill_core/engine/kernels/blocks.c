/* ConvNet blocks on the CPU for three kinds of numbers. The maths is in blocks.h (from the
 * convolution's output on), first.h (the first block, convolution included) and winograd.h (the
 * other convolutions). native.py compiles this file on first use and calls it through ctypes. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef _OPENMP
#include <omp.h>
#define THREAD_NUMBER omp_get_thread_num()
#else
#define THREAD_NUMBER 0
#endif

#define MAX_THREADS 256

/* Vectors are the processor's own: the compiler keeps wider ones in memory, five times slower. */
#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#define REGISTERS 32
#elif defined(__AVX__)
#define VECTOR_BYTES 32
#define REGISTERS 16
#elif defined(__aarch64__)
#define VECTOR_BYTES 16
#define REGISTERS 32
#else
#define VECTOR_BYTES 16
#define REGISTERS 16
#endif
#define EACH _Pragma("omp simd") for

/* On processors that do not multiply bfloat16 themselves, PyTorch is many times slower in it than
 * in float32. */
int multiplies_bfloat16(void)
{
#ifdef __AVX512BF16__
    return 1;
#else
    return 0;
#endif
}

static inline float load_bfloat16(const uint16_t *p)
{
    uint32_t bits = (uint32_t)*p << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

static inline void save_bfloat16(uint16_t *p, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, 4);
    *p = (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16); /* to nearest, ties to even */
}

#define LOAD(p) (*(p))
#define SAVE(p, v) (*(p) = (v))

#define REAL float
#define STORE float
#define ROOT sqrtf
#define NAME(x) x##_float32
#include "blocks.h"
#include "first.h"
#include "winograd.h"
#undef REAL
#undef STORE
#undef ROOT
#undef NAME

#define REAL double
#define STORE double
#define ROOT sqrt
#define NAME(x) x##_float64
#include "blocks.h"
#include "first.h"
#include "winograd.h"
#undef REAL
#undef STORE
#undef ROOT
#undef NAME

#undef LOAD
#undef SAVE
#define LOAD(p) load_bfloat16(p)
#define SAVE(p, v) save_bfloat16(p, v)

#define REAL float
#define STORE uint16_t
#define ROOT sqrtf
#define NAME(x) x##_bfloat16
#include "blocks.h"
#include "first.h"
