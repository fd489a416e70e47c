// Writes a SentencePiece BPE model file from its pieces.
#pragma once
#include <string>
#include <string_view>

namespace smoe {

class SentencePieceWriter {
 public:
  /// As in sentencepiece_model.proto.
  enum class Type { normal = 1, unknown = 2, control = 3, unused = 5, byte = 6 };

  /// Adds the next piece. `score`: its priority as the result of a merge, higher first.
  void add(std::string_view piece, float score, Type type);
  /// The model, with byte fallback. `begin` and `end` name the control tokens before a document and
  /// at the end of a text; an empty `begin` means none. `has_prefix`: a blank before each text.
  std::string finish(std::string_view begin, std::string_view end, bool has_prefix);

 private:
  std::string pieces_;
};

}  // namespace smoe
