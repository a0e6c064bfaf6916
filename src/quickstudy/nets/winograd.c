/* 3x3 convolutions of stride 1 in the form F(2x2, 3x3), with the products that its derivatives are made of. The formulas
 * are in winograd.py.
 *
 * Maps lie channels-last, groups side by side. Tiles of 2x2 outputs are taken in blocks that fit a core's cache: their
 * windows are transformed, multiplied by the transformed weights, one product of matrices for each of the 16 places of
 * a window, and transformed back. Each sum is taken in an order that the number of threads does not change.
 */
#ifndef REAL

#include "product.h"

typedef struct {
    whole rows, groups, inputs, outputs; /* pictures; groups of channels, and the channels of one */
    whole height, width, padding;        /* of what goes in */
    whole turned;                        /* 1: convolve with the weights turned round, from `outputs` to `inputs` */
    whole threads;
} Shape;

#define SKEW 64 /* bytes between what belongs to two places of a window, lest all fall into one set of the cache */

#define REAL float
#define SUFFIX _f32
#include "winograd.c"
#undef REAL
#undef SUFFIX
#define REAL double
#define SUFFIX _f64
#include "winograd.c"

#else

#include "product.h"

/* Where the windows of a tile are: 4x4 places of x (or 2x2 of y), null where there is nothing. */
INLINE void NAMED(window)(const REAL *map, whole n, whole top, whole left, whole side, whole height, whole width,
                          whole apart, const REAL **at) {
    for (whole i = 0; i < side; i++)
        for (whole j = 0; j < side; j++) {
            const whole h = top + i, w = left + j;
            const whole in = h >= 0 && h < height && w >= 0 && w < width;
            at[i * side + j] = in ? map + ((n * height + h) * width + w) * apart : 0;
        }
}

/* V = Bᵀ d B of one tile, all channels of a group; `to` and `apart` say where its 16 numbers go. */
static void NAMED(spread)(const REAL *const *at, whole channels, REAL *to, whole apart) {
    for (whole c = 0; c < channels; c += LANES) {
        vec d[4][4], t[4][4];
#pragma GCC unroll 4
        for (whole i = 0; i < 4; i++)
#pragma GCC unroll 4
            for (whole j = 0; j < 4; j++)
                d[i][j] = at[i * 4 + j] ? NAMED(read)(at[i * 4 + j] + c, channels - c) : (vec){0};
#pragma GCC unroll 4
        for (whole j = 0; j < 4; j++) {
            t[0][j] = d[0][j] - d[2][j];
            t[1][j] = d[1][j] + d[2][j];
            t[2][j] = d[2][j] - d[1][j];
            t[3][j] = d[1][j] - d[3][j];
        }
#pragma GCC unroll 4
        for (whole i = 0; i < 4; i++) {
            NAMED(lay)(to + (i * 4 + 0) * apart + c, t[i][0] - t[i][2], LANES);
            NAMED(lay)(to + (i * 4 + 1) * apart + c, t[i][1] + t[i][2], LANES);
            NAMED(lay)(to + (i * 4 + 2) * apart + c, t[i][2] - t[i][1], LANES);
            NAMED(lay)(to + (i * 4 + 3) * apart + c, t[i][1] - t[i][3], LANES);
        }
    }
}

/* Z = A dy Aᵀ of one tile, likewise. */
static void NAMED(unfold)(const REAL *const *at, whole channels, REAL *to, whole apart) {
    for (whole c = 0; c < channels; c += LANES) {
        vec d[2][2], t[4][2];
#pragma GCC unroll 2
        for (whole i = 0; i < 2; i++)
#pragma GCC unroll 2
            for (whole j = 0; j < 2; j++)
                d[i][j] = at[i * 2 + j] ? NAMED(read)(at[i * 2 + j] + c, channels - c) : (vec){0};
#pragma GCC unroll 2
        for (whole j = 0; j < 2; j++) {
            t[0][j] = d[0][j];
            t[1][j] = d[0][j] + d[1][j];
            t[2][j] = d[0][j] - d[1][j];
            t[3][j] = -d[1][j];
        }
#pragma GCC unroll 4
        for (whole i = 0; i < 4; i++) {
            NAMED(lay)(to + (i * 4 + 0) * apart + c, t[i][0], LANES);
            NAMED(lay)(to + (i * 4 + 1) * apart + c, t[i][0] + t[i][1], LANES);
            NAMED(lay)(to + (i * 4 + 2) * apart + c, t[i][0] - t[i][1], LANES);
            NAMED(lay)(to + (i * 4 + 3) * apart + c, -t[i][1], LANES);
        }
    }
}

