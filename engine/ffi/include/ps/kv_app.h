// KVWorker and KVServer: pushes and pulls of lists of keys.
//
// What KVServerDefaultHandle serves with float or double is a table of Keyrange's, and its requests are Keyrange's own. Any other
// handle gets its requests as messages.
#ifndef PS_KV_APP_H_
#define PS_KV_APP_H_

#include "ps/simple_app.h"

namespace ps {

// Keys that rise strictly, their values, and (optionally) how many values belong to each key.
template <typename Val>
struct KVPairs {
    SArray<Key> keys;
    SArray<Val> vals;
    SArray<int> lens;
    int priority = 0;
};

struct KVMeta {
    int cmd;
    bool push;
    bool pull;
    int sender;
    int timestamp;
    int customer_id;
    // Of the bytedance fork: the first key, the registered buffer (or null, as an address), the bytes of the values, and 0.
    Key key;
    uint64_t addr;
    int val_len;
    int option;
};

template <typename Val>
class KVServer;

// Adds up what is pushed. Given to set_request_handle() with float or double it stands for a table of Keyrange's; called by itself, it
// keeps its sums in `store`.
template <typename Val>
struct KVServerDefaultHandle {
    void operator()(const KVMeta &request, const KVPairs<Val> &data, KVServer<Val> *server) {
        KVPairs<Val> answer;
        if (request.push) CHECK_EQ(data.keys.size(), data.vals.size()) << "one value for each key";
        if (request.pull) {
            answer.keys = data.keys;
            answer.vals.resize(data.keys.size());
        }
        for (size_t at = 0; at < data.keys.size(); ++at) {
            Val &sum = store[data.keys.data()[at]];
            if (request.push) sum = static_cast<Val>(sum + data.vals.data()[at]);
            if (request.pull) answer.vals.data()[at] = sum;
        }
        server->Response(request, answer);
    }
    std::unordered_map<Key, Val> store;
};

namespace internal {

// How the values of type Val are kept in tables: KR_F32, KR_F64, or 0 for not.
template <typename Val>
constexpr uint32_t TableType() {
    return std::is_same<Val, float>::value ? KR_F32 : std::is_same<Val, double>::value ? KR_F64 : 0;
}

}  // namespace internal

// (clang warns here, gcc at SimpleApp.)
#if defined(__GNUC__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Woverloaded-virtual"
#endif
template <typename Val>
class KVServer : public SimpleApp {
public:
    using ReqHandle = std::function<void(const KVMeta &request, const KVPairs<Val> &data, KVServer *server)>;

    // (The other two are the bytedance fork's, which runs several instances in a process; here there is one.)
    explicit KVServer(int app_id, bool = false, int instance_idx = 0) : SimpleApp(app_id, app_id), instance_idx_(instance_idx) {}
    ~KVServer() override { Postoffice::Get()->switchboard().serve(obj_->app_id(), internal::Server()); }

    // The handle runs on the server's thread; its arrays stay as long as somebody holds them.
    void set_request_handle(const ReqHandle &handle) {
        CHECK(handle) << "set_request_handle: expected a function";
#if defined(__GXX_RTTI) || defined(__cpp_rtti)
        if (internal::TableType<Val>() != 0 && handle.template target<KVServerDefaultHandle<Val>>() != nullptr)
            return serve_table();
#endif
        serve(handle);
    }
    void set_request_handle(const KVServerDefaultHandle<Val> &handle) {
        if (internal::TableType<Val>() != 0) serve_table();
        else serve(handle);
    }

    // Answers a request, now or later, once, from any thread. As in ps-lite the values are sent from where they lie: while that goes
    // on, a change of them may reach the worker or not.
    void Response(const KVMeta &request, const KVPairs<Val> &answer = KVPairs<Val>()) {
        const internal::Ticket ticket = {obj_->app_id(), request.sender, request.customer_id, request.timestamp};
        const bool has_lens = answer.lens.size() == answer.keys.size();
        Postoffice::Get()->switchboard().answer(ticket, internal::kReady, has_lens ? answer.lens : SArray<int>(),
                                                SArray<char>(answer.vals));
    }

