/* The first block of a network: a 3x3 convolution of pictures that need no derivative, batch norm over a group of
 * pictures, 2x2 max-pooling or none, and ReLU; with its first and second derivative. The formulas are in stem.py.
 *
 * The convolution's map is never laid down: its moments come from those of the pictures' patches, and of each window
 * only the extreme value is kept. Sums are taken row by row, then in double and picture by picture in a fixed order, so
 * that the number of threads changes nothing.
 */
#ifndef REAL

#include <math.h>
#include <stdint.h>
#include <string.h>

typedef int64_t whole;

typedef struct {
    whole groups, pictures, inputs, height, width, channels;
    whole picture_stride, input_stride, row_stride, column_stride; /* of the pictures, in numbers */
    whole pooled, stride, padding;
    whole own_weights; /* 1: each group has weights of its own */
    whole beside;      /* 1: what is put out has the groups side by side, as channels of one row */
    double eps;
} Shape;

#define BYTES 64 /* of a vector; compilers split it where a processor's are shorter */
#define MOST_TAPS 36
#define LINE 64 /* places of a row that are looked at together */
#define SIDE 8  /* sums side by side */
#define PLACES 4
#define FEW 16384 /* numbers below which threads would cost more than they do */
#define OVER_PICTURES _Pragma("omp parallel for schedule(static) if (count * down * across * C > FEW)")
#define OPENED                                                                                                         \
    const whole C = s->channels, P = (C + LANES - 1) / LANES * LANES, taps = 9 * s->inputs;                            \
    const whole count = s->groups * s->pictures;                                                                       \
    const whole tall = s->height + 2 * s->padding, wide = s->width + 2 * s->padding;                                   \
    const whole rows = (tall - 3) / s->stride + 1, columns = (wide - 3) / s->stride + 1;                               \
    const whole down = s->pooled ? rows / 2 : rows, across = s->pooled ? columns / 2 : columns;                        \
    const whole small = down * across * C, step = s->pooled ? 2 : s->stride;                                           \
    const double total = (double)(s->pictures * rows * columns);                                                       \
    const whole apart = s->beside ? s->groups * C : C; /* of two places in what is put out */                          \
    (void)P, (void)count, (void)small, (void)step, (void)total, (void)apart;
/* Where picture r begins in what is put out. */
#define FIRST (s->beside ? (r % s->pictures) * s->groups * small + r / s->pictures * C : r * small)
#define GLUED(name, suffix) name##suffix
#define JOINED(name, suffix) GLUED(name, suffix)
#define NAMED(name) JOINED(name, SUFFIX)

#define REAL float
#define INDEX int32_t
#define SUFFIX _f32
#define LANES 16
#include "stem.c"
#undef REAL
#undef INDEX
#undef SUFFIX
#undef LANES
#define REAL double
#define INDEX int64_t
#define SUFFIX _f64
#define LANES 8
#include "stem.c"

#else

typedef REAL NAMED(vec) __attribute__((vector_size(BYTES)));
typedef INDEX NAMED(lanes) __attribute__((vector_size(BYTES)));
typedef uint8_t NAMED(octets) __attribute__((vector_size(LANES)));
#define vec NAMED(vec)
#define lanes NAMED(lanes)
#define octets NAMED(octets)

static inline vec NAMED(read)(const REAL *from, whole n) {
    vec v = {0};
    if (n >= LANES)
        memcpy(&v, from, sizeof v);
    else
        memcpy(&v, from, (size_t)n * sizeof(REAL));
    return v;
}

static inline void NAMED(lay)(REAL *to, vec v, whole n) {
    if (n >= LANES)
        memcpy(to, &v, sizeof v);
    else
        memcpy(to, &v, (size_t)n * sizeof(REAL));
}

static inline lanes NAMED(places)(const uint8_t *from, whole n) {
    octets k = {0};
    if (n >= LANES)
        memcpy(&k, from, sizeof k);
    else
        memcpy(&k, from, (size_t)n);
    return __builtin_convertvector(k, lanes);
}

static inline vec NAMED(choose)(lanes mask, vec a, vec b) {
    return (vec)((mask & (lanes)a) | (~mask & (lanes)b));
}

