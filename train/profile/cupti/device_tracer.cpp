// Kernel times by CUPTI's Activity API. Buffers are allocated before the window, since allocations
// during it would distort it; CUPTI is detached afterwards, since it slows launches down as long as
// it is attached. CUDA graphs are not traced by node, which would serialize them.
#include "train/profile/device_tracer.h"

#include <cupti.h>
#include <cxxabi.h>

#include <algorithm>
#include <cstdlib>
#include <mutex>
#include <string_view>
#include <unordered_map>

#include "core/base/clock.h"
#include "core/base/dynamic_library.h"
#include "core/gpu.h"

namespace smoe {
namespace {

#if CUPTI_API_VERSION >= 130000
using KernelRecord = CUpti_ActivityKernel10;
constexpr const char* kLibrary = "libcupti.so.13";
constexpr std::uint32_t kMajor = 10'000;  // version / kMajor is CUDA's major version
#else
using KernelRecord = CUpti_ActivityKernel9;
constexpr const char* kLibrary = "libcupti.so.12";
constexpr std::uint32_t kMajor = 1;
#endif
using CopyRecord = CUpti_ActivityMemcpy6;
using FillRecord = CUpti_ActivityMemset4;

constexpr std::size_t kBufferBytes = std::size_t{8} << 20, kNumBuffers = 8, kAlignment = 8;

constexpr CUpti_ActivityKind kKinds[] = {CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL,
                                         CUPTI_ACTIVITY_KIND_MEMCPY,
                                         CUPTI_ACTIVITY_KIND_MEMSET,
                                         CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION,
                                         CUPTI_ACTIVITY_KIND_RUNTIME,
                                         CUPTI_ACTIVITY_KIND_DRIVER};

struct Cupti {
  decltype(&cuptiGetVersion) get_version;
  decltype(&cuptiGetResultString) get_result_string;
  decltype(&cuptiGetTimestamp) get_timestamp;
  decltype(&cuptiActivityRegisterCallbacks) register_callbacks;
  decltype(&cuptiActivityEnable) enable;
  decltype(&cuptiActivityDisable) disable;
  decltype(&cuptiActivityFlushAll) flush_all;
  decltype(&cuptiActivityGetNextRecord) get_next_record;
  decltype(&cuptiActivityGetNumDroppedRecords) get_num_dropped;
  decltype(&cuptiActivityPushExternalCorrelationId) push_id;
  decltype(&cuptiActivityPopExternalCorrelationId) pop_id;
  decltype(&cuptiFinalize) finalize;

  void check(CUptiResult result, const char* call) const {
    if (result == CUPTI_SUCCESS) return;
    const char* text = nullptr;
    get_result_string(result, &text);
    const char* const hint = result == CUPTI_ERROR_INSUFFICIENT_PRIVILEGES
                                 ? "; this user or container may not profile"
                             : result == CUPTI_ERROR_MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED
                                 ? "; another tool is attached: nsys, ncu or DCGM"
                                 : "";
    throw SystemError(concat("CUPTI: ", call, " failed: ", text ? text : "unknown error", hint));
  }
};

Cupti load_cupti() {
  const DynamicLibrary library({kLibrary, "libcupti.so", "/usr/local/cuda/lib64/libcupti.so",
                                "/usr/local/cuda/extras/CUPTI/lib64/libcupti.so"});
  Cupti cupti;
  library.load("cuptiGetVersion", cupti.get_version);
  std::uint32_t version = 0;
  cupti.get_version(&version);
  SMOE_CHECK(version >= CUPTI_API_VERSION && version / kMajor == CUPTI_API_VERSION / kMajor,
             "CUPTI: its version must fit the one that this build was made with, ",
             CUPTI_API_VERSION, "; got ", version);
  library.load("cuptiGetResultString", cupti.get_result_string);
  library.load("cuptiGetTimestamp", cupti.get_timestamp);
  library.load("cuptiActivityRegisterCallbacks", cupti.register_callbacks);
  library.load("cuptiActivityEnable", cupti.enable);
  library.load("cuptiActivityDisable", cupti.disable);
  library.load("cuptiActivityFlushAll", cupti.flush_all);
  library.load("cuptiActivityGetNextRecord", cupti.get_next_record);
  library.load("cuptiActivityGetNumDroppedRecords", cupti.get_num_dropped);
  library.load("cuptiActivityPushExternalCorrelationId", cupti.push_id);
  library.load("cuptiActivityPopExternalCorrelationId", cupti.pop_id);
  library.load("cuptiFinalize", cupti.finalize);
  return cupti;
}

// CUPTI's callbacks have no argument for their owner and may come from a thread of its own.
// Intentionally leaked: they may come until the process ends.
struct Buffers {
  std::mutex mutex;
  std::vector<std::uint8_t*> unused;
  struct Full {
    std::uint8_t* data;
    std::size_t bytes;
  };
  std::vector<Full> full;

