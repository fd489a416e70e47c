#include "train/tokenizer/byte_level_tokenizer.h"

#include <algorithm>
#include <optional>
#include <span>
#include <utility>

#include "core/base/check.h"
#include "core/system/text.h"
#include "train/tokenizer/byte_alphabet.h"
#include "train/tokenizer/compose.h"

namespace smoe {
namespace {

// Length of the longest prefix of `text` that is UTF-8.
std::size_t valid_prefix(std::string_view text) {
  std::size_t length = 0;
  while (length < text.size()) {
    const std::size_t character = utf8_length(text.substr(length));
    if (character == 0) break;
    length += character;
  }
  return length;
}

std::size_t invalid_prefix(std::string_view text) {
  std::size_t length = 0;
  while (length < text.size() && utf8_length(text.substr(length)) == 0) ++length;
  return length;
}

// Length of `text` without a character that is cut at its end.
std::size_t without_cut_character(std::string_view text) {
  for (std::size_t bytes = 1; bytes < 4 && bytes <= text.size(); ++bytes) {
    const std::string_view last = text.substr(text.size() - bytes);
    if ((static_cast<unsigned char>(last[0]) & 0xC0) == 0x80) continue;
    return utf8_length(last) > 0 ? text.size() : text.size() - bytes;
  }
  return text.size();
}

// The part of `text` after the last token that `finder` finds there, up to where what follows the
// text could become part of one.
TextRange part_without_tokens(const AddedTokenFinder& finder, std::string_view text) {
  TextRange part{0, finder.settled_prefix(text)};
  while (const auto match = finder.find(text, part.begin)) {
    if (match->end > part.end) {
      part.end = std::min(part.end, match->begin);
      break;
    }
    part.begin = match->end;
  }
  return part;
}

// Positions in a text and in its normalized form between which nothing composes, ascending.
struct Cuts {
  std::vector<std::size_t> original{0}, composed_to{0};

  // Those of valid UTF-8 `text`: before ASCII characters, and its end if one follows it.
  explicit Cuts(std::string_view text) {
    for (std::size_t i = 1; i <= text.size(); ++i) {
      if (i < text.size() && static_cast<unsigned char>(text[i]) >= 0x80) continue;
      const std::size_t begin = original.back();
      composed_to.push_back(composed_to.back() + composed(text.substr(begin, i - begin)).size());
      original.push_back(i);
    }
  }
  // The position in the text of one in the normalized form.
  std::optional<std::size_t> original_of(std::size_t position) const {
    const auto found = std::lower_bound(composed_to.begin(), composed_to.end(), position);
    if (found == composed_to.end() || *found != position) return {};
    return original[static_cast<std::size_t>(found - composed_to.begin())];
  }
};

// Number of pieces that both lists begin with.
std::size_t num_equal(const std::vector<TextRange>& a, const std::vector<TextRange>& b) {
  std::size_t count = 0;
  while (count < a.size() && count < b.size() && a[count].begin == b[count].begin &&
         a[count].end == b[count].end)
    ++count;
  return count;
}

}  // namespace

// Encodes one text.
class ByteLevelTokenizer::Encoding {
 public:
  Encoding(const ByteLevelTokenizer& owner, std::vector<std::int32_t>& tokens)
      : owner_(owner), cache_(owner.caches_), tokens_(tokens) {}

  void add_valid(std::string_view text) {
    for_each_gap(owner_.raw_tokens_, text, [&](std::string_view gap) {
      const std::string composed_gap = owner_.model_.composes ? composed(gap) : "";
      if (owner_.model_.composes) gap = composed_gap;
      for_each_gap(owner_.normalized_tokens_, gap, [&](std::string_view part) {
        for (const auto& [begin, end] : owner_.splitter_.split(part))
          add_piece(part.substr(begin, end - begin));
      });
    });
  }

  void add_bytes(std::string_view bytes) {
    for (const char c : bytes) tokens_.push_back(owner_.byte_ids_[static_cast<unsigned char>(c)]);
  }

 private:
  // Calls `use` with the text between added tokens, whose ids it appends.
  template <class Use>
  void for_each_gap(const AddedTokenFinder& finder, std::string_view text, const Use& use) {
    std::size_t done = 0;
    while (const auto match = finder.find(text, done)) {
      if (match->begin > done) use(text.substr(done, match->begin - done));
      tokens_.push_back(match->id);
      done = match->end;
    }
    if (done < text.size()) use(text.substr(done));
  }

  void add_piece(std::string_view piece) {
    if (cache_->append(piece, tokens_)) return;
    const std::size_t begin = tokens_.size();
    const auto whole = owner_.model_.ignores_merges ? owner_.ids_.find(piece) : owner_.ids_.end();
    if (whole != owner_.ids_.end()) {
      tokens_.push_back(whole->second);
    } else {
      std::vector<std::int32_t> symbols;
      for (const char c : piece) symbols.push_back(owner_.byte_ids_[static_cast<unsigned char>(c)]);
      owner_.merges_.apply(symbols);
      tokens_.insert(tokens_.end(), symbols.begin(), symbols.end());
    }
    cache_->store(piece, std::span(tokens_).subspan(begin));
  }

