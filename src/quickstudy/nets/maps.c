/* Passes over maps, each with its first and second derivative: `summarise` (moments, and the extreme values of windows
 * of 2x2; summary.py) and `forward` (batch norm over a group of pictures, 2x2 max-pooling or none, and ReLU; tail.py).
 * The formulas, and the same in torch's operators, are there.
 *
 * Maps are channels-last: [G groups][N pictures][H][W][C]. Sums are taken row by row, then in double and picture by
 * picture in a fixed order, so that the number of threads changes nothing.
 */
#ifndef REAL

#include <math.h>
#include <stdint.h>

typedef int64_t whole;

/* The shape of a map, what its norm is scaled with, and how it is pooled. */
typedef struct {
    whole groups, pictures, height, width, channels;
    whole pooled;        /* 1: windows of 2x2; 0: none */
    whole weight_stride; /* from one scale and shift to the next: channels, or 0 where all pictures share them */
    whole sharing;       /* so many pictures in a row share a scale and a shift */
    double eps;
} Shape;

#define MOST_CHANNELS 1024
#define FEW 16384 /* numbers below which threads would cost more than they do */
#define LANES _Pragma("GCC ivdep")
#define OVER_PICTURES _Pragma("omp parallel for schedule(static) if (count * height * width * C > FEW)")
#define OPENED                                                                                                         \
    const whole C = s->channels, height = s->height, width = s->width, count = s->groups * s->pictures;                \
    const whole down = s->pooled ? height / 2 : height, across = s->pooled ? width / 2 : width;                        \
    const whole size = height * width * C, small = down * across * C;                                                  \
    const double total = (double)(s->pictures * height * width);                                                       \
    (void)size, (void)small, (void)total;
/* Numbers of a group's channels that the last pass over the map needs, [G, PLACES, C]. */
#define PLACES 6
#define KNOWN(place) known[(g * PLACES + place) * C + c]
#define GLUED(name, suffix) name##suffix
#define JOINED(name, suffix) GLUED(name, suffix)
#define NAMED(name) JOINED(name, SUFFIX)

#define REAL float
#define INDEX int32_t
#define SUFFIX _f32
#include "maps.c"
#undef REAL
#undef INDEX
#undef SUFFIX
#define REAL double
#define INDEX int64_t
#define SUFFIX _f64
#include "maps.c"

#else

/* Of one picture: its channels' means and sums of squares about them, and each window's extreme value. */
static void NAMED(look)(const Shape *s, const REAL *restrict x, const REAL *restrict sign, double *restrict partial,
                        REAL *restrict p, uint8_t *restrict where) {
    const whole C = s->channels, height = s->height, width = s->width;
    const whole down = s->pooled ? height / 2 : 0, across = s->pooled ? width / 2 : 0;
    double *restrict mean = partial, *restrict squares = partial + C;
    REAL row[MOST_CHANNELS], about[MOST_CHANNELS];
    for (whole c = 0; c < C; c++) mean[c] = squares[c] = 0;
    for (whole i = 0; i < height; i++) {
        const REAL *restrict upper = x + i * width * C;
        for (whole c = 0; c < C; c++) row[c] = 0;
        if (i < 2 * down && i % 2 == 0)
            for (whole j = 0; j < across; j++, upper += 2 * C, p += C, where += C) {
                const REAL *restrict lower = upper + width * C;
                LANES for (whole c = 0; c < C; c++) {
                    const REAL f = sign[c], v0 = upper[c] * f, v1 = upper[C + c] * f, v2 = lower[c] * f,
                               v3 = lower[C + c] * f;
                    REAL best = v0;
                    INDEX k = 0;
                    /* NaN wins and stays, and of equals the first, as in torch's max_pool2d. */
                    k = (v1 > best) | (v1 != v1) ? 1 : k, best = (v1 > best) | (v1 != v1) ? v1 : best;
                    k = (v2 > best) | (v2 != v2) ? 2 : k, best = (v2 > best) | (v2 != v2) ? v2 : best;
                    k = (v3 > best) | (v3 != v3) ? 3 : k, best = (v3 > best) | (v3 != v3) ? v3 : best;
                    p[c] = best * f;
                    where[c] = (uint8_t)k;
                    row[c] += ((upper[c] + upper[C + c]) + (lower[c] + lower[C + c]));
                }
            }
        for (whole j = i < 2 * down ? 2 * across : 0; j < width; j++) { /* what no window covers */
            const REAL *restrict at = x + (i * width + j) * C;
            LANES for (whole c = 0; c < C; c++) row[c] += at[c];
        }
        for (whole c = 0; c < C; c++) mean[c] += row[c];
    }
    for (whole c = 0; c < C; c++) {
        about[c] = (REAL)(mean[c] / (double)(height * width));
        mean[c] = about[c];
    }
    for (whole i = 0; i < height; i++) {
        const REAL *restrict at = x + i * width * C;
        for (whole c = 0; c < C; c++) row[c] = 0;
        whole j = 0;
        for (; j + 1 < width; j += 2, at += 2 * C)
            LANES for (whole c = 0; c < C; c++) {
                const REAL left = at[c] - about[c], right = at[C + c] - about[c];
                row[c] += left * left + right * right;
            }
        for (; j < width; j++)
            LANES for (whole c = 0; c < C; c++) row[c] += (at[c] - about[c]) * (at[c] - about[c]);
        for (whole c = 0; c < C; c++) squares[c] += row[c];
    }
}

