// What keys.py says in NumPy, once more in C and bit for bit: there stands what each function means.

#include <stdint.h>

// Blocks of Philox computed beside each other, in the lanes of vector registers.
#define LANES 16
// The most numbers that are put in order by comparing each with each; keys.py has its own ways beyond.
#define WIDEST 128

// out [tasks, n]; block b of a task is its words 2b and 2b + 1.
void words(uint64_t key, const int64_t *task, int64_t n_task, int64_t n, uint64_t stream, uint64_t *out) {
    const uint64_t low = 0xFFFFFFFF;
    for (int64_t t = 0; t < n_task; t++, out += n) {
        for (int64_t block = 0; 2 * block < n; block += LANES) {
            // 32-bit words held in 64 bits, so that products do not overflow.
            uint64_t c0[LANES], c1[LANES], c2[LANES], c3[LANES], made[2 * LANES];
            uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
            for (int lane = 0; lane < LANES; lane++) {
                c0[lane] = block + lane;
                c1[lane] = stream;
                c2[lane] = (uint64_t)task[t] & low;
                c3[lane] = (uint64_t)task[t] >> 32;
            }
            for (int round = 0; round < 10; round++) {
                for (int lane = 0; lane < LANES; lane++) {
                    // Masked, which changes nothing, so that the compiler sees a product of 32-bit numbers.
                    uint64_t p0 = (c0[lane] & low) * 0xD2511F53, p1 = (c2[lane] & low) * 0xCD9E8D57;
                    c0[lane] = (p1 >> 32) ^ c1[lane] ^ k0;
                    c1[lane] = p1 & low;
                    c2[lane] = (p0 >> 32) ^ c3[lane] ^ k1;
                    c3[lane] = p0 & low;
                }
                k0 += 0x9E3779B9;
                k1 += 0xBB67AE85;
            }
            for (int lane = 0; lane < LANES; lane++) {
                made[2 * lane] = c0[lane] | (c1[lane] << 32);
                made[2 * lane + 1] = c2[lane] | (c3[lane] << 32);
            }
            int64_t left = n - 2 * block;
            for (int64_t word = 0; word < 2 * LANES && word < left; word++) out[2 * block + word] = made[word];
        }
    }
}

// The numbers 0 .. n-1 in the order of their words; of two equal ones the first comes first. At most WIDEST.
static void ordered(const uint64_t *word, int64_t n, int64_t *out) {
    int64_t rank[WIDEST], sum = 0;
    // No branches: the words are random, and a processor guesses half of them wrong.
    for (int64_t i = 0; i < n; i++) {
        int64_t smaller = 0;
        for (int64_t j = 0; j < n; j++) smaller += word[j] < word[i];
        rank[i] = smaller;
        sum += smaller;
    }
    if (sum != n * (n - 1) / 2)  // a tie, which is one pair that counted for neither
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < i; j++) rank[i] += word[j] == word[i];
    for (int64_t i = 0; i < n; i++) out[rank[i]] = i;
}

// words [rows, width], n [rows], out [rows, width]; width at most WIDEST.
void shuffled(const uint64_t *word, const int64_t *n, int64_t rows, int64_t width, int64_t *out) {
    for (int64_t row = 0; row < rows; row++, word += width, out += width) {
        ordered(word, n[row], out);
        for (int64_t absent = n[row]; absent < width; absent++) out[absent] = absent;
    }
}

// words [rows, 2 longest], n and k [rows], out [rows, longest]; longest at most WIDEST.
void chosen(const uint64_t *word, const int64_t *n, const int64_t *k, int64_t rows, int64_t longest, int64_t *out) {
    for (int64_t row = 0; row < rows; row++, word += 2 * longest, out += longest) {
        uint64_t by[WIDEST];
        int64_t set[WIDEST], order[WIDEST], own = k[row];
        for (int64_t step = 0; step < own; step++) {
            uint64_t bits = word[2 * step], bound = (uint64_t)(n[row] - own + step + 1);
            int64_t pick = (int64_t)(((bits >> 32) * bound + (((bits & 0xFFFFFFFF) * bound) >> 32)) >> 32);
            int taken = 0;
            for (int64_t before = 0; before < step; before++) taken |= set[before] == pick;
            set[step] = taken ? (int64_t)bound - 1 : pick;
            by[step] = word[2 * step + 1];
        }
        ordered(by, own, order);
        for (int64_t step = 0; step < longest; step++) out[step] = step < own ? set[order[step]] : -1;
    }
}
