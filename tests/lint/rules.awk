# The rules of the tree that a machine can hold us to, one violation a line as file:line: rule.
# Run by rules.sh from the root of the tree, so that FILENAME is a path like core/tensor.h.

BEGIN {
  # Libraries from outside: the name used below, then the headers that belong to it.
  library("cuda", "cuda*.h cublas*.h cupti*.h cub/** nvtx3/** cooperative_groups.h cooperative_groups/**")
  library("cudnn", "cudnn.h cudnn_frontend.h")
  library("nccl", "nccl.h")
  library("blas", "cblas.h")
  library("dl", "dlfcn.h")
  library("xxhash", "xxhash.h")
  library("fmt", "fmt/**")
  library("yaml-cpp", "yaml-cpp/**")
  library("nlohmann-json", "nlohmann/**")
  library("simdjson", "simdjson.h")
  library("cli11", "CLI/**")
  library("hdf5", "hdf5.h H5*.h")
  library("zlib", "zlib.h")
  library("sentencepiece", "sentencepiece_*.h")
  library("pcre2", "pcre2.h")
  library("utf8proc", "utf8proc.h")
  library("zstd", "zstd.h")
  library("doctest", "doctest/**")
  library("posix", "arpa/*.h netinet/*.h sys/*.h linux/*.h dirent.h fcntl.h ifaddrs.h immintrin.h netdb.h" \
                   " cxxabi.h execinfo.h poll.h pthread.h sched.h signal.h spawn.h termios.h unistd.h")

  # What each folder may include: libraries by name, our own headers by glob (* stays within a
  # folder, ** does not). The first row whose folder holds the file decides. C++'s own headers are
  # free to all.
  kCore = " core/*.h core/base/*.h"
  may_include("core/base", "cuda dl core/base/*")
  may_include("core/system", "posix dl xxhash nlohmann-json core/base/*.h core/system/*.h")
  may_include("core/distributed/gpu", "posix cuda core/*.h core/base/*" \
                                      " core/system/*.h core/distributed/*.h core/distributed/gpu/*.h")
  may_include("core/distributed/nccl", "posix cuda nccl core/*.h core/base/*" \
                                       " core/system/*.h core/distributed/*.h core/distributed/gpu/*.h" \
                                       " core/distributed/nccl/*.h")
  may_include("core/distributed/copy", "posix cuda core/*.h core/base/*" \
                                       " core/system/*.h core/distributed/*.h core/distributed/gpu/*.h" \
                                       " core/distributed/copy/*.h")
  may_include("core/distributed/none", "core/base/*.h core/distributed/*.h")
  may_include("core/distributed", "posix core/*.h core/base/*.h core/system/*.h core/distributed/*.h")
  may_include("core/cuda", "cuda core/*.h core/base/*")
  may_include("core/none", kCore)
  may_include("core", "posix core/*.h core/base/*.h")
  kCuda = "cuda core/base/* kernels/*.h kernels/cuda/launch.cuh kernels/cuda/device/*"
  may_include("kernels/cpu", "posix blas core/base/*.h core/system/cores.h kernels/*.h kernels/cpu/*.h")
  may_include("kernels/cuda/cudnn", "cudnn core/base/*.h kernels/*.h kernels/cuda/*.h")
  may_include("kernels/cuda/none", "core/base/*.h kernels/*.h kernels/cuda/*.h")
  may_include("kernels/cuda/device", kCuda)
  may_include("kernels/cuda/experts/simt", kCuda " kernels/cuda/experts/* kernels/cuda/experts/simt/*")
  may_include("kernels/cuda/experts/sm80", kCuda " kernels/cuda/experts/* kernels/cuda/experts/sm80/*")
  may_include("kernels/cuda/experts/sm90", kCuda " kernels/cuda/experts/* kernels/cuda/experts/sm90/*")
  may_include("kernels/cuda/experts", kCuda " kernels/cuda/row_pass.h kernels/cuda/experts/*")
  may_include("kernels/cuda", "cuda core/base/* kernels/*.h kernels/cuda/* kernels/cuda/device/*" \
                              " kernels/cuda/experts/forms.h")
  may_include("kernels", "core/base/*.h kernels/*.h kernels/cpu/*.h kernels/cuda/experts/choose.h")
  may_include("autograd/ops", kCore " kernels/*.h autograd/*.h autograd/ops/*.h")
  may_include("autograd", kCore " kernels/*.h autograd/*.h")
  may_include("layers", kCore " kernels/model_types.h autograd/*.h layers/*.h")
  may_include("optim", kCore " core/distributed/communicator.h kernels/*.h autograd/parameter*.h optim/*.h")
  may_include("train/config", "fmt yaml-cpp core/base/*.h core/system/*.h" \
                              " core/distributed/transport.h layers/*.h optim/*.h" \
                              " train/config/*.h")
  may_include("train/tokenizer", "nlohmann-json sentencepiece pcre2 utf8proc core/base/*.h" \
                                 " core/system/*.h train/tokenizer/*.h")
  may_include("train/data", "posix fmt nlohmann-json hdf5 zlib zstd" kCore \
                            " core/system/*.h kernels/threads.h train/config/*.h" \
                            " train/tokenizer/*.h train/data/*.h")
  may_include("train/checkpoint", "fmt nlohmann-json" kCore " core/version.h core/system/*.h" \
                                  " train/checkpoint/*.h")
  may_include("train/report", "posix fmt nlohmann-json simdjson" kCore " core/system/*.h layers/*.h" \
                              " train/config/*.h train/tokenizer/tokenizer.h train/report/*.h")
  may_include("train/launch", "posix nlohmann-json core/gpu.h core/base/*.h core/system/*.h" \
                              " core/distributed/*.h train/launch/*.h")
  may_include("train/generate", kCore " autograd/*.h layers/*.h train/tokenizer/tokenizer.h" \
                                " train/generate/*.h")
  may_include("train/huggingface", "fmt nlohmann-json" kCore " core/system/*.h autograd/*.h layers/*.h" \
                                   " train/config/*.h train/tokenizer/*.h train/data/*.h" \
                                   " train/checkpoint/*.h train/load_model.h train/huggingface/*.h")
  may_include("train/plan", "posix fmt nlohmann-json" kCore " core/system/*.h" \
                            " core/distributed/communicator.h kernels/engines.h" \
                            " autograd/*.h layers/*.h" \
                            " optim/*.h train/config/*.h train/data/*.h train/train_step.h train/plan/*.h")
  may_include("train/profile/none", "train/profile/*.h")
  may_include("train/profile/cupti", "posix cuda core/base/*.h core/gpu.h train/profile/*.h")
  may_include("train/profile", "posix fmt nlohmann-json zlib" kCore " core/version.h core/system/*.h" \
                               " core/distributed/*.h kernels/*.h" \
                               " autograd/*.h layers/*.h optim/*.h train/*.h train/config/*.h" \
                               " train/data/*.h train/plan/*.h train/report/*.h train/profile/*.h")
  may_include("train/bench", "fmt nlohmann-json" kCore " core/system/*.h kernels/*.h autograd/*.h" \
                             " autograd/ops/*.h layers/*.h train/train_step.h train/config/*.h" \
                             " train/profile/*.h train/report/*.h train/bench/*.h")
  may_include("train/compare", "fmt" kCore " core/system/*.h layers/model_size.h train/config/*.h" \
                               " train/report/*.h train/compare/*.h")
  may_include("train/doctor", "fmt nlohmann-json" kCore " core/version.h core/system/*.h" \
                              " core/distributed/*.h kernels/*.h autograd/*.h train/*.h" \
                              " train/launch/*.h train/profile/*.h train/report/peak_flops.h" \
                              " train/doctor/*.h")
  may_include("train/inspect", "fmt" kCore " core/system/*.h layers/*.h train/config/*.h" \
                               " train/tokenizer/*.h train/data/*.h train/checkpoint/*.h" \
                               " train/huggingface/*.h train/inspect/*.h")
  may_include("train/commands", "posix fmt cli11 nlohmann-json" kCore " core/version.h core/system/*.h" \
                                " kernels/threads.h layers/model_size.h train/*.h train/*/*.h")
  may_include("train/smoe", "core/**.h train/commands/*.h train/*.h")
  may_include("train", "posix fmt nlohmann-json" kCore " core/version.h core/system/*.h" \
                       " core/distributed/*.h kernels/*.h autograd/*.h layers/*.h optim/*.h" \
                       " train/*.h train/config/*.h train/tokenizer/*.h train/data/*.h" \
                       " train/checkpoint/*.h train/report/*.h train/launch/*.h" \
                       " train/plan/*.h train/profile/*.h")
  may_include("examples", kCore " autograd/*.h layers/*.h optim/*.h")
  may_include("tests/reference", "tests/reference/**")
  may_include("tests", "posix cuda blas xxhash fmt yaml-cpp nlohmann-json cli11 hdf5 zlib zstd sentencepiece doctest" \
                       " core/** kernels/** autograd/** layers/** optim/** train/** examples/*.h tests/**")

  # Calls that belong in one place.
  kTouchesFiles = word("(fopen|freopen|fdopen|gzopen|mkstemp|creat|opendir|fsync|fdatasync" \
                       "|ifstream|ofstream|fstream|std::rename|filesystem|YAML::LoadFile" \
                       "|::open|::openat|::rename|::unlink|::mkdir|::rmdir)")
  kLeavesOrPrints = word("(assert|abort|exit|quick_exit|printf|puts|std::cout|std::cerr)")
  kMaxLines = 400
}

