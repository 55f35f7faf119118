// Depthwise convolution of (n, height, width, channels) with weights (k*k, channels), padded as
// TensorFlow's SAME. Pixels and gradients are float32 or bfloat16; sums are float32.
// Channels are taken in blocks that stay in registers over all k*k products.
#include <ATen/Parallel.h>
#include <torch/extension.h>

#include <algorithm>
#include <cstring>

using Half = at::BFloat16;

static inline float load(float x) { return x; }
static inline float load(Half x) {
  uint32_t bits = uint32_t(x.x) << 16;
  float y;
  std::memcpy(&y, &bits, 4);
  return y;
}
static inline void store(float& to, float x) { to = x; }
static inline void store(Half& to, float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  to.x = uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

struct Shape {
  int n, height, width, channels, out_height, out_width, top, left;
};

static Shape shape_of(const torch::Tensor& x, int kernel, int stride) {
  Shape s;
  s.n = x.size(0), s.height = x.size(1), s.width = x.size(2), s.channels = x.size(3);
  s.out_height = (s.height + stride - 1) / stride, s.out_width = (s.width + stride - 1) / stride;
  s.top = std::max((s.out_height - 1) * stride + kernel - s.height, 0) / 2;
  s.left = std::max((s.out_width - 1) * stride + kernel - s.width, 0) / 2;
  return s;
}

template <typename T, int K, int S, int B>
static void forward_of(const T* x, const float* w, const float* bias, T* y, Shape s) {
  at::parallel_for(0, int64_t(s.n) * s.out_height, 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
      int64_t image = row / s.out_height;
      int oh = row % s.out_height;
      for (int ow = 0; ow < s.out_width; ow++)
        for (int c = 0; c < s.channels; c += B) {
          float sum[B];
          for (int i = 0; i < B; i++) sum[i] = bias[c + i];
          for (int kh = 0; kh < K; kh++) {
            int ih = oh * S + kh - s.top;
            if (ih < 0 || ih >= s.height) continue;
            for (int kw = 0; kw < K; kw++) {
              int iw = ow * S + kw - s.left;
              if (iw < 0 || iw >= s.width) continue;
              const T* from = x + ((image * s.height + ih) * s.width + iw) * s.channels + c;
              const float* weight = w + (kh * K + kw) * s.channels + c;
              for (int i = 0; i < B; i++) sum[i] += load(from[i]) * weight[i];
            }
          }
          T* to = y + (row * s.out_width + ow) * s.channels + c;
          for (int i = 0; i < B; i++) store(to[i], sum[i]);
        }
    }
  });
}

template <typename T, int K, int S, int B>
static void input_gradient(const T* g, const float* w, T* gx, Shape s) {
  at::parallel_for(0, int64_t(s.n) * s.height, 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
      int64_t image = row / s.height;
      int ih = row % s.height;
      for (int iw = 0; iw < s.width; iw++)
        for (int c = 0; c < s.channels; c += B) {
          float sum[B] = {0};
          for (int kh = 0; kh < K; kh++) {
            int oh = ih + s.top - kh;
            if (oh < 0 || oh % S || oh / S >= s.out_height) continue;
            for (int kw = 0; kw < K; kw++) {
              int ow = iw + s.left - kw;
              if (ow < 0 || ow % S || ow / S >= s.out_width) continue;
              const T* from =
                  g + ((image * s.out_height + oh / S) * s.out_width + ow / S) * s.channels + c;
              const float* weight = w + (kh * K + kw) * s.channels + c;
              for (int i = 0; i < B; i++) sum[i] += load(from[i]) * weight[i];
            }
          }
          T* to = gx + (row * s.width + iw) * s.channels + c;
          for (int i = 0; i < B; i++) store(to[i], sum[i]);
        }
    }
  });
}

