/* Chains of linear layers with a ReLU between, with a task axis: the value, its derivative, and the derivative of that.

   The formulas stand in dense.py and inner/chained.py. Each function goes through the tasks; all tensors are contiguous
   but for the weights, which have a stride from task to task (0: all tasks share them).

   sizes:    tasks, rows, layers, whether the last layer is rectified, threads, widths (layers + 1),
             task strides of the weights (layers), of the biases (layers)
   pointers: named at the head of each function; what is absent or not asked for is NULL. */

#ifndef REAL

#include <stdint.h>
#include <stdlib.h>

typedef int64_t I;

#ifdef __AVX512F__ /* 32 registers of 64 bytes */
#define BYTES 64
#define ACROSS 3
#else /* at least 16 registers of 16 or 32 bytes */
#define BYTES 32
#define ACROSS 2
#endif
#define DOWN 6 /* rows of a tile: DOWN * ACROSS sums stay in registers */
#define MOST 16
#define ALWAYS static inline __attribute__((always_inline))

#ifdef __has_builtin
#if __has_builtin(__builtin_shufflevector)
#define SHUFFLE __builtin_shufflevector
#endif
#endif

#define REAL float
#define NAME(name) name##_f32
#include "chain.c"
#undef REAL
#undef NAME
#define REAL double
#define NAME(name) name##_f64
#include "chain.c"

#else

typedef REAL NAME(wide) __attribute__((vector_size(BYTES), aligned(sizeof(REAL)), may_alias));
typedef REAL NAME(narrow) __attribute__((vector_size(16), aligned(sizeof(REAL)), may_alias));
typedef REAL NAME(eight) __attribute__((vector_size(8 * sizeof(REAL)), aligned(sizeof(REAL)), may_alias));

/* A matrix product: sum over k of a[row * down + k * along] * b[k * line + column]. */
typedef struct {
    const REAL *a;
    I down, along;
    const REAL *b;
    I line, depth;
} NAME(term);

/* start + both terms, [rows, columns]; start NULL: from zero, its rows start_down apart (0: one for all). */
typedef struct {
    I rows, columns;
    const REAL *start;
    I start_down;
    NAME(term) terms[2];
    REAL *out;
} NAME(work);

/* A tile of it: `down` rows and `across` vectors, both known to the compiler. The last vector is moved back to end with
   the row, so that some columns may be computed twice, to the same numbers. */
