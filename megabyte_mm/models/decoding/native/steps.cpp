// One step of a Transformer stack on a CPU, from its input to its logits: one position of each of several rows.
//
// The time of a step is the time to load its weights and its cached keys and values from memory. So each is loaded once
// a step, whatever the number of rows, in loops that the compiler vectorizes. The order of every sum of a row does not
// depend on the other rows, nor on the number of threads.
//
// Legend: M rows, K inputs and N outputs of a linear layer, D width, H heads, E head width, S slots of the cache.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#ifdef _OPENMP
#include <omp.h>
#endif

#ifndef WIDTH
#define WIDTH 64  // outputs of a block of weights: four vector registers
#endif
constexpr int ROWS = WIDTH / 8;  // the most at a time, with half of the outputs, so that the sums stay in registers

extern "C" {

enum Kind : int32_t { FLOAT32, BFLOAT16, INT8 };
enum Norm : int32_t { LAYER_NORM, RMS_NORM };
enum Activation : int32_t { NONE, RELU, GELU, SQUARED_RELU, SILU };

struct Linear {
    const void *weight;  // (N / WIDTH, K, WIDTH), padded with zeros
    const float *scale;  // (N) for INT8, else null
    const float *bias;   // (N) or null
    int64_t in, out;
    int32_t kind;
};

struct Layer {
    const float *norm1, *norm1_bias, *norm2, *norm2_bias;  // (D); the biases may be null
    const float *query_norm, *key_norm;                    // (E) or null
    Linear qkv, out, up, down;
    float *keys, *values;  // (M, H, S, E)
};

struct Stack {
    const Layer *layers;
    const float *norm, *norm_bias;  // (D)
    const float *rotary;            // cosines, then sines: (2, positions, E / 2), or null
    const Linear *head;             // a linear layer behind the last norm, or null
    int64_t count, dim, heads, hidden, capacity, positions;
    float epsilon, head_epsilon;
    int32_t norm_kind, activation, gated;
};

// Rules for L layouts of J neighbours, F predictors and G groups of up to M members, as in NeighbourhoodEmbedder.
struct Neighbourhood {
    const float *values, *groups;           // (L * (J + F) * VALUES, D); (L * G * table, D)
    const int64_t *period, *first, *unit;   // (L)
    const int64_t *offset;                  // (all periods, J)
    const int64_t *weight, *sign;           // (L, J, F)
    const int64_t *divisor, *bias, *byte, *wrap, *modulo;  // (L, F)
    const int64_t *column, *multiplier, *shift;  // (L, G, M)
    int64_t layouts, neighbours, predictors, group_count, members, table, dim, byte_multiplier;
    float scale;
};

}  // extern "C"

