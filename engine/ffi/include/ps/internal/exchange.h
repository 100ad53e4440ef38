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
        std::string part;
        auto put = [&part](const void *bytes, size_t size) { part.append(static_cast<const char *>(bytes), size); };
        const uint64_t total = header.bytes();
        uint64_t offset = 0, in_part = 0;
        // Adds bytes to the part, and sends it whenever it is full.
        auto add = [&](const void *bytes, size_t size) {
            for (const char *at = static_cast<const char *>(bytes); size > 0;) {
                if (in_part == 0) {
                    part.clear();
                    put(&piece.ticket, sizeof piece.ticket);
                    put(&total, sizeof total);
                    put(&offset, sizeof offset);
                }
                const size_t fits = std::min(size, kPartBytes - static_cast<size_t>(in_part));
                put(at, fits);
                at += fits;
                size -= fits;
                in_part += fits;
                offset += fits;
                if (in_part < kPartBytes && offset < total) continue;
                piece.tasks.push_back(client.call(server, "part", part));
                in_part = 0;
            }
        };
        each(header, keys, lens, values, add);
        pieces_.push_back(std::move(piece));
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
        std::string all;
        all.reserve(static_cast<size_t>(header.bytes()));
        each(header, keys, lens, values,
             [&all](const void *bytes, size_t size) { all.append(static_cast<const char *>(bytes), size); });
        return all;
    }

private:
    // The bytes of a request or an answer, in order.
    template <typename Add>
    static void each(const Header &header, const void *keys, const void *lens, const void *values, Add add) {
        static const char zeros[8] = {0};
        const size_t lens_bytes = static_cast<size_t>(header.lens) * sizeof(int);
        add(&header, sizeof header);
        add(keys, static_cast<size_t>(header.keys) * sizeof(Key));
        add(lens, lens_bytes);
        add(zeros, Header::padded(header.lens) - lens_bytes);
        add(values, static_cast<size_t>(header.values) * header.value_bytes);
    }

    using Clock = std::chrono::steady_clock;
    struct Piece {
        uint32_t server = 0;
        Ticket ticket;
        std::deque<kr_task> tasks;
        std::string answer;
        size_t total = 0;
        bool is_done = false, is_failed = false;
        int asked = 0;
        Clock::time_point again;
    };

    bool step(Client &client, Piece &piece, uint32_t slice_ms) {
        while (!piece.is_done) {
            if (piece.tasks.empty()) {
                if (Clock::now() < piece.again) return false;
                take(client, piece, piece.answer.size());
            }
            // Parts of the request before its last are answered with nothing.
            const auto receive = [&](const void *bytes, size_t size) {
                if (size > 0) Exchange::receive(piece, Reader(bytes, size));
            };
            if (!client.ended(piece.tasks.front(), slice_ms, receive)) return false;
            piece.tasks.pop_front();
            // The first part of an answer tells how long it is: all others are asked for at once.
            if (piece.tasks.empty() && !piece.answer.empty())
                for (size_t at = piece.answer.size(); at < piece.total; at += kPartBytes) take(client, piece, at);
            if (piece.is_failed) throw dmlc::Error("server " + std::to_string(piece.server) + ": " + piece.answer);
        }
        return true;
    }

    static void take(Client &client, Piece &piece, size_t offset) {
        Writer take;
        take.put(piece.ticket).put(static_cast<uint64_t>(offset));
        piece.tasks.push_back(client.call(piece.server, "take", take.bytes()));
    }

    static void receive(Piece &piece, Reader in) {
        const Progress progress = in.get<Progress>();
        const uint64_t total = in.get<uint64_t>();
        if (progress == kLater) {
            const int wait_us = 10 << std::min(piece.asked++, 7);
            piece.again = Clock::now() + std::chrono::microseconds(wait_us);
            return;
        }
        piece.total = static_cast<size_t>(total);
        piece.answer.reserve(piece.total);
        piece.answer.append(in.rest(), in.left());
        piece.is_done = piece.answer.size() >= total;
        piece.is_failed = piece.is_done && progress == kFailed;
    }

    std::vector<Piece> pieces_;
};

}  // namespace internal
}  // namespace ps

#endif  // PS_INTERNAL_EXCHANGE_H_