/* Picture r with its border of zeros, one input after the other, in room for all pictures. */
static const REAL *NAMED(bordered)(const Shape *s, const REAL *pictures, whole r, REAL *room) {
    const whole wide = s->width + 2 * s->padding, tall = s->height + 2 * s->padding;
    REAL *made = room + r * s->inputs * tall * wide;
    memset(made, 0, (size_t)(s->inputs * tall * wide) * sizeof(REAL));
    for (whole i = 0; i < s->inputs; i++)
        for (whole h = 0; h < s->height; h++) {
            const REAL *from = pictures + r * s->picture_stride + i * s->input_stride + h * s->row_stride;
            REAL *to = made + (i * tall + h + s->padding) * wide + s->padding;
            for (whole w = 0; w < s->width; w++) to[w] = from[w * s->column_stride];
        }
    return made;
}

/* From [C, taps] to [taps, P]. */
static void NAMED(turned)(const REAL *weights, whole C, whole P, whole taps, REAL *to) {
    for (whole t = 0; t < taps; t++)
        for (whole c = 0; c < P; c++) to[t * P + c] = c < C ? weights[c * taps + t] : 0;
}

/* The patches' sums [taps] and sums of products [taps, taps] of one picture; products on and above the diagonal. */
static void NAMED(patches)(const Shape *s, const REAL *picture, double *restrict sums, double *restrict products) {
    OPENED
    double line[MOST_TAPS][LINE], met[MOST_TAPS * (MOST_TAPS + 1) / 2][SIDE], sum[MOST_TAPS][SIDE];
    memset(met, 0, (size_t)(taps * (taps + 1) / 2) * sizeof met[0]);
    memset(sum, 0, (size_t)taps * sizeof sum[0]);
    for (whole i = 0; i < rows; i++)
        for (whole from = 0; from < columns; from += LINE) {
            const whole n = columns - from < LINE ? columns - from : LINE, full = (n + SIDE - 1) / SIDE * SIDE;
            for (whole t = 0; t < taps; t++) {
                const REAL *restrict first = picture + (t / 9 * tall + i * s->stride + t % 9 / 3) * wide + t % 3;
                for (whole j = 0; j < n; j++) line[t][j] = (double)first[(from + j) * s->stride];
                for (whole j = n; j < full; j++) line[t][j] = 0;
            }
            double(*to)[SIDE] = met;
            for (whole t = 0; t < taps; t++) {
                const double *restrict one = line[t];
                for (whole j = 0; j < full; j += SIDE)
                    for (whole l = 0; l < SIDE; l++) sum[t][l] += one[j + l];
                for (whole u = t; u < taps; u++, to++) {
                    const double *restrict other = line[u];
                    double product[SIDE];
                    for (whole l = 0; l < SIDE; l++) product[l] = (*to)[l];
                    for (whole j = 0; j < full; j += SIDE)
                        for (whole l = 0; l < SIDE; l++) product[l] += one[j + l] * other[j + l];
                    for (whole l = 0; l < SIDE; l++) (*to)[l] = product[l];
                }
            }
        }
    const double(*found)[SIDE] = met;
    for (whole t = 0; t < taps; t++) {
        sums[t] = 0;
        for (whole l = 0; l < SIDE; l++) sums[t] += sum[t][l];
        for (whole u = t; u < taps; u++, found++) {
            products[t * taps + u] = 0;
            for (whole l = 0; l < SIDE; l++) products[t * taps + u] += (*found)[l];
        }
    }
}

/* The four values of a window, or the one where nothing is pooled; `corner` is its first number in the picture. */
static inline void NAMED(values)(const Shape *s, const REAL *restrict weights, whole P, const REAL *restrict corner,
                                 whole tall, whole wide, vec *restrict v) {
    vec v0 = {0}, v1 = {0}, v2 = {0}, v3 = {0};
    for (whole i = 0; i < s->inputs; i++, corner += tall * wide)
        for (whole d = 0; d < 3; d++) {
            const REAL *restrict q = corner + d * wide;
            for (whole e = 0; e < 3; e++, weights += P, q++) {
                const vec w = NAMED(read)(weights, LANES);
                v0 += w * q[0];
                if (s->pooled) {
                    v1 += w * q[1];
                    v2 += w * q[wide];
                    v3 += w * q[wide + 1];
                }
            }
        }
    v[0] = v0, v[1] = v1, v[2] = v2, v[3] = v3;
}

/* Moments of the convolution's map from those of the patches, and scale and shift of its norm, for one group.
 * products: centred and made symmetric here. */
