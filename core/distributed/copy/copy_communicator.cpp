#include "core/distributed/copy_communicator.h"

#include <algorithm>
#include <vector>

#include "core/distributed/copy/copy_connection.h"
#include "core/distributed/copy/device_sum.h"
#include "core/distributed/gpu/gpu_communicator.h"

namespace smoe {
namespace {

class CopyCommunicator final : public GpuCommunicator {
 public:
  CopyCommunicator(RendezvousStore& store, Communicator& control, const CopyOptions& options)
      : GpuCommunicator(control), connection_(control, stream()) {
    if (!is_possible()) return;
    start(connection_, store.connect_again(Deadline::in(options.timeout_s)),
          {options.timeout_s, options.on_stuck});
    warm_up("peer copies", nccl_variables());
  }
  ~CopyCommunicator() override { end(); }

  bool is_possible() const { return connection_.is_possible(); }

 private:
  void queue_all_reduce(const Tensor& values) override { reduce(values, true); }
  void queue_reduce_scatter(const Tensor& values) override { reduce(values, false); }

  void queue_all_gather(const Tensor& values) override {
    const std::vector<char*>* const peers = connection_.map(values.data());
    if (peers) {  // they may be read until the other ranks are here
      connection_.begin();
      connection_.finish();
    }
    for_each_piece(
        values, [&](std::int64_t begin, std::int64_t end) { gather(values, peers, begin, end); });
  }

  void queue_broadcast(const std::vector<RootedTensor>& tensors) override {
    std::vector<Piece> pieces;
    std::vector<std::int64_t> sizes(world_size());  // in the inbox, by root
    for (const auto& [values, root] : tensors)
      for (std::int64_t done = 0; done < values.bytes();) {
        if (sizes[root] + kAlignment > connection_.part_bytes()) {
          send_pieces(pieces);
          pieces.clear();
          std::fill(sizes.begin(), sizes.end(), 0);
        }
        const std::int64_t bytes =
            std::min(values.bytes() - done, connection_.part_bytes() - sizes[root]);
        pieces.push_back({root, static_cast<char*>(values.data()) + done, sizes[root], bytes});
        sizes[root] += (bytes + kAlignment - 1) / kAlignment * kAlignment;
        done += bytes;
      }
    if (!pieces.empty()) send_pieces(pieces);
  }

  /// Adds up the shards, this rank's own one here, and sends it to the others if `gathers`.
  void reduce(const Tensor& values, bool gathers) {
    const std::vector<char*>* const peers = gathers ? connection_.map(values.data()) : nullptr;
    for_each_piece(values, [&](std::int64_t begin, std::int64_t end) {
      connection_.begin();
      for (int i = 1; i < world_size(); ++i) {
        const int peer = (rank() + i) % world_size();
        const Range part = piece_of(values, peer, begin, end);
        connection_.copy(connection_.outbox(peer), data(values, part), bytes(values, part));
      }
      connection_.finish();
      const Range own = piece_of(values, rank(), begin, end);
      SumTerms terms{};
      for (int peer = 0; peer < world_size(); ++peer)
        terms.of[peer] = peer == rank() ? data(values, own) : connection_.inbox(peer);
      if (own.numel() > 0)
        device_ordered_sum(terms, world_size(), own.numel(), values.dtype(), data(values, own),
                           stream());
      if (gathers) gather(values, peers, begin, end);
    });
  }

  /// Sends elements [begin, end) of the own shard to all others, into their tensors if `peers`, the
  /// addresses of the tensor by rank, is not null.
  void gather(const Tensor& values, const std::vector<char*>* peers, std::int64_t begin,
              std::int64_t end) {
    connection_.begin();
    const Range own = piece_of(values, rank(), begin, end);
    const std::int64_t offset = own.begin * size_of(values.dtype());
    for (int i = 1; i < world_size(); ++i) {
      const int peer = (rank() + i) % world_size();
      connection_.copy(peers ? (*peers)[peer] + offset : connection_.outbox(peer),
                       data(values, own), bytes(values, own));
    }
    connection_.finish();
    if (peers) return;
    for (int i = 1; i < world_size(); ++i) {
      const int peer = (rank() + i) % world_size();
      const Range part = piece_of(values, peer, begin, end);
      connection_.copy(data(values, part), connection_.inbox(peer), bytes(values, part));
    }
  }

  struct Piece {
    int root;
    char* data;
    std::int64_t offset, bytes;  // in the outbox
  };
  void send_pieces(const std::vector<Piece>& pieces) {
    connection_.begin();
    for (int i = 1; i < world_size(); ++i)
      for (const Piece& piece : pieces)
        if (piece.root == rank())
          connection_.copy(connection_.outbox((rank() + i) % world_size()) + piece.offset,
                           piece.data, piece.bytes);
    connection_.finish();
    for (const Piece& piece : pieces)
      if (piece.root != rank())
        connection_.copy(piece.data, connection_.inbox(piece.root) + piece.offset, piece.bytes);
  }

  /// Calls f(begin, end) for consecutive elements within each shard that fit one exchange.
  template <class F>
  void for_each_piece(const Tensor& values, F&& f) const {
    const std::int64_t most = shard_range(values.numel(), 0, world_size()).numel();
    const std::int64_t step = connection_.part_bytes() / size_of(values.dtype());
    for (std::int64_t begin = 0; begin < most; begin += step)
      f(begin, std::min(begin + step, most));
  }
  /// The elements of the tensor that are `begin` to `end` of a rank's shard.
  Range piece_of(const Tensor& values, int owner, std::int64_t begin, std::int64_t end) const {
    const Range shard = shard_range(values.numel(), owner, world_size());
    return {std::min(shard.begin + begin, shard.end), std::min(shard.begin + end, shard.end)};
  }
  static char* data(const Tensor& values, const Range& part) {
    return static_cast<char*>(values.data()) + part.begin * size_of(values.dtype());
  }
  static std::int64_t bytes(const Tensor& values, const Range& part) {
    return part.numel() * size_of(values.dtype());
  }

  static constexpr std::int64_t kAlignment = 512;
  CopyConnection connection_;
};

}  // namespace

std::unique_ptr<Communicator> copy_communicator(RendezvousStore& store, Communicator& control,
                                                const CopyOptions& options, std::string& why) {
  if (control.world_size() > kMaxSumTerms) {
    why = concat("peer copies are for at most ", kMaxSumTerms, " ranks");
    return nullptr;
  }
  auto communicator = std::make_unique<CopyCommunicator>(store, control, options);
  if (communicator->is_possible()) return communicator;
  why = "the GPUs cannot map each other's memory";
  return nullptr;
}

}  // namespace smoe
