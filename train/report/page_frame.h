// The frame of all pages: style, header and script.
#pragma once
#include <string>

namespace smoe {

/// From the doctype to the heading: the caller adds to the header, and closes it with "</header>".
std::string page_head(const std::string& title);
/// The script and the end of the page.
std::string page_end();

}  // namespace smoe
