// A node's own connection to all servers: one kr_worker, the turns that threads take with it, and the key lists it has seen.
#ifndef PS_INTERNAL_CLIENT_H_
#define PS_INTERNAL_CLIENT_H_

#include <chrono>

#include "ps/internal/switchboard.h"

namespace ps {
namespace internal {

// Nobody waits inside the library for longer than this without letting others have their turn.
static const uint32_t kSliceMs = 1;
static const uint32_t kControlMs = 60000;

// First come, first served. Turns are short, so waiting threads yield and then nap.
class Turns {
public:
    void lock() {
        const uint32_t mine = next_.fetch_add(1, std::memory_order_relaxed);
        for (int tries = 0; serving_.load(std::memory_order_acquire) != mine; ++tries) rest(tries);
    }
    bool try_lock() {
        uint32_t serving = serving_.load(std::memory_order_acquire);
        return next_.compare_exchange_strong(serving, serving + 1, std::memory_order_acquire);
    }
    void unlock() { serving_.fetch_add(1, std::memory_order_release); }

    static void rest(int tries) {
        if (tries < 100) {
            std::this_thread::yield();
        } else {
            std::this_thread::sleep_for(std::chrono::microseconds(tries < 1000 ? 20 : 200));
        }
    }

private:
    std::atomic<uint32_t> next_{0}, serving_{0};
};
using Turn = std::unique_lock<Turns>;

// Key lists seen before, found again by a few of their keys and then compared, so that a list which is pushed again costs its
// servers nothing to look up.
class KeyLists {
public:
    KeyLists() {}
    KeyLists(const KeyLists &) = delete;
    KeyLists &operator=(const KeyLists &) = delete;
    ~KeyLists() {
        for (Entry &entry : entries_) kr_keys_free(entry.list);
    }

    // The list of these keys, valid until the next call. Throws unless they rise strictly.
    kr_keys *find(const uint64_t *keys, size_t count) { return find(keys, count, keys); }
    kr_keys *find(const uint32_t *keys, size_t count) {
        wide_.assign(keys, keys + count);
        return find(wide_.data(), count, nullptr);
    }

private:
    // The caller's keys lie at `seen`, if that is the same memory.
    kr_keys *find(const uint64_t *keys, size_t count, const uint64_t *seen) {
        const uint64_t mark = sample(keys, count);
        for (Entry &entry : entries_) {
            if (entry.mark != mark || entry.count != count) continue;
            if (!is_seen(&entry, seen)) {
                int32_t is_equal = 0;
                Must(kr_keys_equal(entry.list, keys, count, &is_equal), "keys");
                if (is_equal == 0) continue;
            }
            entry.seen = seen;
            entry.used = ++clock_;
            return entry.list;
        }
        Entry fresh = {mark, count, ++clock_, nullptr, seen, keys[0], 0};
        Must(kr_keys_new(keys, count, &fresh.list), "keys (they must rise, each one once)");
        entries_.push_back(fresh);
        held_ += count;
        while (entries_.size() > kListsMax || (held_ > kKeysMax && entries_.size() > 1)) forget();
        return fresh.list;
    }

    static const size_t kListsMax = 256;
    static const size_t kKeysMax = size_t(1) << 25;
    struct Entry {
        uint64_t mark;
        size_t count;
        uint64_t used;
        kr_keys *list;
        // Where its keys lay the last time.
        const uint64_t *seen;
        uint64_t first;
        size_t turn;
    };

    // Whether the keys are a long list without gaps that lies where it lay before. Rising keys between its ends can be no others, and
    // to read them all takes longer than to push their values: that they still rise is checked for an eighth at a time, in turn.
    static bool is_seen(Entry *entry, const uint64_t *keys) {
        const size_t kLongMin = 32768, count = entry->count, eighth = count / 8 + 1;
        if (keys == nullptr || entry->seen != keys || count < kLongMin) return false;
        const uint64_t first = entry->first;
        const size_t begin = entry->turn++ % 8 * eighth, end = std::min(begin + eighth, count);
        uint64_t differ = (keys[0] ^ first) | (keys[count - 1] ^ (first + count - 1));
        for (size_t at = begin; at < end; ++at) differ |= keys[at] ^ (first + at);
        return differ == 0;
    }

    static uint64_t sample(const uint64_t *keys, size_t count) {
        uint64_t mark = count;
        for (size_t at = 0; at < 8; ++at) mark = (mark ^ keys[(count - 1) * at / 7]) * 0x9e3779b97f4a7c15u + (mark >> 29);
        return mark;
    }
    void forget() {
        size_t oldest = 0;
        for (size_t at = 1; at < entries_.size(); ++at)
            if (entries_[at].used < entries_[oldest].used) oldest = at;
        held_ -= entries_[oldest].count;
        kr_keys_free(entries_[oldest].list);
        entries_[oldest] = entries_.back();
        entries_.pop_back();
    }

