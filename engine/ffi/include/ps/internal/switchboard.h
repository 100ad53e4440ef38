// The server's side of everything that is not a table: who is in the job, barriers, mail between nodes, and requests that a handle of
// the program's own answers. One for each server process; Keyrange calls it on the server's thread (kr_function.call), and Response()
// on any other.
#ifndef PS_INTERNAL_SWITCHBOARD_H_
#define PS_INTERNAL_SWITCHBOARD_H_

#include <deque>
#include <map>
#include <tuple>

#include "keyrange.h"
#include "ps/base.h"
#include "ps/internal/message.h"
#include "ps/internal/wire.h"

namespace ps {
namespace internal {

// What the library could not do, as an exception.
inline void Must(kr_status status, const char *what) {
    if (status != KR_OK)
        throw dmlc::Error(std::string(what) + ": " + kr_status_name(status) + ": " + kr_last_error());
}

// Ids of ranks.
inline int ServerId(int rank) { return 2 * rank + 8; }
inline int WorkerId(int rank) { return 2 * rank + 9; }

// The nodes that a group or a node's own id stands for.
inline std::vector<int> Members(int to, int servers, int workers) {
    std::vector<int> ids;
    if (to >= 8) return std::vector<int>(1, to);
    if (to & kScheduler) ids.push_back(kScheduler);
    for (int rank = 0; rank < servers && (to & kServerGroup); ++rank) ids.push_back(ServerId(rank));
    for (int rank = 0; rank < workers && (to & kWorkerGroup); ++rank) ids.push_back(WorkerId(rank));
    return ids;
}

// Which answer belongs to which request.
struct Ticket {
    int32_t app, sender, customer, timestamp;
    bool operator<(const Ticket &other) const {
        return std::tie(app, sender, customer, timestamp) <
               std::tie(other.app, other.sender, other.customer, other.timestamp);
    }
};

// How the keys and values of a request are laid out: this, the keys, the lens (filled up to a multiple of 8 bytes), the values.
struct Header {
    int32_t app, sender, customer, timestamp, cmd;
    uint8_t push, pull;  // pull: 2 if the lens are wanted too
    uint16_t value_bytes;
    uint64_t keys, lens, values;

    static size_t padded(uint64_t lens) { return static_cast<size_t>((lens * sizeof(int) + 7) / 8 * 8); }
    Ticket ticket() const { return {app, sender, customer, timestamp}; }
    uint64_t bytes() const { return sizeof(Header) + keys * sizeof(Key) + padded(lens) + values * value_bytes; }
};

// How far an answer is.
enum Progress : uint8_t { kReady, kLater, kFailed };

// What stands before each part of an answer: how long its lens (filled up) and values are together, and where the part begins in them.
struct AnswerHead {
    Progress progress;
    uint64_t lens, values, offset;

    uint64_t lens_bytes() const { return Header::padded(lens); }
    uint64_t bytes() const { return lens_bytes() + values; }
};

// Bytes of a request or an answer that travel in one call; the rest follows in others. (Small enough for caches: each part is copied
// several times on its way.)
static const size_t kPartBytes = 64 << 10;
// Bytes of mail that travel in one call, less than a frame of the job.
static const size_t kMailBytes = 192 << 10;

// What serves an application.
struct Server {
    enum Kind : int32_t { kNone, kFloats, kDoubles, kHandle };
    int32_t kind = kNone;
    int32_t value_bytes = 0;
    std::function<void(const Header &, const SArray<char> &)> handle;
};

// Memory of requests, used again once nobody holds it any more: fresh memory costs a page fault for every 4 KiB.
class Buffers {
public:
    SArray<char> get(size_t size) {
        std::unique_ptr<Memory> found;
        {
            std::lock_guard<std::mutex> lock(shelf_->mutex);
            for (auto &memory : shelf_->free) {
                if (memory->size() < size || memory->size() / 4 > size) continue;
                found.swap(memory);
                std::swap(memory, shelf_->free.back());
                shelf_->free.pop_back();
                shelf_->bytes -= found->size();
                break;
            }
        }
        if (!found) found.reset(new Memory(size));
        const std::shared_ptr<Shelf> shelf = shelf_;
        Memory *memory = found.release();
        SArray<char> array;
        array.reset(memory->data(), size, [memory, shelf](char *) { shelf->put(std::unique_ptr<Memory>(memory)); });
        return array;
    }

private:
    static const size_t kFreeMax = 32, kFreeBytesMax = size_t(64) << 20;
    class Memory {
    public:
        explicit Memory(size_t size) : data_(new char[size]), size_(size) {}
        char *data() const { return data_.get(); }
        size_t size() const { return size_; }