/* The sums of so many pictures at a time of two numbers a channel. */
static void NAMED(gather)(const double *restrict partial, whole sets, whole pictures, whole C, REAL *restrict first,
                          REAL *restrict second) {
    for (whole g = 0; g < sets; g++)
        for (whole c = 0; c < C; c++) {
            const double *restrict mine = partial + 2 * g * pictures * C + c;
            double one = 0, other = 0;
            for (whole r = 0; r < pictures; r++) one += mine[2 * r * C], other += mine[(2 * r + 1) * C];
            first[g * C + c] = (REAL)one;
            if (second) second[g * C + c] = (REAL)other;
        }
}

/* x -> each group's moments [G, C], and each window's extreme value: the smallest where `sign`, in place of a scale, is
 * negative; NULL: the largest everywhere. */
void NAMED(summarise)(const Shape *s, const REAL *restrict x, const REAL *restrict sign, double *restrict partial,
                      REAL *restrict p, uint8_t *restrict where, REAL *restrict mean, REAL *restrict var) {
    OPENED
    OVER_PICTURES
    for (whole r = 0; r < count; r++) {
        REAL either[MOST_CHANNELS];
        for (whole c = 0; c < C; c++) either[c] = sign && sign[r / s->sharing * s->weight_stride + c] < 0 ? -1 : 1;
        NAMED(look)(s, x + r * size, either, partial + 2 * r * C, p + r * small, where + r * small);
    }
    for (whole g = 0; g < s->groups; g++)
        for (whole c = 0; c < C; c++) {
            const double *restrict mine = partial + 2 * g * s->pictures * C + c;
            double m = 0, squares = 0;
            for (whole r = 0; r < s->pictures; r++) m += mine[2 * r * C];
            m /= (double)s->pictures;
            for (whole r = 0; r < s->pictures; r++) {
                const double off = mine[2 * r * C] - m;
                squares += mine[(2 * r + 1) * C] + (double)(height * width) * off * off;
            }
            mean[g * C + c] = (REAL)m;
            var[g * C + c] = (REAL)(squares / total);
        }
}

/* Cotangents of what `summarise` gives -> that of x; dp is NULL where there is none. */
void NAMED(spread)(const Shape *s, const REAL *restrict d_mean, const REAL *restrict d_var, const REAL *restrict dp,
                   const REAL *restrict x, const uint8_t *restrict where, const REAL *restrict mean,
                   REAL *restrict dx) {
    OPENED
    OVER_PICTURES
    for (whole r = 0; r < count; r++) {
        const whole g = r / s->pictures;
        REAL offset[MOST_CHANNELS], slope[MOST_CHANNELS];
        for (whole c = 0; c < C; c++) {
            offset[c] = (REAL)(d_mean[g * C + c] / total);
            slope[c] = (REAL)(2 * d_var[g * C + c] / total);
        }
        const REAL *restrict in = x + r * size, *restrict m = mean + g * C;
        REAL *restrict to = dx + r * size;
        for (whole i = 0; i < height; i++) {
            whole j = 0;
            if (dp && i < 2 * down)
                for (; j < 2 * across; j += 2, in += 2 * C, to += 2 * C) {
                    const whole at = r * small + (i / 2 * across + j / 2) * C;
                    const REAL *restrict d = dp + at;
                    const uint8_t *restrict place = where + at;
                    const INDEX left = i % 2 * 2, right = left + 1;
                    LANES for (whole c = 0; c < C; c++) {
                        const INDEX k = place[c];
                        to[c] = offset[c] + slope[c] * (in[c] - m[c]) + (k == left ? d[c] : 0);
                        to[C + c] = offset[c] + slope[c] * (in[C + c] - m[c]) + (k == right ? d[c] : 0);
                    }
                }
            for (; j < width; j++, in += C, to += C)
                LANES for (whole c = 0; c < C; c++) to[c] = offset[c] + slope[c] * (in[c] - m[c]);
        }
    }
}