namespace {

struct BFloat16 {
    uint16_t bits;
};

inline float to_float(float value) { return value; }
inline float to_float(int8_t value) { return static_cast<float>(value); }
inline float to_float(BFloat16 value) {
    const uint32_t bits = static_cast<uint32_t>(value.bits) << 16;
    float result;
    std::memcpy(&result, &bits, sizeof result);
    return result;
}

// e^x by a polynomial after range reduction (Cephes' expf): loops over it vectorize, loops over std::exp do not.
inline float exponential(float x) {
    x = std::min(std::max(x, -87.0f), 88.0f);
    const float power = std::floor(x * 1.44269504088896341f + 0.5f);
    const float rest = (x - power * 0.693359375f) + power * 2.12194440e-4f;
    float sum = 1.9875691500e-4f;
    sum = sum * rest + 1.3981999507e-3f;
    sum = sum * rest + 8.3334519073e-3f;
    sum = sum * rest + 4.1665795894e-2f;
    sum = sum * rest + 1.6666665459e-1f;
    sum = sum * rest + 5.0000001201e-1f;
    sum = sum * rest * rest + rest + 1.0f;
    const int32_t bits = (static_cast<int32_t>(power) + 127) << 23;
    float scale;
    std::memcpy(&scale, &bits, sizeof scale);
    return sum * scale;
}

inline float activated(float value, int32_t kind) {
    switch (kind) {
        case RELU: return std::max(value, 0.0f);
        case GELU: return 0.5f * value * (1.0f + std::erf(value * 0.70710678118654752f));
        case SQUARED_RELU: return std::max(value, 0.0f) * std::max(value, 0.0f);
        case SILU: return value / (1.0f + exponential(-value));
        default: return value;
    }
}

// The items of a thread, of `count` in all.
struct Range {
    int64_t begin, end;
};

Range range_of(int64_t count, int thread, int threads) {
    return {count * thread / threads, count * (thread + 1) / threads};
}

// COLUMNS outputs of a block, the first of them `from`, of R rows. Each is summed in the order of its inputs.
template <int R, int COLUMNS, typename Weight>
void multiply(const float *x, const Linear &linear, int64_t block, int64_t from, float *y, int32_t activation, bool add) {
    const int64_t first = block * WIDTH + from, width = std::min<int64_t>(COLUMNS, linear.out - first);
    const Weight *weight = static_cast<const Weight *>(linear.weight) + block * WIDTH * linear.in + from;
    float sums[R][COLUMNS] = {};
    for (int64_t k = 0; k < linear.in; k++) {
        const auto *wide = weight + k * WIDTH;
        float copy[COLUMNS];
        // Convert once for several rows.
        if constexpr (R > 1 && !std::is_same_v<Weight, float>) {
#pragma omp simd
            for (int n = 0; n < COLUMNS; n++) copy[n] = to_float(wide[n]);
        }
        for (int r = 0; r < R; r++) {
            const float value = x[r * linear.in + k];
#pragma omp simd
            for (int n = 0; n < COLUMNS; n++) {
                if constexpr (R > 1 && !std::is_same_v<Weight, float>)
                    sums[r][n] += value * copy[n];
                else
                    sums[r][n] += value * to_float(wide[n]);
            }
        }
    }
    for (int r = 0; r < R; r++) {
        float *to = y + r * linear.out + first;
        for (int64_t n = 0; n < width; n++) {
            float value = linear.scale ? sums[r][n] * linear.scale[first + n] : sums[r][n];
            if (linear.bias) value += linear.bias[first + n];
            value = activated(value, activation);
            to[n] = add ? to[n] + value : value;
        }
    }
}

// Rows R at a time, the rest R / 2 at a time, and so on.
template <int R, typename Weight>
void multiply_rows(const float *x, int64_t rows, const Linear &linear, int64_t block, float *y, int32_t activation, bool add) {
    constexpr int COLUMNS = R == ROWS ? WIDTH / 2 : WIDTH;
    for (; rows >= R; rows -= R, x += R * linear.in, y += R * linear.out)
        for (int64_t from = 0; from < WIDTH; from += COLUMNS)
            multiply<R, COLUMNS, Weight>(x, linear, block, from, y, activation, add);
    if constexpr (R > 1) multiply_rows<R / 2, Weight>(x, rows, linear, block, y, activation, add);
}

template <typename Weight>
void multiply_all(const float *x, int64_t rows, const Linear &linear, float *y, int32_t activation, bool add, Range blocks) {
    for (int64_t block = blocks.begin; block < blocks.end; block++)
        multiply_rows<ROWS, Weight>(x, rows, linear, block, y, activation, add);
}

// y = activation(x W + b), (M, K) -> (M, N), or with `add` y += that; this thread's share of the outputs.
void apply(const Linear &linear, const float *x, int64_t rows, float *y, int32_t activation, bool add, int thread, int threads) {
    const Range blocks = range_of((linear.out + WIDTH - 1) / WIDTH, thread, threads);
    switch (linear.kind) {
        case FLOAT32: return multiply_all<float>(x, rows, linear, y, activation, add, blocks);
        case BFLOAT16: return multiply_all<BFloat16>(x, rows, linear, y, activation, add, blocks);
        default: return multiply_all<int8_t>(x, rows, linear, y, activation, add, blocks);
    }
}

float sum_of(const float *x, int64_t count) {
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < count; i++) sum += x[i];
    return sum;
}

float dot(const float *x, const float *y, int64_t count) {
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < count; i++) sum += x[i] * y[i];
    return sum;
}

