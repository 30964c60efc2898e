// Statistics of next-token distributions from hidden states and an output embedding: the matrix product and the
// statistics in one pass, logits never outside registers and the first-level cache.
//
// A block of rows of the hidden states is packed once. Threads take parts of the vocabulary; of a part, panels of 2
// vectors of tokens are packed (transposed) and multiplied with all rows, a group of rows at a time with its sums in
// registers. A group's logits are then folded into the state of its rows: the two largest logits, sum exp(z - top1)
// and sum exp(z - top1) (z - top1). Sums are taken in the same order whatever the number of threads or of other rows.
//
// Built on the user's machine by rlsf.tokenstats.compiled with GCC (10 or newer), on the OpenMP threads of PyTorch.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <new>

#if defined(__AVX2__)
#include <immintrin.h>
#endif
#if defined(__AVX512F__)
constexpr int LANES = 16, GROUP = 14;  // 28 of 32 registers hold sums
#elif defined(__AVX2__)
constexpr int LANES = 8, GROUP = 6;  // 12 of 16
#elif defined(__aarch64__)
constexpr int LANES = 4, GROUP = 12;  // 24 of 32
#else
constexpr int LANES = 4, GROUP = 6;  // 12 of 16
#endif
constexpr int PANEL = 2 * LANES;  // tokens multiplied at once
constexpr long CHAIN = 256;       // longest chain of additions into one register: accuracy
constexpr float NOTHING = -std::numeric_limits<float>::infinity();

typedef float Vector __attribute__((vector_size(4 * LANES), aligned(4)));
typedef int32_t Integers __attribute__((vector_size(4 * LANES), aligned(4)));
typedef uint32_t Words __attribute__((vector_size(4 * LANES), aligned(4)));
typedef uint16_t Shorts __attribute__((vector_size(2 * LANES), aligned(2)));

enum Kind { FLOAT32 = 0, BFLOAT16 = 1, FLOAT16 = 2 };  // of elements; rlsf.tokenstats.compiled has the same numbers

struct Problem {  // the fields of rlsf.tokenstats.compiled.Problem
    const void *hidden, *weight;  // [rows, width] in bfloat16 if `paired`, else float32; [tokens, width] in `kind`
    const float *bias;            // [tokens] or null
    const int64_t *ids;           // [rows]
    const float *above;           // [rows] or null
    float *top1, *top2, *excess, *expectation, *chosen, *total;  // [rows, parts]; total may be null
    int64_t *top1_id, *count;                                    // [rows, parts]; count where above is given
    int64_t rows, width, tokens, part, hidden_stride, weight_stride;  // part: tokens of a part
    float scale, softcap, temperature;                                // softcap 0: none
    int32_t kind, paired, threads;  // paired: products of pairs of bfloat16 numbers, summed in float32
};

static inline Vector all(float value) { return Vector{} + value; }
static inline Vector larger(Vector a, Vector b) { return a > b ? a : b; }

static inline bool any_above(Vector a, Vector b, Vector bound) {
#if defined(__AVX512F__)
    return _mm512_cmp_ps_mask((__m512)larger(a, b), (__m512)bound, _CMP_GT_OQ) != 0;
#elif defined(__AVX2__)
    return _mm256_movemask_ps((__m256)(larger(a, b) > bound)) != 0;
#else
    Integers above = larger(a, b) > bound;
    int32_t any = 0;
    for (int lane = 0; lane < LANES; ++lane) any |= above[lane];
    return any != 0;
#endif
}

template <class Numbers>
static inline auto sum(Numbers values) {
    auto total = values[0];
    for (int lane = 1; lane < LANES; ++lane) total += values[lane];
    return total;
}

// exp(x) for x <= 0, exactly 0 below -87: 2^n times a polynomial of degree 6 in the rest (Cephes), 1 ulp. Leaves x, but
// no less than -87, in `bounded`.
static inline Vector exponential(Vector x, Vector &bounded) {
    Vector low = all(-87.0f);
    bounded = larger(x, low);
    Vector shifted = bounded * 1.44269504f + 12582912.0f;  // 1.5 * 2^23: rounds to the nearest integer
    Vector whole = shifted - 12582912.0f;
    Vector rest = bounded - whole * 0.693359375f + whole * 2.12194440e-4f;
    Vector p = rest * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * rest + 8.3334519073e-3f;
    p = p * rest + 4.1665795894e-2f;
    p = p * rest + 1.6666665459e-1f;
    p = p * rest + 5.0000001201e-1f;
    p = p * (rest * rest) + rest + 1.0f;
    Integers scaled = ((Integers)shifted << 23) + (Integers)p;
    return x > low ? (Vector)scaled : Vector{};
}