static void NAMED(moments)(const Shape *s, const REAL *weights, double *sums, double *products, double total, whole C,
                           whole taps, REAL *mean, REAL *var) {
    for (whole t = 0; t < taps; t++)
        for (whole u = t; u < taps; u++) {
            products[t * taps + u] -= sums[t] * sums[u] / total;
            products[u * taps + t] = products[t * taps + u];
        }
    (void)s;
    for (whole c = 0; c < C; c++) {
        double m = 0, squares = 0;
        for (whole t = 0; t < taps; t++) {
            double inner = 0;
            for (whole u = 0; u < taps; u++) inner += products[t * taps + u] * (double)weights[c * taps + u];
            squares += inner * (double)weights[c * taps + t];
            m += sums[t] * (double)weights[c * taps + t];
        }
        mean[c] = (REAL)(m / total);
        var[c] = (REAL)(squares < 0 ? 0 : squares / total); /* NaN stays */
    }
}

/* pictures -> y; and mean, var [G, C], where the extremes stand, and the patches' sums [G, taps], and products about
 * their means [G, taps, taps]. */
void NAMED(forward)(const Shape *s, const REAL *restrict pictures, const REAL *restrict weights,
                    const REAL *restrict scale, const REAL *restrict shift, double *restrict partial,
                    REAL *restrict room, REAL *restrict turned, REAL *restrict y, uint8_t *restrict where, REAL *restrict mean,
                    REAL *restrict var, double *restrict sums, double *restrict products) {
    OPENED
    const whole own = s->own_weights, each = taps + taps * taps;
    for (whole g = 0; g < (own ? s->groups : 1); g++)
        NAMED(turned)(weights + g * C * taps, C, P, taps, turned + g * P * taps);
    OVER_PICTURES
    for (whole r = 0; r < count; r++) {
        const whole g = own ? r / s->pictures : 0;
        const REAL *picture = NAMED(bordered)(s, pictures, r, room);
        const REAL *restrict w = turned + g * P * taps, *restrict sign = scale + g * C;
        NAMED(patches)(s, picture, partial + r * each, partial + r * each + taps);
        for (whole i = 0; i < down; i++)
            for (whole j = 0; j < across; j++) {
                const REAL *corner = picture + i * step * wide + j * step;
                REAL *to = y + FIRST + (i * across + j) * apart;
                uint8_t *place = where + FIRST + (i * across + j) * apart;
                for (whole c = 0; c < C; c += LANES) {
                    const whole n = C - c;
                    vec v[4];
                    NAMED(values)(s, w + c, P, corner, tall, wide, v);
                    if (!s->pooled) {
                        NAMED(lay)(to + c, v[0], n);
                        continue;
                    }
                    const vec zero = {0};
                    const lanes down_wards = NAMED(read)(sign + c, n) < zero;
                    vec best = NAMED(choose)(down_wards, -v[0], v[0]);
                    lanes k = {0};
                    for (INDEX q = 1; q < 4; q++) { /* NaN wins and stays, and of equals the first */
                        const vec next = NAMED(choose)(down_wards, -v[q], v[q]);
                        const lanes better = (next > best) | (next != next);
                        best = NAMED(choose)(better, next, best);
                        k = (better & q) | (~better & k);
                    }
                    NAMED(lay)(to + c, NAMED(choose)(down_wards, -best, best), n);
                    const octets bytes = __builtin_convertvector(k, octets);
                    memcpy(place + c, &bytes, (size_t)(n >= LANES ? LANES : n));
                }
            }
    }
    for (whole g = 0; g < s->groups; g++) {
        double *total_sums = sums + g * taps, *total_products = products + g * taps * taps;
        for (whole t = 0; t < taps; t++) total_sums[t] = 0;
        for (whole t = 0; t < taps * taps; t++) total_products[t] = 0;
        for (whole r = g * s->pictures; r < (g + 1) * s->pictures; r++) {
            for (whole t = 0; t < taps; t++) total_sums[t] += partial[r * each + t];
            for (whole t = 0; t < taps * taps; t++) total_products[t] += partial[r * each + taps + t];
        }
        NAMED(moments)(s, weights + own * g * C * taps, total_sums, total_products, total, C, taps, mean + g * C,
                       var + g * C);
    }
    OVER_PICTURES
    for (whole r = 0; r < count; r++) {
        const whole g = r / s->pictures;
        REAL *restrict out = y + FIRST;
        for (whole c = 0; c < C; c += LANES) {
            const whole n = C - c < LANES ? C - c : LANES;
            REAL a[LANES] = {0}, b[LANES] = {0};
            for (whole l = 0; l < n; l++) {
                const whole at = own * g * C + c + l, it = g * C + c + l;
                const double by = scale[at] / sqrt((double)var[it] + s->eps);
                a[l] = (REAL)by;
                b[l] = (REAL)(shift[at] - mean[it] * by);
            }
            const vec by = NAMED(read)(a, LANES), plus = NAMED(read)(b, LANES), zero = {0};
            for (whole i = 0; i < down * across; i++) {
                REAL *at = out + i * apart + c;
                const vec z = NAMED(read)(at, n) * by + plus;
                NAMED(lay)(at, NAMED(choose)(z <= zero, zero, z), n);
            }
        }
    }
}