FNR == 1 { check_length(); folder = row_of(FILENAME); check_row() }
{ last_file = FILENAME; last_line = FNR }

/^[ \t]*#[ \t]*include[ \t]*[<"]/ { check_include(); next }
{ check_calls(code_of($0)) }

END {
  check_length()
  exit violations > 0
}

# Each folder of the product has a row of its own; backends that are absent share their none/'s.
function check_row(    place) {
  place = FILENAME
  sub(/\/[^\/]*$/, "", place)
  if (place != folder && FILENAME !~ /^(tests|examples)\/|\/none\//) violation(place " has no row")
}

function check_include(    header, is_ours, name) {
  header = $0
  sub(/^[^<"]*/, "", header)
  is_ours = header ~ /^"/
  header = substr(header, 2)
  sub(/[>"].*/, "", header)
  if (is_ours) {
    if (row_of(header) == "") {
      violation("\"" header "\": our own headers are included by their path from the root")
    } else if (!matches(header, globs[folder])) {
      violation(folder " may not include " header)
    }
    return
  }
  if (header !~ /[.\/]/) {
    if (header ~ /^(fstream|filesystem)$/) check_calls(header)
    return
  }
  name = library_of(header)
  if (name == "") {
    violation("<" header ">: no library of tests/lint/rules.awk has this header")
  } else if (name ~ /^(fmt|yaml-cpp)$/ && FILENAME ~ /[.]cuh?$/) {
    violation("CUDA sources may not include " name)
  } else if (!has_word(globs[folder], name) && !(name == "fmt" && FILENAME ~ /^core\/.*[.]cpp$/)) {
    violation(folder " may not include " name " (<" header ">)")
  }
}

function check_calls(code) {
  if (FILENAME !~ /^(core\/system\/(file|folder|io_calls|descriptor|nonblocking_output|crash_trace)[.]cpp|tests\/.*)$/ && code ~ kTouchesFiles) {
    violation("only file, folder and io_calls of core/system touch the file system")
  }
  if (FILENAME !~ /^(train|tests)\// && FILENAME != "kernels/cuda/experts/sm90/barrier_guard.cuh" && code ~ kLeavesOrPrints) {
    violation("libraries neither print nor end the process")
  }
}

function check_length() {
  if (last_line > kMaxLines && last_file !~ /^kernels\//) {
    printf "%s:%d: longer than %d lines\n", last_file, last_line, kMaxLines
    ++violations
  }
}

function violation(rule) {
  printf "%s:%d: %s\n", FILENAME, FNR, rule
  ++violations
}

function library(name, headers) {
  libraries[++num_libraries] = name
  headers_of[name] = headers
}

function library_of(header,    i) {
  for (i = 1; i <= num_libraries; ++i)
    if (matches(header, headers_of[libraries[i]])) return libraries[i]
  return ""
}

function may_include(folder, what) {
  rows[++num_rows] = folder
  globs[folder] = what
}

function row_of(path,    i) {
  for (i = 1; i <= num_rows; ++i)
    if (index(path, rows[i] "/") == 1) return rows[i]
  return ""
}

function matches(path, list,    i, n, parts) {
  n = split(list, parts, " ")
  for (i = 1; i <= n; ++i)
    if (path ~ regex_of(parts[i])) return 1
  return 0
}

function regex_of(glob) {
  gsub(/[.]/, "[.]", glob)
  gsub(/[*][*]/, "@", glob)
  gsub(/[*]/, "[^/]*", glob)
  gsub(/@/, ".*", glob)
  return "^" glob "$"
}

function has_word(list, name) { return index(" " list " ", " " name " ") > 0 }

function word(alternatives) {
  return "(^|[^A-Za-z0-9_])" alternatives "($|[^A-Za-z0-9_])"
}

# The line without what stands in quotes and after //.
function code_of(line) {
  gsub(/"([^"\\]|\\.)*"/, "\"\"", line)
  sub(/\/\/.*/, "", line)
  return line
}