// tanh(x): a polynomial near 0 (Cephes), else (1 - e) / (1 + e) with e = exp(-2 |x|).
static inline Vector hyperbolic_tangent(Vector x) {
    Vector size = x < 0 ? -x : x, square = x * x, bounded;
    Vector p = square * -5.70498872745e-3f + 2.06390887954e-2f;
    p = p * square - 5.37397155531e-2f;
    p = p * square + 1.33314422036e-1f;
    p = p * square - 3.33332819422e-1f;
    Vector e = exponential(size * -2.0f, bounded), far = (1.0f - e) / (1.0f + e);
    return size < all(0.625f) ? p * square * x + x : x < 0 ? -far : far;
}

// ---- matrix product of a packed group of rows and a packed panel of tokens ---------------------------------------

// How a word of 32 bits is made of elements and multiplied. DEPTH: elements in a word.
struct Plain {
    static constexpr long DEPTH = 1;
    static inline Vector multiply_add(Words w, uint32_t h, Vector sum) {
        float value;
        std::memcpy(&value, &h, 4);
        return sum + (Vector)w * value;
    }
};

#if defined(__AVX512BF16__)
struct Paired {
    static constexpr long DEPTH = 2;
    static inline Vector multiply_add(Words w, uint32_t h, Vector sum) {
        return (Vector)_mm512_dpbf16_ps((__m512)sum, (__m512bh)(__m512i)w, (__m512bh)_mm512_set1_epi32((int)h));
    }
};
#endif

// logits [ROWS][2] of `words` words of depth; rows packed [words][ROWS], tokens [words][PANEL].
template <class Number, int ROWS>
static void product(const uint32_t *rows, const uint32_t *panel, long words, Vector *logits) {
    for (int i = 0; i < 2 * ROWS; ++i) logits[i] = Vector{};
    for (long start = 0; start < words; start += CHAIN) {
        long end = start + CHAIN < words ? start + CHAIN : words;
        Vector sums[2 * ROWS] = {};
        for (long k = start; k < end; ++k) {
            Words w0 = *(const Words *)(panel + k * PANEL), w1 = *(const Words *)(panel + k * PANEL + LANES);
            const uint32_t *h = rows + k * ROWS;
#pragma GCC unroll 16
            for (int r = 0; r < ROWS; ++r) {
                sums[2 * r] = Number::multiply_add(w0, h[r], sums[2 * r]);
                sums[2 * r + 1] = Number::multiply_add(w1, h[r], sums[2 * r + 1]);
            }
        }
#pragma GCC unroll 32
        for (int i = 0; i < 2 * ROWS; ++i) logits[i] += sums[i];
    }
}

template <class Number>
static void any_product(int rows, const uint32_t *packed, const uint32_t *panel, long words, Vector *logits) {
    switch (rows) {
        case GROUP: return product<Number, GROUP>(packed, panel, words, logits);
        case 8: return product<Number, 8 < GROUP ? 8 : GROUP>(packed, panel, words, logits);
        case 4: return product<Number, 4>(packed, panel, words, logits);
        case 2: return product<Number, 2>(packed, panel, words, logits);
        default: return product<Number, 1>(packed, panel, words, logits);
    }
}

static int group_size(long rows) {
    if (rows >= GROUP) return GROUP;
    return rows >= 8 ? 8 : rows >= 4 ? 4 : rows >= 2 ? 2 : 1;
}

// ---- packing -----------------------------------------------------------------------------------------------------

// Elements of the embedding as words. With DEPTH 1 half precision is widened to float32.
template <Kind kind, long DEPTH>
struct Source {
    static constexpr long SIZE = kind == FLOAT32 ? 4 : 2;

    static inline const char *at(const void *start, int64_t element) { return (const char *)start + element * SIZE; }

    // LANES words from word k on.
    static inline Words words(const char *row, long k) {
        if constexpr (SIZE * DEPTH == 4) return *(const Words *)(row + 4 * k);
        Shorts shorts = *(const Shorts *)(row + 2 * k);
        if constexpr (kind == BFLOAT16) return __builtin_convertvector(shorts, Words) << 16;
#if defined(__AVX512F__)
        return (Words)_mm512_cvtph_ps((__m256i)shorts);
#elif defined(__F16C__)
        return (Words)_mm256_cvtph_ps((__m128i)shorts);
#else
        return Words{};
#endif
    }

    // Up to LANES words from word k on, zeros beyond the end of a row.
    static inline Words last_words(const char *row, long k, long width) {
        char rest[4 * LANES] = {};
        std::memcpy(rest, row + k * SIZE * DEPTH, (width - k * DEPTH) * SIZE);
        return words(rest, 0);
    }
};