void normalize(const float *x, const float *weight, const float *bias, int64_t count, int32_t kind, float epsilon, float *y) {
    const float mean = kind == LAYER_NORM ? sum_of(x, count) / count : 0.0f;
#pragma omp simd
    for (int64_t i = 0; i < count; i++) y[i] = x[i] - mean;
    const float scale = 1.0f / std::sqrt(dot(y, y, count) / count + epsilon);
    for (int64_t i = 0; i < count; i++) y[i] = y[i] * scale * weight[i] + (bias ? bias[i] : 0.0f);
}

// Rotate the pairs (i, i + E / 2) of a head by the angles of a position.
void apply_rotary(float *x, const Stack &stack, int64_t position, int64_t head_dim) {
    const int64_t half = head_dim / 2;
    const float *cosines = stack.rotary + position * half, *sines = cosines + stack.positions * half;
    for (int64_t i = 0; i < half; i++) {
        const float first = x[i], second = x[i + half];
        x[i] = first * cosines[i] - second * sines[i];
        x[i + half] = second * cosines[i] + first * sines[i];
    }
}

// Attention of one head of one row: store its key and value in `slot`, and attend to the slots from `first` on.
void attend(const Stack &stack, const Layer &layer, float *qkv, int64_t cell, int64_t first, int64_t slot, float *out) {
    constexpr int64_t TILE = 256;
    const int64_t dim = stack.dim, width = dim / stack.heads;
    float *query = qkv, *key = qkv + dim, *value = qkv + 2 * dim;
    if (layer.query_norm) {
        normalize(query, layer.query_norm, nullptr, width, RMS_NORM, stack.head_epsilon, query);
        normalize(key, layer.key_norm, nullptr, width, RMS_NORM, stack.head_epsilon, key);
    }
    if (stack.rotary) {
        apply_rotary(query, stack, slot, width);
        apply_rotary(key, stack, slot, width);
    }
    float *keys = layer.keys + cell * stack.capacity * width, *values = layer.values + cell * stack.capacity * width;
    std::memcpy(keys + slot * width, key, width * sizeof(float));
    std::memcpy(values + slot * width, value, width * sizeof(float));
    const float scale = 1.0f / std::sqrt(static_cast<float>(width));
    float weights[TILE], largest = -INFINITY, total = 0.0f;
    std::fill(out, out + width, 0.0f);
    // Tile by tile; earlier sums are scaled down whenever a larger score turns up.
    for (int64_t begin = first; begin <= slot; begin += TILE) {
        const int64_t count = std::min(TILE, slot + 1 - begin);
        float highest = largest;
        for (int64_t s = 0; s < count; s++) {
            weights[s] = dot(query, keys + (begin + s) * width, width) * scale;
            highest = std::max(highest, weights[s]);
        }
        const float shrink = exponential(largest - highest);
        largest = highest;
#pragma omp simd
        for (int64_t s = 0; s < count; s++) weights[s] = exponential(weights[s] - highest);
        total = total * shrink + sum_of(weights, count);
#pragma omp simd
        for (int64_t e = 0; e < width; e++) out[e] *= shrink;
        for (int64_t s = 0; s < count; s++) {
            const float *from = values + (begin + s) * width, weight = weights[s];
#pragma omp simd
            for (int64_t e = 0; e < width; e++) out[e] += weight * from[e];
        }
    }
#pragma omp simd
    for (int64_t e = 0; e < width; e++) out[e] /= total;
}

void barrier() {
#pragma omp barrier
}

struct Buffers {
    float *x, *normed, *qkv, *mixed, *hidden;
};

void feed_forward(const Stack &stack, const Layer &layer, const Buffers &at, int64_t rows, int thread, int threads) {
    const int64_t hidden = stack.hidden;
    if (!stack.gated) return apply(layer.up, at.normed, rows, at.hidden, stack.activation, false, thread, threads);
    // A row holds the gates, and behind them the values that they multiply.
    apply(layer.up, at.normed, rows, at.qkv, NONE, false, thread, threads);
    barrier();
    const Range range = range_of(rows * hidden, thread, threads);
    for (int64_t i = range.begin; i < range.end; i++) {
        const float *gate = at.qkv + i / hidden * 2 * hidden + i % hidden;
        at.hidden[i] = activated(gate[0], stack.activation) * gate[hidden];
    }
}