/* y = Aᵀ M A of one tile. */
static void NAMED(gather)(const REAL *from, whole apart, whole channels, REAL *const *at) {
    for (whole c = 0; c < channels; c += LANES) {
        vec t[2][4];
#pragma GCC unroll 4
        for (whole j = 0; j < 4; j++) {
            vec m[4];
#pragma GCC unroll 4
            for (whole i = 0; i < 4; i++) m[i] = NAMED(read)(from + (i * 4 + j) * apart + c, LANES);
            t[0][j] = m[0] + m[1] + m[2];
            t[1][j] = m[1] - m[2] - m[3];
        }
#pragma GCC unroll 2
        for (whole i = 0; i < 2; i++) {
            if (at[i * 2]) NAMED(lay)(at[i * 2] + c, t[i][0] + t[i][1] + t[i][2], channels - c);
            if (at[i * 2 + 1]) NAMED(lay)(at[i * 2 + 1] + c, t[i][1] - t[i][2] - t[i][3], channels - c);
        }
    }
}

/* U = G g Gᵀ of the weights [to, from, 3, 3] between one channel and a vector of others, and its way back, in place. */
INLINE void NAMED(whole_weights)(const vec g[9], vec u[16]) {
    vec t[4][3];
#pragma GCC unroll 3
    for (whole j = 0; j < 3; j++) {
        const vec half = (REAL)0.5 * (g[j] + g[6 + j]), middle = (REAL)0.5 * g[3 + j];
        t[0][j] = g[j];
        t[1][j] = half + middle;
        t[2][j] = half - middle;
        t[3][j] = g[6 + j];
    }
#pragma GCC unroll 4
    for (whole i = 0; i < 4; i++) {
        const vec half = (REAL)0.5 * (t[i][0] + t[i][2]), middle = (REAL)0.5 * t[i][1];
        u[i * 4 + 0] = t[i][0];
        u[i * 4 + 1] = half + middle;
        u[i * 4 + 2] = half - middle;
        u[i * 4 + 3] = t[i][2];
    }
}

INLINE void NAMED(weights_back)(const vec p[16], vec g[9]) {
    vec t[3][4];
#pragma GCC unroll 4
    for (whole j = 0; j < 4; j++) {
        const vec sum = (REAL)0.5 * (p[4 + j] + p[8 + j]);
        t[0][j] = p[j] + sum;
        t[1][j] = (REAL)0.5 * (p[4 + j] - p[8 + j]);
        t[2][j] = sum + p[12 + j];
    }
#pragma GCC unroll 3
    for (whole i = 0; i < 3; i++) {
        const vec sum = (REAL)0.5 * (t[i][1] + t[i][2]);
        g[i * 3 + 0] = t[i][0] + sum;
        g[i * 3 + 1] = (REAL)0.5 * (t[i][1] - t[i][2]);
        g[i * 3 + 2] = sum + t[i][3];
    }
}

/* The transformed weights of all groups, [groups, 16, from, filled(to)]. */
static void NAMED(transform)(const Shape *s, const REAL *w, REAL *to) {
    const whole I = s->inputs, O = s->outputs, a = s->turned ? O : I, b = s->turned ? I : O, B = FILLED(b);
    const whole b_step = s->turned ? 9 : 9 * I, a_step = s->turned ? 9 * I : 9;
#pragma omp parallel for schedule(static) num_threads((int)s->threads) if (s->threads > 1)
    for (whole n = 0; n < s->groups * a; n++) {
        const whole group = n / a, i = n % a;
        const REAL *from = w + group * O * I * 9 + i * a_step;
        REAL *out = to + group * 16 * a * B + i * B;
        for (whole c = 0; c < b; c += LANES) {
            const whole full = b - c < LANES ? b - c : LANES;
            REAL laid[9][BYTES / sizeof(REAL)] __attribute__((aligned(BYTES)));
            vec g[9], u[16];
            memset(laid, 0, sizeof laid);
            for (whole l = 0; l < full; l++)
                for (whole t = 0; t < 9; t++) laid[s->turned ? 8 - t : t][l] = from[(c + l) * b_step + t];
            memcpy(g, laid, sizeof laid);
            NAMED(whole_weights)(g, u);
#pragma GCC unroll 16
            for (whole t = 0; t < 16; t++) NAMED(lay)(out + t * a * B + c, u[t], LANES);
        }
    }
}