    // Of the bytedance fork: what a worker pushes for these keys is put into `vals`, and the handle is given that.
    void RegisterRecvBuffer(int worker_id, SArray<Key> &keys, const SArray<Val> &vals, const SArray<int> & = {}, int cmd = 0) {
        CHECK(!keys.empty()) << "RegisterRecvBuffer: expected keys";
        std::lock_guard<std::mutex> lock(buffers_mutex_);
        buffers_[std::make_tuple(worker_id, keys.data()[0], cmd)] = vals;
    }
    void RegisterRecvBufferWithRank(int worker_rank, SArray<Key> &keys, const SArray<Val> &vals, const SArray<int> &lens = {},
                                    int cmd = 0) {
        RegisterRecvBuffer(internal::WorkerId(worker_rank), keys, vals, lens, cmd);
    }
    const int instance_idx_;

private:
    // Puts what was pushed into the buffer registered for it.
    void Place(KVMeta *meta, KVPairs<Val> *data) {
        std::lock_guard<std::mutex> lock(buffers_mutex_);
        auto found = buffers_.find(std::make_tuple(meta->sender, meta->key, meta->cmd));
        if (found == buffers_.end() || data->vals.empty()) return;
        SArray<Val> &buffer = found->second;
        CHECK_LE(data->vals.size(), buffer.size()) << "RegisterRecvBuffer: the buffer is too small for what was pushed";
        std::copy(data->vals.begin(), data->vals.end(), buffer.data());
        data->vals = buffer.segment(0, data->vals.size());
        meta->addr = reinterpret_cast<uint64_t>(buffer.data());
    }
    void serve_table() {
        internal::Server server;
        server.kind = internal::TableType<Val>() == KR_F32 ? internal::Server::kFloats : internal::Server::kDoubles;
        server.value_bytes = static_cast<int32_t>(sizeof(Val));
        Postoffice::Get()->switchboard().serve(obj_->app_id(), server);
    }
    void serve(const ReqHandle &handle) {
        internal::Server server;
        server.kind = internal::Server::kHandle;
        server.value_bytes = static_cast<int32_t>(sizeof(Val));
        server.handle = [this, handle](const internal::Header &header, const SArray<char> &bytes) {
            KVPairs<Val> data;
            KVMeta meta = {header.cmd,    header.push != 0,   header.pull != 0,
                           header.sender, header.timestamp, header.customer, 0, 0, 0, 0};
            size_t at = sizeof header, keys = static_cast<size_t>(header.keys) * sizeof(Key);
            data.keys = bytes.segment(at, at + keys);
            at += keys;
            data.lens = bytes.segment(at, at + static_cast<size_t>(header.lens) * sizeof(int));
            at += internal::Header::padded(header.lens);
            data.vals = bytes.segment(at, at + static_cast<size_t>(header.values) * sizeof(Val));
            meta.key = data.keys.empty() ? 0 : data.keys.data()[0];
            meta.val_len = static_cast<int>(data.vals.size() * sizeof(Val));
            Place(&meta, &data);
            handle(meta, data, this);
        };
        Postoffice::Get()->switchboard().serve(obj_->app_id(), server);
    }

    std::mutex buffers_mutex_;
    std::map<std::tuple<int, Key, int>, SArray<Val>> buffers_;
};
#if defined(__GNUC__)
#pragma GCC diagnostic pop
#endif

template <typename Val>
class KVWorker : public SimpleApp {
public:
    using Callback = std::function<void()>;
    using SlicedKVs = std::vector<std::pair<bool, KVPairs<Val>>>;
    using Slicer = std::function<void(const KVPairs<Val> &send, const std::vector<Range> &ranges, SlicedKVs *sliced)>;

    // (The third is the bytedance fork's.)
    explicit KVWorker(int app_id, int customer_id, int = 0) : SimpleApp(app_id, customer_id) {}