void step(const Stack &stack, const Buffers &at, int64_t rows, const int64_t *first, const int64_t *slot, float *y, int thread, int threads) {
    const int64_t dim = stack.dim, width = dim / stack.heads;
    const Range own = range_of(rows, thread, threads), heads = range_of(rows * stack.heads, thread, threads);
    const auto normed = [&](const float *weight, const float *bias, float *to) {
        for (int64_t row = own.begin; row < own.end; row++)
            normalize(at.x + row * dim, weight, bias, dim, stack.norm_kind, stack.epsilon, to + row * dim);
        barrier();
    };
    for (int64_t i = 0; i < stack.count; i++) {
        const Layer &layer = stack.layers[i];
        normed(layer.norm1, layer.norm1_bias, at.normed);
        apply(layer.qkv, at.normed, rows, at.qkv, NONE, false, thread, threads);
        barrier();
        for (int64_t cell = heads.begin; cell < heads.end; cell++) {
            const int64_t row = cell / stack.heads, head = cell % stack.heads;
            float *qkv = at.qkv + row * 3 * dim + head * width, *mixed = at.mixed + row * dim + head * width;
            attend(stack, layer, qkv, cell, first[row], slot[row], mixed);
        }
        barrier();
        apply(layer.out, at.mixed, rows, at.x, NONE, true, thread, threads);
        barrier();
        normed(layer.norm2, layer.norm2_bias, at.normed);
        feed_forward(stack, layer, at, rows, thread, threads);
        barrier();
        apply(layer.down, at.hidden, rows, at.x, NONE, true, thread, threads);
        barrier();
    }
    normed(stack.norm, stack.norm_bias, stack.head ? at.normed : y);
    if (stack.head) apply(*stack.head, at.normed, rows, y, NONE, false, thread, threads);
}

// The most numbers of a row between two linear layers: queries, keys and values, or gates and values.
int64_t widest(const Stack &stack) { return std::max(3 * stack.dim, (stack.gated ? 2 : 1) * stack.hidden); }

constexpr int64_t BYTES = 256, UNKNOWN = 257, VALUES = 258;

int64_t floor_divide(int64_t value, int64_t divisor) {
    const int64_t quotient = value / divisor;
    return quotient - (value % divisor < 0);
}

int64_t predict(const Neighbourhood &rules, int64_t layout, int64_t predictor, const int64_t *columns, int64_t byte) {
    const int64_t at = layout * rules.predictors + predictor, wrap = rules.wrap[at], divisor = rules.divisor[at];
    if (rules.byte[at] >= 0 && rules.byte[at] != byte) return UNKNOWN;
    int64_t sum = 0, term = layout * rules.neighbours * rules.predictors + predictor;
    for (int64_t j = 0; j < rules.neighbours; j++, term += rules.predictors) {
        if (rules.weight[term] && columns[j] >= BYTES) return UNKNOWN;
        sum += rules.weight[term] * columns[j] + (columns[j] >= BYTES / 2 ? rules.sign[term] : 0);
    }
    if (wrap) sum += wrap / 2, sum -= floor_divide(sum, wrap) * wrap + wrap / 2;
    const int64_t guess = floor_divide(sum + rules.bias[at], divisor);
    return rules.modulo[at] ? guess & (BYTES - 1) : std::min(std::max<int64_t>(guess, 0), BYTES - 1);
}

int64_t hashed_row(const Neighbourhood &rules, int64_t layout, int64_t group, const int64_t *columns, int64_t byte) {
    const int64_t at = layout * rules.group_count + group;
    uint64_t mixed = byte * rules.byte_multiplier;
    for (int64_t i = at * rules.members; i < (at + 1) * rules.members; i++)
        mixed += ((columns[rules.column[i]] >> rules.shift[i]) + 1) * rules.multiplier[i];
    const uint64_t hash = (mixed & 0xFFFFFFFFu) * 2654435761u & 0xFFFFFFFFu;
    return static_cast<int64_t>(hash * rules.table >> 32) + at * rules.table;
}