/* dy -> the derivatives of the convolution's weights [G, C, taps] and of the norm's scale and shift [G, C]; and
 * chosen [G, C, taps], the sum of dy times the patches that it reaches. */
void NAMED(derivative)(const Shape *s, const REAL *restrict dy, const REAL *restrict y, const uint8_t *restrict where,
                       const REAL *restrict pictures, const REAL *restrict weights, const REAL *restrict scale,
                       const REAL *restrict mean, const REAL *restrict var, const double *restrict sums,
                       const double *restrict products, double *restrict partial, REAL *restrict room,
                       double *restrict chosen,
                       REAL *restrict d_weights, REAL *restrict d_scale, REAL *restrict d_shift) {
    OPENED
    const whole own = s->own_weights, each = (taps + 1) * P;
    OVER_PICTURES
    for (whole r = 0; r < count; r++) {
        const REAL *picture = NAMED(bordered)(s, pictures, r, room);
        double *mine = partial + r * each; /* [taps, P], and at last the sum of dy */
        for (whole t = 0; t < each; t++) mine[t] = 0;
        for (whole c = 0; c < C; c += LANES)
            for (whole i = 0; i < down; i++) {
                const whole n = C - c;
                vec met[MOST_TAPS + 1];
                for (whole t = 0; t <= taps; t++) met[t] = (vec){0};
                for (whole j = 0; j < across; j++) {
                    const whole at = FIRST + (i * across + j) * apart + c;
                    const vec zero = {0}, d = NAMED(read)(dy + at, n);
                    const vec g = NAMED(choose)(NAMED(read)(y + at, n) <= zero, zero, d);
                    const REAL *restrict corner = picture + i * step * wide + j * step;
                    met[taps] += g;
                    vec *restrict to = met;
                    if (!s->pooled) {
                        for (whole h = 0; h < s->inputs; h++, corner += tall * wide)
                            for (whole e = 0; e < 3; e++)
                                for (whole f = 0; f < 3; f++) *to++ += g * corner[e * wide + f];
                        continue;
                    }
                    const lanes k = NAMED(places)(where + at, n);
                    const vec g0 = NAMED(choose)(k == 0, g, zero), g1 = NAMED(choose)(k == 1, g, zero),
                              g2 = NAMED(choose)(k == 2, g, zero), g3 = NAMED(choose)(k == 3, g, zero);
                    for (whole h = 0; h < s->inputs; h++, corner += tall * wide)
                        for (whole e = 0; e < 3; e++)
                            for (whole f = 0; f < 3; f++) {
                                const REAL *restrict q = corner + e * wide + f;
                                *to++ += (g0 * q[0] + g1 * q[1]) + (g2 * q[wide] + g3 * q[wide + 1]);
                            }
                }
                for (whole t = 0; t <= taps; t++)
                    for (whole l = 0; l < LANES; l++) mine[t * P + c + l] += met[t][l];
            }
    }
    for (whole g = 0; g < s->groups; g++)
        for (whole c = 0; c < C; c++) {
            double *sum = chosen + (g * C + c) * taps, db = 0, of_patches = 0;
            const REAL *w = weights + (own * g * C + c) * taps;
            for (whole t = 0; t < taps; t++) sum[t] = 0;
            for (whole r = g * s->pictures; r < (g + 1) * s->pictures; r++) {
                const double *mine = partial + r * each + c;
                for (whole t = 0; t < taps; t++) sum[t] += mine[t * P];
                db += mine[taps * P];
            }
            for (whole t = 0; t < taps; t++) of_patches += (double)w[t] * sum[t];
            const double m = mean[g * C + c], about = of_patches - m * db;
            const double inverse = 1 / sqrt((double)var[g * C + c] + s->eps), a = scale[own * g * C + c] * inverse;
            const double kept = -a * inverse * inverse * about / total;
            d_shift[g * C + c] = (REAL)db;
            d_scale[g * C + c] = (REAL)(inverse * about);
            for (whole t = 0; t < taps; t++) {
                double off = 0;
                for (whole u = 0; u < taps; u++) off += products[(g * taps + t) * taps + u] * (double)w[u];
                d_weights[(g * C + c) * taps + t] =
                    (REAL)(kept * off - a * db / total * sums[g * taps + t] + a * sum[t]);
            }
        }
}