#define TILE(tile, vector)                                                                                      \
    ALWAYS void NAME(tile)(const NAME(work) *w, I row, I column, const int down, const int across) {           \
        const I lanes = sizeof(NAME(vector)) / sizeof(REAL);                                                    \
        NAME(vector) sum[DOWN][ACROSS];                                                                         \
        I at[ACROSS];                                                                                           \
        _Pragma("GCC unroll 8") for (int c = 0; c < across; c++) {                                             \
            const I end = w->columns - lanes, here = column + c * lanes;                                        \
            at[c] = here < end ? here : end;                                                                    \
        }                                                                                                       \
        _Pragma("GCC unroll 8") for (int r = 0; r < down; r++) {                                               \
            _Pragma("GCC unroll 8") for (int c = 0; c < across; c++) {                                         \
                const NAME(vector) zero = {0};                                                                  \
                sum[r][c] = w->start                                                                            \
                    ? *(const NAME(vector) *)(w->start + (row + r) * w->start_down + at[c]) : zero;             \
            }                                                                                                   \
        }                                                                                                       \
        for (int which = 0; which < 2; which++) {                                                               \
            const NAME(term) t = w->terms[which];                                                               \
            const REAL *a = t.a + row * t.down, *b = t.b;                                                       \
            for (I k = 0; k < t.depth; k++, a += t.along, b += t.line) {                                        \
                NAME(vector) line[ACROSS];                                                                      \
                _Pragma("GCC unroll 8") for (int c = 0; c < across; c++)                                       \
                    line[c] = *(const NAME(vector) *)(b + at[c]);                                               \
                _Pragma("GCC unroll 8") for (int r = 0; r < down; r++) {                                       \
                    const REAL factor = a[r * t.down];                                                          \
                    _Pragma("GCC unroll 8") for (int c = 0; c < across; c++)                                   \
                        sum[r][c] += factor * line[c];                                                          \
                }                                                                                               \
            }                                                                                                   \
        }                                                                                                       \
        _Pragma("GCC unroll 8") for (int r = 0; r < down; r++) {                                               \
            _Pragma("GCC unroll 8") for (int c = 0; c < across; c++)                                           \
                *(NAME(vector) *)(w->out + (row + r) * w->columns + at[c]) = sum[r][c];                         \
        }                                                                                                       \
    }                                                                                                           \
    ALWAYS void NAME(tile##_rows)(const NAME(work) *w, I row, int down, I column, const int across) {          \
        switch (down) {                                                                                         \
            case 1: NAME(tile)(w, row, column, 1, across); break;                                               \
            case 2: NAME(tile)(w, row, column, 2, across); break;                                               \
            case 3: NAME(tile)(w, row, column, 3, across); break;                                               \
            case 4: NAME(tile)(w, row, column, 4, across); break;                                               \
            case 5: NAME(tile)(w, row, column, 5, across); break;                                               \
            default: NAME(tile)(w, row, column, DOWN, across);                                                  \
        }                                                                                                       \
    }                                                                                                           \
    static void NAME(tile##_all)(const NAME(work) *w) {                                                         \
        const I lanes = sizeof(NAME(vector)) / sizeof(REAL);                                                    \
        const I blocks = (w->rows + DOWN - 1) / DOWN, vectors = (w->columns + lanes - 1) / lanes;               \
        for (I block = 0; block < blocks; block++) { /* as equal as can be */                                   \
            const I row = w->rows * block / blocks;                                                             \
            const int down = (int)(w->rows * (block + 1) / blocks - row);                                       \
            for (I v = 0; v < vectors; v += ACROSS) {                                                           \
                const I left = vectors - v;                                                                     \
                if (left == 1) NAME(tile##_rows)(w, row, down, v * lanes, 1);                                   \
                else if (left < ACROSS) NAME(tile##_rows)(w, row, down, v * lanes, 2);                          \
                else NAME(tile##_rows)(w, row, down, v * lanes, ACROSS);                                        \
            }                                                                                                   \
        }                                                                                                       \
    }

TILE(wide_tile, wide)
TILE(narrow_tile, narrow)
#undef TILE

static void NAME(compute)(const NAME(work) *w) {
    const NAME(term) *t = w->terms;
    if (w->columns == 1 && t->down == 1 && !w->start && !t[1].depth) { /* turned, as one row of vectors */
        const NAME(work) row = {1, w->rows, 0, 0, {{t->b, 0, t->line, t->a, t->along, t->depth}}, w->out};
        if (w->rows > 1) { NAME(compute)(&row); return; }
    }
    if (w->columns >= (I)(BYTES / sizeof(REAL))) { NAME(wide_tile_all)(w); return; }
    if (w->columns >= (I)(16 / sizeof(REAL))) { NAME(narrow_tile_all)(w); return; }
    for (I row = 0; row < w->rows; row++)
        for (I column = 0; column < w->columns; column++) {
            REAL sum = w->start ? w->start[row * w->start_down + column] : 0;
            for (int which = 0; which < 2; which++) {
                const NAME(term) t = w->terms[which];
                for (I k = 0; k < t.depth; k++) sum += t.a[row * t.down + k * t.along] * t.b[k * t.line + column];
            }
            w->out[row * w->columns + column] = sum;
        }
}

/* An 8 x 8 block of a matrix turned: three times, what lies four vectors apart is shuffled like cards. */
ALWAYS void NAME(turn_block)(const REAL *from, I columns, REAL *to, I rows) {
#ifdef SHUFFLE
    NAME(eight) v[8], w[8];
    _Pragma("GCC unroll 8") for (int i = 0; i < 8; i++) v[i] = *(const NAME(eight) *)(from + i * columns);
    _Pragma("GCC unroll 8") for (int round = 0; round < 3; round++) {
        _Pragma("GCC unroll 8") for (int i = 0; i < 4; i++) {
            w[2 * i] = SHUFFLE(v[i], v[i + 4], 0, 8, 1, 9, 2, 10, 3, 11);
            w[2 * i + 1] = SHUFFLE(v[i], v[i + 4], 4, 12, 5, 13, 6, 14, 7, 15);
        }
        _Pragma("GCC unroll 8") for (int i = 0; i < 8; i++) v[i] = w[i];
    }
    _Pragma("GCC unroll 8") for (int i = 0; i < 8; i++) *(NAME(eight) *)(to + i * rows) = v[i];
#else
    for (int i = 0; i < 8; i++)
        for (int j = 0; j < 8; j++) to[j * rows + i] = from[i * columns + j];
#endif
}

/* [rows, columns] -> [columns, rows] */
static void NAME(turn)(const REAL *from, I rows, I columns, REAL *to) {
    const I down = rows / 8 * 8, across = columns / 8 * 8;
    for (I row = 0; row < down; row += 8)
        for (I column = 0; column < across; column += 8)
            NAME(turn_block)(from + row * columns + column, columns, to + column * rows + row, rows);
    for (I row = 0; row < rows; row++)
        for (I column = row < down ? across : 0; column < columns; column++)
            to[column * rows + row] = from[row * columns + column];
}

static void NAME(rectify)(REAL *y, I n) {
    for (I i = 0; i < n; i++) y[i] = y[i] < 0 ? 0 : y[i]; /* NaN stays */
}

/* d where the ReLU let something through */
static void NAME(keep)(REAL *d, const REAL *y, I n) {
    for (I i = 0; i < n; i++) d[i] = y[i] <= 0 ? 0 : d[i];
}

static I NAME(widest)(const I *sizes) { /* the largest weight of any layer */
    I found = 0;
    for (I l = 0; l < sizes[2]; l++) {
        const I size = sizes[5 + l] * sizes[6 + l];
        found = size > found ? size : found;
    }
    return found;
}

static I NAME(most)(const I *sizes) { /* the largest width */
    I found = 0;
    for (I l = 0; l <= sizes[2]; l++) found = sizes[5 + l] > found ? sizes[5 + l] : found;
    return found;
}

static I NAME(sum)(const I *sizes) { /* of all widths */
    I found = 0;
    for (I l = 0; l <= sizes[2]; l++) found += sizes[5 + l];
    return found;
}

static I NAME(numbers)(const I *sizes) { /* of all weights and biases */
    I found = 0;
    for (I l = 0; l < sizes[2]; l++) found += (sizes[5 + l] + 1) * sizes[6 + l];
    return found;
}

static I NAME(second_room)(const I *sizes) {
    return 2 * NAME(widest)(sizes) + 2 * sizes[1] * NAME(most)(sizes);
}

/* What there is of one task; layers beyond MOST are refused by chain.py. */
typedef struct {
    const REAL *x, *weight[MOST], *bias[MOST];
    REAL *y[MOST], *d[MOST]; /* what the layers put out, and the steps of the derivative */
    const REAL *dy[MOST];
    REAL *dx, *dweight[MOST], *dbias[MOST];
    const REAL *u, *big[MOST], *v[MOST]; /* cotangents of these three */
    REAL *ddy, *dh[MOST], *ddweight[MOST]; /* dh[0]: x's; the others: of what the layer below puts out */
} NAME(task);

static void NAME(value)(const I *sizes, const NAME(task) *a, REAL *room) {
    const I n = sizes[1], layers = sizes[2], rectified = layers - !sizes[3], *width = sizes + 5;
    for (I l = 0; l < layers; l++) {
        const I in = width[l], out = width[l + 1];
        NAME(turn)(a->weight[l], out, in, room);
        const REAL *x = l ? a->y[l - 1] : a->x;
        NAME(work) w = {n, out, a->bias[l], 0, {{x, in, 1, room, out, in}}, a->y[l]};
        NAME(compute)(&w);
        if (l < rectified) NAME(rectify)(a->y[l], n * out);
    }
}

static void NAME(derivative)(const I *sizes, const NAME(task) *a) {
    const I n = sizes[1], layers = sizes[2], rectified = layers - !sizes[3], *width = sizes + 5;
    for (I l = layers - 1; l >= 0; l--) {
        const I in = width[l], out = width[l + 1];
        REAL *here = a->d[l]; /* but for the last layer it was put there by the one above */
        if (l == layers - 1)
            for (I i = 0; i < n * out; i++) here[i] = a->dy[l] ? a->dy[l][i] : 0;
        if (l < rectified) NAME(keep)(here, a->y[l], n * out);
        if (a->dbias[l]) {
            REAL *sum = a->dbias[l];
            for (I o = 0; o < out; o++) sum[o] = 0;
            for (I r = 0; r < n; r++)
                for (I o = 0; o < out; o++) sum[o] += here[r * out + o];
        }
        if (a->dweight[l]) {
            NAME(work) w = {out, in, 0, 0, {{here, 1, out, l ? a->y[l - 1] : a->x, in, n}}, a->dweight[l]};
            NAME(compute)(&w);
        }
        REAL *below = l ? a->d[l - 1] : a->dx;
        if (below) {
            NAME(work) w = {n, in, l ? a->dy[l - 1] : 0, in, {{here, out, 1, a->weight[l], in, out}}, below};
            NAME(compute)(&w);
        }
    }
}

static void NAME(second)(const I *sizes, const NAME(task) *a, REAL *room) {
    const I n = sizes[1], layers = sizes[2], rectified = layers - !sizes[3], *width = sizes + 5;
    const I largest = NAME(widest)(sizes), rows = n * NAME(most)(sizes);
    REAL *turned = room, *turned_big = room + largest, *one = room + 2 * largest, *other = one + rows;
    const REAL *e = a->u; /* the cotangent of the step of the layer below; NULL: none */
    for (I l = 0; l < layers; l++) {
        const I in = width[l], out = width[l + 1];
        const REAL *x = l ? a->y[l - 1] : a->x, *here = a->d[l], *big = a->big[l];
        if (a->dh[l]) { /* d U */
            NAME(work) w = {n, in, 0, 0, {{here, out, 1, big, in, big ? out : 0}}, a->dh[l]};
            NAME(compute)(&w);
        }
        if (a->ddweight[l]) { /* d' e */
            NAME(work) w = {out, in, 0, 0, {{here, 1, out, e, in, e ? n : 0}}, a->ddweight[l]};
            NAME(compute)(&w);
        }
        REAL *to = l == layers - 1 ? a->ddy : e == one ? other : one;
        if (!to) break;
        if (big) NAME(turn)(big, out, in, turned_big);
        if (e) NAME(turn)(a->weight[l], out, in, turned);
        NAME(work) w = {n, out, a->v[l], 0,
                        {{x, in, 1, turned_big, out, big ? in : 0}, {e, in, 1, turned, out, e ? in : 0}}, to};
        NAME(compute)(&w);
        if (l < rectified) NAME(keep)(to, a->y[l], n * out);
        e = to;
    }
}

/* The tasks, each by some thread with a room of its own. */
#define TASKS(numbers, ...)                                                                                     \
    const I tasks = sizes[0], n = sizes[1], layers = sizes[2], *width = sizes + 5;                              \
    const I *weight_step = width + layers + 1, *bias_step = weight_step + layers;                               \
    int failed = 0;                                                                                             \
    (void)n, (void)weight_step, (void)bias_step;                                                                \
    _Pragma("omp parallel num_threads((int)sizes[4]) if (sizes[4] > 1) reduction(| : failed)") {                \
        REAL *room = malloc(sizeof(REAL) * (numbers) + 1);                                                      \
        failed = !room;                                                                                         \
        _Pragma("omp for schedule(static)") for (I t = 0; t < tasks; t++) {                                     \
            if (failed) continue;                                                                               \
            NAME(task) a = {0};                                                                                 \
            __VA_ARGS__                                                                                         \
        }                                                                                                       \
        free(room);                                                                                             \
    }                                                                                                           \
    return failed;
#define AT(pointer, size) ((pointer) ? (pointer) + t * (size) : 0)

/* in: x, weights, biases; out: what each layer puts out */
int NAME(chain_value)(const I *sizes, REAL **p) {
    TASKS(NAME(widest)(sizes), {
        a.x = p[0] + t * n * width[0];
        for (I l = 0; l < layers; l++) {
            a.weight[l] = p[1 + l] + t * weight_step[l];
            a.bias[l] = p[1 + layers + l] + t * bias_step[l];
            a.y[l] = p[1 + 2 * layers + l] + t * n * width[l + 1];
        }
        NAME(value)(sizes, &a, room);
    })
}

/* in: x, weights, what the layers put out, cotangents of that; out: cotangents of x, weights, biases, and the steps */
int NAME(chain_derivative)(const I *sizes, REAL **p) {
    TASKS(0, {
        a.x = p[0] + t * n * width[0];
        a.dx = AT(p[1 + 3 * layers], n * width[0]);
        for (I l = 0; l < layers; l++) {
            const I in = width[l], out = width[l + 1];
            a.weight[l] = p[1 + l] + t * weight_step[l];
            a.y[l] = AT(p[1 + layers + l], n * out);
            a.dy[l] = AT(p[1 + 2 * layers + l], n * out);
            a.dweight[l] = AT(p[2 + 3 * layers + l], out * in);
            a.dbias[l] = AT(p[2 + 4 * layers + l], out);
            a.d[l] = p[2 + 5 * layers + l] + t * n * out;
        }
        NAME(derivative)(sizes, &a);
    })
}

/* in: x, weights, what the layers put out, the steps, and cotangents of the derivative's cotangents: of x's, the
   weights', the biases'; out: cotangents of the last layer's dy, of x, of what the layers but the last put out, of the
   weights */
int NAME(chain_second)(const I *sizes, REAL **p) {
    TASKS(NAME(second_room)(sizes), {
        a.x = p[0] + t * n * width[0];
        a.u = AT(p[1 + 3 * layers], n * width[0]);
        a.ddy = AT(p[2 + 5 * layers], n * width[layers]);
        for (I l = 0; l < layers; l++) {
            const I in = width[l], out = width[l + 1];
            a.weight[l] = p[1 + l] + t * weight_step[l];
            a.y[l] = AT(p[1 + layers + l], n * out);
            a.d[l] = p[1 + 2 * layers + l] + t * n * out;
            a.big[l] = AT(p[2 + 3 * layers + l], out * in);
            a.v[l] = AT(p[2 + 4 * layers + l], out);
            a.dh[l] = AT(p[3 + 5 * layers + l], n * in);
            a.ddweight[l] = AT(p[3 + 6 * layers + l], out * in);
        }
        NAME(second)(sizes, &a, room);
    })
}

/* Steps of gradient descent on squared errors. in: x, targets, weights, biases; out: weights and biases after a step,
   what the layers put out in it, and the steps of its derivative, each [steps, tasks, ...] where they are to be kept,
   else [1, tasks, ...]. rate: what the errors are multiplied with */
int NAME(chain_descend)(const I *sizes, REAL **p, I steps, I keep, double rate) {
    TASKS(NAME(widest)(sizes) + NAME(numbers)(sizes) + n * width[layers], {
        REAL *off = room + NAME(widest)(sizes), *by = off + n * width[layers];
        a.x = p[0] + t * n * width[0];
        const REAL *target = p[1] + t * n * width[layers];
        REAL **out = p + 2 + 2 * layers;
        for (I k = 0; k < steps; k++) {
            const I here = keep ? k * tasks + t : t, before = keep ? here - tasks : t;
            REAL *free_by = by;
            for (I l = 0; l < layers; l++) {
                const I size = width[l] * width[l + 1], wide = width[l + 1];
                a.weight[l] = k ? out[l] + before * size : p[2 + l] + t * weight_step[l];
                a.bias[l] = k ? out[layers + l] + before * wide : p[2 + layers + l] + t * bias_step[l];
                a.y[l] = out[2 * layers + l] + here * n * wide;
                a.d[l] = out[3 * layers + l] + here * n * wide;
                a.dweight[l] = free_by;
                a.dbias[l] = free_by + size;
                free_by += size + wide;
            }
            NAME(value)(sizes, &a, room);
            for (I i = 0; i < n * width[layers]; i++) off[i] = (a.y[layers - 1][i] - target[i]) * (REAL)rate;
            a.dy[layers - 1] = off;
            NAME(derivative)(sizes, &a);
            for (I l = 0; l < layers; l++) {
                const I size = width[l] * width[l + 1], wide = width[l + 1];
                REAL *weight = out[l] + here * size, *bias = out[layers + l] + here * wide;
                for (I i = 0; i < size; i++) weight[i] = a.weight[l][i] + a.dweight[l][i];
                for (I i = 0; i < wide; i++) bias[i] = a.bias[l][i] + a.dbias[l][i];
            }
        }
    })
}

/* Back along these steps. in: as above, with what was kept in place of what comes out, and the targets not read; in and
   out: cotangents of the last weights and biases, which become those of the first ones. */
int NAME(chain_ascend)(const I *sizes, REAL **p, I steps, double rate) {
    TASKS(NAME(second_room)(sizes) + 2 * NAME(numbers)(sizes) + 3 * n * NAME(sum)(sizes), {
        REAL *start = room + NAME(second_room)(sizes);
        a.x = p[0] + t * n * width[0];
        REAL **kept = p + 2 + 2 * layers, **found = p + 2 + 6 * layers;
        for (I k = steps - 1; k >= 0; k--) {
            const I here = k * tasks + t, before = here - tasks;
            REAL *left = start, *steps_of[MOST];
            for (I l = 0; l < layers; l++) {
                const I in = width[l], wide = width[l + 1], size = in * wide;
                a.weight[l] = k ? kept[l] + before * size : p[2 + l] + t * weight_step[l];
                a.y[l] = kept[2 * layers + l] + here * n * wide;
                a.d[l] = kept[3 * layers + l] + here * n * wide;
                a.big[l] = found[l] + t * size;
                a.v[l] = found[layers + l] + t * wide;
                a.ddweight[l] = l ? left : 0, left += size; /* nothing leads to the first layer's weight */
                a.dweight[l] = left, left += size;
                a.dbias[l] = left, left += wide;
                steps_of[l] = left, left += n * wide;
                a.dh[l] = l ? left : 0, left += n * in;
            }
            a.ddy = left;
            NAME(second)(sizes, &a, room);
            for (I i = 0; i < n * width[layers]; i++) a.ddy[i] *= (REAL)rate;
            for (I l = 0; l < layers; l++) {
                a.dy[l] = l == layers - 1 ? a.ddy : a.dh[l + 1];
                a.d[l] = steps_of[l];
            }
            NAME(derivative)(sizes, &a);
            for (I l = 0; l < layers; l++) {
                const I wide = width[l + 1], size = width[l] * wide;
                REAL *big = found[l] + t * size, *v = found[layers + l] + t * wide;
                if (l) for (I i = 0; i < size; i++) big[i] += a.ddweight[l][i] + a.dweight[l][i];
                else for (I i = 0; i < size; i++) big[i] += a.dweight[l][i];
                for (I i = 0; i < wide; i++) v[i] += a.dbias[l][i];
            }
        }
    })
}

#undef TASKS
#undef AT

#endif
