#include "train/launch/rank_output.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>

#include "core/base/check.h"

namespace smoe {
namespace {

constexpr std::size_t kReadBytes = std::size_t{64} << 10;
constexpr std::size_t kMaxLineBytes = std::size_t{64} << 10;  // longer ones are split
// Reads from one stream before the others are served.
constexpr int kReadsInARow = 16;

}  // namespace

std::string_view without_rank(std::string_view line, int rank) {
  const std::string prefix = concat("rank ", rank, ": ");
  if (line.starts_with(prefix)) line.remove_prefix(prefix.size());
  return line;
}

RankOutput::RankOutput(PollLoop& loop, Console& console, const Options& options, Child& child)
    : loop_(loop),
      console_(console),
      rank_(options.rank),
      log_(options.log_path, options.max_log_bytes) {
  sources_[0] = {std::move(child.output), options.output, false, {}, {}};
  sources_[1] = {std::move(child.error), options.error, true, {}, {}};
  for (Source& source : sources_)
    loop_.watch(source.pipe.number(), POLLIN, [this, &source] { drain(source); });
}

RankOutput::~RankOutput() {
  for (Source& source : sources_)
    if (source.pipe.is_open()) loop_.forget(source.pipe.number());
}

void RankOutput::drain(Source& source) {
  static char block[kReadBytes];
  for (int i = 0; i < kReadsInARow; ++i) {
    const ssize_t got = ::read(source.pipe.number(), block, sizeof block);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) return close(source);
    take(source, {block, static_cast<std::size_t>(got)});
  }
}

ConsoleStream& RankOutput::console_of(const Source& source) {
  return source.is_error ? console_.error() : console_.output();
}

void RankOutput::take(Source& source, std::string_view bytes) {
  if (source.mode == ConsoleMode::raw) console_of(source).write(bytes);
  while (!bytes.empty()) {
    const std::size_t newline = bytes.find('\n');
    const bool ends = newline != std::string_view::npos;
    source.line += bytes.substr(0, newline);
    bytes.remove_prefix(ends ? newline + 1 : bytes.size());
    if (ends || source.line.size() > kMaxLineBytes) end_line(source);
  }
  write_complete_lines(source);
}

void RankOutput::end_line(Source& source) {
  last_lines_.add(source.line);
  if (source.is_error && !source.line.empty())
    error_line_ = source.line.substr(0, LastLines::kMaxLineBytes);
  if (source.mode == ConsoleMode::prefixed_lines)
    console_of(source).write(concat("[rank ", rank_, "] ", without_rank(source.line, rank_), "\n"));
  source.complete += source.line;
  source.complete += '\n';
  source.line.clear();
}

void RankOutput::write_complete_lines(Source& source) {
  log_.write(source.complete);
  source.complete.clear();
  if (!log_.error().empty() && !std::exchange(has_reported_log_error_, true))
    console_.print_line(concat("the log of rank ", rank_, " stops here: ", log_.error()));
}

void RankOutput::close(Source& source) {
  if (!source.pipe.is_open()) return;
  if (!source.line.empty()) end_line(source);
  write_complete_lines(source);
  loop_.forget(source.pipe.number());
  source.pipe.close();
}

bool RankOutput::is_fully_shown() const {
  return sources_[0].mode != ConsoleMode::none && sources_[1].mode != ConsoleMode::none;
}

void RankOutput::drain_all() {
  for (Source& source : sources_)
    if (source.pipe.is_open()) drain(source);
}

void RankOutput::finish() {
  drain_all();
  for (Source& source : sources_) close(source);
}

}  // namespace smoe