/* The cotangent u of what `spread` gives -> those of d_mean and d_var [G, C], dp (NULL where there is none) and x. */
void NAMED(respond)(const Shape *s, const REAL *restrict u, const REAL *restrict d_var, const REAL *restrict x,
                    const uint8_t *restrict where, const REAL *restrict mean, double *restrict partial,
                    REAL *restrict of_mean, REAL *restrict of_var, REAL *restrict of_p, REAL *restrict ddx) {
    OPENED
    OVER_PICTURES
    for (whole r = 0; r < count; r++) {
        REAL zero[MOST_CHANNELS], one[MOST_CHANNELS];
        double *restrict u0 = partial + 2 * r * C, *restrict u1 = u0 + C;
        const REAL *restrict m = mean + r / s->pictures * C;
        const REAL *restrict in = x + r * size, *restrict v = u + r * size;
        for (whole c = 0; c < C; c++) u0[c] = u1[c] = 0;
        for (whole i = 0; i < height; i++) {
            for (whole c = 0; c < C; c++) zero[c] = one[c] = 0;
            whole j = 0;
            if (of_p && i < 2 * down)
                for (; j < 2 * across; j += 2, in += 2 * C, v += 2 * C) {
                    const whole at = r * small + (i / 2 * across + j / 2) * C;
                    const uint8_t *restrict place = where + at;
                    REAL *restrict to = of_p + at;
                    const INDEX left = i % 2 * 2, right = left + 1;
                    if (!left) /* the lower row adds to what the upper one left */
                        LANES for (whole c = 0; c < C; c++) to[c] = 0;
                    LANES for (whole c = 0; c < C; c++) {
                        const REAL first = v[c], other = v[C + c];
                        const INDEX k = place[c];
                        zero[c] += first + other;
                        one[c] += first * (in[c] - m[c]) + other * (in[C + c] - m[c]);
                        to[c] += k == left ? first : k == right ? other : 0;
                    }
                }
            for (; j < width; j++, in += C, v += C)
                LANES for (whole c = 0; c < C; c++) {
                    zero[c] += v[c];
                    one[c] += v[c] * (in[c] - m[c]);
                }
            for (whole c = 0; c < C; c++) u0[c] += zero[c], u1[c] += one[c];
        }
    }
    for (whole g = 0; g < s->groups; g++)
        for (whole c = 0; c < C; c++) {
            const double *restrict mine = partial + 2 * g * s->pictures * C + c;
            double u0 = 0, u1 = 0;
            for (whole r = 0; r < s->pictures; r++) u0 += mine[2 * r * C], u1 += mine[(2 * r + 1) * C];
            of_mean[g * C + c] = (REAL)(u0 / total);
            of_var[g * C + c] = (REAL)(2 * u1 / total);
        }
    OVER_PICTURES
    for (whole r = 0; r < count; r++) {
        const whole g = r / s->pictures;
        REAL slope[MOST_CHANNELS];
        for (whole c = 0; c < C; c++) slope[c] = (REAL)(2 * d_var[g * C + c] / total);
        const REAL *restrict v = u + r * size, *restrict m = of_mean + g * C;
        REAL *restrict to = ddx + r * size;
        for (whole i = 0; i < size; i += C)
            LANES for (whole c = 0; c < C; c++) to[i + c] = slope[c] * (v[i + c] - m[c]);
    }
}