    // The vectors are copied as far as need be: they may change as soon as this returns.
    int Push(const std::vector<Key> &keys, const std::vector<Val> &vals, const std::vector<int> &lens = {}, int cmd = 0,
             const Callback &callback = nullptr, int priority = 0) {
        const bool is_one = keys.size() == 1 && Serves() != internal::Server::kHandle;
        return Submit(true, false, Keep(keys), is_one ? Borrow(vals) : SArray<Val>(vals), Keep(lens), cmd, callback,
                       priority, Into());
    }
    int Pull(const std::vector<Key> &keys, std::vector<Val> *vals, std::vector<int> *lens = nullptr, int cmd = 0,
             const Callback &callback = nullptr, int priority = 0) {
        return Submit(false, true, Keep(keys), SArray<Val>(), SArray<int>(), cmd, callback, priority, To(vals, lens));
    }
    int PushPull(const std::vector<Key> &keys, const std::vector<Val> &vals, std::vector<Val> *outs,
                 std::vector<int> *lens = nullptr, int cmd = 0, const Callback &callback = nullptr, int priority = 0) {
        SArray<int> given;
        if (lens != nullptr && lens->size() == keys.size()) given = Keep(*lens);
        return Submit(true, true, Keep(keys), SArray<Val>(vals), given, cmd, callback, priority, To(outs, lens));
    }

    // The arrays are shared: they must stay as they are until the request has ended.
    int ZPush(const SArray<Key> &keys, const SArray<Val> &vals, const SArray<int> &lens = {}, int cmd = 0,
              const Callback &callback = nullptr, int priority = 0) {
        return Submit(true, false, keys, vals, lens, cmd, callback, priority, Into());
    }
    int ZPull(const SArray<Key> &keys, SArray<Val> *vals, SArray<int> *lens = nullptr, int cmd = 0,
              const Callback &callback = nullptr, int priority = 0) {
        return Submit(false, true, keys, SArray<Val>(), SArray<int>(), cmd, callback, priority, To(vals, lens));
    }
    int ZPushPull(const SArray<Key> &keys, const SArray<Val> &vals, SArray<Val> *outs, SArray<int> *lens = nullptr,
                  int cmd = 0, const Callback &callback = nullptr, int priority = 0) {
        SArray<int> given;
        if (lens != nullptr && lens->size() == keys.size()) given = *lens;
        return Submit(true, true, keys, vals, given, cmd, callback, priority, To(outs, lens));
    }

    // How requests for handles of the program's own are cut: one entry for each server; false: nothing for it. (Requests for tables
    // are cut by Keyrange.)
    void set_slicer(const Slicer &slicer) {
        CHECK(slicer) << "set_slicer: expected a function";
        slicer_ = slicer;
    }

private:
    // Where what is pulled goes: room for so many values, made if need be.
    struct Into {
        std::function<Val *(size_t)> room;
        std::function<int *(size_t)> lens;
        size_t size = 0;
    };
    template <typename Values, typename Lens>
    static Into To(Values *vals, Lens *lens) {
        CHECK_NOTNULL(vals);
        Into into;
        into.size = vals->size();
        into.room = [vals](size_t size) {
            if (vals->size() != size) vals->resize(size);
            return vals->data();
        };
        if (lens != nullptr)
            into.lens = [lens](size_t size) {
                if (lens->size() != size) lens->resize(size);
                return lens->data();
            };
        return into;
    }

    template <typename T>
    static SArray<T> Borrow(const std::vector<T> &vector) {
        return SArray<T>(const_cast<T *>(vector.data()), vector.size(), false);
    }

    // What a call in vectors still needs when it has returned: a list for a table is copied as it is looked up.
    template <typename T>
    SArray<T> Keep(const std::vector<T> &vector) {
        if (vector.empty()) return SArray<T>();
        return Serves() == internal::Server::kHandle ? SArray<T>(vector) : Borrow(vector);
    }
    int32_t Serves() {
        if (server_ == internal::Server::kNone) Meet();
        return server_;
    }

    int Submit(bool push, bool pull, const SArray<Key> &keys, const SArray<Val> &vals, const SArray<int> &lens, int cmd,
                const Callback &callback, int priority, const Into &into) {
        if (keys.empty()) return RequestNothing(vals, callback);
        if (Serves() != internal::Server::kHandle) return RequestTable(push, pull, keys, vals, lens, callback, priority, into);
        return RequestHandle(push, pull, keys, vals, lens, cmd, callback, priority, into);
    }

