// A request to handles of the program's own: cut into parts on the way there and back, and asked for again while the handle has not
// answered yet. Arrays are written into frames from where they lie, and answers are copied once, to where they are wanted.
#ifndef PS_INTERNAL_EXCHANGE_H_
#define PS_INTERNAL_EXCHANGE_H_

#include "ps/internal/client.h"

namespace ps {
namespace internal {

// Where the answers go.
struct Wanted {
    // Room for all values, in bytes; called when it is known how many come. Null: nothing is wanted.
    std::function<char *(size_t)> room;
    // Room for so many lens, or null.
    std::function<int *(size_t)> lens;
    // Bytes there is room for already, 0: as many as come.
    size_t bytes = 0;
};

class Exchange {
public:
    Exchange(Client &client, const Wanted &wanted, int priority) : client_(client), wanted_(wanted), options_(Prior(priority)) {}
    Exchange(const Exchange &) = delete;
    Exchange &operator=(const Exchange &) = delete;
    // With the turn taken, as for all here.
    ~Exchange() {
        if (!client_.is_open()) return;
        for (auto &piece : pieces_)
            for (kr_task task : piece->tasks) kr_cancel(client_.worker(), task);
    }

    // Begins with one server, whose values are expected to be so many bytes from `at` on; 0: unknown.
    void send(uint32_t server, const Header &header, const SArray<Key> &keys, const SArray<int> &lens, const SArray<char> &values,
              size_t at, size_t expected) {
        pieces_.emplace_back(new Piece(*this, server, header, at, expected));
        Piece &piece = *pieces_.back();
        piece.keys = keys;
        piece.lens = lens;
        piece.values = values;
        const uint64_t total = header.bytes();
        for (uint64_t offset = 0; offset < total; offset += kPartBytes) part(piece, offset, total);
        piece.asked = kPartBytes;
        const uint64_t likely = expected > 0 ? expected + (header.pull == 2 ? Header::padded(header.keys) : 0) : 0;
        for (; piece.asked < likely; piece.asked += kPartBytes) ask(piece, piece.asked);
    }

    // Whether all have answered; waits at most the slice. Throws what a handle threw.
    bool step(uint32_t slice_ms) {
        for (auto &piece : pieces_)
            if (!step(*piece, slice_ms)) return false;
        if (wanted_.room) gather();
        return true;
    }

private:
    using Clock = std::chrono::steady_clock;
    struct PartHead {
        Ticket ticket;
        uint64_t total, offset;
    };
    // What goes to one server and comes from it. Its address is known to calls under way.
    struct Piece {
        Piece(Exchange &of, uint32_t to, const Header &head, size_t place, size_t size)
            : exchange(of), server(to), header(head), at(place), expected(size) {}

        Exchange &exchange;
        const uint32_t server;
        const Header header;
        SArray<Key> keys;
        SArray<int> lens;
        SArray<char> values;
        std::deque<PartHead> heads;
        std::deque<kr_task> tasks;
        // Where its values are expected to go, and how many bytes.
        const size_t at, expected;
        // The answer: what it is, once its first part is there, how far it was asked for, what has come.
        AnswerHead answer = AnswerHead();
        bool is_known = false, is_done = false;
        uint64_t asked = 0, got = 0;
        char *into = nullptr;
        std::string own, got_lens, error;
        // Parts to be asked for again, and when.
        std::vector<uint64_t> later;
        Clock::time_point again;
        int tries = 0;
    };

    void begin(Piece &piece, const char *verb, const kr_bytes *parts, size_t count) {
        kr_task task;
        Must(kr_call_in_place(client_.worker(), client_.control(), piece.server, verb, parts, count, &Exchange::visit, &piece,
                              &options_, &task),
             verb);
        piece.tasks.push_back(task);
    }

    // Sends as much of the request as fits into a frame, from `offset` on.
    void part(Piece &piece, uint64_t offset, uint64_t total) {
        static const char zeros[8] = {0};
        const Header &header = piece.header;
        const size_t lens_bytes = piece.lens.size() * sizeof(int);
        const kr_bytes all[] = {{&header, sizeof header},
                                {piece.keys.data(), piece.keys.size() * sizeof(Key)},
                                {piece.lens.data(), lens_bytes},
                                {zeros, Header::padded(header.lens) - lens_bytes},
                                {piece.values.data(), piece.values.size()}};
        piece.heads.push_back({header.ticket(), total, offset});
        kr_bytes parts[6] = {{&piece.heads.back(), sizeof(PartHead)}};
        size_t count = 1, begins = 0;
        const uint64_t end = offset + kPartBytes;
        for (const kr_bytes &array : all) {
            const uint64_t ends = begins + array.bytes_count, first = std::max<uint64_t>(begins, offset);
            const uint64_t last = std::min(ends, end);
            if (first < last)
                parts[count++] = {static_cast<const char *>(array.bytes) + (first - begins), static_cast<size_t>(last - first)};
            begins = static_cast<size_t>(ends);
        }
        begin(piece, "part", parts, count);
    }

    // Asks for a part of the answer.
    void ask(Piece &piece, uint64_t offset) {
        piece.heads.push_back({piece.header.ticket(), 0, offset});
        const kr_bytes parts[] = {{&piece.heads.back(), sizeof(PartHead)}};
        begin(piece, "take", parts, 1);
    }