    private:
        std::unique_ptr<char[]> data_;
        size_t size_;
    };
    struct Shelf {
        std::mutex mutex;
        std::vector<std::unique_ptr<Memory>> free;
        size_t bytes = 0;
        void put(std::unique_ptr<Memory> memory) {
            std::lock_guard<std::mutex> lock(mutex);
            if (free.size() >= kFreeMax || bytes + memory->size() > kFreeBytesMax) return;
            bytes += memory->size();
            free.push_back(std::move(memory));
        }
    };
    std::shared_ptr<Shelf> shelf_ = std::make_shared<Shelf>();
};

class Switchboard {
public:
    Switchboard(int servers, int workers)
        : token_(reinterpret_cast<uintptr_t>(this) ^ static_cast<uint64_t>(time(nullptr)) << 32 ^
                 static_cast<uint64_t>(getpid()) << 16),
          servers_(servers), workers_(workers), taken_(static_cast<size_t>(workers), false) {}

    // Tells this process's server from the others.
    uint64_t token() const { return token_; }

    void serve(int app, const Server &server) {
        std::lock_guard<std::mutex> lock(mutex_);
        apps_[app] = std::make_shared<Server>(server);
    }

    // Gives the answer to a request; from any thread, once. The arrays are sent from where they lie.
    void answer(const Ticket &ticket, Progress progress, const SArray<int> &lens, const SArray<char> &values) {
        std::lock_guard<std::mutex> lock(mutex_);
        auto open = answers_.find(ticket);
        if (open == answers_.end() || open->second.progress != kLater) {
            LOG(WARNING) << "Response: node " << ticket.sender << " awaits no answer for its request " << ticket.timestamp;
            return;
        }
        Answer &answer = open->second;
        answer.progress = progress;
        if (answer.wants_lens) answer.lens = lens;
        answer.values = values;
    }

    static int32_t call(void *self, void *, const char *verb, const void *bytes, size_t size, kr_reply *reply) {
        std::string answer;
        int32_t code = 0;
        try {
            answer = static_cast<Switchboard *>(self)->run(verb, Reader(bytes, size), reply);
        } catch (const std::exception &error) {
            answer = error.what();
            code = 1;
        } catch (...) {
            answer = "the request handle threw something that is no std::exception";
            code = 1;
        }
        kr_reply_write(reply, answer.data(), answer.size());
        return code;
    }
    static int32_t update(void *, void *, void *const *, const void *const *, size_t, kr_reply *) { return 0; }

private:
    struct Answer {
        bool wants_lens = false;
        Progress progress = kLater;
        SArray<int> lens;
        SArray<char> values;
        // Bytes handed out.
        uint64_t taken = 0;
    };
    struct Gathering {
        SArray<char> bytes;
        uint64_t got = 0;
    };

