#include "train/report/run_reports.h"

#include <unistd.h>

#include <iostream>

#include "core/base/check.h"
#include "core/system/standard_output.h"
#include "core/system/text.h"
#include "core/system/wrap.h"
#include "train/config/run_paths.h"
#include "train/report/console_line.h"

namespace smoe {
namespace {

constexpr std::size_t kLabelWidth = 8;  // of "device  ", below whose text a line continues

}  // namespace

RunReports::RunReports(const RunPaths& paths, const Config& config)
    : paths_(paths),
      config_(config),
      log_(paths.log_path()),
      status_(std::cout, ::isatty(STDOUT_FILENO) == 1),
      page_(paths.report_path(), config) {}

// The line is lost if the reader is gone; other failures stay in the state of std::cout.
void RunReports::print_line(const std::string& line) {
  status_.clear();
  if (!(std::cout << line << std::endl) && is_reader_gone(STDOUT_FILENO)) std::cout.clear();
}

RunReports::~RunReports() {
  try {
    finish();
  } catch (const std::exception&) {  // the error that ends the run matters more
  }
}

void RunReports::begin_after(std::int64_t step) {
  page_.restart();
  metrics_.emplace(
      paths_.metrics_path(), step, [this](const Report& report) { page_.add(report); },
      [this](const std::string& line) { say("warning: " + line); });
  events_.reset();
  resumed_step_ = step;
}

void RunReports::say(const std::string& text) {
  const std::string line = printable_lines(text);
  print_line(wrapped(line, kLabelWidth, console_width()));
  log_.write(line);
}

void RunReports::add(const Report& report) {
  metrics_->write(report);
  if (config_.log.tensorboard) {
    if (!events_) events_.emplace(paths_.path(), resumed_step_, config_);
    events_->write(report);
  }
  page_.add(report);
  // Colors on a terminal, plain text in the log. A start has no line.
  std::visit(
      [this](const auto& r) {
        if constexpr (!std::is_same_v<std::decay_t<decltype(r)>, StartReport>) {
          print_line(console_line(r, console_style(), console_width()));
          log_.write(console_line(r));
        }
      },
      report);
  write_page([this] { page_.write_if_due(); });
}

void RunReports::finish() {
  write_page([this] { page_.write_ended(); });
}

// A page that cannot be written does not end the run; the error is printed once.
template <class Write>
void RunReports::write_page(Write&& write) {
  if (is_abandoned_) return;
  try {
    write();
  } catch (const SystemError& error) {
    if (!std::exchange(has_page_failed_, true))
      say(concat("report.html: continuing without it: ", error.what()));
  }
}

}  // namespace smoe