    std::vector<Entry> entries_;
    std::vector<uint64_t> wide_;
    size_t held_ = 0;
    uint64_t clock_ = 0;
};

// A request's options.
inline kr_options Prior(int priority) {
    kr_options options = kr_options();
    options.size = sizeof options;
    options.priority = priority;
    return options;
}

class Client {
public:
    explicit Client(const kr_member &member) {
        Must(kr_worker_connect(&member, &worker_), "Start");
        kr_table_spec spec;
        Must(kr_table_spec_init(&spec), "Start");
        spec.name = "ps";
        spec.function = "ps";
        Must(kr_table_create(worker_, &spec, kControlMs, &control_), "Start");
    }
    Client(const Client &) = delete;
    Client &operator=(const Client &) = delete;
    ~Client() {
        if (worker_ != nullptr) kr_worker_fail(worker_, "a program ended without ps::Finalize()");
    }

    Turns &turns() { return turns_; }
    // All below only with the turn taken.
    kr_worker *worker() { return worker_; }
    KeyLists &lists() { return lists_; }
    // The table that takes calls.
    kr_table control() const { return control_; }

    // The table of an application; the same for all workers.
    kr_table table(int app, uint32_t value_type) {
        if (app < 0 || app > 60000) {
            throw dmlc::Error("app_id: expected 0 to 60000 with KVServerDefaultHandle, got " + std::to_string(app));
        }
        kr_table_spec spec;
        kr_table table;
        Must(kr_table_spec_init(&spec), "table");
        spec.id = static_cast<uint16_t>(app + 1);
        spec.value_type = value_type;
        Must(kr_table_create(worker_, &spec, kControlMs, &table), "table");
        return table;
    }

    kr_task call(uint32_t shard, const char *verb, const std::string &bytes) {
        kr_task task;
        Must(kr_call(worker_, control_, shard, verb, bytes.data(), bytes.size(), nullptr, &task), verb);
        return task;
    }
    // Whether the call has ended within the slice; then `take(bytes, size)` got the answer of each shard it went to.
    template <typename Take>
    bool ended(kr_task task, uint32_t slice_ms, Take take) {
        Taking<Take> taking = {&take, std::string()};
        const kr_status status = kr_wait_replies(worker_, task, slice_ms, &Taking<Take>::one, &taking);
        if (status == KR_TIMED_OUT) return false;
        Must(status, "a server's answer");
        if (!taking.error.empty()) throw dmlc::Error(taking.error);
        return true;
    }

    // Calls and waits, taking turns by itself.
    std::vector<std::string> ask(uint32_t shard, const char *verb, const std::string &bytes) {
        std::vector<std::string> answers;
        kr_task task;
        {
            Turn turn(turns_);
            task = call(shard, verb, bytes);
        }
        for (;; std::this_thread::yield()) {
            Turn turn(turns_);
            auto take = [&](const void *bytes, size_t size) { answers.emplace_back(static_cast<const char *>(bytes), size); };
            if (ended(task, kSliceMs, take)) return answers;
        }
    }

    // Waits until all nodes of the group have come here.
    void barrier(int32_t group) {
        const std::string bytes = Writer().put(group).bytes();
        const uint64_t before = Reader(ask(0, "barrier", bytes).at(0)).get<uint64_t>();
        for (int tries = 90; Reader(ask(0, "passed", bytes).at(0)).get<uint64_t>() == before; ++tries) Turns::rest(tries);
    }

    void finish() {
        Turn turn(turns_);
        kr_worker *worker = worker_;
        worker_ = nullptr;
        Must(kr_worker_finish(worker, kControlMs), "Finalize");
    }
    bool is_open() const { return worker_ != nullptr; }

private:
    // Hands answers on; what that throws must not go through the library.
    template <typename Take>
    struct Taking {
        Take *take;
        std::string error;
        static void one(void *self, uint32_t, const void *bytes, size_t size) {
            Taking *taking = static_cast<Taking *>(self);
            try {
                (*taking->take)(bytes, size);
            } catch (const std::exception &error) {
                taking->error = error.what();
            }
        }
    };

    Turns turns_;
    kr_worker *worker_ = nullptr;
    kr_table control_;
    KeyLists lists_;
};

}  // namespace internal
}  // namespace ps

#endif  // PS_INTERNAL_CLIENT_H_
