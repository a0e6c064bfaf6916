// Rows of a table of bytes, one after the other; gather.py says what for.

#include <stdint.h>
#include <string.h>

// So many rows before its turn a row is asked for: pictures lie anywhere in a table too large for the near caches, and
// waiting for one takes longer than copying it.
#define AHEAD 8
#define LINE 64

static int there(int64_t row, int64_t n) { return row >= 0 && row < n; }

static void ask_for(const uint8_t *start, int64_t size) {
#if defined(__GNUC__)
    for (int64_t at = 0; at < size; at += LINE) __builtin_prefetch(start + at);
#endif
}

// table [n, size], row [wanted], out [wanted, size]; how many were copied, fewer where there is no such row.
int64_t gather(const uint8_t *table, int64_t n, int64_t size, const int64_t *row, int64_t wanted, uint8_t *out) {
    for (int64_t i = 0; i < wanted; i++, out += size) {
        if (!there(row[i], n)) return i;
        if (i + AHEAD < wanted && there(row[i + AHEAD], n)) ask_for(table + row[i + AHEAD] * size, size);
        memcpy(out, table + row[i] * size, (size_t)size);
    }
    return wanted;
}
