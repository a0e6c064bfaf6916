/* 3x3 convolutions with strides, and the products that their derivatives are made of, over patches of the maps.
 *
 * Maps lie channels-last, groups side by side. Outputs are taken in blocks that fit a core's cache: their patches are
 * laid side by side and multiplied by the weights, one product of matrices for each of the 9 places of a window. Each
 * sum is taken in an order that the number of threads does not change.
 */
#ifndef REAL

#include "product.h"

typedef struct {
    whole rows, groups, inputs, outputs; /* pictures; groups of channels, and the channels of one */
    whole height, width, padding;        /* of what goes in */
    whole stride, threads;
} Shape;

#define REAL float
#define SUFFIX _f32
#include "strided.c"
#undef REAL
#undef SUFFIX
#define REAL double
#define SUFFIX _f64
#include "strided.c"

#else

#include "product.h"

#define SIZES                                                                                                          \
    const whole I = s->inputs, O = s->outputs, G = s->groups, A = FILLED(I), B = FILLED(O);                            \
    const whole down = (s->height + 2 * s->padding - 3) / s->stride + 1;                                               \
    const whole across = (s->width + 2 * s->padding - 3) / s->stride + 1, places = down * across;                      \
    (void)A, (void)B;
#define IN_TURN _Pragma("omp for schedule(static)")

/* Where tap t of output p's window lies in a map of `apart` numbers a place; -1: in the border. */
INLINE whole NAMED(tap)(const Shape *s, whole p, whole t, whole places, whole across, whole apart) {
    const whole n = p / places, at = p % places;
    const whole h = at / across * s->stride - s->padding + t / 3, w = at % across * s->stride - s->padding + t % 3;
    if (h < 0 || h >= s->height || w < 0 || w >= s->width) return -1;
    return ((n * s->height + h) * s->width + w) * apart;
}

/* The patch of output p, [9, A]. */
static void NAMED(patch)(const Shape *s, const REAL *x, whole p, whole places, whole across, REAL *to) {
    const whole I = s->inputs, A = FILLED(I);
    for (whole t = 0; t < 9; t++) {
        const whole at = NAMED(tap)(s, p, t, places, across, s->groups * I);
        if (at < 0)
            memset(to + t * A, 0, (size_t)I * sizeof(REAL));
        else
            memcpy(to + t * A, x + at, (size_t)I * sizeof(REAL));
    }
}

/* The weights of all groups, [groups, 9, I, B], or turned, [groups, 9, O, A]. */
static void NAMED(laid)(const Shape *s, const REAL *w, whole turned, REAL *to) {
    SIZES
    const whole a = turned ? O : I, b = turned ? I : O, filled = turned ? A : B;
#pragma omp parallel for schedule(static) num_threads((int)s->threads) if (s->threads > 1)
    for (whole n = 0; n < G * a; n++) {
        const whole group = n / a, i = n % a;
        for (whole t = 0; t < 9; t++) {
            REAL *out = to + ((group * 9 + t) * a + i) * filled;
            for (whole c = 0; c < filled; c++) {
                const whole o = turned ? i : c, k = turned ? c : i;
                out[c] = c < b ? w[((group * O + o) * I + k) * 9 + t] : 0;
            }
        }
    }
}

/* y = x * w. */
void NAMED(convolve)(const Shape *s, const REAL *x, const REAL *w, REAL *weights, REAL *room, REAL *y) {
    SIZES
    const whole all = s->rows * places, blocks = (all + BLOCK - 1) / BLOCK;
    NAMED(laid)(s, w, 0, weights);
#pragma omp parallel for schedule(static) num_threads((int)s->threads) if (s->threads > 1)
    for (whole work = 0; work < G * blocks; work++) {
        const whole group = work / blocks, first = work % blocks * BLOCK;
        const whole count = all - first < BLOCK ? all - first : BLOCK;
        REAL *in = room + (whole)THREAD * BLOCK * (9 * A + B), *out = in + BLOCK * 9 * A;
        for (whole k = 0; k < count; k++) NAMED(patch)(s, x + group * I, first + k, places, across, in + k * 9 * A);
        for (whole t = 0; t < 9; t++)
            NAMED(product)(count, I, B, in + t * A, 9 * A, 1, weights + (group * 9 + t) * I * B, B, out, B, t > 0);
        for (whole k = 0; k < count; k++)
            memcpy(y + ((first + k) * G + group) * O, out + k * B, (size_t)O * sizeof(REAL));
    }
}

/* dx, which must be zeros; of whole pictures at a time, as windows overlap. */
void NAMED(spread)(const Shape *s, const REAL *dy, const REAL *w, REAL *weights, REAL *room, REAL *dx) {
    SIZES
    const whole chunk = places < BLOCK ? BLOCK / places : 1, chunks = (s->rows + chunk - 1) / chunk;
    NAMED(laid)(s, w, 1, weights);
#pragma omp parallel for schedule(static) num_threads((int)s->threads) if (s->threads > 1)
    for (whole work = 0; work < G * chunks; work++) {
        const whole group = work / chunks, from = work % chunks * chunk * places;
        const whole end = from + chunk * places < s->rows * places ? from + chunk * places : s->rows * places;
        REAL *out = room + (whole)THREAD * BLOCK * 9 * A;
        for (whole first = from; first < end; first += BLOCK) {
            const whole count = end - first < BLOCK ? end - first : BLOCK;
            for (whole t = 0; t < 9; t++)
                NAMED(product)(count, O, A, dy + (first * G + group) * O, G * O, 1,
                               weights + (group * 9 + t) * O * A, A, out + t * A, 9 * A, 0);
            for (whole k = 0; k < count; k++)
                for (whole t = 0; t < 9; t++) {
                    const whole at = NAMED(tap)(s, first + k, t, places, across, G * I);
                    if (at < 0) continue;
                    REAL *to = dx + at + group * I;
                    const REAL *more = out + (k * 9 + t) * A;
                    for (whole c = 0; c < I; c++) to[c] += more[c];
                }
        }
    }
}

/* dw. */
void NAMED(correlate)(const Shape *s, const REAL *x, const REAL *dy, REAL *sums, REAL *room, REAL *dw) {
    SIZES
    const whole all = s->rows * places;
    REAL *in = room, *out = in + BLOCK * 9 * A;
#pragma omp parallel num_threads((int)s->threads) if (s->threads > 1)
    for (whole group = 0; group < G; group++) {
        for (whole first = 0; first < all; first += BLOCK) {
            const whole count = all - first < BLOCK ? all - first : BLOCK;
            IN_TURN
            for (whole k = 0; k < count; k++) {
                NAMED(patch)(s, x + group * I, first + k, places, across, in + k * 9 * A);
                for (whole c = O; c < B; c++) out[k * B + c] = 0;
                memcpy(out + k * B, dy + ((first + k) * G + group) * O, (size_t)O * sizeof(REAL));
            }
            IN_TURN
            for (whole t = 0; t < 9; t++)
                NAMED(product)(I, count, B, in + t * A, 1, 9 * A, out, B, sums + t * I * B, B, first > 0);
        }
        IN_TURN
        for (whole i = 0; i < I; i++)
            for (whole o = 0; o < O; o++)
                for (whole t = 0; t < 9; t++) dw[((group * O + o) * I + i) * 9 + t] = sums[(t * I + i) * B + o];
    }
}

#undef vec
#undef LANES
#undef FILLED
#undef SIZES
#undef IN_TURN

#endif