  static Buffers& get() {
    static Buffers& buffers = *new Buffers;
    return buffers;
  }
  static std::uint8_t* allocate() {
    return static_cast<std::uint8_t*>(std::aligned_alloc(kAlignment, kBufferBytes));
  }
};

void CUPTIAPI give_buffer(std::uint8_t** buffer, std::size_t* bytes, std::size_t* max_records) {
  Buffers& buffers = Buffers::get();
  const std::lock_guard lock(buffers.mutex);
  *max_records = 0;
  if (buffers.unused.empty()) {
    *buffer = Buffers::allocate();
  } else {
    *buffer = buffers.unused.back();
    buffers.unused.pop_back();
  }
  *bytes = *buffer ? kBufferBytes : 0;
}

void CUPTIAPI take_buffer(CUcontext, std::uint32_t, std::uint8_t* buffer, std::size_t,
                          std::size_t valid_bytes) {
  Buffers& buffers = Buffers::get();
  const std::lock_guard lock(buffers.mutex);
  buffers.full.push_back({buffer, valid_bytes});
}

// "void a::kernel<(int)3, T>(...)" -> "a::kernel<3, T>", at most 120 characters.
std::string readable(const char* mangled) {
  int status = 0;
  char* const demangled = abi::__cxa_demangle(mangled, nullptr, nullptr, &status);
  std::string name = status == 0 && demangled ? demangled : mangled ? mangled : "?";
  std::free(demangled);
  if (name.starts_with("void ")) name.erase(0, 5);
  int depth = 0;
  for (std::size_t i = 0; i < name.size(); ++i) {
    depth += name[i] == '<' ? 1 : name[i] == '>' ? -1 : 0;
    if (name[i] == '(' && depth == 0 && name.compare(i, 12, "(anonymous n") != 0) {
      name.resize(i);
      break;
    }
  }
  for (std::size_t at; (at = name.find("(anonymous namespace)::")) != std::string::npos;)
    name.erase(at, 23);
  for (const std::string_view prefix : {"smoe::kernels::cuda::", "sm90::", "sm80::", "simt::"})
    for (std::size_t at; (at = name.find(prefix)) != std::string::npos;)
      name.erase(at, prefix.size());
  if (name.size() > 120) name = name.substr(0, 117) + "...";
  return name;
}

class CuptiTracer : public DeviceTracer {
 public:
  CuptiTracer() : cupti_(load_cupti()) {
    Buffers& buffers = Buffers::get();
    for (std::size_t i = 0; i < kNumBuffers; ++i) buffers.unused.push_back(Buffers::allocate());
    const std::lock_guard calls(gpu::background_calls());
    cupti_.check(cupti_.register_callbacks(give_buffer, take_buffer),
                 "cuptiActivityRegisterCallbacks");
    try {
      for (const CUpti_ActivityKind kind : kKinds)
        cupti_.check(cupti_.enable(kind), "cuptiActivityEnable");
      std::uint64_t timestamp = 0;
      cupti_.check(cupti_.get_timestamp(&timestamp), "cuptiGetTimestamp");
      clock_offset_ns_ = now_ns() - static_cast<std::int64_t>(timestamp);
    } catch (...) {
      detach(calls);
      throw;
    }
  }
  ~CuptiTracer() override {
    if (is_attached_) detach(std::lock_guard(gpu::background_calls()));
  }