/* x -> y, and what the derivatives will want: the moments [G, C], the extremes and where they stand. */
void NAMED(forward)(const Shape *s, const REAL *restrict x, const REAL *restrict weight, const REAL *restrict bias,
                    double *restrict partial, REAL *restrict known, REAL *restrict y, REAL *restrict p,
                    uint8_t *restrict where, REAL *restrict mean, REAL *restrict var) {
    OPENED
    NAMED(summarise)(s, x, weight, partial, p, where, mean, var);
    for (whole g = 0; g < s->groups; g++)
        for (whole c = 0; c < C; c++) {
            const double a = weight[g * s->weight_stride + c] / sqrt((double)var[g * C + c] + s->eps);
            KNOWN(0) = (REAL)a;
            KNOWN(1) = (REAL)(bias[g * s->weight_stride + c] - mean[g * C + c] * a);
        }
    OVER_PICTURES
    for (whole r = 0; r < count; r++) {
        const REAL *restrict scale = known + r / s->pictures * PLACES * C, *restrict shift = scale + C;
        const REAL *restrict from = (s->pooled ? p : x) + r * small;
        REAL *restrict to = y + r * small;
        for (whole i = 0; i < down * across; i++, from += C, to += C)
            LANES for (whole c = 0; c < C; c++) {
                const REAL z = from[c] * scale[c] + shift[c];
                to[c] = z <= 0 ? 0 : z;
            }
    }
}

/* dy -> dx, dw [G, C], db [G, C]. */
void NAMED(derivative)(const Shape *s, const REAL *restrict dy, const REAL *restrict y, const REAL *restrict p,
                       const uint8_t *restrict where, const REAL *restrict x, const REAL *restrict mean,
                       const REAL *restrict var, const REAL *restrict weight, double *restrict partial,
                       REAL *restrict known, REAL *restrict dx, REAL *restrict dw, REAL *restrict db) {
    OPENED
    OVER_PICTURES
    for (whole r = 0; r < count; r++) {
        REAL zero[MOST_CHANNELS], one[MOST_CHANNELS];
        double *restrict s0 = partial + 2 * r * C, *restrict s1 = s0 + C;
        const REAL *restrict m = mean + r / s->pictures * C;
        for (whole c = 0; c < C; c++) s0[c] = s1[c] = 0;
        const REAL *restrict from = (s->pooled ? p : x) + r * small, *restrict d = dy + r * small,
                             *restrict out = y + r * small;
        for (whole i = 0; i < down; i++) {
            for (whole c = 0; c < C; c++) zero[c] = one[c] = 0;
            for (whole j = 0; j < across; j++, from += C, d += C, out += C)
                LANES for (whole c = 0; c < C; c++) {
                    const REAL g = out[c] <= 0 ? 0 : d[c];
                    zero[c] += g;
                    one[c] += g * (from[c] - m[c]);
                }
            for (whole c = 0; c < C; c++) s0[c] += zero[c], s1[c] += one[c];
        }
    }
    for (whole g = 0; g < s->groups; g++)
        for (whole c = 0; c < C; c++) {
            const double *restrict mine = partial + 2 * g * s->pictures * C + c;
            double s0 = 0, s1 = 0;
            for (whole r = 0; r < s->pictures; r++) s0 += mine[2 * r * C], s1 += mine[(2 * r + 1) * C];
            const double inverse = 1 / sqrt((double)var[g * C + c] + s->eps),
                         scale = weight[g * s->weight_stride + c] * inverse;
            db[g * C + c] = (REAL)s0;
            dw[g * C + c] = (REAL)(s1 * inverse);
            KNOWN(0) = (REAL)scale;
            KNOWN(1) = (REAL)(-scale * s0 / total);
            KNOWN(2) = (REAL)(-scale * inverse * inverse * s1 / total);
        }
    OVER_PICTURES
    for (whole r = 0; r < count; r++) {
        const REAL *restrict a = known + r / s->pictures * PLACES * C, *restrict offset = a + C,
                             *restrict slope = a + 2 * C, *restrict m = mean + r / s->pictures * C;
        const REAL *restrict in = x + r * size;
        REAL *restrict to = dx + r * size;
        if (!s->pooled) {
            const REAL *restrict d = dy + r * small, *restrict out = y + r * small;
            for (whole i = 0; i < height * width * C; i += C)
                LANES for (whole c = 0; c < C; c++) to[i + c] =
                    offset[c] + slope[c] * (in[i + c] - m[c]) + (out[i + c] <= 0 ? 0 : a[c] * d[i + c]);
            continue;
        }
        for (whole i = 0; i < height; i++) { /* row by row, as memory is read and written fastest in order */
            whole j = 0;
            if (i < 2 * down)
                for (; j < 2 * across; j += 2, in += 2 * C, to += 2 * C) {
                    const whole at = (i / 2 * across + j / 2) * C;
                    const REAL *restrict d = dy + r * small + at, *restrict out = y + r * small + at;
                    const uint8_t *restrict place = where + r * small + at;
                    const INDEX left = i % 2 * 2, right = left + 1;
                    LANES for (whole c = 0; c < C; c++) {
                        const REAL t = out[c] <= 0 ? 0 : a[c] * d[c];
                        const INDEX k = place[c];
                        to[c] = offset[c] + slope[c] * (in[c] - m[c]) + (k == left ? t : 0);
                        to[C + c] = offset[c] + slope[c] * (in[C + c] - m[c]) + (k == right ? t : 0);
                    }
                }
            for (; j < width; j++, in += C, to += C) /* what no window covers */
                for (whole c = 0; c < C; c++) to[c] = offset[c] + slope[c] * (in[c] - m[c]);
        }
    }
}