// Rows in groups, each as [words][size of the group].
template <long DEPTH>
static void pack_rows(const Problem &problem, uint32_t *packed, long words) {
    constexpr long SIZE = 4 / DEPTH;
    for (long start = 0; start < problem.rows;) {
        int size = group_size(problem.rows - start);
        for (int r = 0; r < size; ++r) {
            const char *row = (const char *)problem.hidden + (start + r) * problem.hidden_stride * SIZE;
            uint32_t *place = packed + start * words + r;
            for (long k = 0; k < words; ++k) {
                uint32_t word = 0;
                long bytes = problem.width * SIZE - 4 * k;
                std::memcpy(&word, row + 4 * k, bytes < 4 ? bytes : 4);
                place[k * size] = word;
            }
        }
        start += size;
    }
}

// Transposes LANES x LANES words in registers: bit by bit of the index, lanes and vectors trade places.
static inline void transpose(Words *block) {
#pragma GCC unroll 4
    for (int step = 1; step < LANES; step *= 2) {
        Integers low, high;
        for (int lane = 0; lane < LANES; ++lane) {
            low[lane] = lane & step ? LANES + (lane ^ step) : lane;
            high[lane] = lane & step ? LANES + lane : lane ^ step;
        }
#pragma GCC unroll 16
        for (int i = 0; i < LANES; ++i) {
            if (i & step) continue;
            Words a = block[i], b = block[i | step];
            block[i] = __builtin_shuffle(a, b, (Words)low);
            block[i | step] = __builtin_shuffle(a, b, (Words)high);
        }
    }
}

// Tokens first .. first + PANEL as [words][PANEL]; those beyond the vocabulary repeat its last one.
template <class From, long DEPTH>
static void pack_panel(const Problem &problem, long first, uint32_t *panel, long words) {
    for (int half = 0; half < PANEL; half += LANES) {
        const char *row[LANES];
        for (int t = 0; t < LANES; ++t) {
            long token = first + half + t < problem.tokens ? first + half + t : problem.tokens - 1;
            row[t] = From::at(problem.weight, token * problem.weight_stride);
        }
        for (long k = 0; k < words; k += LANES) {
            bool whole = (k + LANES) * DEPTH <= problem.width;
            Words block[LANES];
#pragma GCC unroll 16
            for (int t = 0; t < LANES; ++t)
                block[t] = whole ? From::words(row[t], k) : From::last_words(row[t], k, problem.width);
            transpose(block);
            for (int i = 0; i < LANES && k + i < words; ++i) *(Words *)(panel + (k + i) * PANEL + half) = block[i];
        }
    }
}

// ---- statistics --------------------------------------------------------------------------------------------------

struct State {  // of one row and one part of the vocabulary
    Vector sum, expectation, total;
    Integers count;
    float top1, top2, chosen;
    int64_t top1_id, itself;  // itself: whether the row's own token was counted among those above it
};

// How the sums W h of a panel become logits: z = cap(scale (W h + b)) / temperature, -inf beyond the vocabulary.
struct Finish {
    Vector bias[2], beyond[2];
    float before, after;
    bool capped, needed;

    Finish(const Problem &problem, long first, long tokens) : bias{}, beyond{} {
        capped = problem.softcap != 0;
        before = capped ? problem.scale / problem.softcap : problem.scale / problem.temperature;
        after = capped ? problem.softcap / problem.temperature : 1.0f;
        needed = problem.bias || capped || before != 1.0f || tokens < PANEL;
        if (problem.bias) std::memcpy(bias, problem.bias + first, 4 * tokens);
        for (int t = tokens; t < PANEL; ++t) beyond[t / LANES][t % LANES] = NOTHING;
    }

    inline void apply(Vector *logits) const {
        for (int i = 0; needed && i < 2; ++i) {
            Vector z = (logits[i] + bias[i]) * before;
            logits[i] = (capped ? hyperbolic_tangent(z) * after : z) + beyond[i];
        }
    }
};

// New largest logits among the panel's: rare, so that it may be slow. Ties leave the smaller id.
static void rise(State &state, const Vector *logits, long first) {
    float before = state.top1;
    for (int t = 0; t < PANEL; ++t) {
        float z = logits[t / LANES][t % LANES];
        if (z > state.top1) {
            state.top2 = state.top1, state.top1 = z, state.top1_id = first + t;
        } else if (z > state.top2) {
            state.top2 = z;
        }
    }
    if (state.top1 > before && before > NOTHING) {
        float down = before - state.top1, factor = std::exp(down);
        state.expectation = (state.expectation + state.sum * down) * factor;
        state.sum *= factor;
    }
}

static inline void fold(State &state, const Vector *logits, long first) {
    if (any_above(logits[0], logits[1], all(state.top2))) rise(state, logits, first);
    if (state.top1 == NOTHING) return;
    for (int i = 0; i < 2; ++i) {
        Vector distance, e = exponential(logits[i] - state.top1, distance);
        state.sum += e;
        state.expectation += e * distance;
    }
}