void add_row(const float *table, int64_t row, int64_t dim, float *sums) {
    const float *from = table + row * dim;
#pragma omp simd
    for (int64_t d = 0; d < dim; d++) sums[d] += from[d];
}

template <typename Body>
void in_parallel(int threads, const Body &body) {
#ifdef _OPENMP
    if (threads > 1) {
#pragma omp parallel num_threads(threads)
        body(omp_get_thread_num(), omp_get_num_threads());
        return;
    }
#endif
    body(0, 1);
}

}  // namespace

extern "C" {

int64_t width() { return WIDTH; }

// Floats of scratch memory for a step of that many rows.
int64_t scratch(const Stack *stack, int64_t rows) {
    return rows * (3 * stack->dim + widest(*stack) + stack->hidden);
}

// x: (M, D); first, slot: (M), the first visible slot of a row and its present one -> y: (M, D), or (M, V) with a head.
void stack_step(const Stack *stack, const float *x, int64_t rows, const int64_t *first, const int64_t *slot, float *memory, float *y, int threads) {
    const int64_t dim = stack->dim;
    Buffers at;
    at.x = memory;
    at.normed = at.x + rows * dim;
    at.mixed = at.normed + rows * dim;
    at.qkv = at.mixed + rows * dim;
    at.hidden = at.qkv + rows * widest(*stack);
    std::memcpy(at.x, x, rows * dim * sizeof(float));
    in_parallel(threads, [&](int thread, int count) { step(*stack, at, rows, first, slot, y, thread, count); });
}

// Append a symbol to each row, unless it is full. ids: (M, capacity); lengths, symbols: (M).
void neighbourhood_read(int64_t *ids, int64_t capacity, int64_t *lengths, const int64_t *symbols, int64_t rows) {
    for (int64_t row = 0; row < rows; row++) {
        ids[row * capacity + std::min(lengths[row], capacity - 1)] = symbols[row];
        lengths[row] = std::min(lengths[row] + 1, capacity - 1);
    }
}

// x += the features of the position `back` before the end of each row. condition: (M); memory: D floats; x: (M, D).
void neighbourhood_step(const Neighbourhood *rules, const int64_t *ids, int64_t capacity, const int64_t *lengths, const int64_t *condition, int64_t back, int64_t rows, float *memory, float *x) {
    const int64_t dim = rules->dim, all = rules->neighbours + rules->predictors;
    int64_t columns[256];  // the most that a layout has
    for (int64_t row = 0; row < rows; row++) {
        const int64_t at = std::max<int64_t>(lengths[row] - back, 0), rule = rules->layouts > 1 ? condition[row] : 0, byte = at % rules->unit[rule];
        const int64_t *offset = rules->offset + (rules->first[rule] + at % rules->period[rule]) * rules->neighbours;
        for (int64_t j = 0; j < rules->neighbours; j++)
            columns[j] = offset[j] > 0 && at >= offset[j] ? ids[row * capacity + at - offset[j]] : UNKNOWN;
        for (int64_t f = 0; f < rules->predictors; f++)
            columns[rules->neighbours + f] = predict(*rules, rule, f, columns, byte);
        std::fill(memory, memory + dim, 0.0f);
        for (int64_t j = 0; j < all; j++) add_row(rules->values, (rule * all + j) * VALUES + columns[j], dim, memory);
        for (int64_t g = 0; g < rules->group_count; g++)
            add_row(rules->groups, hashed_row(*rules, rule, g, columns, byte), dim, memory);
        for (int64_t d = 0; d < dim; d++) x[row * dim + d] += memory[d] * rules->scale;
    }
}

// y = x W + b: (M, K) -> (M, N).
void linear_step(const Linear *linear, const float *x, int64_t rows, float *y, int threads) {
    in_parallel(threads, [&](int thread, int count) { apply(*linear, x, rows, y, NONE, false, thread, count); });
}

}  // extern "C"
