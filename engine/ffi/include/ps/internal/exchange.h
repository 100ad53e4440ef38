// A request to handles of the program's own: cut into parts on the way there and back, and asked for again while the handle has not
// answered yet.
#ifndef PS_INTERNAL_EXCHANGE_H_
#define PS_INTERNAL_EXCHANGE_H_

#include "ps/internal/client.h"

namespace ps {
namespace internal {

class Exchange {
public:
    // Takes the answers, by server, once all are there.
    std::function<void(const std::vector<std::string> &)> gather;

    // Begins with one server. With the turn taken, as for all here.
    void send(Client &client, uint32_t server, const Header &header, const void *keys, const void *lens, const void *values) {
        Piece piece;
        piece.server = server;
        piece.ticket = {header.app, header.sender, header.customer, header.timestamp};
        const std::string request = pack(header, keys, lens, values);
        for (size_t offset = 0; offset < request.size(); offset += kPartBytes) {
            Writer part;
            part.put(piece.ticket).put(static_cast<uint64_t>(request.size())).put(static_cast<uint64_t>(offset));
            piece.tasks.push_back(client.call(server, "part", part.bytes() + request.substr(offset, kPartBytes)));
        }
        pieces_.push_back(piece);
    }

    // Whether all have answered; waits at most the slice. Throws what a handle threw.
    bool step(Client &client, uint32_t slice_ms) {
        for (Piece &piece : pieces_)
            if (!piece.is_done && !step(client, piece, slice_ms)) return false;
        std::vector<std::string> answers;
        for (Piece &piece : pieces_) answers.push_back(std::move(piece.answer));
        if (gather) gather(answers);
        return true;
    }

    static std::string pack(const Header &header, const void *keys, const void *lens, const void *values) {
        std::string bytes;
        bytes.reserve(static_cast<size_t>(header.bytes()));
        bytes.append(reinterpret_cast<const char *>(&header), sizeof header);
        bytes.append(static_cast<const char *>(keys), static_cast<size_t>(header.keys) * sizeof(Key));
        bytes.append(static_cast<const char *>(lens), static_cast<size_t>(header.lens) * sizeof(int));
        bytes.resize(sizeof header + static_cast<size_t>(header.keys) * sizeof(Key) + Header::padded(header.lens));
        bytes.append(static_cast<const char *>(values), static_cast<size_t>(header.values) * header.value_bytes);
        return bytes;
    }

private:
    using Clock = std::chrono::steady_clock;
    struct Piece {
        uint32_t server = 0;
        Ticket ticket;
        std::deque<kr_task> tasks;
        std::string answer;
        bool is_done = false;
        int asked = 0;
        Clock::time_point again;
    };

    bool step(Client &client, Piece &piece, uint32_t slice_ms) {
        std::vector<std::string> answers;
        while (!piece.is_done) {
            if (piece.tasks.empty()) {
                if (Clock::now() < piece.again) return false;
                Writer take;
                take.put(piece.ticket).put(static_cast<uint64_t>(piece.answer.size()));
                piece.tasks.push_back(client.call(piece.server, "take", take.bytes()));
            }
            if (!client.ended(piece.tasks.front(), slice_ms, &answers)) return false;
            piece.tasks.pop_front();
            if (piece.tasks.empty()) receive(piece, answers.at(0));
        }
        return true;
    }

    static void receive(Piece &piece, const std::string &bytes) {
        Reader in(bytes);
        const Progress progress = in.get<Progress>();
        const uint64_t total = in.get<uint64_t>();
        if (progress == kLater) {
            const int wait_us = 10 << std::min(piece.asked++, 7);
            piece.again = Clock::now() + std::chrono::microseconds(wait_us);
            return;
        }
        piece.answer.append(in.rest(), in.left());
        piece.is_done = piece.answer.size() >= total;
        if (piece.is_done && progress == kFailed)
            throw dmlc::Error("server " + std::to_string(piece.server) + ": " + piece.answer);
    }

    std::vector<Piece> pieces_;
};

}  // namespace internal
}  // namespace ps

#endif  // PS_INTERNAL_EXCHANGE_H_
