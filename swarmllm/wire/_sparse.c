/* Sparse lists, encoded and decoded by compiled code: bit for bit what numpy gives in
 * sparse_encoding.py and sparse.py.
 *
 * One list is some eighty numpy calls there, whose code and data have left the caches whenever a
 * model has just been computed; here it is four passes over one row of logits, without Python's
 * lock. protocols/sparse.md has the format, sparse.py its numbers; functions bear the same names.
 *
 * Equal to the bit means: every operation rounds by itself (compile with -ffp-contract=off), and the
 * sum over the vocabulary is exact in any order, because every term is a multiple of 2^-32.
 */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <dlfcn.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* One binary for every x86-64 processor, with a version of the loops for each width of vectors. */
#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__) && !defined(__clang__)
#define WIDE __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define WIDE
#endif

enum {
    COARSE = 2,
    COARSE_MAX = 63,
    GRAINS = 4,
    GAP_SHIFT_MAX = 20,
    STEP_SHIFT_MAX = 5,
    ODDS_EVEN = 1 << 15,
    ODDS_STEPS = 1024,
    BLOCKS = 32,
    CHUNK = 32,
    HEAD_BYTES = 7,
    ENTRIES_MAX = 1024,
    VOCABULARY_MAX = 1 << 20,
    LIST_BYTES_MAX = 8 + 6 * ENTRIES_MAX
};

static const double LOGPROB_MIN = -32.0;

/* --- the mass of all tokens --- */

/* exp(x) for x <= 0 as in `exponentials`, a multiple of 2^-32. NaN stays NaN. */
static inline double term(float x)
{
    const float rounder = 12582912.0f; /* 1.5 * 2^23: adding it leaves no fraction. */
    const double grid = 1572864.0;     /* 1.5 * 2^20: its last bit is 2^-32. */
    x = x < -24.0f ? -24.0f : x;
    float turns = x * 1.44269504f + rounder;
    uint32_t bits;
    memcpy(&bits, &turns, 4);
    float whole = turns - rounder;
    float r = (x - whole * 0.693359375f) - whole * -2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = (p * (r * r) + r) + 1.0f;
    uint32_t scale_bits = (bits - 0x4B400000u + 127u) << 23;
    float scale;
    memcpy(&scale, &scale_bits, 4);
    return ((double)(p * scale) + grid) - grid;
}

WIDE static double mass_of_all(const float *values, int count, float top)
{
    double total = 0.0;
#pragma omp simd reduction(+ : total)
    for (int i = 0; i < count; i++)
        total += term(values[i] - top);
    return total;
}

/* --- the likeliest --- */

/* maxima[j]: the largest of the values j, width + j, 2 width + j, ... */
WIDE static void column_maxima(const float *restrict values, int width, float *restrict maxima)
{
    memcpy(maxima, values, (size_t)width * sizeof *maxima);
    for (int block = 1; block < BLOCKS; block++) {
        const float *row = values + (size_t)block * width;
        for (int j = 0; j < width; j++)
            maxima[j] = row[j] > maxima[j] ? row[j] : maxima[j];
    }
}

/* Ids of the values that reach `bound`, ascending. `ids` has room for all and one more. */
WIDE static int reaching(const float *values, int count, float bound, int32_t *ids)
{
    int found = 0, i = 0;
    for (; i + CHUNK <= count; i += CHUNK) {
        int hits = 0;
#pragma omp simd reduction(| : hits)
        for (int j = 0; j < CHUNK; j++)
            hits |= values[i + j] >= bound;
        if (!hits)
            continue;
        for (int j = 0; j < CHUNK; j++) {
            ids[found] = i + j;
            found += values[i + j] >= bound;
        }
    }
    for (; i < count; i++) {
        ids[found] = i;
        found += values[i] >= bound;
    }
    return found;
}