  void begin_launch(int index) override {
    cupti_.push_id(CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0, static_cast<std::uint64_t>(index));
  }
  void end_launch() override {
    std::uint64_t index;
    cupti_.pop_id(CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0, &index);
  }

  std::vector<DeviceSample> finish(std::int64_t begin_ns) override {
    cupti_.check(cupti_.flush_all(CUPTI_ACTIVITY_FLAG_FLUSH_FORCED), "cuptiActivityFlushAll");
    begin_ns_ = begin_ns;
    std::size_t num_dropped = 0;
    cupti_.get_num_dropped(nullptr, 0, &num_dropped);
    detach(std::lock_guard(gpu::background_calls()));
    Buffers& buffers = Buffers::get();
    const std::lock_guard lock(buffers.mutex);
    for (const Buffers::Full& full : buffers.full) read(full);
    for (const Buffers::Full& full : buffers.full) std::free(full.data);
    buffers.full.clear();
    if (num_dropped > 0) throw SystemError(concat("CUPTI: lost ", num_dropped, " records"));
    if (samples_.empty()) throw SystemError("CUPTI: recorded no kernel");
    for (std::size_t i = 0; i < samples_.size(); ++i) {
      const auto found = launch_of_.find(correlations_[i]);
      if (found != launch_of_.end()) samples_[i].launch = static_cast<int>(found->second);
    }
    std::sort(samples_.begin(), samples_.end(),
              [](const DeviceSample& a, const DeviceSample& b) { return a.begin < b.begin; });
    return std::move(samples_);
  }

 private:
  // Crashes when another thread is inside CUDA.
  void detach(const std::lock_guard<std::mutex>&) {
    is_attached_ = false;
    for (const CUpti_ActivityKind kind : kKinds) cupti_.disable(kind);
    cupti_.finalize();
  }

  void read(const Buffers::Full& full) {
    CUpti_Activity* record = nullptr;
    while (cupti_.get_next_record(full.data, full.bytes, &record) == CUPTI_SUCCESS) take(*record);
  }

  void take(const CUpti_Activity& record) {
    switch (record.kind) {
      case CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL: {
        const auto& kernel = reinterpret_cast<const KernelRecord&>(record);
        return add(readable(kernel.name), kernel);
      }
      case CUPTI_ACTIVITY_KIND_MEMCPY:
        return add("memcpy", reinterpret_cast<const CopyRecord&>(record));
      case CUPTI_ACTIVITY_KIND_MEMSET:
        return add("memset", reinterpret_cast<const FillRecord&>(record));
      case CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION: {
        const auto& link = reinterpret_cast<const CUpti_ActivityExternalCorrelation&>(record);
        launch_of_[link.correlationId] = link.externalId;
        return;
      }
      default:
        return;
    }
  }

  template <class Record>
  void add(std::string name, const Record& record) {
    const auto ms = [&](std::uint64_t time) {
      return static_cast<double>(static_cast<std::int64_t>(time) + clock_offset_ns_ - begin_ns_) /
             1e6;
    };
    if (ms(record.end) < 0) return;  // before the window
    samples_.push_back({.name = std::move(name),
                        .begin = ms(record.start),
                        .end = ms(record.end),
                        .stream = static_cast<int>(record.streamId)});
    correlations_.push_back(record.correlationId);
  }

  Cupti cupti_;
  bool is_attached_ = true;
  std::int64_t clock_offset_ns_ = 0, begin_ns_ = 0;
  std::vector<DeviceSample> samples_;
  std::vector<std::uint32_t> correlations_;  // by sample
  std::unordered_map<std::uint32_t, std::uint64_t> launch_of_;
};

}  // namespace

std::unique_ptr<DeviceTracer> start_device_tracer() {
  return std::make_unique<CuptiTracer>();
}

}  // namespace smoe