    bool step(Piece &piece, uint32_t slice_ms) {
        while (!piece.is_done || !piece.tasks.empty()) {
            if (piece.tasks.empty() && !ask_more(piece)) return false;
            const kr_status status = kr_wait(client_.worker(), piece.tasks.front(), slice_ms);
            if (status == KR_TIMED_OUT) return false;
            piece.tasks.pop_front();
            // (More may have been asked for than there is.)
            if (status != KR_OK && !piece.is_done)
                throw dmlc::Error(std::string("a server's answer: ") + kr_status_name(status) + ": " + kr_last_error());
            if (!piece.error.empty()) throw dmlc::Error(piece.error);
        }
        if (piece.answer.progress == kFailed)
            throw dmlc::Error("server " + std::to_string(piece.server) + ": " + piece.own);
        return true;
    }

    // False if it is too early.
    bool ask_more(Piece &piece) {
        if (!piece.later.empty() && Clock::now() < piece.again) return false;
        std::vector<uint64_t> due;
        due.swap(piece.later);
        for (uint64_t offset : due) ask(piece, offset);
        for (; piece.is_known && piece.asked < piece.answer.bytes(); piece.asked += kPartBytes) ask(piece, piece.asked);
        CHECK(!piece.tasks.empty()) << "an answer of a server is not complete";
        return true;
    }

    // What that throws must not go through the library.
    static void visit(void *self, uint32_t, const void *bytes, size_t size) {
        Piece &piece = *static_cast<Piece *>(self);
        if (size == 0 || piece.is_done) return;
        try {
            piece.exchange.receive(piece, Reader(bytes, size));
        } catch (const std::exception &error) {
            piece.error = error.what();
        }
    }

    void receive(Piece &piece, Reader in) {
        const AnswerHead head = in.get<AnswerHead>();
        if (head.progress == kLater) {
            const int wait_us = 10 << std::min(piece.tries++, 7);
            piece.again = Clock::now() + std::chrono::microseconds(wait_us);
            return piece.later.push_back(head.offset);
        }
        if (!piece.is_known) {
            piece.answer = head;
            piece.is_known = true;
            prepare(piece);
        }
        const uint64_t lens = piece.answer.lens_bytes(), total = piece.answer.bytes();
        CHECK(head.offset <= total && in.left() <= total - head.offset) << "an answer longer than its header says";
        const size_t in_lens =
            head.offset < lens ? std::min(in.left(), static_cast<size_t>(lens - head.offset)) : 0;
        if (in_lens > 0) memcpy(&piece.got_lens[static_cast<size_t>(head.offset)], in.rest(), in_lens);
        if (in.left() > in_lens)
            memcpy(piece.into + (head.offset + in_lens - lens), in.rest() + in_lens, in.left() - in_lens);
        piece.got += in.left();
        piece.is_done = piece.got >= total;
    }

    // Chooses where the values go: where they are wanted, if that is known already.
    void prepare(Piece &piece) {
        const size_t bytes = static_cast<size_t>(piece.answer.values);
        piece.got_lens.resize(static_cast<size_t>(piece.answer.lens_bytes()));
        if (wanted_.room && piece.answer.progress == kReady) {
            if (pieces_.size() == 1 && (wanted_.bytes == 0 || wanted_.bytes == bytes)) {
                piece.into = wanted_.room(bytes);
                return;
            }
            if (piece.expected == bytes && bytes > 0) {
                piece.into = wanted_.room(wanted_.bytes) + piece.at;
                return;
            }
        }
        piece.own.resize(bytes);
        piece.into = &piece.own[0];
    }

    // Puts what lies elsewhere into its place.
    void gather() {
        size_t bytes = 0, lens = 0, keys = 0;
        bool is_in_place = true;
        for (auto &piece : pieces_) {
            bytes += static_cast<size_t>(piece->answer.values);
            lens += static_cast<size_t>(piece->answer.lens);
            keys += piece->keys.size();
            is_in_place = is_in_place && piece->own.empty();
        }
        CHECK(wanted_.bytes == 0 || wanted_.bytes == bytes)
            << "pull: expected room for the " << bytes << " bytes of values that came, or none, got " << wanted_.bytes;
        if (!is_in_place) {
            for (auto &piece : pieces_)
                if (piece->own.empty()) piece->own.assign(piece->into, static_cast<size_t>(piece->answer.values));
            char *to = wanted_.room(bytes);
            for (auto &piece : pieces_) {
                std::copy(piece->own.begin(), piece->own.end(), to);
                to += piece->own.size();
            }
        } else if (bytes == 0) {
            wanted_.room(0);
        }
        if (!wanted_.lens || lens != keys) return;
        int *to = wanted_.lens(lens);
        for (auto &piece : pieces_) {
            const size_t count = static_cast<size_t>(piece->answer.lens);
            if (count > 0) memcpy(to, piece->got_lens.data(), count * sizeof(int));
            to += count;
        }
    }

    Client &client_;
    const Wanted wanted_;
    const kr_options options_;
    std::vector<std::unique_ptr<Piece>> pieces_;
};

}  // namespace internal
}  // namespace ps

#endif  // PS_INTERNAL_EXCHANGE_H_