/* Rises with the value; equal values, both zeros too, have equal keys. */
static uint32_t sort_key(float value)
{
    uint32_t bits;
    value += 0.0f;
    memcpy(&bits, &value, 4);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

static float value_of(uint32_t key)
{
    uint32_t bits = key & 0x80000000u ? key & 0x7FFFFFFFu : ~key;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

/* The `wanted`-th largest (from 1) of `count` keys, byte by byte: linear whatever they are. */
static uint32_t select_key(const uint32_t *keys, int count, int wanted)
{
    uint32_t prefix = 0, mask = 0;
    for (int shift = 24; shift >= 0; shift -= 8) {
        int counts[256] = {0}, byte = 255;
        for (int i = 0; i < count; i++)
            if ((keys[i] & mask) == prefix)
                counts[keys[i] >> shift & 255]++;
        for (; counts[byte] < wanted; byte--)
            wanted -= counts[byte];
        prefix |= (uint32_t)byte << shift;
        mask |= 255u << shift;
    }
    return prefix;
}

typedef struct {
    int32_t ids[ENTRIES_MAX];
    float values[ENTRIES_MAX];
    double logprobs[ENTRIES_MAX];
    int count, winner;
    double kept, tail; /* In units of the likeliest token's probability. */
} Likeliest;

/* Room for one row of so many logits. */
typedef struct {
    float *maxima;  /* [vocabulary / BLOCKS] */
    int32_t *ids;   /* [vocabulary + 1] */
    uint32_t *keys; /* [vocabulary] */
} Scratch;

/* The ids of the `wanted` largest values, ascending, equal ones by lowest id. */
static int largest(const float *values, int count, int wanted, Scratch *scratch, int32_t *ids)
{
    int width = count / BLOCKS, found = 0;
    if (count <= wanted) {
        for (int i = 0; i < count; i++)
            ids[i] = i;
        return count;
    }
    float bound = -INFINITY;
    if (width > wanted) {
        for (int j = 0; j < width; j++)
            scratch->keys[j] = sort_key(scratch->maxima[j]);
        bound = value_of(select_key(scratch->keys, width, wanted));
    }
    int candidates = reaching(values, count, bound, scratch->ids);
    for (int i = 0; i < candidates; i++)
        scratch->keys[i] = sort_key(values[scratch->ids[i]]);
    uint32_t least = select_key(scratch->keys, candidates, wanted);
    int equal = wanted;
    for (int i = 0; i < candidates; i++)
        equal -= scratch->keys[i] > least;
    for (int i = 0; i < candidates && found < wanted; i++)
        if (scratch->keys[i] > least || (scratch->keys[i] == least && equal-- > 0))
            ids[found++] = scratch->ids[i];
    return found;
}

static int by_number(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

/* Which entries a list keeps that may leave out `tail_max` / 65536: the likeliest, until so much is
 * left out. */
static void stop_early(Likeliest *found, const double *terms, double total, int tail_max, char *keep)
{
    uint64_t order[ENTRIES_MAX];
    for (int i = 0; i < found->count; i++)
        order[i] = (uint64_t)~sort_key(found->values[i]) << 32 | (uint64_t)i;
    qsort(order, (size_t)found->count, sizeof *order, by_number);
    double kept = 0.0;
    for (int n = 0; n < found->count; n++) {
        int i = (int)(order[n] & 0xFFFFFFFFu);
        if (n && (total - kept) * 65536.0 < total * tail_max)
            keep[i] = 0;
        kept += terms[i];
    }
}

/* 0 for a row that is no distribution. */
static int likeliest(const float *values, int count, int entries_max, int tail_max,
                     Scratch *scratch, Likeliest *found)
{
    int width = count / BLOCKS;
    float top = values[0];
    column_maxima(values, width, scratch->maxima);
    for (int j = 0; j < width; j++)
        top = scratch->maxima[j] > top ? scratch->maxima[j] : top;
    for (int i = width * BLOCKS; i < count; i++)
        top = values[i] > top ? values[i] : top;
    double total = mass_of_all(values, count, top);
    if (!isfinite(total) || !isfinite(top))
        return 0;
    double terms[ENTRIES_MAX], logarithm = log(total);
    char keep[ENTRIES_MAX];
    int winner = 0;
    found->count = largest(values, count, entries_max, scratch, found->ids);
    for (int i = 0; i < found->count; i++) {
        float value = found->values[i] = values[found->ids[i]];
        found->logprobs[i] = (double)(value - top) - logarithm;
        terms[i] = term(value - top);
        keep[i] = found->logprobs[i] >= LOGPROB_MIN;
        if (value > found->values[winner])
            winner = i;
    }
    if (tail_max)
        stop_early(found, terms, total, tail_max, keep);
    int kept = 0;
    found->kept = 0.0;
    for (int i = 0; i < found->count; i++) {
        if (!keep[i])
            continue;
        if (i == winner)
            found->winner = kept;
        found->ids[kept] = found->ids[i];
        found->logprobs[kept++] = found->logprobs[i];
        found->kept += terms[i];
    }
    found->count = kept;
    found->tail = total - found->kept;
    return 1;
}

/* --- the bytes --- */

typedef struct {
    uint8_t *at;
    uint64_t held; /* The low `bits` bits are not written yet. */
    int bits;
} Writer;

/* `width` bits, the high one first; at most 32. */
static void put(Writer *writer, uint32_t value, int width)
{
    writer->held = writer->held << width | value;
    writer->bits += width;
    while (writer->bits >= 8) {
        writer->bits -= 8;
        *writer->at++ = (uint8_t)(writer->held >> writer->bits);
    }
}

static void put_unary(Writer *writer, uint32_t zeros)
{
    for (; zeros >= 32; zeros -= 32)
        put(writer, 0, 32);
    put(writer, 1, (int)zeros + 1);
}

static void put_rice(Writer *writer, const uint32_t *numbers, int count, int shift)
{
    for (int i = 0; i < count; i++)
        put_unary(writer, numbers[i] >> shift);
    if (shift)
        for (int i = 0; i < count; i++)
            put(writer, numbers[i] & ((1u << shift) - 1), shift);
}

static int bit_length(uint64_t number)
{
    int length = 0;
    for (; number; number >>= 1)
        length++;
    return length;
}

/* The Rice parameter with the shortest code, and its bits. */
static int best_shift(const uint32_t *numbers, int count, int shift_max, int64_t *bits)
{
    uint64_t sum = 0;
    for (int i = 0; i < count; i++)
        sum += numbers[i];
    int near = bit_length(sum / (uint64_t)count), best = 0;
    *bits = INT64_MAX;
    for (int tried = near - 2; tried <= near; tried++) {
        int shift = tried < 0 ? 0 : tried > shift_max ? shift_max : tried;
        int64_t coded = (int64_t)count * (shift + 1);
        for (int i = 0; i < count; i++)
            coded += numbers[i] >> shift;
        if (coded < *bits) {
            *bits = coded;
            best = shift;
        }
    }
    return best;
}

static int fine_bits(int grain, int cell)
{
    int bits = 37 + 3 * (grain - cell);
    return bits < 0 ? 0 : bits / 4;
}

static int64_t size_aim(int count)
{
    return 80 + 3 * count / 2;
}

typedef struct {
    int32_t coarse[ENTRIES_MAX], fine[ENTRIES_MAX];
    uint32_t steps[ENTRIES_MAX];
    int grain, deepest, step_shift;
    int64_t bits; /* Of steps and fine cells. */
} Cells;

/* Where others share the winner's cell, move it up by one. */
static void raise_winner(Cells *cells, int count, int winner)
{
    int sharing = 0;
    for (int i = 0; i < count; i++)
        sharing += cells->coarse[i] == cells->coarse[winner] && cells->fine[i] == cells->fine[winner];
    if (sharing == 1)
        return;
    if (cells->fine[winner] > 0) {
        cells->fine[winner]--;
    } else if (cells->coarse[winner] > 0) { /* Two entries of probability one there are not. */
        cells->coarse[winner]--;
        cells->fine[winner] = (1 << fine_bits(cells->grain, cells->coarse[winner])) - 1;
    }
}

static void cells_of(const Likeliest *found, int64_t gap_bits, Cells *cells)
{
    double depths[ENTRIES_MAX];
    int64_t counts[COARSE_MAX + 1] = {0}, step_bits;
    int count = found->count;
    cells->deepest = 0;
    for (int i = 0; i < count; i++) {
        double depth = -found->logprobs[i] > 0.0 ? -found->logprobs[i] * COARSE : 0.0;
        depths[i] = depth < COARSE_MAX + 0.999 ? depth : COARSE_MAX + 0.999;
        cells->coarse[i] = (int32_t)depths[i];
        counts[cells->coarse[i]]++;
        if (cells->coarse[i] > cells->deepest)
            cells->deepest = cells->coarse[i];
    }
    for (int i = 0; i < count; i++)
        cells->steps[i] = (uint32_t)(cells->deepest - cells->coarse[i]);
    cells->step_shift = best_shift(cells->steps, count, STEP_SHIFT_MAX, &step_bits);
    int64_t room = 8 * (size_aim(count) - HEAD_BYTES) - gap_bits - step_bits;
    cells->grain = -1;
    for (int grain = 0; grain < GRAINS; grain++) {
        int64_t bits = 0;
        for (int cell = 0; cell <= COARSE_MAX; cell++)
            bits += counts[cell] * fine_bits(grain, cell);
        cells->grain += bits <= room;
    }
    cells->grain = cells->grain < 0 ? 0 : cells->grain;
    for (int i = 0; i < count; i++)
        cells->fine[i] = (int32_t)((depths[i] - cells->coarse[i])
                                   * (1 << fine_bits(cells->grain, cells->coarse[i])));
    raise_winner(cells, count, found->winner);
    cells->bits = 0;
    for (int i = 0; i < count; i++) {
        cells->steps[i] = (uint32_t)(cells->deepest - cells->coarse[i]);
        cells->bits += fine_bits(cells->grain, cells->coarse[i]);
    }
    cells->step_shift = best_shift(cells->steps, count, STEP_SHIFT_MAX, &step_bits);
    cells->bits += step_bits;
}

static int odds_code(double kept, double tail)
{
    if (tail <= 0.0)
        return 0;
    double code = rint(ODDS_EVEN + ODDS_STEPS * log2(tail / kept));
    return code < 0.0 ? 0 : code > 2 * ODDS_EVEN - 1 ? 2 * ODDS_EVEN - 1 : (int)code;
}

/* Writes the list and returns its length; 0 if it does not fit, which no list can. */
static int encode_rice(const Likeliest *found, uint8_t *out)
{
    uint32_t gaps[ENTRIES_MAX];
    int64_t gap_bits;
    Cells cells;
    int count = found->count;
    for (int i = 0; i < count; i++)
        gaps[i] = (uint32_t)(found->ids[i] - (i ? found->ids[i - 1] + 1 : 0));
    int gap_shift = best_shift(gaps, count, GAP_SHIFT_MAX, &gap_bits);
    cells_of(found, gap_bits, &cells);
    if ((gap_bits + cells.bits + 7) / 8 + HEAD_BYTES > LIST_BYTES_MAX)
        return 0;
    int odds = odds_code(found->kept, found->tail);
    out[0] = 1;
    out[1] = (uint8_t)((count - 1) >> 8);
    out[2] = (uint8_t)(count - 1);
    out[3] = (uint8_t)(gap_shift << 3 | cells.step_shift);
    out[4] = (uint8_t)(cells.grain << 6 | cells.deepest);
    out[5] = (uint8_t)(odds >> 8);
    out[6] = (uint8_t)odds;
    Writer writer = {out + HEAD_BYTES, 0, 0};
    put_rice(&writer, gaps, count, gap_shift);
    put_rice(&writer, cells.steps, count, cells.step_shift);
    for (int i = 0; i < count; i++) {
        int width = fine_bits(cells.grain, cells.coarse[i]);
        if (width)
            put(&writer, (uint32_t)cells.fine[i], width);
    }
    if (writer.bits)
        put(&writer, 0, 8 - writer.bits);
    return (int)(writer.at - out);
}

/* --- and back --- */

typedef struct {
    const uint8_t *data; /* Eight bytes more than `bits` can be read. */
    int64_t at, bits;
} Reader;

/* The next 57 bits at least, from the high end. */
static uint64_t peek(const Reader *reader)
{
    uint64_t window = 0;
    for (int i = 0; i < 8; i++)
        window = window << 8 | reader->data[reader->at / 8 + i];
    return window << (reader->at & 7);
}

/* At most 32 bits; whoever asks has looked whether there are so many. */
static uint32_t take(Reader *reader, int width)
{
    uint32_t value = width ? (uint32_t)(peek(reader) >> (64 - width)) : 0;
    reader->at += width;
    return value;
}

/* Zeros before the next one; -1 if there is none. */
static int64_t take_unary(Reader *reader)
{
    int64_t zeros = 0;
    while (reader->at < reader->bits) {
        uint64_t window = peek(reader) >> 8 << 8; /* 56 bits: whatever `at` is, these are there. */
        int run = 0;
        if (!window) {
            reader->at += 56;
            zeros += 56;
            continue;
        }
        for (; !(window >> 63); window <<= 1)
            run++;
        reader->at += run + 1;
        return reader->at <= reader->bits ? zeros + run : -1;
    }
    return -1;
}

static int read_rice(Reader *reader, int64_t *numbers, int count, int shift)
{
    for (int i = 0; i < count; i++)
        if ((numbers[i] = take_unary(reader)) < 0)
            return 0;
    if (reader->at + (int64_t)count * shift > reader->bits)
        return 0;
    for (int i = 0; i < count; i++)
        numbers[i] = numbers[i] << shift | take(reader, shift);
    return 1;
}

/* Fills `ids` and `logprobs` from a list in the Rice form; their number, or 0 if anything is wrong
 * with it. `data` has eight zeros behind it. */
static int decode_rice(const uint8_t *data, int64_t size, int entries_max, int vocabulary,
                       double odds, int32_t *ids, float *logprobs)
{
    int64_t numbers[ENTRIES_MAX], id = -1;
    double values[ENTRIES_MAX], top = -INFINITY, sum = 0.0;
    int coarse[ENTRIES_MAX], ties = 0;
    int count = (data[1] << 8 | data[2]) + 1, gap_shift = data[3] >> 3, step_shift = data[3] & 7;
    int grain = data[4] >> 6, deepest = data[4] & 63;
    Reader reader = {data + HEAD_BYTES, 0, 8 * (size - HEAD_BYTES)};
    if (count > entries_max || gap_shift > GAP_SHIFT_MAX || step_shift > STEP_SHIFT_MAX
        || !read_rice(&reader, numbers, count, gap_shift))
        return 0;
    for (int i = 0; i < count; i++) {
        id += numbers[i] + 1;
        if (id >= vocabulary)
            return 0;
        ids[i] = (int32_t)id;
    }
    if (!read_rice(&reader, numbers, count, step_shift))
        return 0;
    int64_t end = reader.at;
    for (int i = 0; i < count; i++) {
        if (numbers[i] > deepest)
            return 0;
        coarse[i] = deepest - (int)numbers[i];
        end += fine_bits(grain, coarse[i]);
    }
    if (end > reader.bits || reader.bits - end >= 8)
        return 0;
    for (int i = 0; i < count; i++) {
        int width = fine_bits(grain, coarse[i]);
        double fine = take(&reader, width);
        values[i] = -(coarse[i] + (fine + 0.5) / (1 << width)) / COARSE;
        ties = values[i] > top ? 1 : ties + (values[i] == top);
        top = values[i] > top ? values[i] : top;
        sum += term((float)values[i]);
    }
    if (take(&reader, (int)(reader.bits - end)) || ties != 1)
        return 0;
    double mass = sum / (1.0 / (1.0 + odds));
    if (!(1.0 / (4.0 / 3.0) <= mass && mass <= 4.0 / 3.0))
        return 0;
    double scale = log(mass);
    for (int i = 0; i < count; i++)
        logprobs[i] = (float)(values[i] - scale < 0.0 ? values[i] - scale : 0.0);
    return count;
}

/* --- for Python --- */

typedef struct {
    const float *logits;
    const int32_t *bounds;
    int rows, vocabulary;
    uint8_t *lists; /* [rows][LIST_BYTES_MAX] */
    int *sizes;     /* [rows]; 0: no distribution, -1: no list holds it. */
    int next;       /* The row that nobody has begun yet. */
    int has_memory; /* One thread at least found room to work in, and so all rows are done. */
} Batch;

/* Encodes rows until none is left; several threads may do so with one batch. */
static void encode_some(void *argument)
{
    Batch *batch = argument;
    size_t count = (size_t)batch->vocabulary;
    Likeliest *found = malloc(sizeof *found);
    Scratch scratch = {malloc((count / BLOCKS + 1) * sizeof(float)),
                       malloc((count + 1) * sizeof(int32_t)), malloc(count * sizeof(uint32_t))};
    if (found && scratch.maxima && scratch.ids && scratch.keys) {
        int row;
        while ((row = __atomic_fetch_add(&batch->next, 1, __ATOMIC_RELAXED)) < batch->rows) {
            const float *values = batch->logits + (size_t)row * count;
            const int32_t *bound = batch->bounds + 2 * (size_t)row;
            uint8_t *list = batch->lists + (size_t)row * LIST_BYTES_MAX;
            int is_sound =
                likeliest(values, batch->vocabulary, bound[0], bound[1], &scratch, found);
            int size = is_sound ? encode_rice(found, list) : 0;
            batch->sizes[row] = is_sound && !size ? -1 : size;
        }
        __atomic_store_n(&batch->has_memory, 1, __ATOMIC_RELAXED);
    }
    free(found);
    free(scratch.maxima);
    free(scratch.ids);
    free(scratch.keys);
}

typedef void (*Parallel)(void (*work)(void *), void *argument, unsigned threads, unsigned flags);

/* GCC's OpenMP, if llama.cpp has loaded it: its threads have just computed the logits and are awake
 * still, where one of our own would first wait for a core that they spin on. NULL without it. */
static Parallel threads_of_llama(void)
{
    Parallel parallel = NULL;
    void *library = dlopen("libgomp.so.1", RTLD_LAZY | RTLD_NOLOAD);
    if (library) {
        void *symbol = dlsym(library, "GOMP_parallel");
        memcpy(&parallel, &symbol, sizeof parallel);
        dlclose(library);
    }
    return parallel;
}

static int encode_batch(Batch *batch, int threads)
{
    Parallel parallel = threads > 1 && batch->rows > 1 ? threads_of_llama() : NULL;
    if (parallel)
        parallel(encode_some, batch, (unsigned)threads, 0);
    else
        encode_some(batch);
    return batch->has_memory;
}

static PyObject *lists_of(const Batch *batch)
{
    PyObject *found = PyList_New(batch->rows);
    for (int row = 0; found && row < batch->rows; row++) {
        PyObject *list;
        int size = batch->sizes[row];
        if (size > 0) {
            list = PyBytes_FromStringAndSize(
                (const char *)batch->lists + (size_t)row * LIST_BYTES_MAX, size);
        } else if (size == 0) {
            Py_INCREF(Py_None);
            list = Py_None;
        } else {
            PyErr_SetString(PyExc_AssertionError, "a list longer than any can be");
            list = NULL;
        }
        if (!list || PyList_SetItem(found, row, list) < 0) {
            Py_DECREF(found);
            found = NULL;
        }
    }
    return found;
}

/* What is wrong with the buffers; NULL if nothing. */
static const char *fault(const Py_buffer *logits, const Py_buffer *bounds, Py_ssize_t vocabulary)
{
    if (vocabulary < 1 || vocabulary > VOCABULARY_MAX)
        return "the vocabulary is out of bounds";
    if (bounds->len % (Py_ssize_t)(2 * sizeof(int32_t)))
        return "bounds are pairs of int32";
    Py_ssize_t rows = bounds->len / (Py_ssize_t)(2 * sizeof(int32_t));
    if (rows > 1 << 16 || logits->len != rows * vocabulary * (Py_ssize_t)sizeof(float))
        return "logits are float32, one row for each pair of bounds";
    const int32_t *bound = bounds->buf;
    for (Py_ssize_t row = 0; row < rows; row++, bound += 2)
        if (bound[0] < 1 || bound[0] > ENTRIES_MAX || bound[1] < 0 || bound[1] > 65535)
            return "entries_max or tail_max is out of bounds";
    return NULL;
}

static PyObject *encode_rows(PyObject *module, PyObject *arguments)
{
    Py_buffer logits, bounds;
    Py_ssize_t vocabulary;
    PyObject *found = NULL;
    int threads = 1;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "y*y*n|i", &logits, &bounds, &vocabulary, &threads))
        return NULL;
    const char *wrong = fault(&logits, &bounds, vocabulary);
    size_t rows = (size_t)bounds.len / (2 * sizeof(int32_t));
    if (wrong) {
        PyErr_SetString(PyExc_ValueError, wrong);
    } else {
        Batch batch = {logits.buf, bounds.buf, (int)rows, (int)vocabulary,
                       malloc(rows * LIST_BYTES_MAX + 1), malloc((rows + 1) * sizeof(int)), 0, 0};
        int has_memory = 0;
        if (batch.lists && batch.sizes) {
            Py_BEGIN_ALLOW_THREADS
            has_memory = encode_batch(&batch, threads);
            Py_END_ALLOW_THREADS
        }
        found = has_memory ? lists_of(&batch) : PyErr_NoMemory();
        free(batch.lists);
        free(batch.sizes);
    }
    PyBuffer_Release(&logits);
    PyBuffer_Release(&bounds);
    return found;
}

static PyObject *decode_list(PyObject *module, PyObject *arguments)
{
    Py_buffer list;
    int entries_max, vocabulary, count = 0;
    double odds;
    int32_t ids[ENTRIES_MAX];
    float logprobs[ENTRIES_MAX];
    uint8_t padded[LIST_BYTES_MAX + 8] = {0};
    (void)module;
    if (!PyArg_ParseTuple(arguments, "y*iid", &list, &entries_max, &vocabulary, &odds))
        return NULL;
    if (list.len > HEAD_BYTES && list.len <= LIST_BYTES_MAX && entries_max <= ENTRIES_MAX) {
        memcpy(padded, list.buf, (size_t)list.len);
        if (padded[0] == 1)
            count = decode_rice(padded, list.len, entries_max, vocabulary, odds, ids, logprobs);
    }
    PyBuffer_Release(&list);
    if (!count)
        Py_RETURN_NONE;
    return Py_BuildValue("y#y#", (const char *)ids, (Py_ssize_t)(count * sizeof *ids),
                         (const char *)logprobs, (Py_ssize_t)(count * sizeof *logprobs));
}

static PyMethodDef methods[] = {
    {"decode_list", decode_list, METH_VARARGS,
     "decode_list(data, entries_max, vocabulary, odds): int32 ids and float32 log-probabilities as\n"
     "bytes; None for what is no list in the Rice form."},
    {"encode_rows", encode_rows, METH_VARARGS,
     "encode_rows(logits, bounds, vocabulary, threads=1): the list of each row of float32[n,\n"
     "vocabulary], with int32[n, 2] of entries_max and tail_max; None for a row that is no\n"
     "distribution. So many of llama.cpp's own threads help, where there are any."},
    {NULL, NULL, 0, NULL}};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_sparse",
                                        "Sparse lists.", -1, methods,
                                        NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__sparse(void)
{
    return PyModule_Create(&definition);
}