    int RequestNothing(const SArray<Val> &vals, const Callback &callback) {
        CHECK(vals.empty()) << "expected no values without keys, got " << vals.size();
        int timestamp;
        {
            internal::Turn turn(obj_->client().turns());
            timestamp = obj_->Begin(0, nullptr);
        }
        if (callback) callback();
        return timestamp;
    }

    // Asks the servers how they serve this application, until all of them do.
    void Meet() {
        std::lock_guard<std::mutex> lock(meeting_);
        for (int tries = 0; server_ == internal::Server::kNone; ++tries) {
            const std::string app = internal::Writer().put(int32_t(obj_->app_id())).bytes();
            int32_t kind = -1, bytes = 0;
            for (const std::string &answer : obj_->client().ask(KR_ALL_SHARDS, "app", app)) {
                internal::Reader in(answer);
                const int32_t its_kind = in.get<int32_t>();
                bytes = std::max(bytes, in.get<int32_t>());
                if (kind == -1) kind = its_kind;
                CHECK(kind == its_kind || kind == internal::Server::kNone || its_kind == internal::Server::kNone)
                    << "the servers serve application " << obj_->app_id() << " in different ways";
                if (its_kind == internal::Server::kNone) kind = its_kind;
            }
            if (kind == internal::Server::kNone) {
                internal::Turns::rest(tries + 100);
                continue;
            }
            const int32_t own = internal::TableType<Val>() == KR_F32 ? internal::Server::kFloats : internal::Server::kDoubles;
            CHECK(bytes == static_cast<int32_t>(sizeof(Val)) && (kind == internal::Server::kHandle || kind == own))
                << "application " << obj_->app_id() << ": KVServer and KVWorker have different types of values";
            if (kind != internal::Server::kHandle) {
                internal::Turn turn(obj_->client().turns());
                table_ = obj_->client().table(obj_->app_id(), internal::TableType<Val>());
            }
            server_ = kind;
        }
    }

    int RequestTable(bool push, bool pull, const SArray<Key> &keys, const SArray<Val> &vals, const SArray<int> &lens,
                     const Callback &callback, int priority, const Into &into) {
        const size_t count = keys.size();
        if (push) CHECK_EQ(vals.size(), count) << "KVServerDefaultHandle: expected one value for each key";
        CHECK(lens.empty()) << "KVServerDefaultHandle: expected no lens, each key has one value";
        if (pull) CHECK(into.size == 0 || into.size == count)
            << "KVServerDefaultHandle: expected room for " << count << " values, or none, got " << into.size;
        internal::Client &client = obj_->client();
        kr_worker *worker = client.worker();
        std::unique_ptr<internal::Kept> kept;
        kr_task task = 0;
        int timestamp;
        {
            internal::Turn turn(client.turns());
            if (count == 1 && !pull && priority == 0) {
                internal::Must(kr_push_one(worker, table_, keys.data()[0], vals.data(), internal::kControlMs, &task), "push");
            } else {
                kr_select which = {client.lists().find(keys.data(), count), 0, 0};
                const void *parts[] = {vals.data()};
                const kr_options options = internal::Prior(priority);
                Val *room = pull ? into.room(count) : nullptr;
                if (push && pull) {
                    internal::Must(kr_push_pull(worker, table_, which, parts, 1, room, count, &options, &task), "push_pull");
                } else if (push) {
                    internal::Must(kr_push(worker, table_, which, parts, 1, count, &options, &task), "push");
                } else {
                    internal::Must(kr_pull(worker, table_, which, room, count, &options, &task), "pull");
                }
                kept.reset(new internal::Kept());
                kept->values = vals.ptr();
            }
            if (callback) {
                if (!kept) kept.reset(new internal::Kept());
                kept->callback = callback;
            }
            timestamp = obj_->Begin(task, std::move(kept));
        }
        if (pull && into.lens) std::fill_n(into.lens(count), count, 1);
        if (callback) obj_->member().wake();
        return timestamp;
    }