// What not every caller asks for: the sum of the logits, and how many exceed the logit of the row's own token.
static inline void extras(const Problem &problem, State &state, long row, const Vector *logits, long tokens) {
    if (problem.above)
        for (int i = 0; i < 2; ++i) state.count -= logits[i] > all(problem.above[row]);
    if (!problem.total) return;
    if (tokens == PANEL) {
        state.total += logits[0] + logits[1];
    } else {
        for (int t = 0; t < tokens; ++t) state.total[t % LANES] += logits[t / LANES][t % LANES];
    }
}

static void write(const Problem &problem, const State &state, long place) {
    float total = sum(state.sum);
    problem.top1[place] = state.top1;
    problem.top2[place] = state.top2;
    problem.top1_id[place] = state.top1_id;
    problem.excess[place] = total > 0 ? std::log(total) : 0;
    problem.expectation[place] = total > 0 ? sum(state.expectation) / total : 0;
    problem.chosen[place] = state.chosen;
    if (problem.total) problem.total[place] = sum(state.total);
    if (problem.above) problem.count[place] = sum(state.count) - state.itself;
}

struct Workspace {  // of a thread
    uint32_t *panel;
    State *states;
    bool missing;

    Workspace(long rows, long words)
        : panel(new (std::nothrow) uint32_t[words * PANEL]),
          states(new (std::nothrow) State[rows]),
          missing(!panel || !states) {}
    ~Workspace() {
        delete[] panel;
        delete[] states;
    }
};

template <class Number, class From>
static void part(const Problem &problem, const uint32_t *packed, long number, long words, Workspace &work) {
    long begin = number * problem.part, parts = (problem.tokens + problem.part - 1) / problem.part;
    long end = begin + problem.part < problem.tokens ? begin + problem.part : problem.tokens;
    for (long row = 0; row < problem.rows; ++row) work.states[row] = State{{}, {}, {}, {}, NOTHING, NOTHING, NOTHING, 0, 0};
    for (long first = begin; first < end; first += PANEL) {
        long tokens = end - first < PANEL ? end - first : PANEL;
        Finish finish(problem, first, tokens);
        pack_panel<From, Number::DEPTH>(problem, first, work.panel, words);
        for (long start = 0; start < problem.rows;) {
            int size = group_size(problem.rows - start);
            Vector group[2 * GROUP];
            any_product<Number>(size, packed + start * words, work.panel, words, group);
            for (int r = 0; r < size; ++r) {
                Vector *logits = group + 2 * r;
                State &state = work.states[start + r];
                finish.apply(logits);
                long token = problem.ids[start + r] - first;
                if (token >= 0 && token < tokens) {
                    state.chosen = logits[token / LANES][token % LANES];
                    state.itself = problem.above && state.chosen > problem.above[start + r];
                }
                if (problem.total || problem.above) extras(problem, state, start + r, logits, tokens);
                fold(state, logits, first);
            }
            start += size;
        }
    }
    for (long row = 0; row < problem.rows; ++row) write(problem, work.states[row], row * parts + number);
}

template <class Number, class From>
static int run(const Problem &problem) {
    long words = (problem.width + Number::DEPTH - 1) / Number::DEPTH;
    long parts = (problem.tokens + problem.part - 1) / problem.part;
    auto *packed = new (std::nothrow) uint32_t[problem.rows * words];
    if (!packed) return 1;
    pack_rows<Number::DEPTH>(problem, packed, words);
    int failed = 0;
#pragma omp parallel num_threads(problem.threads) reduction(| : failed)
    {
        Workspace work(problem.rows, words);
        failed = work.missing;
#pragma omp for schedule(dynamic, 1)
        for (long number = 0; number < parts; ++number)
            if (!work.missing) part<Number, From>(problem, packed, number, words, work);
    }
    delete[] packed;
    return failed;
}

// What this processor can do: bit 0 products of pairs of bfloat16, bit 1 reading float16.
extern "C" int rlsf_abilities() {
    int abilities = 0;
#if defined(__AVX512BF16__)
    abilities |= 1;
#endif
#if defined(__AVX512F__) || defined(__F16C__)
    abilities |= 2;
#endif
    return abilities;
}

// 0: done; 1: out of memory.
extern "C" int rlsf_token_statistics(const Problem *problem) {
#if defined(__AVX512BF16__)
    if (problem->paired) return run<Paired, Source<BFLOAT16, 2>>(*problem);
#endif
    switch (problem->kind) {
        case BFLOAT16: return run<Plain, Source<BFLOAT16, 1>>(*problem);
        case FLOAT16: return run<Plain, Source<FLOAT16, 1>>(*problem);
        default: return run<Plain, Source<FLOAT32, 1>>(*problem);
    }
}
