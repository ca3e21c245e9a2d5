/* The head in C, for comparison: the compiler's loops over NHWC bytes, unrolled as the kernels' are, and
 * requantisation in 64 bits.
 *
 * The caller gives layers in order, weights as int8 in the head file's layout, and scratch buffers; every activation is
 * followed by a copy into a frame of zeros where a 3x3 layer reads it.
 */
#include <stdint.h>
#include <string.h>
#include <time.h>

enum { CONV, DEPTHWISE, POINTWISE };

struct layer {
    int32_t op, stride, height, width, in, out, full_in, full_out; /* height, width: of the input */
    int32_t center, top;                                            /* top 255: ReLU */
    const int8_t *weights;
    const int32_t *mult, *bias, *shift;
};

/* gemmlowp's two roundings, with the shortcut for a ReLU's zeros that the kernels take too. */
static inline uint8_t requantise(int32_t acc, int32_t mult, int32_t shift, int32_t center, int32_t top)
{
    int32_t half = shift ? 1 << (shift - 1) : 0, y;
    if (acc > 0)
        y = (int32_t)((((int64_t)acc * mult + (1 << 30)) >> 31) + half) >> shift;
    else if (top == 255)
        return 0;
    else
        y = -((int32_t)(((-(int64_t)acc * mult + (1 << 30) - 1) >> 31) + half) >> shift);
    y += center;
    return y < 0 ? 0 : y > top ? top : y;
}

/* Rows of pixels, `in` adjoining bytes each; `in` is a multiple of 4. */
static void pointwise(const struct layer *l, const uint8_t *x, uint8_t *y)
{
    int in = l->in;
    for (int p = 0; p < l->height * l->width; p++, x += in)
        for (int o = 0; o < l->out; o++) {
            const int8_t *w = l->weights + o * l->full_in;
            int32_t acc = l->bias[o];
            for (int i = 0; i < in; i += 4)
                acc += x[i] * w[i] + x[i + 1] * w[i + 1] + x[i + 2] * w[i + 2] + x[i + 3] * w[i + 3];
            *y++ = requantise(acc, l->mult[o], l->shift[o], l->center, l->top);
        }
}

/* TFLite's SAME padding before a row or column. */
static int before(int size, int stride)
{
    int total = ((size + stride - 1) / stride - 1) * stride + 3 - size;
    return total > 0 ? total / 2 : 0;
}

static void window(const struct layer *l, const uint8_t *x, uint8_t *y, uint8_t *frame)
{
    int out_h = (l->height + l->stride - 1) / l->stride, out_w = (l->width + l->stride - 1) / l->stride;
    int in = l->in, row = (l->width + 2) * in;
    memset(frame, 0, (size_t)row * (l->height + 2));
    for (int i = 0; i < l->height; i++)
        memcpy(frame + (i + before(l->height, l->stride)) * row + before(l->width, l->stride) * in,
               x + i * l->width * in, (size_t)l->width * in);
    for (int i = 0; i < out_h; i++)
        for (int j = 0; j < out_w; j++) {
            const uint8_t *at = frame + i * l->stride * row + j * l->stride * in;
            for (int o = 0; o < l->out; o++) {
                int32_t acc = l->bias[o];
                if (l->op == DEPTHWISE) {
                    const uint8_t *p = at + o, *q = p + row, *r = q + row;
                    const int8_t *w = l->weights + o;
                    int f = l->full_out;
                    acc += p[0] * w[0] + p[in] * w[f] + p[2 * in] * w[2 * f];
                    acc += q[0] * w[3 * f] + q[in] * w[4 * f] + q[2 * in] * w[5 * f];
                    acc += r[0] * w[6 * f] + r[in] * w[7 * f] + r[2 * in] * w[8 * f];
                } else {
                    for (int ky = 0; ky < 3; ky++)
                        for (int kx = 0; kx < 3; kx++) {
                            const uint8_t *p = at + ky * row + kx * in;
                            const int8_t *w = l->weights + ((o * 3 + ky) * 3 + kx) * l->full_in;
                            for (int c = 0; c < in; c++)
                                acc += p[c] * w[c];
                        }
                }
                *y++ = requantise(acc, l->mult[o], l->shift[o], l->center, l->top);
            }
        }
}

/* Runs the head `repetitions` times on an image, leaves the symbols in `symbols`; nanoseconds a run. `scratch` has room for
 * three activations of `largest` bytes. */
double head(const struct layer *layers, int n, const uint8_t *image, uint8_t *symbols, int n_symbols, uint8_t *scratch,
            int largest, int repetitions)
{
    struct timespec start, end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (int r = 0; r < repetitions; r++) {
        const uint8_t *x = image;
        for (int i = 0; i < n; i++) {
            uint8_t *y = scratch + (i & 1) * largest;
            if (layers[i].op == POINTWISE)
                pointwise(&layers[i], x, y);
            else
                window(&layers[i], x, y, scratch + 2 * largest);
            x = y;
        }
        memcpy(symbols, x, (size_t)n_symbols);
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    return ((end.tv_sec - start.tv_sec) * 1e9 + (end.tv_nsec - start.tv_nsec)) / repetitions;
}