#define TILES                                                                                                          \
    const whole I = s->inputs, O = s->outputs, G = s->groups;                                                          \
    const whole tall = s->height + 2 * s->padding - 2, wide = s->width + 2 * s->padding - 2;                           \
    const whole down = (tall + 1) / 2, across = (wide + 1) / 2, tiles = s->rows * down * across;                       \
    const whole blocks = (tiles + BLOCK - 1) / BLOCK;                                                                  \
    const whole A = FILLED(s->turned ? O : I), B = FILLED(s->turned ? I : O);                                          \
    const whole A_PLACE = BLOCK * A + SKEW / (whole)sizeof(REAL), B_PLACE = BLOCK * B + SKEW / (whole)sizeof(REAL);
/* Picture and corner of tile t. */
#define PLACE const whole n = t / (down * across), i = t / across % down * 2, j = t % across * 2;

/* y = x * w; of shape `s` as seen from x, so that `turned` exchanges the channels that go in and come out. */
void NAMED(convolve)(const Shape *s, const REAL *x, const REAL *w, REAL *transformed, REAL *room, REAL *y) {
    TILES
    const whole a = s->turned ? O : I, b = s->turned ? I : O;
    NAMED(transform)(s, w, transformed);
#pragma omp parallel for schedule(static) num_threads((int)s->threads) if (s->threads > 1)
    for (whole work = 0; work < G * blocks; work++) {
        const whole group = work / blocks, first = work % blocks * BLOCK;
        const whole count = tiles - first < BLOCK ? tiles - first : BLOCK;
        REAL *in = room + (whole)THREAD * 16 * (A_PLACE + B_PLACE), *out = in + 16 * A_PLACE;
        for (whole k = 0; k < count; k++) {
            const whole t = first + k;
            const REAL *at[16];
            PLACE
            NAMED(window)(x + group * a, n, i - s->padding, j - s->padding, 4, s->height, s->width, G * a, at);
            NAMED(spread)(at, a, in + k * A, A_PLACE);
        }
        for (whole p = 0; p < 16; p++)
            NAMED(product)(count, a, B, in + p * A_PLACE, A, 1, transformed + (group * 16 + p) * a * B, B,
                           out + p * B_PLACE, B, 0);
        for (whole k = 0; k < count; k++) {
            const whole t = first + k;
            const REAL *at[4];
            PLACE
            NAMED(window)(y + group * b, n, i, j, 2, tall, wide, G * b, at);
            NAMED(gather)(out + k * B, B_PLACE, b, (REAL *const *)at);
        }
    }
}

/* dw, of x and dy. */
void NAMED(correlate)(const Shape *s, const REAL *x, const REAL *dy, REAL *sums, REAL *room, REAL *dw) {
    TILES
    REAL *in = room, *out = in + 16 * A_PLACE;
#pragma omp parallel num_threads((int)s->threads) if (s->threads > 1)
    for (whole group = 0; group < G; group++) {
        for (whole block = 0; block < blocks; block++) {
            const whole first = block * BLOCK, count = tiles - first < BLOCK ? tiles - first : BLOCK;
#pragma omp for schedule(static)
            for (whole k = 0; k < count; k++) {
                const whole t = first + k;
                const REAL *at[16];
                PLACE
                NAMED(window)(x + group * I, n, i - s->padding, j - s->padding, 4, s->height, s->width, G * I, at);
                NAMED(spread)(at, I, in + k * A, A_PLACE);
                NAMED(window)(dy + group * O, n, i, j, 2, tall, wide, G * O, at);
                NAMED(unfold)(at, O, out + k * B, B_PLACE);
            }
#pragma omp for schedule(static)
            for (whole p = 0; p < 16; p++)
                NAMED(product)(I, count, B, in + p * A_PLACE, 1, A, out + p * B_PLACE, B, sums + p * I * B, B,
                               block > 0);
        }
#pragma omp for schedule(static)
        for (whole i = 0; i < I; i++)
            for (whole c = 0; c < O; c += LANES) {
                const whole full = O - c < LANES ? O - c : LANES;
                vec p[16], g[9];
                REAL laid[9][BYTES / sizeof(REAL)];
#pragma GCC unroll 16
                for (whole t = 0; t < 16; t++) p[t] = NAMED(read)(sums + (t * I + i) * B + c, LANES);
                NAMED(weights_back)(p, g);
                memcpy(laid, g, sizeof laid);
                for (whole l = 0; l < full; l++)
                    for (whole t = 0; t < 9; t++) dw[((group * O + c + l) * I + i) * 9 + t] = laid[t][l];
            }
    }
}

#undef vec
#undef LANES
#undef FILLED
#undef TILES
#undef PLACE

#endif