  const ByteLevelTokenizer& owner_;
  const SegmentCaches::Lease cache_;
  std::vector<std::int32_t>& tokens_;
};

ByteLevelTokenizer::ByteLevelTokenizer(ByteLevelModel model, const std::string& path)
    : model_(std::move(model)),
      file_(byte_level_file(model_)),
      splitter_(model_.patterns, path),
      raw_tokens_(model_.added, false),
      normalized_tokens_(model_.added, true) {
  for (const std::string& piece : model_.pieces) {
    const auto bytes = bytes_of_piece(piece);
    const auto id = static_cast<std::int32_t>(bytes_.size());
    bytes_.push_back(bytes ? *bytes : piece);
    if (bytes && !piece.empty()) ids_.emplace(*bytes, id);
  }
  for (const AddedToken& token : model_.added) {
    std::string& bytes = bytes_[static_cast<std::size_t>(token.id)];
    if (const auto found = ids_.find(bytes); found != ids_.end() && found->second == token.id)
      ids_.erase(found);
    bytes = token.is_special ? "" : token.content;
  }
  for (std::size_t byte = 0; byte < 256; ++byte) {
    const auto found = ids_.find(std::string(1, static_cast<char>(byte)));
    SMOE_CHECK(found != ids_.end(), path, ": vocab: the pieces of bytes must not be added tokens; ",
               "that of byte ", byte, " is");
    byte_ids_[byte] = found->second;
  }
  for (const auto& [left, right] : model_.merges) {
    const auto& pieces = model_.pieces;
    const auto result = bytes_of_piece(pieces[static_cast<std::size_t>(left)] +
                                       pieces[static_cast<std::size_t>(right)]);
    const auto found = result ? ids_.find(*result) : ids_.end();
    if (found != ids_.end()) merges_.add(left, right, found->second);
  }
}

void ByteLevelTokenizer::encode(std::string_view text, std::vector<std::int32_t>& tokens) const {
  Encoding encoding(*this, tokens);
  while (!text.empty()) {
    const std::size_t valid = valid_prefix(text);
    if (valid > 0) encoding.add_valid(text.substr(0, valid));
    text.remove_prefix(valid);
    const std::size_t invalid = invalid_prefix(text);
    encoding.add_bytes(text.substr(0, invalid));
    text.remove_prefix(invalid);
  }
}

// The last position in normalized `text`, for which `is_cut` holds, where it may be cut: the pieces
// before it depend neither on what follows nor on whether something does.
std::size_t ByteLevelTokenizer::settled_normalized(
    std::string_view text, const std::function<bool(std::size_t)>& is_cut) const {
  constexpr int kMostTries = 8;
  const TextRange part = part_without_tokens(normalized_tokens_, text);
  const std::string_view open = text.substr(part.begin, part.end - part.begin);
  std::vector<TextRange> pieces = splitter_.settled_pieces(open);
  for (int i = 0; i < kMostTries; ++i) {
    while (!pieces.empty() && !is_cut(part.begin + pieces.back().end)) pieces.pop_back();
    if (pieces.empty()) break;
    const std::size_t end = pieces.back().end;
    const std::size_t count = num_equal(splitter_.split(open.substr(0, end)), pieces);
    if (count == pieces.size()) return part.begin + end;
    pieces.resize(count);
  }
  return is_cut(part.begin) ? part.begin : 0;
}

std::size_t ByteLevelTokenizer::settled_prefix(std::string_view text) const {
  text = text.substr(0, without_cut_character(text));
  std::size_t begin = 0, end = valid_prefix(text);  // the last run of valid characters
  while (end < text.size()) {
    begin = end + invalid_prefix(text.substr(end));
    end = begin + valid_prefix(text.substr(begin));
  }
  const TextRange raw = part_without_tokens(raw_tokens_, text.substr(begin, end - begin));
  begin += raw.begin;
  const std::string_view part = text.substr(begin, raw.end - raw.begin);
  if (!model_.composes) return begin + settled_normalized(part, [](std::size_t) { return true; });
  const auto ascii = std::find_if(part.rbegin(), part.rend(),
                                  [](char c) { return static_cast<unsigned char>(c) < 0x80; });
  if (ascii == part.rend()) return begin;
  // What follows cannot compose with what stands before an ASCII character.
  const std::string_view closed = part.substr(0, static_cast<std::size_t>(part.rend() - ascii) - 1);
  const Cuts cuts(closed);
  const std::size_t settled = settled_normalized(composed(closed), [&](std::size_t position) {
    return cuts.original_of(position).has_value();
  });
  return begin + *cuts.original_of(settled);
}

const std::string& ByteLevelTokenizer::bytes_of(std::int32_t token) const {
  SMOE_CHECK(token >= 0 && token < vocab_size(), "tokenizer: ids must be 0 to ", vocab_size() - 1,
             "; got ", token);
  return bytes_[static_cast<std::size_t>(token)];
}

std::string ByteLevelTokenizer::summary() const {
  std::string text = concat("byte-level BPE, vocabulary ", vocab_size());
  if (model_.begins_prompts)
    text += concat(", texts begin with ",
                   printable(model_.pieces[static_cast<std::size_t>(model_.begin_of_text)]));
  if (model_.composes) text += ", text is normalized to NFC";
  return text;
}

}  // namespace smoe