    std::string run(const std::string &verb, Reader in, kr_reply *reply) {
        if (verb == "part") {
            part(in, reply);
            return std::string();
        }
        if (verb == "take") {
            take(in, reply);
            return std::string();
        }
        std::lock_guard<std::mutex> lock(mutex_);
        if (verb == "fetch") return fetch(in.get<int32_t>());
        if (verb == "passed") return Writer().put(barriers_[in.get<int32_t>()].passed).bytes();
        if (verb == "barrier") return barrier(in.get<int32_t>());
        if (verb == "post") return post(in);
        if (verb == "app") return app(in.get<int32_t>());
        if (verb == "join") return join(in.get<int32_t>());
        if (verb == "who") return Writer().put(token_).bytes();
        throw dmlc::Error("unknown verb " + verb + "; all nodes must be built with the same headers");
    }

    std::string app(int32_t id) {
        auto app = apps_.find(id);
        if (app == apps_.end()) return Writer().put(int32_t(Server::kNone)).put(int32_t(0)).bytes();
        return Writer().put(app->second->kind).put(app->second->value_bytes).bytes();
    }

    std::string join(int32_t wish) {
        for (int32_t rank = 0; rank < workers_; ++rank) {
            if (taken_[static_cast<size_t>(rank)] || (wish >= 0 && rank != wish)) continue;
            taken_[static_cast<size_t>(rank)] = true;
            return Writer().put(rank).bytes();
        }
        throw dmlc::Error("expected at most DMLC_NUM_WORKER=" + std::to_string(workers_) +
                          " workers of different DMLC_RANK, got one more");
    }

    // Arrives; answers how often this barrier was passed before.
    std::string barrier(int32_t group) {
        Barrier &barrier = barriers_[group];
        const uint64_t before = barrier.passed;
        if (++barrier.arrived >= Members(group, servers_, workers_).size()) {
            barrier.arrived = 0;
            ++barrier.passed;
        }
        return Writer().put(before).bytes();
    }

    std::string post(Reader &in) {
        const int32_t to = in.get<int32_t>();
        const std::string message(in.rest(), in.left());
        for (int id : Members(to, servers_, workers_)) mail_[id].push_back(message);
        return std::string();
    }

    // As much mail of a node as fits into an answer.
    std::string fetch(int32_t id) {
        Writer out;
        std::deque<std::string> &mail = mail_[id];
        while (!mail.empty() && (out.bytes().empty() || out.bytes().size() + mail.front().size() < kMailBytes)) {
            out.text(mail.front());
            mail.pop_front();
        }
        return out.bytes();
    }

    // One part of a request; the last one runs the handle.
    void part(Reader &in, kr_reply *reply) {
        const Ticket ticket = in.get<Ticket>();
        const uint64_t total = in.get<uint64_t>(), offset = in.get<uint64_t>();
        Gathering &request = gathering(ticket, total);
        if (offset + in.left() > total || offset != request.got)
            throw dmlc::Error("a part of a request does not follow the one before");
        if (in.left() > 0) memcpy(request.bytes.data() + offset, in.rest(), in.left());
        request.got += in.left();
        if (request.got < total) return;
        SArray<char> bytes(request.bytes);
        std::shared_ptr<Server> server;
        {
            std::lock_guard<std::mutex> lock(mutex_);
            gathering_.erase(ticket);
            auto app = apps_.find(ticket.app);
            if (app == apps_.end() || !app->second->handle) throw dmlc::Error("no handle answers this application");
            server = app->second;
        }
        Header header;
        if (bytes.size() < sizeof header) throw dmlc::Error("a request shorter than its header");
        memcpy(&header, bytes.data(), sizeof header);
        const uint64_t most = bytes.size();
        if (header.keys > most || header.lens > most || header.values > most || header.bytes() != most)
            throw dmlc::Error("a request whose arrays are not as long as its header says");
        {
            std::lock_guard<std::mutex> lock(mutex_);
            answers_[ticket].wants_lens = header.pull == 2;
        }
        try {
            server->handle(header, bytes);
        } catch (const std::exception &error) {
            const std::string text = error.what();
            SArray<char> copy;
            copy.CopyFrom(text.data(), text.size());
            answer(ticket, kFailed, SArray<int>(), copy);
        }
        taken(ticket, 0, reply);
    }

