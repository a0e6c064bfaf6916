/* Products of small matrices, for convolutions. Included twice by each of their files: before a type is chosen, and for
 * each type that REAL and SUFFIX name.
 */
#ifndef REAL

#include <stdint.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#define THREAD omp_get_thread_num()
#else
#define THREAD 0
#endif

typedef int64_t whole;

#if defined(__AVX512F__)
#define BYTES 64 /* of a vector, as wide as the processor's registers */
#define PANEL 4  /* vectors side by side in a product; 6 rows of them stay in registers */
#elif defined(__AVX__)
#define BYTES 32
#define PANEL 2
#elif defined(__aarch64__)
#define BYTES 16
#define PANEL 4
#else
#define BYTES 16
#define PANEL 2
#endif
#define BLOCK 48 /* rows of a product that are taken together; as in products.py */
#define INLINE static inline __attribute__((always_inline))
#define GLUED(name, suffix) name##suffix
#define JOINED(name, suffix) GLUED(name, suffix)
#define NAMED(name) JOINED(name, SUFFIX)

#else

#define LANES ((whole)(BYTES / sizeof(REAL)))
#define FILLED(n) (((n) + LANES - 1) / LANES * LANES)
typedef REAL NAMED(vec) __attribute__((vector_size(BYTES)));
#define vec NAMED(vec)

INLINE vec NAMED(read)(const REAL *from, whole n) {
    vec v = {0};
    if (n >= LANES)
        memcpy(&v, from, sizeof v);
    else
        memcpy(&v, from, (size_t)n * sizeof(REAL));
    return v;
}

INLINE void NAMED(lay)(REAL *to, vec v, whole n) {
    if (n >= LANES)
        memcpy(to, &v, sizeof v);
    else
        memcpy(to, &v, (size_t)n * sizeof(REAL));
}

/* c[R][across vectors] = (c +) Σ over steps of a[r] b; R and `across` are constants where it is called. */
INLINE void NAMED(rows)(const whole R, const whole across, whole steps, const REAL *a, whole a_row, whole a_step,
                        const REAL *b, whole b_step, REAL *c, whole c_row, whole more) {
    vec sum[12][PANEL];
#pragma GCC unroll 12
    for (whole r = 0; r < R; r++)
#pragma GCC unroll 4
        for (whole v = 0; v < across; v++)
            sum[r][v] = more ? NAMED(read)(c + r * c_row + v * LANES, LANES) : (vec){0};
    for (whole k = 0; k < steps; k++) {
        vec line[PANEL];
#pragma GCC unroll 4
        for (whole v = 0; v < across; v++) line[v] = NAMED(read)(b + k * b_step + v * LANES, LANES);
#pragma GCC unroll 12
        for (whole r = 0; r < R; r++)
#pragma GCC unroll 4
            for (whole v = 0; v < across; v++) sum[r][v] += a[r * a_row + k * a_step] * line[v];
    }
#pragma GCC unroll 12
    for (whole r = 0; r < R; r++)
#pragma GCC unroll 4
        for (whole v = 0; v < across; v++) NAMED(lay)(c + r * c_row + v * LANES, sum[r][v], LANES);
}

/* One panel of columns of a product of matrices, as many rows at a time as registers hold. */
INLINE void NAMED(panel)(const whole across, whole n, whole steps, const REAL *a, whole a_row, whole a_step,
                         const REAL *b, whole b_step, REAL *c, whole c_row, whole more) {
    const whole most = across * 2 <= PANEL ? 12 : 6;
    whole r = 0;
#define TAKE(R)                                                                                                        \
    for (; r + R <= n; r += R)                                                                                         \
    NAMED(rows)(R, across, steps, a + r * a_row, a_row, a_step, b, b_step, c + r * c_row, c_row, more)
    if (most == 12) TAKE(12);
    TAKE(6);
    TAKE(4);
    TAKE(2);
    TAKE(1);
#undef TAKE
}

/* c[n][columns] = (c +) a[n][steps] b[steps][columns]; the columns are filled up to whole vectors. */
static void NAMED(product)(whole n, whole steps, whole columns, const REAL *a, whole a_row, whole a_step, const REAL *b,
                           whole b_step, REAL *c, whole c_row, whole more) {
    for (whole v = 0; v < columns; v += PANEL * LANES) {
        const whole left = (columns - v) / LANES;
#define TAKE(across) NAMED(panel)(across, n, steps, a, a_row, a_step, b + v, b_step, c + v, c_row, more)
#if PANEL == 4
        if (left >= 4)
            TAKE(4);
        else if (left == 3)
            TAKE(3);
        else
#endif
            if (left >= 2)
            TAKE(2);
        else
            TAKE(1);
#undef TAKE
    }
}

#endif
