#include "train/profile/roofline_chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/system/format.h"
#include "train/profile/profile_text.h"
#include "train/report/chart.h"

namespace smoe {
namespace {

constexpr double kWidth = 1000, kHeight = 300;
constexpr double kLeast = 0.1, kMost = 10'000;  // FLOP per byte

double left_of(double intensity) {
  return kWidth * std::log(intensity / kLeast) / std::log(kMost / kLeast);
}

struct Dot {
  double intensity, flops_per_s, share;
  std::string name;
};

std::vector<Dot> dots_of(const Profile& p) {
  std::vector<Dot> dots;
  for (const OpGroup& op : p.ops) {
    const Group& g = op.group;
    const double share = g.ms / p.step_ms;
    if (g.cost.flops == 0 || share < 0.001) continue;
    dots.push_back({std::clamp(g.cost.flops / g.cost.bytes, kLeast, kMost),
                    g.cost.flops / g.ms * 1e3, share, name_of(op)});
  }
  return dots;
}

}  // namespace

std::string roofline_chart(const Profile& p) {
  const std::vector<Dot> dots = dots_of(p);
  if (dots.empty()) return "";
  const Roofline& roof = p.roofline;
  double fastest = roof.flops_per_s;  // what stays in a cache may be above the roofline
  for (const Dot& dot : dots) fastest = std::max(fastest, dot.flops_per_s);
  const double high = std::pow(10, std::ceil(std::log10(fastest))), low = high / 1e4;
  const auto top = [&](double flops_per_s) {
    return kHeight * (1 - std::log(std::max(flops_per_s, low) / low) / std::log(high / low));
  };
  std::string html = card_head(
      "Roofline", "GEMMs and attention: FLOP/s over FLOP per byte; hold the pointer over a dot");
  html +=
      fmt::format("<div class=\"plot\"><svg viewBox=\"0 0 {} {}\" preserveAspectRatio=\"none\">",
                  kWidth, kHeight);
  for (double line = low; line <= high; line *= 10)
    html += fmt::format("<path class=\"grid\" d=\"M0 {:.1f}h{}\"/>", top(line), kWidth);
  const double left_roof = std::max(low, kLeast * roof.bytes_per_s);
  html += fmt::format(
      "<path class=\"line\" style=\"stroke:var(--dim)\" d=\"M{:.1f} {:.1f}L{:.1f} {:.1f}H{}\"/>",
      left_of(left_roof / roof.bytes_per_s), top(left_roof), left_of(roof.ridge()),
      top(roof.flops_per_s), kWidth);
  for (const Dot& dot : dots)
    html += fmt::format(
        "<path class=\"dots\" style=\"stroke:var(--series-1);stroke-width:{:.1f}\" d=\"M{:.1f} "
        "{:.1f}h0\"><title>{}: {}/s, {:.1f} FLOP per byte, {:.1f} % of the step</title></path>",
        6 + 24 * std::sqrt(dot.share), left_of(dot.intensity), top(dot.flops_per_s),
        escaped(dot.name), short_flops(dot.flops_per_s), dot.intensity, 100 * dot.share);
  html += "</svg>";
  for (double line = low; line <= high; line *= 10)
    html += fmt::format("<span class=\"y\" style=\"top:{:.2f}%\">{}</span>",
                        100 * top(line) / kHeight, short_flops(line));
  for (double line = kLeast; line <= kMost; line *= 10)
    html += fmt::format("<span class=\"x\" style=\"left:{:.2f}%\">{:g}</span>",
                        100 * left_of(line) / kWidth, line);
  return html + "</div></figure>";
}

}  // namespace smoe
