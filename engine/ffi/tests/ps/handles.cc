// Handles of the program's own, and SimpleApp: answers now, later and from other threads; values of any type with lens; errors.
#include <cstdio>

#include "ps/ps.h"

using namespace ps;

// Keeps what was pushed, byte by byte, and answers commands: 0 at once, 1 from another thread later, 2 throws.
struct Keeper {
    std::mutex mutex;
    std::map<Key, SArray<char>> kept;
    std::vector<std::thread> threads;

    void handle(const KVMeta &meta, const KVPairs<char> &data, KVServer<char> *server) {
        if (meta.cmd == 2) throw dmlc::Error("the keeper refuses");
        if (meta.cmd == 1) {
            threads.emplace_back([this, meta, data, server] {
                std::this_thread::sleep_for(std::chrono::milliseconds(5));
                answer(meta, data, server);
            });
        } else {
            answer(meta, data, server);
        }
    }
    void answer(const KVMeta &meta, const KVPairs<char> &data, KVServer<char> *server) {
        std::lock_guard<std::mutex> lock(mutex);
        size_t at = 0;
        for (size_t key = 0; meta.push && key < data.keys.size(); ++key) {
            const size_t size = data.lens.empty() ? data.vals.size() / data.keys.size() : size_t(data.lens[int(key)]);
            // A segment: it keeps the request's memory alive.
            kept[data.keys[int(key)]] = data.vals.segment(at, at + size);
            at += size;
        }
        KVPairs<char> found;
        for (size_t key = 0; meta.pull && key < data.keys.size(); ++key) {
            const SArray<char> &value = kept[data.keys[int(key)]];
            found.keys.push_back(data.keys[int(key)]);
            found.lens.push_back(int(value.size()));
            found.vals.append(value);
        }
        server->Response(meta, found);
    }
};

static void Work() {
    KVWorker<char> kv(0, 0);
    const Key step = kMaxKey / 6;
    std::vector<Key> keys;
    std::vector<int> lens, got_lens;
    std::string text;
    for (int at = 0; at < 6; ++at) {
        keys.push_back(step * Key(at) + Key(MyRank()));
        lens.push_back(3 * at + 1);
        text += std::string(size_t(lens.back()), char('a' + at));
    }
    keys[5] = kMaxKey - Key(MyRank());
    const std::vector<char> vals(text.begin(), text.end());
    for (int cmd : {0, 1}) {
        std::vector<char> got;
        kv.Wait(kv.Push(keys, vals, lens, cmd));
        kv.Wait(kv.Pull(keys, &got, &got_lens, cmd));
        CHECK(got == vals);
        CHECK(got_lens == lens);
    }
    bool is_refused = false;
    const int refused = kv.Push(keys, vals, lens, 2);
    try {
        kv.Wait(refused);
    } catch (const dmlc::Error &error) {
        is_refused = std::string(error.what()).find("the keeper refuses") != std::string::npos;
    }
    CHECK(is_refused);
    // More than fits into one frame, lent by the caller, with a callback.
    SArray<Key> key = {keys[0]};
    std::vector<char> large(1 << 20);
    for (size_t at = 0; at < large.size(); ++at) large[at] = static_cast<char>(at * 7 + at / 251);
    SArray<char> lent(large.data(), large.size(), false), back;
    std::atomic<bool> called{false};
    kv.Wait(kv.ZPush(key, lent, {}, 0, [&] { called = true; }));
    CHECK(called);
    kv.Wait(kv.ZPull(key, &back));
    CHECK(std::equal(large.begin(), large.end(), back.begin()) && back.size() == large.size());
    CHECK_EQ(kv.Push({}, {}), 7);
    // A command to all servers, as programs give them through their KVWorker.
    const int command = kv.Request(3, "quiet", kServerGroup);
    kv.Wait(command);
}

int main() {
    std::atomic<int> asked{0}, answered{0};
    // Before Start, as some programs do.
    SimpleApp app(5, 5);
    app.set_request_handle([&](const SimpleData &request, SimpleApp *self) {
        CHECK_EQ(request.head, 1);
        ++asked;
        self->Response(request, "to " + request.body);
    });
    app.set_response_handle([&](const SimpleData &response, SimpleApp *) {
        CHECK_EQ(response.body, std::string("to all"));
        ++answered;
    });
    StartAsync(0);
    KVServer<char> *server = nullptr;
    Keeper keeper;
    if (IsServer()) {
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
        server = new KVServer<char>(0);
        static_cast<SimpleApp *>(server)->set_request_handle([](const SimpleData &request, SimpleApp *self) {
            CHECK_EQ(request.head, 3);
            self->Response(request);
        });
        server->set_request_handle(
            [&](const KVMeta &meta, const KVPairs<char> &data, KVServer<char> *self) { keeper.handle(meta, data, self); });
    }
    Postoffice::Get()->Barrier(0, kScheduler + kServerGroup + kWorkerGroup);
    const int all = kScheduler + kServerGroup + kWorkerGroup;
    const int nodes = 1 + NumServers() + NumWorkers();
    CHECK_EQ(int(Postoffice::Get()->GetNodeIDs(all).size()), nodes);
    if (IsScheduler() || (IsServer() && MyRank() == 0)) {
        const int timestamp = app.Request(1, "all", all);
        app.Wait(timestamp);
        CHECK_EQ(answered, nodes);
    }
    if (IsWorker()) Work();
    Postoffice::Get()->Barrier(0, all);
    CHECK_EQ(asked, 2);
    CHECK_EQ(Postoffice::IDtoRank(Postoffice::Get()->van()->my_node().id), MyRank());
    Finalize(0);
    for (std::thread &thread : keeper.threads) thread.join();
    delete server;
    std::puts("handles: all as expected");
    return 0;
}