/* Cotangents u, omega [G, C] and beta [G, C] of (dx, dw, db) -> those of dy, x and the weight [G, C]. */
void NAMED(second)(const Shape *s, const REAL *restrict u, const REAL *restrict omega, const REAL *restrict beta,
                   const REAL *restrict dy, const REAL *restrict y, const REAL *restrict p,
                   const uint8_t *restrict where, const REAL *restrict x, const REAL *restrict mean,
                   const REAL *restrict var, const REAL *restrict weight, const REAL *restrict dw,
                   const REAL *restrict db, double *restrict partial, REAL *restrict known, REAL *restrict ddy,
                   REAL *restrict ddx, REAL *restrict ddw) {
    OPENED
    OVER_PICTURES
    for (whole r = 0; r < count; r++) {
        REAL zero[MOST_CHANNELS], one[MOST_CHANNELS], met[MOST_CHANNELS];
        double *restrict u0 = partial + 3 * r * C, *restrict u1 = u0 + C, *restrict ug = u1 + C;
        const REAL *restrict m = mean + r / s->pictures * C;
        for (whole c = 0; c < C; c++) u0[c] = u1[c] = ug[c] = 0;
        const REAL *restrict in = x + r * size, *restrict v = u + r * size;
        for (whole i = 0; i < height; i++) { /* leaves u[where] in ddy */
            for (whole c = 0; c < C; c++) zero[c] = one[c] = met[c] = 0;
            whole j = 0;
            if (s->pooled && i < 2 * down)
                for (; j < 2 * across; j += 2, in += 2 * C, v += 2 * C) {
                    const whole at = r * small + (i / 2 * across + j / 2) * C;
                    const REAL *restrict d = dy + at, *restrict out = y + at;
                    const uint8_t *restrict place = where + at;
                    REAL *restrict to = ddy + at;
                    const INDEX left = i % 2 * 2, right = left + 1;
                    if (!left) /* the lower row adds to what the upper one left */
                        LANES for (whole c = 0; c < C; c++) to[c] = 0;
                    LANES for (whole c = 0; c < C; c++) {
                        const REAL first = v[c], other = v[C + c];
                        const INDEX k = place[c];
                        const REAL chosen = k == left ? first : k == right ? other : 0;
                        zero[c] += first + other;
                        one[c] += first * (in[c] - m[c]) + other * (in[C + c] - m[c]);
                        met[c] += out[c] <= 0 ? 0 : chosen * d[c];
                        to[c] += chosen;
                    }
                }
            else if (!s->pooled)
                for (; j < width; j++, in += C, v += C) {
                    const whole at = r * small + (i * width + j) * C;
                    const REAL *restrict d = dy + at, *restrict out = y + at;
                    LANES for (whole c = 0; c < C; c++) {
                        zero[c] += v[c];
                        one[c] += v[c] * (in[c] - m[c]);
                        met[c] += out[c] <= 0 ? 0 : v[c] * d[c];
                    }
                }
            for (; j < width; j++, in += C, v += C) /* what no window covers */
                for (whole c = 0; c < C; c++) {
                    zero[c] += v[c];
                    one[c] += v[c] * (in[c] - m[c]);
                }
            for (whole c = 0; c < C; c++) u0[c] += zero[c], u1[c] += one[c], ug[c] += met[c];
        }
    }
    for (whole g = 0; g < s->groups; g++)
        for (whole c = 0; c < C; c++) {
            const double *restrict mine = partial + 3 * g * s->pictures * C + c;
            double u0 = 0, u1 = 0, ug = 0;
            for (whole r = 0; r < s->pictures; r++)
                u0 += mine[3 * r * C], u1 += mine[(3 * r + 1) * C], ug += mine[(3 * r + 2) * C];
            const double inverse = 1 / sqrt((double)var[g * C + c] + s->eps), w = weight[g * s->weight_stride + c],
                         scale = w * inverse, s0 = db[g * C + c], s1 = dw[g * C + c] / inverse,
                         of_w = omega[g * C + c];
            const double one = of_w * inverse - scale * inverse * inverse * u1 / total;
            const double of_scale = ug - s0 * u0 / total - inverse * inverse * s1 * u1 / total;
            const double of_inverse = w * of_scale - 2 * scale * inverse * s1 * u1 / total + of_w * s1;
            const double kept = -scale * inverse * inverse * s1 / total;
            KNOWN(0) = (REAL)scale;
            KNOWN(1) = (REAL)(beta[g * C + c] - scale * u0 / total);
            KNOWN(2) = (REAL)one;
            KNOWN(3) = (REAL)kept;
            KNOWN(4) = (REAL)(-(one * s0 + kept * u0) / total);
            KNOWN(5) = (REAL)(-of_inverse * inverse * inverse * inverse / total);
            ddw[g * C + c] = (REAL)(inverse * of_scale);
        }
    OVER_PICTURES
    for (whole r = 0; r < count; r++) {
        const REAL *restrict a = known + r / s->pictures * PLACES * C, *restrict k0 = a + C, *restrict k1 = a + 2 * C,
                             *restrict kept = a + 3 * C, *restrict offset = a + 4 * C, *restrict slope = a + 5 * C,
                             *restrict m = mean + r / s->pictures * C;
        const REAL *restrict in = x + r * size, *restrict v = u + r * size;
        REAL *restrict to = ddx + r * size;
        if (!s->pooled) {
            const REAL *restrict d = dy + r * small, *restrict out = y + r * small;
            REAL *restrict dd = ddy + r * small;
            for (whole i = 0; i < height * width * C; i += C)
                LANES for (whole c = 0; c < C; c++) {
                    const REAL off = in[i + c] - m[c];
                    const REAL g = out[i + c] <= 0 ? 0 : d[i + c];
                    dd[i + c] = out[i + c] <= 0 ? 0 : a[c] * v[i + c] + k0[c] + k1[c] * off;
                    to[i + c] = kept[c] * v[i + c] + offset[c] + slope[c] * off + k1[c] * g;
                }
            continue;
        }
        for (whole at = r * small; at < (r + 1) * small; at += C) {
            const REAL *restrict out = y + at, *restrict top = p + at;
            REAL *restrict dd = ddy + at;
            LANES for (whole c = 0; c < C; c++)
                dd[c] = out[c] <= 0 ? 0 : a[c] * dd[c] + k0[c] + k1[c] * (top[c] - m[c]);
        }
        for (whole i = 0; i < height; i++) {
            whole j = 0;
            if (i < 2 * down)
                for (; j < 2 * across; j += 2, in += 2 * C, v += 2 * C, to += 2 * C) {
                    const whole at = r * small + (i / 2 * across + j / 2) * C;
                    const REAL *restrict d = dy + at, *restrict out = y + at;
                    const uint8_t *restrict place = where + at;
                    const INDEX left = i % 2 * 2, right = left + 1;
                    LANES for (whole c = 0; c < C; c++) {
                        const REAL t = out[c] <= 0 ? 0 : k1[c] * d[c];
                        const INDEX k = place[c];
                        to[c] = kept[c] * v[c] + offset[c] + slope[c] * (in[c] - m[c]) + (k == left ? t : 0);
                        to[C + c] =
                            kept[c] * v[C + c] + offset[c] + slope[c] * (in[C + c] - m[c]) + (k == right ? t : 0);
                    }
                }
            for (; j < width; j++, in += C, v += C, to += C)
                for (whole c = 0; c < C; c++) to[c] = kept[c] * v[c] + offset[c] + slope[c] * (in[c] - m[c]);
        }
    }
}