/* Cotangents of what `derivative` gives -> those of dy, the convolution's weights [G, C, taps] and the scale [G, C]. */
void NAMED(second)(const Shape *s, const REAL *restrict of_weights, const REAL *restrict of_scale,
                   const REAL *restrict of_shift, const REAL *restrict y, const uint8_t *restrict where,
                   const REAL *restrict pictures, const REAL *restrict weights, const REAL *restrict scale,
                   const REAL *restrict mean, const REAL *restrict var, const double *restrict sums,
                   const double *restrict products, const double *restrict chosen, const REAL *restrict d_scale,
                   const REAL *restrict d_shift, REAL *restrict room, REAL *restrict turned, REAL *restrict ddy, REAL *restrict dd_weights,
                   REAL *restrict dd_scale) {
    OPENED
    const whole own = s->own_weights, each = (taps + 1) * P;
    for (whole g = 0; g < s->groups; g++) {
        REAL *to = turned + g * each; /* [taps, P] and at last what is added */
        for (whole t = 0; t < each; t++) to[t] = 0;
        for (whole c = 0; c < C; c++) {
            const whole at = g * C + c;
            const REAL *w = weights + (own * g * C + c) * taps, *o = of_weights + at * taps;
            const double *met = chosen + at * taps, *sum = sums + g * taps, *about = products + g * taps * taps;
            double of_w[MOST_TAPS], of_o[MOST_TAPS], all = 0, off = 0, there = 0;
            for (whole t = 0; t < taps; t++) {
                of_w[t] = of_o[t] = 0;
                for (whole u = 0; u < taps; u++) {
                    of_w[t] += about[t * taps + u] * (double)w[u];
                    of_o[t] += about[t * taps + u] * (double)o[u];
                }
                all += sum[t] * (double)o[t];     /* U */
                off += of_w[t] * (double)o[t];    /* V */
                there += met[t] * (double)o[t];   /* G */
            }
            const double inverse = 1 / sqrt((double)var[at] + s->eps), by = scale[own * g * C + c];
            const double a = by * inverse, db = d_shift[at], s1 = d_scale[at] / inverse, omega = of_scale[at];
            const double k = omega * inverse - a * inverse * inverse * off / total;
            const double q = there - db * all / total - inverse * inverse * s1 * off / total;
            const double of_inverse = by * q - 2 * a * inverse * s1 * off / total + omega * s1;
            const double kept = -a * inverse * inverse * s1 / total;
            for (whole t = 0; t < taps; t++) {
                dd_weights[at * taps + t] =
                    (REAL)(kept * of_o[t] - k * db / total * sum[t] -
                           of_inverse * inverse * inverse * inverse / total * of_w[t] + k * met[t]);
                to[t * P + c] = (REAL)(a * (double)o[t] + k * (double)w[t]);
            }
            to[taps * P + c] = (REAL)(of_shift[at] - a * all / total - k * mean[at]);
            dd_scale[at] = (REAL)(inverse * q);
        }
    }
    OVER_PICTURES
    for (whole r = 0; r < count; r++) {
        const REAL *picture = NAMED(bordered)(s, pictures, r, room);
        const REAL *restrict w = turned + r / s->pictures * each;
        for (whole i = 0; i < down; i++)
            for (whole j = 0; j < across; j++) {
                const whole at = FIRST + (i * across + j) * apart;
                const REAL *corner = picture + i * step * wide + j * step;
                for (whole c = 0; c < C; c += LANES) {
                    const whole n = C - c;
                    vec v[4];
                    NAMED(values)(s, w + c, P, corner, tall, wide, v);
                    if (s->pooled) {
                        const lanes k = NAMED(places)(where + at + c, n);
                        for (INDEX q = 1; q < 4; q++) v[0] = NAMED(choose)(k == q, v[q], v[0]);
                    }
                    const vec zero = {0}, z = v[0] + NAMED(read)(w + taps * P + c, LANES);
                    NAMED(lay)(ddy + at + c, NAMED(choose)(NAMED(read)(y + at + c, n) <= zero, zero, z), n);
                }
            }
    }
}

#undef vec
#undef lanes
#undef octets
#endif