// Row by row, so that a row's pixels stay near for all blocks of channels. Each part of the images
// has sums of its own, which are added up afterwards.
template <typename T, int K, int S, int B>
static void weight_gradient(const T* x, const T* g, float* gw, float* gb, Shape s, int parts) {
  at::parallel_for(0, parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t part = begin; part < end; part++) {
      float *weights = gw + part * K * K * s.channels, *biases = gb + part * s.channels;
      int64_t first = s.n * part / parts, last = s.n * (part + 1) / parts;
      for (int64_t row = first * s.out_height; row < last * s.out_height; row++) {
        int64_t image = row / s.out_height;
        int top = row % s.out_height * S - s.top;
        for (int c = 0; c < s.channels; c += B)
          for (int kh = 0; kh < K; kh++) {
            if (top + kh < 0 || top + kh >= s.height) continue;
            const T* line = x + (image * s.height + top + kh) * s.width * s.channels + c;
            const T* gradient = g + row * s.out_width * s.channels + c;
            float sums[K][B] = {{0}}, all[B] = {0};
            for (int ow = 0; ow < s.out_width; ow++) {
              float here[B];
              for (int i = 0; i < B; i++) here[i] = load(gradient[ow * s.channels + i]);
              for (int i = 0; i < B; i++) all[i] += here[i];
#pragma GCC unroll 5
              for (int kw = 0; kw < K; kw++) {
                int iw = ow * S + kw - s.left;
                if (iw < 0 || iw >= s.width) continue;
                const T* from = line + iw * s.channels;
                for (int i = 0; i < B; i++) sums[kw][i] += load(from[i]) * here[i];
              }
            }
            for (int kw = 0; kw < K; kw++)
              for (int i = 0; i < B; i++) weights[(kh * K + kw) * s.channels + c + i] += sums[kw][i];
            if (kh == s.top)  // the one line of every window that is never padding
              for (int i = 0; i < B; i++) biases[c + i] += all[i];
          }
      }
    }
  });
}

template <typename T, int K, int S>
static void both(const T* x, const float* w, const T* g, T* gx, float* gw, float* gb, Shape s, int parts) {
  if (gx) s.channels % 48 ? input_gradient<T, K, S, 16>(g, w, gx, s)
                          : input_gradient<T, K, S, 48>(g, w, gx, s);
  weight_gradient<T, K, S, 16>(x, g, gw, gb, s, parts);
}

#define FOR_SIZES(DO) \
  if (k == 3 && stride == 1) DO(3, 1) \
  else if (k == 3) DO(3, 2) \
  else if (stride == 1) DO(5, 1) \
  else DO(5, 2)

template <typename T>
static void forward_any(const T* x, const float* w, const float* b, T* y, Shape s, int k, int stride) {
#define DO(K, S) \
  s.channels % 48 ? forward_of<T, K, S, 16>(x, w, b, y, s) : forward_of<T, K, S, 48>(x, w, b, y, s);
  FOR_SIZES(DO)
#undef DO
}

torch::Tensor forward(torch::Tensor x, torch::Tensor w, torch::Tensor b, int64_t k, int64_t stride) {
  Shape s = shape_of(x, k, stride);
  auto y = torch::empty({s.n, s.out_height, s.out_width, s.channels}, x.options());
  const float *weight = w.data_ptr<float>(), *bias = b.data_ptr<float>();
  if (x.scalar_type() == at::kFloat)
    forward_any(x.data_ptr<float>(), weight, bias, y.data_ptr<float>(), s, k, stride);
  else
    forward_any(x.data_ptr<Half>(), weight, bias, y.data_ptr<Half>(), s, k, stride);
  return y;
}

std::vector<torch::Tensor> backward(
    torch::Tensor x, torch::Tensor w, torch::Tensor g, int64_t k, int64_t stride) {
  Shape s = shape_of(x, k, stride);
  int parts = at::get_num_threads();
  auto gx = torch::empty_like(x), gw = torch::zeros({parts, k * k, s.channels}, w.options());
  auto gb = torch::zeros({parts, s.channels}, w.options());
  const float* weight = w.data_ptr<float>();
  float *to_weight = gw.data_ptr<float>(), *to_bias = gb.data_ptr<float>();
#define DO(K, S) both<float, K, S>(x.data_ptr<float>(), weight, g.data_ptr<float>(), \
                                   gx.data_ptr<float>(), to_weight, to_bias, s, parts);
  if (x.scalar_type() == at::kFloat) {
    FOR_SIZES(DO)
  }
#undef DO
#define DO(K, S) both<Half, K, S>(x.data_ptr<Half>(), weight, g.data_ptr<Half>(), \
                                  gx.data_ptr<Half>(), to_weight, to_bias, s, parts);
  else {
    FOR_SIZES(DO)
  }
  return {gx, gw.sum(0), gb.sum(0)};
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  m.def("forward", &forward);
  m.def("backward", &backward);
}