/* y = relu(x a + b), a and b [pictures / sharing, C]; height and width are those of x. */
void NAMED(rectify)(const Shape *s, const REAL *restrict x, const REAL *restrict scale, const REAL *restrict shift,
                    REAL *restrict y) {
    OPENED
    OVER_PICTURES
    for (whole r = 0; r < count; r++) {
        const REAL *restrict a = scale + r / s->sharing * C, *restrict b = shift + r / s->sharing * C;
        for (whole at = r * size; at < (r + 1) * size; at += C)
            LANES for (whole c = 0; c < C; c++) {
                const REAL z = x[at + c] * a[c] + b[c];
                y[at + c] = z <= 0 ? 0 : z;
            }
    }
}

/* dy -> dx, da, db. */
void NAMED(rectify_derivative)(const Shape *s, const REAL *restrict dy, const REAL *restrict x, const REAL *restrict y,
                               const REAL *restrict scale, double *restrict partial, REAL *restrict dx,
                               REAL *restrict da, REAL *restrict db) {
    OPENED
    OVER_PICTURES
    for (whole r = 0; r < count; r++) {
        REAL of_a[MOST_CHANNELS], of_b[MOST_CHANNELS];
        double *restrict sum_a = partial + 2 * r * C, *restrict sum_b = sum_a + C;
        const REAL *restrict a = scale + r / s->sharing * C;
        for (whole c = 0; c < C; c++) sum_a[c] = sum_b[c] = 0;
        for (whole i = 0, at = r * size; i < height; i++) {
            for (whole c = 0; c < C; c++) of_a[c] = of_b[c] = 0;
            for (whole j = 0; j < width; j++, at += C)
                LANES for (whole c = 0; c < C; c++) {
                    const REAL g = y[at + c] <= 0 ? 0 : dy[at + c];
                    dx[at + c] = g * a[c];
                    of_a[c] += g * x[at + c];
                    of_b[c] += g;
                }
            for (whole c = 0; c < C; c++) sum_a[c] += of_a[c], sum_b[c] += of_b[c];
        }
    }
    NAMED(gather)(partial, count / s->sharing, s->sharing, C, da, db);
}

