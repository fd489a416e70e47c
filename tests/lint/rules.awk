# The rules of the tree that a machine can hold us to, one violation a line as file:line: rule.
# Run by rules.sh from the root of the tree, so that FILENAME is a path like core/tensor.h.

BEGIN {
  # Libraries from outside: the name used below, then the headers that belong to it.
  library("cuda", "cuda*.h cublas*.h cub/** nvtx3/** cooperative_groups.h cooperative_groups/**")
  library("cudnn", "cudnn.h cudnn_frontend.h")
  library("nccl", "nccl.h")
  library("gloo", "gloo/**")
  library("blas", "cblas.h")
  library("xxhash", "xxhash.h")
  library("fmt", "fmt/**")
  library("yaml-cpp", "yaml-cpp/**")
  library("nlohmann-json", "nlohmann/**")
  library("cli11", "CLI/**")
  library("hdf5", "hdf5.h H5*.h")
  library("zlib", "zlib.h")
  library("sentencepiece", "sentencepiece_*.h")
  library("doctest", "doctest/**")
  library("posix", "arpa/*.h netinet/*.h sys/*.h linux/*.h dirent.h dlfcn.h fcntl.h immintrin.h netdb.h" \
                   " poll.h pthread.h sched.h signal.h spawn.h termios.h unistd.h")

  # What each folder may include: libraries by name, our own headers by glob (* stays within a
  # folder, ** does not). The first row whose folder holds the file decides. C++'s own headers are
  # free to all.
  may_include("core/base", "cuda core/base/*.h")
  may_include("core", "posix cuda nccl gloo xxhash core/**")
  may_include("kernels", "posix cuda cudnn blas core/base/*.h kernels/**")
  may_include("autograd", "core/** kernels/*.h autograd/**")
  may_include("layers", "core/** autograd/** layers/**")
  may_include("optim", "core/** kernels/*.h autograd/parameter*.h optim/**")
  may_include("train", "posix xxhash fmt yaml-cpp nlohmann-json cli11 hdf5 zlib sentencepiece" \
                       " core/** kernels/*.h autograd/** layers/** optim/** train/**")
  may_include("tests/reference", "tests/reference/**")
  may_include("tests", "posix cuda blas xxhash fmt yaml-cpp nlohmann-json cli11 hdf5 zlib sentencepiece doctest" \
                       " core/** kernels/** autograd/** layers/** optim/** train/** tests/**")

  # Calls that belong in one place.
  kTouchesFiles = word("(fopen|freopen|fdopen|gzopen|mkstemp|creat|opendir|fsync|fdatasync" \
                       "|ifstream|ofstream|fstream|std::rename|filesystem|YAML::LoadFile" \
                       "|::open|::openat|::rename|::unlink|::mkdir|::rmdir)")
  kLeavesOrPrints = word("(assert|abort|exit|quick_exit|printf|puts|std::cout|std::cerr)")
  kMaxLines = 400
}

FNR == 1 { check_length(); folder = row_of(FILENAME) }
{ last_file = FILENAME; last_line = FNR }

/^[ \t]*#[ \t]*include[ \t]*[<"]/ { check_include(); next }
{ check_calls(code_of($0)) }

END {
  check_length()
  exit violations > 0
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
  if (FILENAME !~ /^(core\/io[^\/]*[.]cpp|tests\/.*)$/ && code ~ kTouchesFiles) {
    violation("only core/io touches the file system")
  }
  if (FILENAME !~ /^(train|tests)\// && code ~ kLeavesOrPrints) {
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