    int RequestHandle(bool push, bool pull, const SArray<Key> &keys, const SArray<Val> &vals, const SArray<int> &lens, int cmd,
                      const Callback &callback, int priority, const Into &into) {
        for (size_t at = 1; at < keys.size(); ++at)
            CHECK(keys.data()[at - 1] < keys.data()[at]) << "keys must rise, each one once: key " << at << " does not";
        CHECK(lens.empty() || lens.size() == keys.size()) << "expected one of lens for each key, got " << lens.size();
        KVPairs<Val> all;
        all.keys = keys;
        all.vals = vals;
        all.lens = lens;
        all.priority = priority;
        SlicedKVs sliced;
        const std::vector<Range> &ranges = Postoffice::Get()->GetServerKeyRanges();
        if (slicer_) slicer_(all, ranges, &sliced);
        else Slice(all, ranges, &sliced);
        CHECK_EQ(sliced.size(), ranges.size()) << "the slicer: expected an entry for each server";
        internal::Client &client = obj_->client();
        std::unique_ptr<internal::Kept> kept(new internal::Kept());
        internal::Exchange *exchange = new internal::Exchange(client, pull ? Wants(into) : internal::Wanted(), priority);
        kept->exchange.reset(exchange);
        kept->callback = callback;
        const uint8_t pulls = pull ? into.lens ? 2 : 1 : 0;
        // How many bytes of values the answer is expected to have for each key.
        const size_t per_key = into.size % keys.size() == 0 ? into.size / keys.size() * sizeof(Val) : 0;
        size_t at = 0;
        int timestamp;
        {
            internal::Turn turn(client.turns());
            timestamp = obj_->Begin(0, std::move(kept));
            for (size_t server = 0; server < sliced.size(); ++server) {
                if (!sliced[server].first) continue;
                const KVPairs<Val> &part = sliced[server].second;
                const internal::Header header = {obj_->app_id(), obj_->member().id(), obj_->customer_id(), timestamp, cmd, push, pulls,
                                                 uint16_t(sizeof(Val)), part.keys.size(), part.lens.size(), part.vals.size()};
                const size_t expected = part.keys.size() * per_key;
                exchange->send(static_cast<uint32_t>(server), header, part.keys, part.lens, SArray<char>(part.vals), at, expected);
                at += expected;
            }
        }
        if (callback) obj_->member().wake();
        return timestamp;
    }

    // By key ranges. The last range has the largest key too.
    static void Slice(const KVPairs<Val> &all, const std::vector<Range> &ranges, SlicedKVs *sliced) {
        sliced->resize(ranges.size());
        const Key *keys = all.keys.data();
        const size_t count = all.keys.size(), per_key = all.vals.size() / count;
        if (all.lens.empty()) CHECK_EQ(all.vals.size(), per_key * count) << "expected as many values for each key";
        size_t key = 0, value = 0;
        for (size_t server = 0; server < ranges.size(); ++server) {
            const bool is_last = server + 1 == ranges.size();
            const size_t end =
                is_last ? count : size_t(std::lower_bound(keys + key, keys + count, ranges[server].end()) - keys);
            size_t values = (end - key) * per_key;
            if (!all.lens.empty()) {
                values = 0;
                for (size_t at = key; at < end && !all.vals.empty(); ++at) values += static_cast<size_t>(all.lens.data()[at]);
            }
            auto &slice = (*sliced)[server];
            slice.first = end > key;
            if (slice.first) {
                slice.second.keys = all.keys.segment(key, end);
                slice.second.vals = all.vals.segment(value, value + values);
                if (!all.lens.empty()) slice.second.lens = all.lens.segment(key, end);
            }
            key = end;
            value += values;
        }
        CHECK_EQ(value, all.vals.size()) << "lens: expected their sum to be the number of values";
    }

    static internal::Wanted Wants(const Into &into) {
        internal::Wanted wanted;
        wanted.room = [into](size_t bytes) {
            CHECK_EQ(bytes % sizeof(Val), size_t(0)) << "an answer of values of another type";
            return reinterpret_cast<char *>(into.room(bytes / sizeof(Val)));
        };
        wanted.lens = into.lens;
        wanted.bytes = into.size * sizeof(Val);
        return wanted;
    }

    Slicer slicer_;
    std::mutex meeting_;
    std::atomic<int32_t> server_{internal::Server::kNone};
    kr_table table_ = kr_table();
};

}  // namespace ps

#endif  // PS_KV_APP_H_