/* Cotangents u, alpha and beta of (dx, da, db) -> those of dy, x and a. */
void NAMED(rectify_second)(const Shape *s, const REAL *restrict u, const REAL *restrict alpha,
                           const REAL *restrict beta, const REAL *restrict dy, const REAL *restrict x,
                           const REAL *restrict y, const REAL *restrict scale, double *restrict partial,
                           REAL *restrict ddy, REAL *restrict ddx, REAL *restrict dda) {
    OPENED
    OVER_PICTURES
    for (whole r = 0; r < count; r++) {
        REAL of_a[MOST_CHANNELS];
        double *restrict sum_a = partial + 2 * r * C;
        const whole set = r / s->sharing * C;
        const REAL *restrict a = scale + set, *restrict to_a = alpha + set, *restrict to_b = beta + set;
        for (whole c = 0; c < 2 * C; c++) sum_a[c] = 0;
        for (whole i = 0, at = r * size; i < height; i++) {
            for (whole c = 0; c < C; c++) of_a[c] = 0;
            for (whole j = 0; j < width; j++, at += C)
                LANES for (whole c = 0; c < C; c++) {
                    const REAL g = y[at + c] <= 0 ? 0 : dy[at + c];
                    ddy[at + c] = y[at + c] <= 0 ? 0 : u[at + c] * a[c] + to_a[c] * x[at + c] + to_b[c];
                    ddx[at + c] = to_a[c] * g;
                    of_a[c] += u[at + c] * g;
                }
            for (whole c = 0; c < C; c++) sum_a[c] += of_a[c];
        }
    }
    NAMED(gather)(partial, count / s->sharing, s->sharing, C, dda, 0);
}

#endif