    Gathering &gathering(const Ticket &ticket, uint64_t total) {
        std::lock_guard<std::mutex> lock(mutex_);
        Gathering &request = gathering_[ticket];
        if (request.got == 0) {
            if (total > (uint64_t(1) << 40)) throw dmlc::Error("a request of more than 2^40 bytes");
            request.bytes = buffers_.get(static_cast<size_t>(total));
        }
        if (request.bytes.size() != total) throw dmlc::Error("the parts of a request name different sizes");
        return request;
    }

    void take(Reader &in, kr_reply *reply) {
        const Ticket ticket = in.get<Ticket>();
        in.get<uint64_t>();
        taken(ticket, in.get<uint64_t>(), reply);
    }

    // A part of the answer, as far as there is one. When all is taken, it is forgotten.
    void taken(const Ticket &ticket, uint64_t offset, kr_reply *reply) {
        std::lock_guard<std::mutex> lock(mutex_);
        auto open = answers_.find(ticket);
        if (open == answers_.end()) throw dmlc::Error("this request was answered before, or never came");
        Answer &answer = open->second;
        AnswerHead head = AnswerHead();
        head.progress = answer.progress;
        head.offset = offset;
        if (answer.progress == kLater) return write(reply, &head, sizeof head);
        head.lens = answer.lens.size();
        head.values = answer.values.size();
        const uint64_t total = head.bytes(), lens = head.lens_bytes();
        write(reply, &head, sizeof head);
        if (offset > total) return;
        const uint64_t end = std::min(total, offset + kPartBytes);
        if (offset < lens) write_lens(answer.lens, offset, std::min(end, lens), reply);
        if (end > lens) {
            const uint64_t first = std::max(offset, lens) - lens;
            lend(reply, answer.values.segment(static_cast<size_t>(first), static_cast<size_t>(end - lens)));
        }
        answer.taken += end - offset;
        if (answer.taken >= total) answers_.erase(open);
    }

    static void write(kr_reply *reply, const void *bytes, uint64_t size) {
        Must(kr_reply_write(reply, bytes, static_cast<size_t>(size)), "answer");
    }
    static void write_lens(const SArray<int> &lens, uint64_t first, uint64_t last, kr_reply *reply) {
        const uint64_t size = lens.size() * sizeof(int);
        static const char zeros[8] = {0};
        const char *bytes = reinterpret_cast<const char *>(lens.data());
        if (first < size) write(reply, bytes + first, std::min(last, size) - first);
        if (last > size) write(reply, zeros, last - std::max(first, size));
    }
    // Lends an array to an answer: the array stays until it is sent.
    static void lend(kr_reply *reply, const SArray<char> &values) {
        static const size_t kLentBytesMin = 4096;
        if (values.size() < kLentBytesMin) return write(reply, values.data(), values.size());
        std::unique_ptr<SArray<char>> kept(new SArray<char>(values));
        const auto release = [](void *array) { delete static_cast<SArray<char> *>(array); };
        Must(kr_reply_lend(reply, kept->data(), kept->size(), release, kept.get()), "answer");
        kept.release();
    }

    struct Barrier {
        size_t arrived = 0;
        uint64_t passed = 0;
    };

    const uint64_t token_;
    const int servers_, workers_;
    std::mutex mutex_;
    std::vector<bool> taken_;
    std::map<int32_t, std::shared_ptr<Server>> apps_;
    std::map<int32_t, Barrier> barriers_;
    std::map<int, std::deque<std::string>> mail_;
    // Parts come on the server's thread only, in order.
    Buffers buffers_;
    std::map<Ticket, Gathering> gathering_;
    std::map<Ticket, Answer> answers_;
};

}  // namespace internal
}  // namespace ps

#endif  // PS_INTERNAL_SWITCHBOARD_H_
